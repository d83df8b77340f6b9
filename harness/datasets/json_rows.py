"""How JSON lines are read: an object a line, with the same names in each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from rnn_crosscheck.harness.datasets.columns import Columns, resolve
from rnn_crosscheck.harness.datasets.rows import Row, lines, shown
from rnn_crosscheck.harness.errors import DataError


def read(path: Path, columns: Columns) -> tuple[Columns, Iterator[Row]]:
    """Find the columns in the first object, and give the rows as they are read; errors are as for `table.read`."""
    objects = _objects(path)
    first = next(objects, None)
    if first is None:
        raise DataError(f"{path} is empty.")
    used = resolve(path, columns, list(first[1]))
    return used, _values(path, used, chain([first], objects))


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, content in enumerate(lines(path), start=1):
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
        raise ValueError(f"it has {shown(next(name for name in names if names.count(name) > 1))} twice")
    return found


def _values(path: Path, used: Columns, objects: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[Row]:
    for row, (line, value) in enumerate(objects, start=1):
        for name in used.names:
            if name and name not in value:
                raise DataError(f"{path}, row {row} (line {line}): it has no {name!r}.")
        yield line, [value[name] if name else None for name in used.names]
