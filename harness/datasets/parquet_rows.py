"""How Parquet is read: in pieces, and only after its sizes were looked at, for a small file can claim any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rnn_crosscheck.harness.adapter import Late
from rnn_crosscheck.harness.datasets.columns import Columns, resolve
from rnn_crosscheck.harness.datasets.rows import VALUE_LIMIT, Row
from rnn_crosscheck.harness.errors import DataError

pa: Any = Late("pyarrow")
pq: Any = Late("pyarrow.parquet")

#: times the size of the file that its texts may take, once there are more than a few
RATIO = 200
_RATIO_FROM = VALUE_LIMIT
_ROWS_LIMIT = 100_000_000
#: rows that are unpacked at once: a page may hold one long value for all of them
_BATCH = 32


def most(path: Path) -> int:
    """Bytes that what is in a file may unpack to."""
    return max(_RATIO_FROM, RATIO * path.stat().st_size)


def read(path: Path, columns: Columns) -> tuple[Columns, Iterator[Row]]:
    """Find the columns in the schema, and give the rows as they are read; errors are as for `table.read`."""
    try:
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {_first_line(error)}.") from None
    used = resolve(path, columns, schema.names)
    kept = [name for name in used.names if name]
    for name in kept:
        _check_type(path, name, schema.field(name).type, text_only=name in (used.text, used.split))
    _check_metadata(path, metadata)
    return used, _cells(path, used, kept)


def _check_type(path: Path, name: str, kind: Any, *, text_only: bool) -> None:  # noqa: ANN401 - a pyarrow type
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
    if unpacked > most(path):
        raise DataError(f"{path} claims to unpack from {size:,} bytes to {unpacked:,}; it was refused.")
    if rows != metadata.num_rows or rows > _ROWS_LIMIT:
        raise DataError(
            f"{path} claims {metadata.num_rows:,} rows, and {rows:,} in its parts; at most {_ROWS_LIMIT:,} are read."
        )


def _cells(path: Path, used: Columns, kept: list[str]) -> Iterator[Row]:
    try:
        # In pieces: one part of a file may be all of it.
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=_BATCH, columns=kept, use_threads=False):
                columns = {name: _python(batch.column(name)) for name in kept}
                nothing: list[object] = [None] * batch.num_rows
                for values in zip(*(columns[name] if name else nothing for name in used.names), strict=True):
                    yield 0, values
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"{path} can't be read as Parquet: {_first_line(error)}.") from None


def _python(column: Any) -> Sequence[object]:  # noqa: ANN401 - a pyarrow Array
    """Values of a column; bytes for a text that isn't UTF-8, which Parquet doesn't rule out."""
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
