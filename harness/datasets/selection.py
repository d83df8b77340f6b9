"""The part of a dataset that a protocol uses, and what there is to say about it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness import tables
from rnn_crosscheck.harness.datasets import text
from rnn_crosscheck.harness.datasets.dataset import Dataset, Part, Split
from rnn_crosscheck.harness.errors import UsageError
from rnn_crosscheck.harness.folder import new_file
from rnn_crosscheck.harness.protocol import DataSpec
from rnn_crosscheck.harness.results import DatasetFacts, ExampleFacts, SplitFacts

#: examples that are padded at once when figures are taken of a whole block
_CHUNK = 2048
#: rows of the test table that are written at once
_ROWS = 50_000


class Block(Part):
    """Examples of one split that a protocol uses.

    Attributes
    ----------
    split
        Where they come from.
    rows
        Which of its rows, in order, int64 (n,).
    """

    def __init__(self, split: Split, rows: NDArray[np.int64]) -> None:
        super().__init__(split, rows)
        self.split = split

    def padded(self, length: int, vocabulary: int) -> NDArray[np.int32]:
        """Token ids of the whole block, int32 (n, length)."""
        return self.split.padded(self.rows, length, vocabulary)


@dataclass(frozen=True, eq=False)
class Selection:
    """What a protocol trains on, validates on and tests on."""

    train: Block
    valid: Block
    test: Block

    def __iter__(self) -> Iterator[tuple[str, Block]]:
        """Names and blocks, in the order train, valid, test."""
        yield from (("train", self.train), ("valid", self.valid), ("test", self.test))


def apply(dataset: Dataset, spec: DataSpec) -> Selection:
    """Select what a protocol asks for.

    A dataset without a validation split gives up the first `validation_fraction` of its training split, before
    any shuffling. A limit takes the first examples of its block.

    Raises
    ------
    UsageError
        More examples are asked for than there are.
    """
    blocks = {name: Block(split, np.arange(len(split), dtype=np.int64)) for name, split in dataset.splits.items()}
    if "valid" not in blocks:
        split, rows = blocks["train"].split, blocks["train"].rows
        # The training split has both classes, so two examples or more: one is left for each side.
        cut = min(max(round(len(rows) * spec.validation_fraction), 1), len(rows) - 1)
        blocks |= {"valid": Block(split, rows[:cut]), "train": Block(split, rows[cut:])}
    limits = {"train": spec.train_examples, "valid": spec.valid_examples, "test": spec.test_examples}
    return Selection(**{name: _first(dataset, blocks[name], name, limit) for name, limit in limits.items()})


def _first(dataset: Dataset, block: Block, name: str, limit: int) -> Block:
    if limit > len(block):
        what = {"train": "training", "valid": "validation", "test": "testing"}[name]
        raise UsageError(
            f"data.{name}_examples asks for {limit} examples, but the dataset {dataset.name!r} has {len(block)} for "
            f"{what}; ask for fewer, or for 0 to take all."
        )
    return Block(block.split, block.rows[:limit]) if limit else block


# --- figures ------------------------------------------------------------------------------------------------


def facts(dataset: Dataset, spec: DataSpec) -> DatasetFacts:
    """Sizes, balance, lengths, truncation and shares out of vocabulary, under the encoding of a protocol.

    Lengths are those of single examples, with the start token and uncut. The shortest and the longest example
    are taken over the three blocks together. The ids of an example that is shown are cut to the length and to
    the vocabulary, but not padded.

    Raises
    ------
    UsageError
        More examples are asked for than there are.
    """
    selection = apply(dataset, spec)
    blocks = [block for _, block in selection]
    shortest = min(blocks, key=lambda block: int(block.lengths.min()))
    longest = max(blocks, key=lambda block: int(block.lengths.max()))
    longest_facts = _example_facts(dataset, longest, int(longest.lengths.argmax()), spec)
    return DatasetFacts(
        name=dataset.name,
        source=dataset.source,
        fingerprint=dataset.fingerprint,
        distinct_words=len(dataset.words),
        encode_seconds=dataset.encode_seconds,
        encoded_examples=len(dataset.labels),
        splits={name: _split_facts(block, spec) for name, block in selection},
        shown=_example_facts(dataset, selection.test, 0, spec),
        shortest=_example_facts(dataset, shortest, int(shortest.lengths.argmin()), spec),
        longest=longest_facts,
        longest_id=longest_facts.example_id,
        longest_length=int(longest.lengths.max()),
        inputs_hash=hash_inputs(
            selection.test.example_ids, selection.test.labels, selection.test.padded(spec.length, spec.vocabulary)
        ),
    )


def _split_facts(block: Block, spec: DataSpec) -> SplitFacts:
    lengths = block.lengths
    return SplitFacts(
        examples=len(block),
        positive=int(block.labels.sum()),
        length_min=int(lengths.min()),
        length_mean=float(lengths.mean()),
        length_median=float(np.median(lengths)),
        length_max=int(lengths.max()),
        truncated_share=float((lengths > spec.length).mean()),
        oov_share=float(_oov(block, spec).sum() / _kept(block, spec).sum()),
    )


def _kept(block: Block, spec: DataSpec) -> NDArray[np.int64]:
    """Tokens of each example that the models see, the start token among them where it isn't cut, (n,)."""
    return np.minimum(block.lengths, spec.length)


def _oov(block: Block, spec: DataSpec) -> NDArray[np.int64]:
    """Tokens out of vocabulary among those kept, (n,)."""
    found = [
        (block.split.padded(block.rows[start : start + _CHUNK], spec.length, spec.vocabulary) == text.OOV).sum(axis=1)
        for start in range(0, len(block), _CHUNK)
    ]
    return np.concatenate(found)


def _example_facts(dataset: Dataset, block: Block, position: int, spec: DataSpec) -> ExampleFacts:
    row = block.rows[position : position + 1]
    kept = min(int(block.lengths[position]), spec.length)
    ids = block.split.padded(row, kept, spec.vocabulary)[0].tolist()
    return ExampleFacts(
        example_id=block.split.strings("example_id", row)[0],
        label=int(block.labels[position]),
        ids=tuple(ids),
        words=tuple(dataset.decode(ids)),
    )


def write_test_table(dataset: Dataset, spec: DataSpec, path: Path) -> None:
    """Write the test examples as Parquet (`harness.tables.TEST`), whole or not at all.

    Raises
    ------
    UsageError
        More examples are asked for than there are.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    block = apply(dataset, spec).test
    schema = tables.schema(tables.TEST)
    with new_file(path, flushed=True) as scratch, pq.ParquetWriter(scratch, schema) as writer:
        # In parts: the texts of a large test split needn't fit into memory.
        for start in range(0, len(block), _ROWS):
            part = Block(block.split, block.rows[start : start + _ROWS])
            columns = [
                part.example_ids,
                part.labels,
                part.texts,
                part.lengths.astype(np.int32),
                _oov(part, spec) / _kept(part, spec),
                part.lengths > spec.length,
            ]
            writer.write_table(pa.table(columns, schema=schema))


def hash_inputs(example_ids: NDArray[np.str_] | list[str], labels: NDArray[np.int8], tokens: NDArray[np.int32]) -> str:
    """Hash ids, labels and encoded inputs (n, length) of a split, so that no two splits are ever mixed up."""
    digest = hashlib.sha256("\n".join(example_ids).encode())
    digest.update(np.ascontiguousarray(labels, np.int8).tobytes())
    digest.update(str(tokens.shape).encode())
    digest.update(np.ascontiguousarray(tokens, "<i4").tobytes())
    return digest.hexdigest()
