"""Tables on disk: the columns of each, with their types and ranges; written as Parquet, read back and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_crosscheck.harness.errors import ContractError, DamageError
from rnn_crosscheck.harness.folder import sha256_of

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """Type of a column, by Arrow's name, and the range of its numbers; no value is missing."""

    type: str
    low: float = -inf
    high: float = inf


Columns = Mapping[str, Column]

_TEXT, _YES_OR_NO = Column("string"), Column("bool")
_CLASS = Column("int8", 0, 1)
_SHARE = Column("float", 0, 1)
#: of a length, a step, a position
_MOST = 2**31 - 1

_LARGEST = float(np.finfo(np.float32).max)

#: ``test.parquet``: length in tokens with the start token, uncut; oov is the share of the tokens kept
TEST: Columns = {
    "example_id": _TEXT,
    "label": _CLASS,
    "text": _TEXT,
    "length": Column("int32", 0, _MOST),
    "oov": Column("double", 0, 1),
    "truncated": _YES_OR_NO,
}
#: ``predictions.parquet`` of a run
PREDICTIONS: Columns = {"example_id": _TEXT, "label": _CLASS, "probability": _SHARE}
#: ``trace.parquet`` of a traced run: one row an update
COURSE: Columns = {
    "step": Column("int32", 1, _MOST),
    "loss": Column("float", 0, _LARGEST),
    "gradient_norm": Column("float", 0),
}
#: ``<backend>.parquet`` of occlusions: window is the number of tokens left out, 0 for none; position the first of them
#: among the words that the models see, -1 for none
OCCLUDED: Columns = {
    "run_id": _TEXT,
    "example_id": _TEXT,
    "window": Column("int8", 0, 127),
    "position": Column("int32", -1, _MOST),
    "probability": _SHARE,
}
#: ``<backend>.words.parquet`` of occlusions: oov says that the models don't know the word
WORDS: Columns = {"example_id": _TEXT, "position": Column("int32", 0, _MOST), "word": _TEXT, "oov": _YES_OR_NO}


def probes(steps: Iterable[int]) -> Columns:
    """Give the columns of ``probes.parquet``: probabilities after so many updates."""
    return {"example_id": _TEXT, **{f"step_{step}": _SHARE for step in steps}}


def schema(columns: Columns) -> pa.Schema:
    """Give the columns as Arrow has them."""
    import pyarrow as pa

    return pa.schema([(name, pa.type_for_alias(column.type)) for name, column in columns.items()])


def write(path: Path, columns: Columns, values: Mapping[str, Any]) -> None:
    """Write a table, its values given by column; raises `ContractError` for what such a table can't hold."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = schema(columns)
    table = pa.table([pa.array(values[each.name], each.type) for each in wanted], schema=wanted)
    for name, column in columns.items():
        if wrong := _wrong(table[name], column):
            raise ContractError(f"{path.name} can't be written: {wrong} in the column {name!r}.")
    pq.write_table(table, path)


def read(path: Path, columns: Columns, digest: str) -> pa.Table:
    """Read a table that must be what was written, to the bit.

    Parameters
    ----------
    path, columns
        Where it lies, and what it holds.
    digest
        SHA-256 of the file, in hexadecimal, from the record that describes it.

    Raises
    ------
    DamageError
        The file is missing, isn't what was written, or holds what a table of these columns can't.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = bytes_of(path)
    _compare(path, hashlib.sha256(content).hexdigest(), digest)
    try:
        table = pq.ParquetFile(pa.BufferReader(content)).read()
    except (pa.ArrowException, OSError) as error:
        raise DamageError(f"{path} is damaged: {error}") from None
    if table.schema != schema(columns):
        raise DamageError(f"{path} should hold the columns {_named(schema(columns))}; it holds {_named(table.schema)}.")
    for name, column in columns.items():
        if wrong := _wrong(table[name], column):
            raise DamageError(f"{path} is damaged: {wrong} in the column {name!r}.")
    return table


def _wrong(values: pa.ChunkedArray, column: Column) -> str:
    """Say what is wrong with a column, or nothing."""
    if values.null_count:
        return "a value is missing"
    if column.type in ("string", "bool"):
        return ""
    numbers = values.to_numpy()
    if ((numbers >= column.low) & (numbers <= column.high)).all():
        return ""
    return f"a value isn't in {column.low:g} to {column.high:g}"


def _named(columns: pa.Schema) -> str:
    return ", ".join(f"{column.name} ({column.type})" for column in columns) or "none"


def verify(path: Path, digest: str) -> None:
    """Hold a file against its digest; raises `DamageError` where it isn't what was written."""
    try:
        found = sha256_of(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    _compare(path, found, digest)


def _compare(path: Path, found: str, digest: str) -> None:
    if found != digest:
        raise DamageError(f"{path} is damaged: it isn't what was written (its digest is another).")


def _unreadable(path: Path, error: OSError) -> DamageError:
    if isinstance(error, FileNotFoundError):
        return DamageError(f"There is no {path}; has the comparison been run?")
    return DamageError(f"{path} can't be read: {error}.")


def bytes_of(path: Path) -> bytes:
    """Read a file whole; raises `DamageError` where it can't be."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
