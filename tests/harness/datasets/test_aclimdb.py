"""The Stanford archive and its folder, whole and damaged. Archives are made by the tests."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.datasets import aclimdb
from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.errors import DataError

REVIEWS = {
    "aclImdb/train/neg/0_3.txt": "A dull film. <br />Dull!",
    "aclImdb/train/neg/12_1.txt": "poor plot",
    "aclImdb/train/pos/0_9.txt": "a fine film",
    "aclImdb/train/pos/123_8.txt": "Fine caf\u00e9, warm",
    "aclImdb/test/neg/0_2.txt": "dull and unheard",
    "aclImdb/test/pos/7_10.txt": "fine",
}
OTHERS = {
    "aclImdb/README": "Large Movie Review Dataset",
    "aclImdb/imdb.vocab": "the\nand",
    "aclImdb/train/unsup/0_0.txt": "never read",
    "aclImdb/train/pos/notes.txt": "never read",
}

Change = Callable[[tarfile.TarFile], None]


def member(name: str, content: bytes = b"x", **values: object) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in values.items():
        setattr(info, key, value)
    return info, io.BytesIO(content)


def archive(path: Path, files: Mapping[str, str | bytes] = REVIEWS | OTHERS, more: Change = lambda file: None) -> Path:
    with tarfile.open(path, "w:gz") as file:
        file.addfile(member("aclImdb", b"", type=tarfile.DIRTYPE)[0])
        for name, content in files.items():
            file.addfile(*member(name, content.encode() if isinstance(content, str) else content))
        more(file)
    return path


def folder(path: Path, files: Mapping[str, str] = REVIEWS | OTHERS) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content, encoding="utf-8")
    return path / "aclImdb"


def load(data: Path | None, tmp_path: Path) -> Dataset:
    return datasets.load("aclimdb", data=data, cache=tmp_path / "cache")


def test_reviews_are_read_with_their_split_class_and_text(tmp_path: Path) -> None:
    data = load(archive(tmp_path / "a.tar.gz"), tmp_path)
    found = {
        example_id: (name, text, int(label))
        for name, split in data.splits.items()
        for example_id, text, label in zip(split.example_ids, split.texts, split.labels, strict=True)
    }
    assert found == {
        "aclimdb-train-neg-00000_3": ("train", "A dull film. <br />Dull!", 0),
        "aclimdb-train-neg-00012_1": ("train", "poor plot", 0),
        "aclimdb-train-pos-00000_9": ("train", "a fine film", 1),
        "aclimdb-train-pos-00123_8": ("train", "Fine caf\u00e9, warm", 1),
        "aclimdb-test-neg-00000_2": ("test", "dull and unheard", 0),
        "aclimdb-test-pos-00007_10": ("test", "fine", 1),
    }
    assert "unheard" not in data.words
    assert "never" not in data.words


def test_the_archive_the_folder_and_what_holds_them_are_the_same_dataset(tmp_path: Path) -> None:
    (tmp_path / "holds").mkdir()
    places = [
        archive(tmp_path / "renamed.tgz"),
        archive(tmp_path / "holds" / aclimdb.ARCHIVE).parent,
        folder(tmp_path / "unpacked"),
        tmp_path / "unpacked",
        folder(tmp_path / "other").rename(tmp_path / "other" / "renamed"),
    ]
    assert len({load(place, tmp_path).fingerprint for place in places}) == 1


def test_the_order_of_the_archive_does_not_matter(tmp_path: Path) -> None:
    first = load(archive(tmp_path / "a.tar.gz"), tmp_path)
    again = load(archive(tmp_path / "b.tar.gz", dict(reversed(REVIEWS.items()))), tmp_path)
    assert first.fingerprint == again.fingerprint


def test_the_first_reviews_are_of_both_classes(tmp_path: Path) -> None:
    many = {
        f"aclImdb/{split}/{kind}/{row}_{rating}.txt": f"{kind} {row}"
        for split in ("train", "test")
        for kind, rating in (("neg", 1), ("pos", 10))
        for row in range(200)
    }
    data = load(archive(tmp_path / "a.tar.gz", many), tmp_path)
    assert 30 < data.splits["train"].labels[:100].sum() < 70


def link(kind: bytes) -> Change:
    return lambda file: file.addfile(member("aclImdb/train/pos/9_9.txt", b"", type=kind, linkname="/etc/hostname")[0])


def add(name: str, content: bytes = b"x", **values: object) -> Change:
    return lambda file: file.addfile(*member(name, content, **values))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (add("../evil.txt"), r"'\.\./evil\.txt' is a path out of its folder"),
        (add("aclImdb/train/pos/../../../evil"), "is a path out of its folder"),
        (add("aclImdb\\..\\evil"), "is a path out of its folder"),
        (add("/tmp/evil"), "'/tmp/evil' is an absolute path"),
        (add("C:\\evil"), "is an absolute path"),
        (link(tarfile.SYMTYPE), r"'aclImdb/train/pos/9_9\.txt' is a link"),
        (link(tarfile.LNKTYPE), r"'aclImdb/train/pos/9_9\.txt' is a link"),
        (add("aclImdb/dev", b"", type=tarfile.CHRTYPE), "'aclImdb/dev' is not a file or a folder"),
        (add("aclImdb/dev", b"", type=tarfile.BLKTYPE), "'aclImdb/dev' is not a file or a folder"),
        (add("aclImdb/pipe", b"", type=tarfile.FIFOTYPE), "'aclImdb/pipe' is not a file or a folder"),
        (add("aclImdb/test/pos/1_9.txt", b"caf\xe9 noir"), r"1_9\.txt isn't UTF-8: the byte 0xe9 at 3"),
        (add("aclImdb/test/pos/1_9.txt", b" ...\n"), r"1_9\.txt holds no word"),
        (add("aclImdb/test/pos/1_9.txt", b""), r"1_9\.txt holds no word"),
        (add("aclImdb/test/pos/1_9.txt", bytes(2_000_000)), r"1_9\.txt has 2,000,000 bytes.*refused"),
        (add("aclImdb/test/pos/7_10.txt"), r"has the member aclImdb/test/pos/7_10\.txt twice"),
        (add("aclImdb/test/pos/07_10.txt"), "'aclimdb-test-pos-00007_10' twice"),
        (add("n" * 2_000_000), r"isn't a whole \.tar\.gz archive: the header of .* claims 2,000,0"),
    ],
)
def test_a_member_that_no_honest_copy_has_is_refused_by_name(tmp_path: Path, change: Change, sentence: str) -> None:
    path = archive(tmp_path / "a.tar.gz", more=change)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=sentence) as caught:
        load(path, tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [file for file in sorted(tmp_path.rglob("*")) if file not in before] == [tmp_path / "cache"]


@pytest.mark.parametrize("part", [0, 0.2, 0.5, 0.9, 0.99])
def test_a_truncated_archive_is_refused(tmp_path: Path, part: float) -> None:
    path = archive(tmp_path / "a.tar.gz")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(DataError, match=r"a\.tar\.gz isn't a whole \.tar\.gz archive: "):
        load(path, tmp_path)


@pytest.mark.parametrize("kept", [512, 512 * 3, 512 * 3 + 100, 512 * 5])
def test_a_truncated_tar_in_a_whole_gz_is_refused(tmp_path: Path, kept: int) -> None:
    path = archive(tmp_path / "a.tar.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:kept]))
    with pytest.raises(DataError, match=r"isn't a whole \.tar\.gz archive: "):
        load(path, tmp_path)


def test_a_damaged_header_in_the_middle_is_not_the_end(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz")
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[512 * 3 + 10] ^= 0xFF
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=r"isn't a whole \.tar\.gz archive: bad checksum"):
        load(path, tmp_path)


def test_a_wrong_checksum_at_the_end_is_found(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"isn't a whole \.tar\.gz archive: CRC check failed"):
        load(path, tmp_path)


def test_an_archive_that_unpacks_to_far_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aclimdb, "_TOTAL_LIMIT", 1_000_000)
    path = archive(tmp_path / "a.tar.gz", more=add("aclImdb/train/unsupBow.feat", bytes(2_000_000)))
    with pytest.raises(DataError, match="unpacks to more than 1,000,000 bytes"):
        load(path, tmp_path)
    path = archive(tmp_path / "b.tar.gz")
    path.write_bytes(path.read_bytes() + gzip.compress(bytes(2_000_000)))
    with pytest.raises(DataError, match="unpacks to more than 1,000,000 bytes"):
        load(path, tmp_path)


def test_a_link_in_a_folder_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path)
    os.symlink("/etc/hostname", path / "test" / "pos" / "9_9.txt")
    with pytest.raises(DataError, match=r"'aclImdb/test/pos/9_9\.txt' is a link"):
        load(path, tmp_path)


def test_a_folder_without_a_class_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path, {name: text for name, text in REVIEWS.items() if "test/neg" not in name})
    with pytest.raises(DataError, match=r"test.neg can't be read \(No such file"):
        load(path, tmp_path)


def test_an_archive_without_a_class_or_a_split_is_refused(tmp_path: Path) -> None:
    no_class = {name: text for name, text in REVIEWS.items() if "test/neg" not in name}
    with pytest.raises(DataError, match=r"a\.tar\.gz: every split needs examples of both classes, but all of 'test'"):
        load(archive(tmp_path / "a.tar.gz", no_class), tmp_path)
    no_split = {name: text for name, text in REVIEWS.items() if "train" in name}
    with pytest.raises(DataError, match=r"b\.tar\.gz: there is no example in the split 'test'"):
        load(archive(tmp_path / "b.tar.gz", no_split), tmp_path)


def test_an_archive_of_something_else_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no member aclImdb/train/pos/ID_RATING\.txt"):
        load(archive(tmp_path / "a.tar.gz", {"other/file.txt": "text"}), tmp_path)


def test_without_a_path_the_sentence_says_where_to_get_it_and_how_to_name_it(tmp_path: Path) -> None:
    for data in (None, tmp_path):
        with pytest.raises(DataError, match=r"download aclImdb_v1\.tar\.gz from https://.* --crosscheck-data=PATH"):
            load(data, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif("CROSSCHECK_DATA" not in os.environ, reason="CROSSCHECK_DATA names no folder with the archive")
def test_the_real_archive_is_read(tmp_path: Path) -> None:
    data = load(Path(os.environ["CROSSCHECK_DATA"]), tmp_path)
    train, test = data.splits["train"], data.splits["test"]
    assert (len(train), int(train.labels.sum())) == (25_000, 12_500)
    # A copy that lacks one of the test reviews is known.
    assert len(test) in (24_999, 25_000)
    assert len(data.words) == 88_582
    assert data.words[:5] == ["the", "and", "a", "of", "to"]
    assert np.array_equal(np.sort(train.lengths)[[0, -1]], [11, 2494])
    position = train.example_ids.index("aclimdb-train-neg-00000_3")
    assert train.texts[position].startswith("Story of a man who has unnatural feelings for a pig.")
