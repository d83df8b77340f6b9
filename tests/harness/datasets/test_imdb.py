"""Keras' IMDB: its order and ids, and files that aren't what they should be."""

import functools
import hashlib
import http.server
import io
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.datasets import imdb
from rnn_crosscheck.harness.errors import DataError

WORDS = {"the": 1, "film": 2, "was": 3, "good": 4, "bad": 5}
TRAIN = ([[1, 2, 3, 4], [1, 2, 3, 5], [4], [5, 5]], [1, 0, 1, 0])
TEST = ([[2, 4], [2, 5], [1, 1, 4]], [1, 0, 1])

#: compares ids, order and labels with Keras' own loader, in a process where Keras may be imported
CHECK = """
import sys
from pathlib import Path
import numpy as np
from keras.src.datasets import imdb as theirs
from keras.utils import pad_sequences
from rnn_crosscheck.harness import datasets

folder, cache = Path(sys.argv[1]), Path(sys.argv[2])
ours = datasets.load("imdb", data=folder, cache=cache)
theirs.get_file = lambda *arguments, **options: str(folder / "imdb.npz")  # no download, no hash of another file
for name, (reviews, labels) in zip(("train", "test"), theirs.load_data(num_words=5000)):
    split = ours.splits[name]
    assert len(split) == len(reviews)
    assert (split.labels == labels).all()
    assert (split.padded(np.arange(len(split)), 500, 5000) == pad_sequences(reviews, maxlen=500)).all()
train = ours.splits["train"]
(row,) = [i for i, text in enumerate(train.texts) if text.startswith("this film was just brilliant casting")]
assert train.tokens_of(row)[:10].tolist() == [1, 14, 22, 16, 43, 530, 973, 1622, 1385, 65]
assert (len(train.tokens_of(row)), train.labels[row]) == (218, 1)
print("equal")
"""


def objects(reviews: list[list[int]]) -> np.ndarray:
    array = np.empty(len(reviews), dtype=object)
    array[:] = reviews
    return array


def folder_with(path: Path, *, words: object = None, **arrays: object) -> Path:
    path.mkdir(exist_ok=True)
    content = {
        "x_train": objects(TRAIN[0]),
        "y_train": np.array(TRAIN[1]),
        "x_test": objects(TEST[0]),
        "y_test": np.array(TEST[1]),
    } | arrays
    np.savez(path / imdb.NPZ, **{name: array for name, array in content.items() if array is not None})  # type: ignore[arg-type]
    (path / imdb.INDEX).write_text(json.dumps(WORDS if words is None else words))
    return path


def with_pickle(path: Path, payload: bytes) -> Path:
    """An ``x_train`` of objects whose pickle is `payload`."""
    folder_with(path, x_train=None)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (4,)})
    with zipfile.ZipFile(path / imdb.NPZ, "a") as archive:
        archive.writestr("x_train.npy", header.getvalue() + payload)
    return path


def test_ids_are_rank_plus_three_and_texts_are_of_the_same_example(tmp_path: Path) -> None:
    data = datasets.load("imdb", data=folder_with(tmp_path / "data"), cache=tmp_path / "cache")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 4, "test": 3}
    by_id = {
        example_id: (text, label, tokens)
        for split in data.splits.values()
        for row in range(len(split))
        for example_id, text, label, tokens in [
            (split.example_ids[row], split.texts[row], int(split.labels[row]), split.tokens_of(row).tolist())
        ]
    }
    assert by_id["imdb-train-00001"] == ("the film was bad", 0, [1, 4, 5, 6, 8])
    assert by_id["imdb-test-00002"] == ("the the good", 1, [1, 4, 4, 7])
    for split in data.splits.values():
        for row in range(len(split)):
            assert " ".join(data.decode(split.tokens_of(row)[1:].tolist())) == split.texts[row]


class _Runs:
    def __init__(self, call: object, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickle_that_would_run_something_is_refused_by_name_and_nothing_runs(tmp_path: Path, wrapped: bool) -> None:
    target = tmp_path / "created"
    gadget: object = _Runs(os.system, f"touch {target}")
    payload = pickle.dumps(objects([[1], gadget, [2], [3]]) if wrapped else gadget)  # type: ignore[list-item]
    folder = with_pickle(tmp_path / "data", payload)
    with pytest.raises(DataError, match=r"x_train\.npy asks for posix\.system .* nothing in the file was run"):
        datasets.load("imdb", data=folder, cache=tmp_path / "cache")
    assert not target.exists()
    assert not list((tmp_path / "cache").glob("**/*.npy"))


def gadget(module: str, name: str) -> bytes:
    """A pickle that calls a name that this NumPy may not have."""
    return f"c{module}\n{name}\n(tR.".encode()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_frombuffer"),
        ("numpy", "load"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "dtype.__class__"),
        ("numpy.testing._private.utils", "runstring"),
        ("builtins", "exec"),
    ],
)
def test_names_of_numpy_that_no_list_needs_are_refused_too(tmp_path: Path, module: str, name: str) -> None:
    folder = with_pickle(tmp_path / "data", gadget(module, name))
    with pytest.raises(DataError, match=rf"asks for {re.escape(module)}\.{re.escape(name)}"):
        datasets.load("imdb", data=folder, cache=tmp_path / "cache")


def test_a_pickle_that_refers_to_something_outside_is_refused(tmp_path: Path) -> None:
    folder = with_pickle(tmp_path / "data", b"Psomething\n.")
    with pytest.raises(DataError, match="refers to something outside of itself"):
        datasets.load("imdb", data=folder, cache=tmp_path / "cache")


class _HugeArray:
    """What a pickle says of an array of any size costs it nothing."""

    def __reduce__(self) -> tuple[object, ...]:
        core = getattr(np, "_core", None) or np.core  # NumPy 2 and 1
        return core.multiarray._reconstruct, (np.ndarray, (10**12,), b"b")


SHARED: list[int] = [1] * 1_000_000


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (_HugeArray(), "expected an array of lists of integers"),
        ([[1], [2]], "expected an array of lists of integers"),
        (objects([[1], [2]]), "says that it holds 4 reviews, but has 2"),
        (objects([[1], "text", [2], [3]]), "row 1 of x_train should be a list of word ranks"),  # type: ignore[list-item]
        (objects([[1], [[1], [2]], [2], [3]]), "row 1 of x_train should be a list of word ranks"),  # type: ignore[list-item]
        (objects([[1], [True], [2], [3]]), "row 1 of x_train should be a list of word ranks"),
        (objects([[1], [10**400], [2], [3]]), "row 1 of x_train should be a list of word ranks"),
        (objects([[1], _HugeArray(), [2], [3]]), "row 1 of x_train should be a list of word ranks"),  # type: ignore[list-item]
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, content: object, sentence: str) -> None:
    folder = with_pickle(tmp_path / "data", pickle.dumps(content))
    with pytest.raises(DataError, match=sentence):
        datasets.load("imdb", data=folder, cache=tmp_path / "cache")


def test_one_list_in_many_places_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imdb, "_TOKENS_LIMIT", 3_000_000)
    folder = with_pickle(tmp_path / "data", pickle.dumps(objects([SHARED] * 4)))
    with pytest.raises(DataError, match=r"holds more than 3,000,000 words, far more than IMDB has"):
        datasets.load("imdb", data=folder, cache=tmp_path / "cache")


def test_arrays_of_integers_are_read_as_lists_are(tmp_path: Path) -> None:
    lists = datasets.load("imdb", data=folder_with(tmp_path / "lists"), cache=tmp_path / "cache")
    arrays = np.empty(4, object)
    for row, review in enumerate(TRAIN[0]):
        arrays[row] = np.array(review, ("<i4", ">i2", "u1", "<i8")[row])
    folder = folder_with(tmp_path / "arrays", x_train=arrays)
    assert datasets.load("imdb", data=folder, cache=tmp_path / "cache").fingerprint == lists.fingerprint


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ({"descr": "<i8", "fortran_order": False, "shape": (10**12,)}, "says that it holds 1,000,000,000,000 labels"),
        ({"descr": "<i8", "fortran_order": False, "shape": (2, 2)}, r"expected one axis, got the shape \(2, 2\)"),
        ({"descr": "|O", "fortran_order": False, "shape": (4,)}, "expected integers, got object"),
    ],
)
def test_a_header_that_claims_what_is_not_there_is_refused(
    tmp_path: Path, header: dict[str, object], sentence: str
) -> None:
    folder = folder_with(tmp_path / "data", y_train=None)
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    with zipfile.ZipFile(folder / imdb.NPZ, "a") as archive:
        archive.writestr("y_train.npy", file.getvalue() + bytes(32))
    with pytest.raises(DataError, match=sentence):
        datasets.load("imdb", data=folder, cache=tmp_path / "cache")


def test_a_member_that_would_fill_the_memory_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imdb, "_MEMBER_LIMIT", 1000)
    folder = folder_with(tmp_path / "data", y_train=np.zeros(4000))
    with pytest.raises(DataError, match=r"y_train\.npy would unpack to 32,128 bytes"):
        datasets.load("imdb", data=folder, cache=tmp_path / "cache")


def test_a_member_with_flipped_bits_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "data")
    content = bytearray((folder / imdb.NPZ).read_bytes())
    content[200] ^= 0xFF
    (folder / imdb.NPZ).write_bytes(content)
    with pytest.raises(DataError, match="can't be unpacked: Bad CRC"):
        datasets.load("imdb", data=folder, cache=tmp_path / "cache")


def test_a_download_is_tried_twice_and_a_wrong_digest_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def wrong(name: str, known: str, folder: Path) -> None:
        tried.append(name)
        raise ValueError("SHA256 hash of downloaded file does not match")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(imdb, "_retrieve", wrong)
    with pytest.raises(DataError, match=r"imdb\.npz can't be downloaded \(it has another SHA-256 than 6966"):
        datasets.load("imdb", cache=tmp_path / "cache")
    assert tried == [imdb.NPZ, imdb.NPZ]


def test_a_download_with_its_bar_brings_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = folder_with(tmp_path / "served")
    handler = functools.partial(_Quiet, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
        monkeypatch.setattr(imdb, "_BASE_URL", f"http://127.0.0.1:{server.server_port}/")
        digests = {name: "sha256:" + hashlib.sha256((served / name).read_bytes()).hexdigest() for name in imdb._KNOWN}
        monkeypatch.setattr(imdb, "_KNOWN", digests)
        assert len(datasets.load("imdb", cache=tmp_path / "cache")) == 7
        server.shutdown()
    assert sorted(path.name for path in (tmp_path / "keras" / "datasets").iterdir()) == [imdb.NPZ, imdb.INDEX]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.mark.parametrize("call", [(eval, "1"), (getattr, "a", "upper"), (np.load, "x")])
def test_other_callables_are_refused_too(tmp_path: Path, call: tuple[object, ...]) -> None:
    folder = with_pickle(tmp_path / "data", pickle.dumps(_Runs(*call)))
    with pytest.raises(DataError, match="asks for"):
        datasets.load("imdb", data=folder, cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"x_train": None}, r"has no x_train; expected the arrays x_train, y_train, x_test, y_test"),
        ({"y_train": np.array([0, 1])}, r"x_train has 4 reviews, but y_train has 2 labels"),
        ({"y_train": np.array([0, 1, 2, 1])}, r"labels are 0 or 1, got 2"),
        ({"y_train": np.array([1, 1, 1, 1])}, r"both classes"),
        ({"x_train": objects([[1], [2], [9], [3]])}, r"row 2 of x_train has word ranks from 9 to 9.*belong together"),
        ({"x_train": objects([[1], [], [2], [3]])}, r"row 1 of x_train should be a list of word ranks"),
        ({"x_train": objects([[1], [0], [2], [3]])}, r"row 1 of x_train has word ranks from 0 to 0"),
        ({"y_train": np.array([0.5, 1, 0, 1])}, r"expected integers, got float64"),
        ({"words": ["the"]}, r"expected a JSON object of words"),
        ({"words": {"the": 1, "film": 3}}, r"expected each rank from 1 to 2 once"),
    ],
)
def test_wrong_content_is_refused_in_one_sentence(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    folder = folder_with(tmp_path / "data", **changes)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=sentence) as caught:
        datasets.load("imdb", data=folder, cache=tmp_path / "cache")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 10, 200, 700])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    folder = folder_with(tmp_path / "data")
    content = (folder / imdb.NPZ).read_bytes()
    (folder / imdb.NPZ).write_bytes(content[:keep])
    with pytest.raises(DataError, match=r"not a readable \.npz file"):
        datasets.load("imdb", data=folder, cache=tmp_path / "cache")


def test_a_folder_without_the_word_index_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "data")
    (folder / imdb.INDEX).unlink()
    with pytest.raises(DataError, match=r"needs imdb\.npz and imdb_word_index\.json in one folder"):
        datasets.load("imdb", data=folder, cache=tmp_path / "cache")


def test_keras_own_folder_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keras").mkdir()
    folder_with(tmp_path / "keras" / "datasets")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert len(datasets.load("imdb", cache=tmp_path / "cache")) == 7


def test_without_a_network_the_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(imdb, "_BASE_URL", "http://127.0.0.1:9/")
    with pytest.raises(DataError, match=r"can't be downloaded \(.*--crosscheck-data"):
        datasets.load("imdb", cache=tmp_path / "cache")


@pytest.mark.slow
@pytest.mark.skipif("CROSSCHECK_DATA" not in os.environ, reason="CROSSCHECK_DATA names no folder with the full IMDB")
def test_every_value_is_what_keras_loads(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHECK, os.environ["CROSSCHECK_DATA"], str(tmp_path)]
    answer = subprocess.run(
        command, env={**os.environ, "KERAS_BACKEND": "torch"}, capture_output=True, text=True, check=False
    )
    assert answer.stdout.strip() == "equal", answer.stderr
