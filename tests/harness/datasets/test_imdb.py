"""Keras' IMDB: its order and ids, and files that aren't what they should be."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from harness import datasets
from harness.datasets import imdb
from harness.errors import DataError

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
from harness import datasets

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
