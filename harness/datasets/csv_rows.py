"""How a CSV or a TSV is read: by the standard library, which gives the line of whatever is wrong; it is fast enough."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from rnn_crosscheck.harness.datasets import rows
from rnn_crosscheck.harness.datasets.columns import Columns, resolve
from rnn_crosscheck.harness.errors import DataError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read(path: Path, columns: Columns) -> tuple[Columns, Iterator[rows.Row]]:
    """Find the columns in the header, and give the rows below it as they are read; errors are as for `table.read`."""
    records = _records(path, _DELIMITERS[path.suffix.lower()])
    first = next(records, None)
    if first is None:
        raise DataError(f"{path} is empty.")
    header = first[1]
    used = resolve(path, columns, header)
    return used, _fields(path, header, used, records)


def _records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line at which each record begins, and its values; lines with nothing on them are passed over."""
    reader = csv.reader(rows.lines(path), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        # The limit belongs to the module, and others have theirs.
        before = csv.field_size_limit(rows.VALUE_LIMIT)
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
        return f"a value is longer than the {rows.VALUE_LIMIT:,} characters allowed; is its quote never closed?"
    if "expected after" in message:
        return f"after a closing quote comes something else than {delimiter!r}; a quote inside of a value is doubled"
    if "new-line" in message:
        return "a line ends in a carriage return alone, expected a line feed; save it with the line ends of today"
    return message


def _fields(
    path: Path, header: Sequence[str], used: Columns, records: Iterator[tuple[int, list[str]]]
) -> Iterator[rows.Row]:
    width = len(header)
    places = [header.index(name) if name else None for name in used.names]
    for row, (line, record) in enumerate(records, start=1):
        if len(record) != width:
            raise DataError(
                f"{path}, row {row} (line {line}): it has {len(record)} value{'s' if len(record) > 1 else ''}, but the "
                f"header has {width} column{'s' if width > 1 else ''}."
            )
        yield line, [None if place is None else record[place] for place in places]
