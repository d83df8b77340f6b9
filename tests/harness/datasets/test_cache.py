from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from rnn_crosscheck.harness.datasets import cache
from rnn_crosscheck.harness.datasets.corpus import Corpus
from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.errors import DataError
from tests.harness.datasets import naive


class Reader:
    """Reads the small corpus and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Corpus:
        self.calls += 1
        return naive.corpus()


@pytest.fixture
def read() -> Reader:
    return Reader()


def test_the_second_load_is_the_first_and_builds_nothing(read: Reader, tmp_path: Path) -> None:
    first = cache.cached("tiny", "digest", read, tmp_path)
    written = {file.name: file.stat().st_mtime_ns for file in first.path.iterdir()}
    second = cache.cached("tiny", "digest", read, tmp_path)
    assert read.calls == 1
    assert {file.name: file.stat().st_mtime_ns for file in second.path.iterdir()} == written
    assert_equal(first, second)


def assert_equal(first: Dataset, second: Dataset) -> None:
    assert first.fingerprint == second.fingerprint
    assert first.path == second.path
    assert first.words == second.words
    assert np.array_equal(first.tokens, second.tokens)
    for name, split in first.splits.items():
        assert split.example_ids == second.splits[name].example_ids
        assert split.texts == second.splits[name].texts
        assert np.array_equal(split.labels, second.splits[name].labels)


def test_nothing_but_the_entry_is_left_in_the_cache(read: Reader, tmp_path: Path) -> None:
    dataset = cache.cached("tiny", "digest", read, tmp_path / "deep" / "cache")
    assert [file.name for file in (tmp_path / "deep" / "cache").iterdir()] == [dataset.path.name]
    assert dataset.path.is_absolute()


@pytest.mark.parametrize(("loader", "digest"), [("other", "digest"), ("tiny", "changed")])
def test_another_source_or_loader_is_another_entry(read: Reader, tmp_path: Path, loader: str, digest: str) -> None:
    first = cache.cached("tiny", "digest", read, tmp_path)
    assert cache.cached(loader, digest, read, tmp_path).path != first.path
    assert read.calls == 2


def test_another_version_of_the_encoder_is_another_entry(
    read: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.cached("tiny", "digest", read, tmp_path)
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    cache.cached("tiny", "digest", read, tmp_path)
    assert read.calls == 2


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [Path.unlink, empty, flip])
@pytest.mark.parametrize(
    "file", ["meta.json", "tokens.npy", "offsets.npy", "labels.npy", "splits.npy", "words.txt", "texts.arrow"]
)
def test_a_damaged_entry_is_built_again(read: Reader, tmp_path: Path, file: str, damage: object) -> None:
    whole = cache.cached("tiny", "digest", read, tmp_path)
    damage(whole.path / file)  # type: ignore[operator]
    mended = cache.cached("tiny", "digest", read, tmp_path)
    assert read.calls == 2
    assert mended.splits["test"].texts == list(naive.TEXTS[7:])
    assert [entry.name for entry in tmp_path.iterdir()] == [whole.path.name]


def test_a_build_that_loses_a_race_takes_what_the_other_built(tmp_path: Path) -> None:
    others = Reader()

    def read_while_another_finishes() -> Corpus:
        cache.cached("tiny", "digest", others, tmp_path)
        return naive.corpus()

    dataset = cache.cached("tiny", "digest", read_while_another_finishes, tmp_path)
    assert others.calls == 1
    assert dataset.splits["test"].texts == list(naive.TEXTS[7:])
    assert len(list(tmp_path.iterdir())) == 1


def test_a_source_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> Corpus:
        raise DataError("The source is not what it should be.")

    with pytest.raises(DataError, match="The source is not what it should be"):
        cache.cached("tiny", "digest", fail, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written_is_a_sentence(read: Reader, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder", encoding="utf-8")
    with pytest.raises(DataError, match=r"can't be written to the cache folder .*file: .*set CROSSCHECK_CACHE to"):
        cache.cached("tiny", "digest", read, in_the_way)


def test_the_folder_comes_from_the_environment_or_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCHECK_CACHE", os.sep + "elsewhere")
    assert cache.default_folder() == Path(os.sep + "elsewhere")
    monkeypatch.delenv("CROSSCHECK_CACHE")
    assert cache.default_folder() == Path(platformdirs.user_cache_dir("rnn-crosscheck"))
