"""What the readers of tables (`csv_rows`, `json_rows`, `parquet_rows`) have in common: rows, lines and limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rnn_crosscheck.harness.errors import DataError

#: line of the row, 0 where there are no lines, and its text, label, split and id as the file has them
Row = tuple[int, Sequence[object]]

#: bytes of a line of JSON or of a text, characters of a CSV value
VALUE_LIMIT = 1 << 24


def lines(path: Path) -> Iterator[str]:
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


def shown(value: object) -> str:
    """Spell a value for an error; a long one is cut."""
    if value is None:
        return "nothing"
    # Cut before it is spelled out: it may be of any size.
    spelled = repr(value[:60]) if isinstance(value, str | bytes) else type(value).__name__
    if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 10**20):
        spelled = repr(value)
    return f"{spelled[:-1]}...{spelled[-1]}" if isinstance(value, str | bytes) and len(value) > 60 else spelled
