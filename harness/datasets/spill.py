"""Strings that aren't kept in memory: what a loader reads of a large source lies on disk, names are made when asked."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import overload

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.datasets.text import integers


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
        return Ordered(self.get, order)


class Ordered(Sequence[str]):
    """Strings in an order, (n,), each read or put together when it is asked for: `get` gives that of a row."""

    def __init__(self, get: Callable[[int], str], order: NDArray[np.int64]) -> None:
        self._get = get
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self._get(row) for row in self._order[place].tolist()]
        return self._get(int(self._order[place]))

    def __iter__(self) -> Iterator[str]:
        return map(self._get, integers(self._order))


class Numbered(Ordered):
    """Names with the number of their row, from 1."""

    def __init__(self, prefix: str, order: NDArray[np.int64]) -> None:
        super().__init__(lambda row: f"{prefix}-{row + 1:07d}", order)
