from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnn_crosscheck.harness.datasets import text
from rnn_crosscheck.harness.datasets.corpus import Corpus
from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.errors import DataError
from tests.harness.datasets import naive
from tests.reports.folders import rewrite

Build = Callable[[Corpus], Dataset]


def with_value(values: Sequence[object], row: int, value: object) -> list[object]:
    return [*values[:row], value, *values[row + 1 :]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": naive.TEXTS[:9]}, "got 9 texts, 10 labels, 10 example ids, 10 splits"),
        ({"example_ids": ["a", "b"] * 5}, "example ids must be unique, got 'a' twice"),
        ({"example_ids": ["a\nb", *"cdefghijk"]}, r"an example id is one line of text, got 'a\\nb'"),
        ({"labels": np.array(with_value(naive.LABELS, 2, 4))}, "labels are 0 or 1, got 4 for 'tiny-2'"),
        ({"labels": np.array(with_value(naive.LABELS, 2, 0.5))}, "labels are 0 or 1, got 0.5 for 'tiny-2'"),
        ({"labels": np.array(with_value(naive.LABELS, 5, 0))}, "all of 'valid' have the label 0"),
        ({"splits": with_value(naive.SPLITS, 3, "dev")}, "one of train, valid, test, got 'dev' for 'tiny-3'"),
        ({"splits": ["train"] * 10}, "no example in the split 'test'"),
        ({"splits": ["test"] * 10}, "no example in the split 'train'"),
        ({"texts": with_value(naive.TEXTS, 1, "\ud800")}, "the text of 'tiny-1' isn't valid Unicode"),
    ],
)
def test_a_corpus_that_is_not_as_it_should_be_is_refused_in_a_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        naive.corpus(**changes)
    assert str(caught.value).startswith("Dataset 'tiny': ")


def test_a_text_without_a_word_is_refused_by_name(build: Build) -> None:
    with pytest.raises(DataError, match=r"the text of 'tiny-6' has no word.*1 such text\)"):
        build(naive.corpus(texts=with_value(naive.TEXTS, 6, "... ?!")))


def test_splits_hold_their_examples_in_order(tiny: Dataset) -> None:
    assert list(tiny.splits) == ["train", "valid", "test"]
    assert len(tiny) == 10
    test = tiny.splits["test"]
    assert len(test) == 3
    assert test.example_ids == ["tiny-7", "tiny-8", "tiny-9"]
    assert test.labels.tolist() == [0, 1, 0]
    assert test.texts == list(naive.TEXTS[7:])
    assert test.lengths.tolist() == [10, 2, 3]


def test_splits_that_lie_mixed_keep_texts_ids_labels_and_tokens_together(build: Build) -> None:
    order = [9, 0, 5, 1, 8, 2, 7, 3, 6, 4]
    dataset = build(naive.corpus(order=order))
    for split in dataset.splits.values():
        for row in range(len(split)):
            original = int(split.example_ids[row].removeprefix("tiny-"))
            assert split.name == naive.SPLITS[original]
            assert split.texts[row] == naive.TEXTS[original]
            assert split.labels[row] == naive.LABELS[original]
            assert_same_example(dataset, split.tokens_of(row), naive.TEXTS[original])
    assert dataset.splits["test"].example_ids == ["tiny-9", "tiny-8", "tiny-7"]


def assert_same_example(dataset: Dataset, tokens: np.ndarray, content: str) -> None:
    words = dataset.decode(tokens.tolist())
    assert words[0] == "<start>"
    known = set(dataset.words)
    assert words[1:] == [word if word in known else "<oov>" for word in text.tokenise(content)]


@pytest.mark.parametrize("name", ["train", "valid", "test"])
def test_texts_of_the_reviews_belong_to_the_tokens_of_the_same_row(reviews: Dataset, name: str) -> None:
    split = reviews.splits[name]
    known = set(reviews.words)
    for row in [*range(0, len(split), 97), len(split) - 1]:
        words = reviews.decode(split.tokens_of(row).tolist())
        assert words[1:] == [word if word in known else "<oov>" for word in text.tokenise(split.texts[row])]
        assert len(words) == split.lengths[row]


def test_lengths_are_of_single_examples(reviews: Dataset) -> None:
    lengths = np.concatenate([split.lengths for split in reviews.splits.values()])
    assert len(lengths) == 25_000
    assert (lengths.min(), lengths.max(), lengths.sum()) == (11, 2494, len(reviews.tokens))


def test_rows_are_padded_by_their_place_in_the_split(tiny: Dataset) -> None:
    test = tiny.splits["test"]
    padded = test.padded(np.array([2, 0]), 4, 100)
    assert tiny.decode(padded[0].tolist()) == ["<pad>", "<start>", "poor", "film"]
    assert tiny.decode(padded[1].tolist()) == ["<oov>"] * 4
    assert padded[1].tolist() == test.tokens_of(0)[-4:].tolist()


def test_stored_ids_do_not_depend_on_a_vocabulary(tiny: Dataset) -> None:
    expected, words = naive.encode(naive.TEXTS, [split == "train" for split in naive.SPLITS])
    assert tiny.words == words
    assert tiny.tokens.tolist() == [token for one in expected for token in one]


def test_special_ids_have_names_and_ids_beyond_the_words_are_refused(tiny: Dataset) -> None:
    assert tiny.decode([0, 1, 2, 4]) == ["<pad>", "<start>", "<oov>", "a"]
    last = 3 + len(tiny.words)
    assert tiny.decode([last]) == [tiny.words[-1]]
    for token in (last + 1, -1):
        with pytest.raises(ValueError, match=f"Token id {token} isn't in the vocabulary of 'tiny'"):
            tiny.decode([token])


def test_words_and_texts_of_any_unicode_survive_the_disk(build: Build) -> None:
    odd = "caf\u00e9 a\u0085b\r\u2028 \U0001f600 nul\0"
    dataset = build(naive.corpus(texts=[odd, *naive.TEXTS[1:]]))
    assert dataset.splits["train"].texts[0] == odd
    tokens = dataset.splits["train"].tokens_of(0).tolist()
    assert dataset.decode(tokens)[1:] == ["caf\u00e9", "a\u0085b\r\u2028", "\U0001f600", "nul\0"]


def test_what_is_opened_cannot_be_written(tiny: Dataset) -> None:
    with pytest.raises(ValueError, match="read-only"):
        tiny.tokens[0] = 5


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"example_ids": [f"tiny-{row}" for row in (1, 0, *range(2, 10))]},
        {"labels": np.array([0, 1, *naive.LABELS[2:]])},
        {"splits": [*naive.SPLITS[:4], "test", *naive.SPLITS[5:]]},
        {"texts": with_value(naive.TEXTS, 7, "A novel plot")},
        {"texts": with_value(naive.TEXTS, 2, "Fine directing")},
    ],
)
def test_fingerprint_changes_with_everything_that_defines_the_dataset(
    build: Build, tiny: Dataset, changes: dict[str, Any]
) -> None:
    assert build(naive.corpus(**changes)).fingerprint != tiny.fingerprint


def test_fingerprint_is_the_same_for_the_same_corpus(build: Build, tiny: Dataset) -> None:
    again = build(naive.corpus(source="described in other words"))
    assert again.fingerprint == tiny.fingerprint
    assert again.path != tiny.path


def test_a_folder_without_a_dataset_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no encoded dataset in .*nothing"):
        Dataset.open(tmp_path / "nothing")


def test_a_missing_or_shortened_file_is_refused_when_it_is_opened(tiny: Dataset) -> None:
    labels = tiny.path / "labels.npy"
    labels.write_bytes(labels.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"labels.npy has \d+ bytes, expected \d+; delete the folder"):
        Dataset.open(tiny.path)
    labels.unlink()
    with pytest.raises(DataError, match=r"labels.npy is missing; delete the folder"):
        Dataset.open(tiny.path)


def test_another_format_and_a_broken_description_are_refused(tiny: Dataset) -> None:
    meta = tiny.path / "meta.json"
    content = meta.read_text(encoding="utf-8")
    rewrite(meta, {**json.loads(content), "format": 99})
    with pytest.raises(DataError, match="it has format 99, expected 2"):
        Dataset.open(tiny.path)
    meta.write_text(content[:40], encoding="utf-8")
    with pytest.raises(DataError, match=r"meta.json isn't what was written"):
        Dataset.open(tiny.path)


def test_verify_finds_a_flipped_byte(tiny: Dataset) -> None:
    tiny.verify()
    tokens = tiny.path / "tokens.npy"
    content = bytearray(tokens.read_bytes())
    content[-1] ^= 1
    tokens.write_bytes(content)
    with pytest.raises(DataError, match=r"tokens.npy isn't what was written"):
        Dataset.open(tiny.path).verify()
