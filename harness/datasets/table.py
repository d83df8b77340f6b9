"""The user's own table: CSV, TSV, JSON lines or Parquet, with a column of texts and one of labels.

A table may be larger than the memory: it is read row by row, and its texts go to the disk as they are read. CSV and
JSON lines are read by the standard library, which gives the line of whatever is wrong; it isn't what takes the time.

Each split is put into the order of its texts' hashes: tables are often sorted by label, and the first n examples have
to be a sample of both classes. Without a column for it, the split follows from the same hash, as for `reviews`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.datasets import cache as _cache
from rnn_crosscheck.harness.datasets import text
from rnn_crosscheck.harness.datasets.columns import Columns
from rnn_crosscheck.harness.datasets.dataset import SPLITS, Corpus, Dataset, first_repeat
from rnn_crosscheck.harness.datasets.reviews import TRAIN_UNTIL, VALID_UNTIL
from rnn_crosscheck.harness.datasets.spill import Numbered, Spill
from rnn_crosscheck.harness.errors import DataError

NAME = "table"
EXTENSIONS = (".csv", ".tsv", ".jsonl", ".parquet")

#: bytes of a line of JSON or of a text, characters of a CSV value
VALUE_LIMIT = 1 << 24
#: times the size of a Parquet file that its texts may take, once there are more than a few
_RATIO = 200
_RATIO_FROM = VALUE_LIMIT
_ROWS_LIMIT = 100_000_000
_LABEL_LIMIT = 100
#: rows that are unpacked at once: a page may hold one long value for all of them
_PARQUET_BATCH = 32

#: how a column is called whose role isn't given
_GUESSES: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "review", "sentence", "content", "comment", "body", "message", "document"),
    "label": ("label", "sentiment", "class", "target", "polarity", "category"),
    "split": ("split",),
    "id": ("id", "example_id"),
}
_POSITIVE = frozenset({"1", "true", "yes", "y", "pos", "positive", "good"})
_NEGATIVE = frozenset({"0", "-1", "false", "no", "n", "neg", "negative", "bad"})
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), 0),
    **dict.fromkeys(("valid", "validation", "val", "dev"), 1),
    **dict.fromkeys(("test", "testing"), 2),
}
_WHOLE_NUMBER = re.compile(r"([+-]?\d{1,18})(?:\.0*)?", re.ASCII)

#: line of the row, 0 where there are no lines, then text, label, split and id as the file has them
_Row = tuple[int, object, object, object, object]


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
    scratch = _cache.default_folder() if cache is None else cache
    return _cache.cached(NAME, digest, lambda: read(data, columns, scratch), cache)


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
    reader: Callable[[Path, Columns], tuple[Columns, Iterator[_Row]]] = {
        ".csv": _csv,
        ".tsv": _tsv,
        ".jsonl": _json_lines,
        ".parquet": _parquet,
    }[path.suffix.lower()]
    used, rows = reader(path, columns)
    collected = _collect(path, used, rows, scratch)
    if not len(collected.texts):
        raise DataError(f"{path} has no row of data.")
    classes = _classes(path, used, collected)
    labels = np.frombuffer(collected.labels, np.int8) ^ np.int8(classes[0][1] == 1)
    hashes = np.frombuffer(collected.hashes, np.uint64)
    splits = _by_hash(hashes) if not used.split else np.frombuffer(collected.splits, np.int8)
    _check_splits(path, used, splits, labels)
    if collected.ids is not None:
        repeated = first_repeat(collected.ids.ordered(np.arange(len(labels))))
        if repeated is not None:
            earlier, later = repeated
            name = _shown(collected.ids.get(later))
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


# --- what the rows hold -------------------------------------------------------------------------------------


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


def _collect(path: Path, used: Columns, rows: Iterator[_Row], scratch: Path) -> _Collected:
    found = _Collected(Spill(scratch), Spill(scratch) if used.id else None, array("b"), array("b"), array("Q"), [])
    codes: dict[str, int] = {}
    packed = path.suffix.lower() == ".parquet"
    limit = max(_RATIO_FROM, _RATIO * path.stat().st_size) if packed else None
    for row, (line, content, label, split, example_id) in enumerate(rows, start=1):

        def problem(what: str, row: int = row, line: int = line) -> DataError:
            place = f"row {row} (line {line})" if line else f"row {row}"
            return DataError(f"{path}, {place}: {what}.")

        encoded = _encoded(content, used.text, problem)
        if not text.has_word(content):  # type: ignore[arg-type] # it was encoded, so it is a text
            what = "is empty" if not encoded.strip() else f"has no word, only {_shown(content)}"
            raise problem(f"the text in {used.text!r} {what}, so there is nothing to classify")
        found.texts.append(encoded)
        if limit is not None and found.texts.size > limit:
            raise problem(
                f"the texts unpack to more than {limit:,} bytes, {_RATIO} times the size of the file; it was refused"
            )
        found.hashes.append(int.from_bytes(hashlib.sha256(encoded).digest()[:8], "big"))

        shown = _label(label)
        if shown is None:
            raise problem(f"{used.label!r} has {_shown(label)}, which is no label")
        code = codes.setdefault(shown.casefold(), len(codes))
        if code == len(found.classes):
            found.classes.append(shown)
            if code == 2:
                names = ", ".join(map(repr, found.classes))
                raise problem(f"{used.label!r} has a third label; expected two classes, got {names}")
        found.labels.append(code)

        if used.split:
            position = _SPLIT_NAMES.get(split.strip().casefold()) if isinstance(split, str) else None
            if position is None:
                raise problem(f"{used.split!r} has {_shown(split)}; expected train, valid or test")
            found.splits.append(position)
        if found.ids is not None:
            name = str(example_id) if type(example_id) is int else example_id
            encoded = _encoded(name, used.id, problem)
            if not encoded or b"\n" in encoded:
                raise problem(f"an id is one line of text, but {used.id!r} has {_shown(name)}")
            found.ids.append(encoded)
    return found


def _encoded(value: object, column: str | None, problem: Callable[[str], DataError]) -> bytes:
    if isinstance(value, bytes):
        raise problem(f"the value of {column!r} isn't UTF-8: {_shown(value)}")
    if not isinstance(value, str):
        raise problem(f"{column!r} has {_shown(value)}, expected a text")
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


def _classes(path: Path, used: Columns, found: _Collected) -> tuple[tuple[str, int], tuple[str, int]]:
    """Both classes in the order in which they came, each with its label 0 or 1."""
    if len(found.classes) < 2:
        raise DataError(
            f"{path}: all {len(found.texts):,} rows have the label {found.classes[0]!r} in {used.label!r}, expected "
            "two classes."
        )
    first, second = found.classes
    positive = [name for name in (first, second) if name.casefold() in _POSITIVE]
    negative = [name for name in (first, second) if name.casefold() in _NEGATIVE]
    if all(map(_WHOLE_NUMBER.fullmatch, (first, second))):
        one = max((first, second), key=int)  # 1 is positive beside 0, but not beside 2
    elif len(positive) == 1:
        one = positive[0]
    elif len(negative) == 1:
        one = first if negative[0] == second else second
    else:
        one = max(first, second)
    return (first, int(one == first)), (second, int(one == second))


def _by_hash(hashes: NDArray[np.uint64]) -> NDArray[np.int8]:
    """Split of each text, as `reviews.split_of` gives it."""
    fractions = hashes / 2.0**64
    return np.select([fractions < TRAIN_UNTIL, fractions < VALID_UNTIL], [0, 1], 2).astype(np.int8)


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
    path: Path,
    given: Columns,
    used: Columns,
    classes: tuple[tuple[str, int], tuple[str, int]],
    splits: NDArray[np.int8],
    hashes: NDArray[np.uint64],
) -> str:
    def column(role: str) -> str:
        return f"{getattr(used, role)!r}{'' if getattr(given, role) else ' (guessed)'}"

    zero, one = (next(name for name, label in classes if label == value) for value in (0, 1))
    parts = [
        f"{len(splits):,} rows of the table {_shown(path.name)}",
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


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    # Cut before it is spelled out: it may be of any size.
    shown = repr(value[:60]) if isinstance(value, str | bytes) else type(value).__name__
    if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 10**20):
        shown = repr(value)
    return f"{shown[:-1]}...{shown[-1]}" if isinstance(value, str | bytes) and len(value) > 60 else shown


# --- columns ------------------------------------------------------------------------------------------------


def _resolve(path: Path, given: Columns, header: Sequence[str]) -> Columns:
    """Find the column of each role: the one that is given, else the one that is called as such columns are."""
    repeated = first_repeat(header)
    if repeated is not None:
        raise DataError(f"{path} has the column {_shown(header[repeated[1]])} twice.")
    names = ", ".join(map(_shown, header[:20])) + (", ..." if len(header) > 20 else "")
    found: dict[str, str] = {}
    for role, guesses in _GUESSES.items():
        name: str | None = getattr(given, role)
        if name:
            if name not in header:
                raise DataError(f"{path} has no column {name!r} for {role}; it has {names}.")
            found[role] = name
        elif name is None:
            taken = (given.text, given.label, given.split, given.id)
            possible = [one for one in header if one.strip().casefold() in guesses and one not in taken]
            if len(possible) > 1:
                raise DataError(
                    f"{path} has several columns that may be {role}: {', '.join(map(repr, possible))}; name one with "
                    f"--crosscheck-columns={role}={possible[0]}."
                )
            if possible:
                found[role] = possible[0]
            elif role in ("text", "label"):
                raise DataError(
                    f"{path} has no column that is called like {role} ({', '.join(guesses)}); it has {names}; name it "
                    f"with --crosscheck-columns={role}=NAME."
                )
    return replace(given, **{role: found.get(role, "") for role in _GUESSES})


# --- lines of text ------------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file with their ends; each is looked at before it is taken."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(VALUE_LIMIT + 1):
            number += 1
            if len(raw) > VALUE_LIMIT:
                raise DataError(f"{path}, line {number}: it is longer than the {VALUE_LIMIT:,} bytes allowed.")
            if number == 1:
                if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise DataError(f"{path} is encoded as UTF-16, expected UTF-8; save it as UTF-8.")
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if b"\0" in raw:
                raise DataError(f"{path}, line {number}: it has a NUL byte, expected text.")
            try:
                yield raw.decode()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}, line {number}: the byte {raw[error.start]:#04x} at {error.start} isn't UTF-8; save it as "
                    "UTF-8."
                ) from None


def _csv(path: Path, columns: Columns) -> tuple[Columns, Iterator[_Row]]:
    return _delimited(path, columns, ",")


def _tsv(path: Path, columns: Columns) -> tuple[Columns, Iterator[_Row]]:
    return _delimited(path, columns, "\t")


def _delimited(path: Path, columns: Columns, delimiter: str) -> tuple[Columns, Iterator[_Row]]:
    records = _records(path, delimiter)
    first = next(records, None)
    if first is None:
        raise DataError(f"{path} is empty.")
    header = first[1]
    used = _resolve(path, columns, header)
    return used, _fields(path, header, used, records)


def _records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line at which each record begins, and its values; lines with nothing on them are passed over."""
    reader = csv.reader(_lines(path), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        # The limit belongs to the module, and others have theirs.
        before = csv.field_size_limit(VALUE_LIMIT)
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}, line {line}: {_reason(str(error), delimiter)}.") from None
        finally:
            csv.field_size_limit(before)
        if record is None:
            return
        if record:
            yield line, record


def _reason(message: str, delimiter: str) -> str:
    if "unexpected end of data" in message:
        return "a quote is opened that is never closed"
    if "field larger" in message:
        return f"a value is longer than the {VALUE_LIMIT:,} characters allowed; is its quote never closed?"
    if "expected after" in message:
        return f"after a closing quote comes something else than {delimiter!r}; a quote inside of a value is doubled"
    if "new-line" in message:
        return "a line ends in a carriage return alone, expected a line feed; save it with the line ends of today"
    return message


def _fields(
    path: Path, header: Sequence[str], used: Columns, records: Iterator[tuple[int, list[str]]]
) -> Iterator[_Row]:
    width = len(header)
    places = [header.index(name) if name else None for name in (used.text, used.label, used.split, used.id)]
    for row, (line, record) in enumerate(records, start=1):
        if len(record) != width:
            raise DataError(
                f"{path}, row {row} (line {line}): it has {len(record)} value{'s' if len(record) > 1 else ''}, but the "
                f"header has {width} column{'s' if width > 1 else ''}."
            )
        content, label, split, example_id = (None if place is None else record[place] for place in places)
        yield line, content, label, split, example_id


def _json_lines(path: Path, columns: Columns) -> tuple[Columns, Iterator[_Row]]:
    objects = _objects(path)
    first = next(objects, None)
    if first is None:
        raise DataError(f"{path} is empty.")
    used = _resolve(path, columns, list(first[1]))
    return used, _values(path, used, first, objects)


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, content in enumerate(_lines(path), start=1):
        if not content.strip():
            continue
        try:
            value = json.loads(content, object_pairs_hook=_distinct)
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise DataError(f"{path}, line {line}: it isn't a line of JSON: {reason}.") from None
        if not isinstance(value, dict):
            raise DataError(f"{path}, line {line}: expected an object in braces, got {type(value).__name__}.")
        yield line, value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {_shown(next(name for name in names if names.count(name) > 1))} twice")
    return found


def _values(
    path: Path, used: Columns, first: tuple[int, dict[str, Any]], others: Iterator[tuple[int, dict[str, Any]]]
) -> Iterator[_Row]:
    names = (used.text, used.label, used.split, used.id)
    rows = (pair for pairs in ([first], others) for pair in pairs)
    for row, (line, value) in enumerate(rows, start=1):
        for name in names:
            if name and name not in value:
                raise DataError(f"{path}, row {row} (line {line}): it has no {name!r}.")
        content, label, split, example_id = (value[name] if name else None for name in names)
        yield line, content, label, split, example_id


# --- Parquet ------------------------------------------------------------------------------------------------


def _parquet(path: Path, columns: Columns) -> tuple[Columns, Iterator[_Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {_first_line(error)}.") from None
    used = _resolve(path, columns, schema.names)
    kept = [name for name in (used.text, used.label, used.split, used.id) if name]
    for name in kept:
        _check_type(path, name, schema.field(name).type, text_only=name in (used.text, used.split))
    _check_metadata(path, metadata)
    return used, _cells(path, used, kept)


def _check_type(path: Path, name: str, kind: Any, *, text_only: bool) -> None:  # noqa: ANN401 - a pyarrow type
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_value = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if not is_text and (text_only or not is_value):
        raise DataError(
            f"{path}: the column {name!r} holds {kind}, expected {'text' if text_only else 'text or numbers'}."
        )


def _check_metadata(path: Path, metadata: Any) -> None:  # noqa: ANN401 - a pyarrow FileMetaData
    """Refuse sizes that no such file can have, before anything is read that has them."""
    size = path.stat().st_size
    packed = unpacked = rows = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        rows += group.num_rows
        for position in range(group.num_columns):
            chunk = group.column(position)
            packed += max(chunk.total_compressed_size, 0)
            unpacked += max(chunk.total_uncompressed_size, 0)
            if min(chunk.total_compressed_size, chunk.total_uncompressed_size, group.num_rows) < 0:
                raise DataError(f"{path} claims a negative size for {chunk.path_in_schema!r}; it was refused.")
    if packed > size:
        raise DataError(f"{path} claims to hold {packed:,} bytes, but has {size:,}; it is damaged.")
    if unpacked > max(_RATIO_FROM, _RATIO * size):
        raise DataError(f"{path} claims to unpack from {size:,} bytes to {unpacked:,}; it was refused.")
    if rows != metadata.num_rows or rows > _ROWS_LIMIT:
        raise DataError(
            f"{path} claims {metadata.num_rows:,} rows, and {rows:,} in its parts; at most {_ROWS_LIMIT:,} are read."
        )


def _cells(path: Path, used: Columns, kept: list[str]) -> Iterator[_Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # In pieces: one part of a file may be all of it.
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH, columns=kept, use_threads=False):
                columns = {name: _python(batch.column(name)) for name in kept}
                n = batch.num_rows
                nothing: list[object] = [None] * n
                values = [columns[name] if name else nothing for name in (used.text, used.label, used.split, used.id)]
                for row in range(n):
                    content, label, split, example_id = (column[row] for column in values)
                    yield 0, content, label, split, example_id
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"{path} can't be read as Parquet: {_first_line(error)}.") from None


def _python(column: Any) -> Sequence[object]:  # noqa: ANN401 - a pyarrow Array
    """Values of a column; bytes for a text that isn't UTF-8, which Parquet doesn't rule out."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        found = _python(column.dictionary)
        return [None if place is None else found[place] for place in column.indices.to_pylist()]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        binary = pa.large_binary() if pa.types.is_large_string(kind) else pa.binary()
        return [None if value is None else _decoded(value) for value in column.view(binary).to_pylist()]
    values: list[object] = column.to_pylist()
    return values


def _decoded(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
