"""Strings on disk: what a loader reads of a large source, without keeping it in memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import overload

import numpy as np
from numpy.typing import NDArray

#: places that are Python integers at once
_BLOCK = 1 << 14


class Spill:
    """Strings that are written one after the other, and then read in any order.

    They lie in a file without a name, which is gone with this object, whatever becomes of the process.
    """

    def __init__(self, folder: Path) -> None:
        self._file = TemporaryFile(dir=folder)
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def size(self) -> int:
        """Bytes of all strings together."""
        return self._ends[-1]

    def append(self, encoded: bytes) -> None:
        """Add a string that is encoded as UTF-8."""
        self._file.write(encoded)
        self._ends.append(self._ends[-1] + len(encoded))

    def get(self, place: int) -> str:
        """Read one string."""
        start = self._ends[place]
        self._file.seek(start)
        return self._file.read(self._ends[place + 1] - start).decode()

    def ordered(self, order: NDArray[np.int64]) -> Ordered:
        """Look at the strings in an order, (n,)."""
        return Ordered(self, order)


class Ordered(Sequence[str]):
    """The strings of a `Spill` in an order, each read when it is asked for."""

    def __init__(self, spill: Spill, order: NDArray[np.int64]) -> None:
        self._spill = spill
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self._spill.get(row) for row in self._order[place].tolist()]
        return self._spill.get(int(self._order[place]))

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _BLOCK):
            yield from map(self._spill.get, self._order[start : start + _BLOCK].tolist())


class Numbered(Sequence[str]):
    """Names with the number of their row, from 1, put together when they are asked for."""

    def __init__(self, prefix: str, order: NDArray[np.int64]) -> None:
        self._prefix = prefix
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self._name(row) for row in self._order[place].tolist()]
        return self._name(int(self._order[place]))

    def _name(self, row: int) -> str:
        return f"{self._prefix}-{row + 1:07d}"
