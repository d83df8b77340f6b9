"""DataFrames row by row and group by group, with types that can be worked with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd


def each(frame: pd.DataFrame) -> Iterator[Any]:
    """Give the rows as named tuples; what a column holds is known where it is made, not to the type checker."""
    return iter(frame.itertuples(index=False))


def grouped(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Give the rows that are equal in `columns`, groups in the order in which they appear.

    The key is a tuple, or the bare value where there is one column.
    """
    return iter(frame.groupby(columns[0] if len(columns) == 1 else list(columns), sort=False))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Give the rows as plain values that JSON knows; null stands for "there is none"."""
    return [record(row) for row in frame.to_dict("records")]


def record(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Give one row as plain values that JSON knows."""
    return {str(key): _value(value) for key, value in row.items()}


def _value(value: Any) -> Any:  # noqa: ANN401 - whatever a DataFrame holds
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return list(value) if isinstance(value, tuple) else value
