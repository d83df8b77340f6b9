"""The user's own table: CSV, TSV, JSON lines or Parquet, with a column of texts and one of labels.

A table may be larger than the memory: it is read row by row (`csv_rows`, `json_rows`, `parquet_rows`), and its texts go
to the disk as they are read.

Each split is put into the order of its texts' hashes: tables are often sorted by label, and the first n examples have
to be a sample of both classes. Without a column for it, the split follows from the same hash, as for `reviews`.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.datasets import cache as _cache
from rnn_crosscheck.harness.datasets import csv_rows, json_rows, parquet_rows, text
from rnn_crosscheck.harness.datasets.columns import Columns
from rnn_crosscheck.harness.datasets.corpus import SPLITS, Corpus, first_repeat
from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.datasets.reviews import split_of
from rnn_crosscheck.harness.datasets.rows import VALUE_LIMIT, Row, shown
from rnn_crosscheck.harness.datasets.spill import Numbered, Spill
from rnn_crosscheck.harness.errors import DataError

NAME = "table"

_LABEL_LIMIT = 100

_READERS: Mapping[str, Callable[[Path, Columns], tuple[Columns, Iterator[Row]]]] = {
    ".csv": csv_rows.read,
    ".tsv": csv_rows.read,
    ".jsonl": json_rows.read,
    ".parquet": parquet_rows.read,
}
EXTENSIONS = tuple(_READERS)

_MEANINGS = {
    **dict.fromkeys(("1", "true", "yes", "y", "pos", "positive", "good"), 1),
    **dict.fromkeys(("0", "-1", "false", "no", "n", "neg", "negative", "bad"), -1),
}
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), 0),
    **dict.fromkeys(("valid", "validation", "val", "dev"), 1),
    **dict.fromkeys(("test", "testing"), 2),
}
_WHOLE_NUMBER = re.compile(r"([+-]?\d{1,18})(?:\.0*)?", re.ASCII)


def load(data: Path | None = None, cache: Path | None = None, columns: Columns | None = None) -> Dataset:
    """Load the user's table, from the cache or from the file.

    Raises
    ------
    DataError
        No file was given, or something in it isn't as it should be; the sentence names the file, the row and the
        reason.
    """
    columns = columns or Columns()
    if data is None:
        raise DataError(
            f"The dataset {NAME!r} is read from a file of yours: name it with --crosscheck-data=FILE, which ends in "
            f"{', '.join(EXTENSIONS)}."
        )
    if not data.exists():
        raise DataError(f"There is no file {data}.")
    if not data.is_file():
        raise DataError(f"{data} is not a file; a table is one file that ends in {', '.join(EXTENSIONS)}.")
    if data.suffix.lower() not in EXTENSIONS:
        raise DataError(f"{data} ends in {data.suffix or 'nothing'}, but a table ends in {', '.join(EXTENSIONS)}.")
    try:
        with data.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{data} can't be read: {error.strerror}.") from None
    # The name too: the report shows it.
    digest = hashlib.sha256(f"{content}\n{data.name!r}\n{columns!r}".encode()).hexdigest()
    return _cache.cached(NAME, digest, lambda: read(data, columns, cache or _cache.default_folder()), cache)


def read(path: Path, columns: Columns, scratch: Path) -> Corpus:
    """Read a table; its texts lie in a file without a name in the folder `scratch` until the corpus is gone.

    Raises
    ------
    DataError
        Something isn't as it should be; the sentence names the file, the row (from 1, without the header) or the line,
        and the reason.
    """
    if not path.stat().st_size:
        raise DataError(f"{path} is empty.")
    used, rows = _READERS[path.suffix.lower()](path, columns)
    collected = _collect(path, used, rows, scratch)
    if not len(collected.texts):
        raise DataError(f"{path} has no row of data.")
    classes = _classes(path, used, collected)
    labels = np.frombuffer(collected.labels, np.int8) ^ np.int8(classes[0] != collected.classes[0])
    hashes = np.frombuffer(collected.hashes, np.uint64)
    splits = np.frombuffer(collected.splits, np.int8)
    _check_splits(path, used, splits, labels)
    if collected.ids is not None and (repeated := first_repeat(collected.ids.ordered(np.arange(len(labels))))):
        earlier, later = repeated
        name = shown(collected.ids.get(later))
        raise DataError(
            f"{path}, row {later + 1}: the id {name} in {used.id!r} is also that of row {earlier + 1}; ids must be "
            "unique."
        )
    order = np.lexsort((hashes, splits))  # stable: equal texts in the order of their rows
    return Corpus(
        name=NAME,
        source=_source(path, columns, used, classes, splits, hashes),
        texts=collected.texts.ordered(order),
        labels=labels[order],
        example_ids=collected.ids.ordered(order) if collected.ids is not None else Numbered(NAME, order),
        splits=[SPLITS[code] for code in splits[order].tolist()],
        origin=str(path),
    )


@dataclass
class _Collected:
    """Rows in the order of the file: texts and ids on disk, the rest in a few bytes each."""

    texts: Spill
    ids: Spill | None
    labels: array[int]
    splits: array[int]
    hashes: array[int]
    #: classes as they first came
    classes: list[str]


def _collect(path: Path, used: Columns, rows: Iterator[Row], scratch: Path) -> _Collected:
    found = _Collected(Spill(scratch), Spill(scratch) if used.id else None, array("b"), array("b"), array("Q"), [])
    codes: dict[str, int] = {}
    limit = parquet_rows.most(path) if path.suffix.lower() == ".parquet" else None
    for row, (line, (content, label, split, example_id)) in enumerate(rows, start=1):

        def problem(what: str, row: int = row, line: int = line) -> DataError:
            place = f"row {row} (line {line})" if line else f"row {row}"
            return DataError(f"{path}, {place}: {what}.")

        encoded = _encoded(content, used.text, problem)
        if not text.has_word(content):  # type: ignore[arg-type] # it was encoded, so it is a text
            what = "is empty" if not encoded.strip() else f"has no word, only {shown(content)}"
            raise problem(f"the text in {used.text!r} {what}, so there is nothing to classify")
        found.texts.append(encoded)
        if limit is not None and found.texts.size > limit:
            ratio = parquet_rows.RATIO
            raise problem(
                f"the texts unpack to more than {limit:,} bytes, {ratio} times the size of the file; it was refused"
            )
        digest = hashlib.sha256(encoded).digest()
        found.hashes.append(int.from_bytes(digest[:8], "big"))

        called = _label(label)
        if called is None:
            raise problem(f"{used.label!r} has {shown(label)}, which is no label")
        code = codes.setdefault(called.casefold(), len(codes))
        if code == len(found.classes):
            found.classes.append(called)
            if code == 2:
                names = ", ".join(map(repr, found.classes))
                raise problem(f"{used.label!r} has a third label; expected two classes, got {names}")
        found.labels.append(code)

        written = split.strip().casefold() if isinstance(split, str) else ""
        position = _SPLIT_NAMES.get(written) if used.split else SPLITS.index(split_of(digest))
        if position is None:
            raise problem(f"{used.split!r} has {shown(split)}; expected train, valid or test")
        found.splits.append(position)
        if found.ids is not None:
            name = str(example_id) if type(example_id) is int else example_id
            encoded = _encoded(name, used.id, problem)
            if not encoded or b"\n" in encoded:
                raise problem(f"an id is one line of text, but {used.id!r} has {shown(name)}")
            found.ids.append(encoded)
    return found


def _encoded(value: object, column: str | None, problem: Callable[[str], DataError]) -> bytes:
    if isinstance(value, bytes):
        raise problem(f"the value of {column!r} isn't UTF-8: {shown(value)}")
    if not isinstance(value, str):
        raise problem(f"{column!r} has {shown(value)}, expected a text")
    if "\0" in value:
        raise problem(f"the text in {column!r} has a NUL byte, expected text")
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise problem(f"the text in {column!r} isn't valid Unicode (it has a lone surrogate)") from None
    if len(encoded) > VALUE_LIMIT:
        raise problem(f"the value of {column!r} has {len(encoded):,} bytes, more than the {VALUE_LIMIT:,} allowed")
    return encoded


def _label(value: object) -> str | None:
    """Name of a class; the same for 1, 1.0, true and their texts in any case. None for what isn't one."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str) or len(value) > _LABEL_LIMIT or not value.strip():
        return None
    value = value.strip()
    if not value.isprintable() or value.casefold() in ("nan", "inf", "-inf"):
        return None
    number = _WHOLE_NUMBER.fullmatch(value)
    return str(int(number[1])) if number else value


def _classes(path: Path, used: Columns, found: _Collected) -> list[str]:
    """Names of the classes with the labels 0 and 1."""
    if len(found.classes) < 2:
        raise DataError(
            f"{path}: all {len(found.texts):,} rows have the label {found.classes[0]!r} in {used.label!r}, expected "
            "two classes."
        )
    if all(map(_WHOLE_NUMBER.fullmatch, found.classes)):
        return sorted(found.classes, key=int)  # 1 is positive beside 0, but not beside 2
    return sorted(found.classes, key=lambda name: (_MEANINGS.get(name.casefold(), 0), name))


def _check_splits(path: Path, used: Columns, splits: NDArray[np.int8], labels: NDArray[np.int8]) -> None:
    how = f"of the column {used.split!r}" if used.split else f"by hash of {len(splits):,} texts"
    advice = "" if used.split else "; give it more rows, or a column with the split"
    for code, name in enumerate(SPLITS):
        of_split = labels[splits == code]
        if not len(of_split):
            if name != "valid":
                raise DataError(f"{path}: the split {how} leaves no row for {name!r}, which is needed{advice}.")
        elif of_split.min() == of_split.max():
            raise DataError(
                f"{path}: every split needs both classes, but the split {how} gives {name!r} rows of one class "
                f"alone{advice}."
            )


def _source(
    path: Path, given: Columns, used: Columns, classes: list[str], splits: NDArray[np.int8], hashes: NDArray[np.uint64]
) -> str:
    def column(role: str) -> str:
        return f"{getattr(used, role)!r}{'' if getattr(given, role) else ' (guessed)'}"

    zero, one = classes
    parts = [
        f"{len(splits):,} rows of the table {shown(path.name)}",
        f"text from the column {column('text')}",
        f"label from {column('label')}, {zero!r} is 0 and {one!r} is 1",
        f"split from {column('split')}"
        if used.split
        else "split by a hash of the text (60 % train, 10 % valid, 30 % test)",
        f"example ids from {column('id')}" if used.id else "example ids with the number of the row",
    ]
    shared = int(np.isin(hashes[splits == 2], hashes[splits != 2]).sum())
    if shared:
        parts.append(f"{shared:,} texts of the test split are in another split too")
    return "; ".join(parts)
