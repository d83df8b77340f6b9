"""DataFrames row by row and group by group, with types that can be worked with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd


def each(frame: pd.DataFrame) -> Iterator[Any]:
    """Give the rows as named tuples; what a column holds is known where it is made, not to the type checker."""
    return iter(frame.itertuples(index=False))


def grouped(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Give the rows that are equal in `columns`, groups in the order in which they appear.

    The key is a tuple, or the bare value where there is one column.
    """
    return iter(frame.groupby(columns[0] if len(columns) == 1 else list(columns), sort=False))
