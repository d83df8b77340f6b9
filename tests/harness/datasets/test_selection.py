from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.datasets import selection
from rnn_crosscheck.harness.datasets.corpus import Corpus
from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.datasets.selection import apply, facts, hash_inputs, write_test_table
from rnn_crosscheck.harness.errors import UsageError
from rnn_crosscheck.harness.protocol import DataSpec
from tests.harness.datasets import naive

Build = Callable[[Corpus], Dataset]


def spec(**values: Any) -> DataSpec:
    return DataSpec(**{"dataset": "tiny", "vocabulary": 8, "length": 5, **values})


def test_a_validation_split_of_the_dataset_is_used_as_it_is(tiny: Dataset) -> None:
    selected = apply(tiny, spec(validation_fraction=0.5))
    assert [(name, len(block)) for name, block in selected] == [("train", 5), ("valid", 2), ("test", 3)]
    assert selected.valid.example_ids == ["tiny-5", "tiny-6"]


def test_without_one_the_first_part_of_the_training_split_validates(build: Build) -> None:
    selected = apply(build(naive.corpus(valid=False)), spec(validation_fraction=0.3))
    assert selected.valid.example_ids == ["tiny-0", "tiny-1"]
    assert selected.train.example_ids == ["tiny-2", "tiny-3", "tiny-4", "tiny-5", "tiny-6"]
    assert selected.train.labels.tolist() == [1, 0, 1, 1, 0]
    assert selected.train.split is selected.valid.split


@pytest.mark.parametrize(("fraction", "sizes"), [(0.01, (6, 1)), (0.99, (1, 6))])
def test_neither_side_of_the_training_split_is_ever_empty(
    build: Build, fraction: float, sizes: tuple[int, int]
) -> None:
    selected = apply(build(naive.corpus(valid=False)), spec(validation_fraction=fraction))
    assert (len(selected.train), len(selected.valid)) == sizes


def test_limits_take_the_first_examples_of_each_block(build: Build) -> None:
    dataset = build(naive.corpus(valid=False))
    selected = apply(dataset, spec(validation_fraction=0.3, train_examples=2, valid_examples=1, test_examples=3))
    assert selected.train.example_ids == ["tiny-2", "tiny-3"]
    assert selected.valid.example_ids == ["tiny-0"]
    assert selected.test.example_ids == ["tiny-7", "tiny-8", "tiny-9"]


@pytest.mark.parametrize(
    ("key", "available"), [("train_examples", "5 for training"), ("test_examples", "3 for testing")]
)
def test_asking_for_more_than_there_is_names_what_there_is(tiny: Dataset, key: str, available: str) -> None:
    with pytest.raises(UsageError, match=rf"data.{key} asks for 6 examples, but the dataset 'tiny' has {available};"):
        apply(tiny, spec(**{key: 6}))


def test_a_block_feeds_batches(build: Build) -> None:
    block = apply(build(naive.corpus(valid=False)), spec(validation_fraction=0.3)).train
    batches = Batches(block.split, block.rows, order=np.array([4, 0, 1, 2, 3]), batch_size=2, length=5, vocabulary=100)
    parts = list(batches)
    assert [tokens.shape for tokens, _ in parts] == [(2, 5), (2, 5), (1, 5)]
    assert np.array_equal(np.concatenate([tokens for tokens, _ in parts]), block.padded(5, 100)[[4, 0, 1, 2, 3]])
    assert np.concatenate([labels for _, labels in parts]).tolist() == [0, 1, 0, 1, 1]


def test_facts_are_those_worked_out_by_hand(tiny: Dataset) -> None:
    found = facts(tiny, spec())
    # Three times each a, fine, dull; twice film, warm, poor. A vocabulary of 8 keeps the first four.
    assert tiny.words == ["a", "fine", "dull", "film", "warm", "poor", "and", "acting", "plot"]
    train = found.splits["train"]
    assert (train.examples, train.positive) == (5, 3)
    assert (train.length_min, train.length_max, train.length_mean, train.length_median) == (2, 7, 4.6, 5.0)
    assert train.truncated_share == 2 / 5
    assert found.distinct_words == 9
    assert found.fingerprint == tiny.fingerprint
    assert (found.name, found.source) == (tiny.name, tiny.source)


def test_shares_out_of_vocabulary_agree_with_a_loop(tiny: Dataset) -> None:
    encoded, _ = naive.encode(naive.TEXTS, [split == "train" for split in naive.SPLITS])
    found = facts(tiny, spec())
    for name, split in found.splits.items():
        kept = [
            token for example, of in zip(encoded, naive.SPLITS, strict=True) if of == name for token in example[-5:]
        ]
        assert split.oov_share == pytest.approx(sum(token == 2 or token >= 8 for token in kept) / len(kept))


def test_shortest_and_longest_are_single_examples_of_any_block(tiny: Dataset) -> None:
    found = facts(tiny, spec())
    assert found.shown is not None
    assert found.shortest is not None
    assert found.shown.example_id == "tiny-7"
    assert found.shown.words == ("<oov>",) * 5
    assert (found.shortest.example_id, found.shortest.label) == ("tiny-4", 1)
    assert (found.longest_id, found.longest_length) == ("tiny-7", 10)


def test_the_longest_review_is_no_pair_of_reviews(reviews: Dataset) -> None:
    found = facts(reviews, DataSpec())
    assert found.longest_length == 2494
    assert found.shortest is not None
    assert len(found.shortest.ids) == 11
    assert found.shortest.words[0] == "<start>"
    assert max(found.shortest.ids) < 5000
    assert sum(split.examples for split in found.splits.values()) == 25_000


def test_the_longest_example_is_shown_as_the_models_see_it(tiny: Dataset) -> None:
    found = facts(tiny, spec())
    assert found.longest is not None
    assert found.longest.example_id == found.longest_id == "tiny-7"
    assert found.longest_length == 10
    assert found.longest.ids == (2, 2, 2, 2, 2)
    assert found.longest.words == ("<oov>",) * 5
    assert found.longest.label == 0


def test_the_test_table_is_the_same_in_one_part_and_in_many(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_test_table(tiny, spec(), tmp_path / "one.parquet")
    monkeypatch.setattr(selection, "_ROWS", 2)
    write_test_table(tiny, spec(), tmp_path / "many.parquet")
    assert pd.read_parquet(tmp_path / "one.parquet").equals(pd.read_parquet(tmp_path / "many.parquet"))


def test_hash_of_inputs_is_that_of_the_padded_test_block(tiny: Dataset) -> None:
    test = apply(tiny, spec(test_examples=2)).test
    expected = hash_inputs(["tiny-7", "tiny-8"], np.array([0, 1], np.int8), test.padded(5, 8))
    assert facts(tiny, spec(test_examples=2)).inputs_hash == expected
    assert facts(tiny, spec()).inputs_hash != expected


def test_the_test_table_holds_each_example_with_its_own_text(tiny: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "new" / "test.parquet"
    write_test_table(tiny, spec(), path)
    table = pd.read_parquet(path)
    assert list(table.columns) == ["example_id", "label", "text", "length", "oov", "truncated"]
    assert table["example_id"].tolist() == ["tiny-7", "tiny-8", "tiny-9"]
    assert table["label"].tolist() == [0, 1, 0]
    assert table["text"].tolist() == list(naive.TEXTS[7:])
    assert table["length"].tolist() == [10, 2, 3]
    assert table["truncated"].tolist() == [True, False, False]
    assert table["oov"].iloc[0] == 1.0
    assert [file.name for file in path.parent.iterdir()] == ["test.parquet"]


def test_the_test_table_of_the_reviews_never_shows_a_training_text(reviews: Dataset, tmp_path: Path) -> None:
    write_test_table(reviews, DataSpec(test_examples=500), tmp_path / "test.parquet")
    table = pd.read_parquet(tmp_path / "test.parquet")
    assert len(table) == 500
    assert table["text"].tolist() == reviews.splits["test"].texts[:500]
    assert not set(table["text"]) & set(reviews.splits["train"].texts)


def test_the_hash_of_inputs_sees_ids_labels_tokens_and_their_order() -> None:
    ids, labels, tokens = ["a", "b"], np.array([0, 1], np.int8), np.array([[1, 2], [3, 4]], np.int32)
    hashes = {
        hash_inputs(ids, labels, tokens),
        hash_inputs(["b", "a"], labels, tokens),
        hash_inputs(ids, labels[::-1], tokens),
        hash_inputs(ids, labels, tokens[::-1]),
        hash_inputs(ids, labels, tokens.reshape(1, 4)),
    }
    assert len(hashes) == 5
    assert hash_inputs(ids, labels, tokens) == hash_inputs(ids, labels, tokens.astype(np.int64))
