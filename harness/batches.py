"""One epoch of training examples, padded when a batch is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Examples(Protocol):
    """What batches are cut from: a split of a dataset under one encoding."""

    @property
    def labels(self) -> NDArray[np.int8]:
        """Labels 0 or 1, (n,)."""
        ...

    def padded(self, rows: NDArray[np.int64], length: int, vocabulary: int) -> NDArray[np.int32]:
        """Token ids of `rows`, (len(rows), length): cut in front, padded in front."""
        ...


class Batches:
    """The training examples of one epoch, in a given order or as a whole.

    Parameters
    ----------
    examples
        Where the examples come from.
    rows
        Rows of `examples` that belong to the training block, in the order of the dataset, (n,).
    order
        The order of this epoch as positions in `rows`, (n,); None leaves shuffling to the framework.
    batch_size, length, vocabulary
        Sizes from the protocol. The last batch may be smaller.
    on_batch
        Called with the number of finished batches after each one.
    """

    def __init__(
        self,
        examples: Examples,
        rows: NDArray[np.int64],
        *,
        order: NDArray[np.int64] | None,
        batch_size: int,
        length: int,
        vocabulary: int,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        self._examples = examples
        self._rows = rows
        self._order = order
        self.batch_size = batch_size
        self._length = length
        self._vocabulary = vocabulary
        self._on_batch = on_batch
        self._done = 0

    def __len__(self) -> int:
        return -(-len(self._rows) // self.batch_size)

    @property
    def examples(self) -> int:
        """Number of examples in the epoch."""
        return len(self._rows)

    def __iter__(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Batches (tokens int32 (b, length), labels float32 (b,)) in the order of the epoch."""
        rows = self._rows if self._order is None else self._rows[self._order]
        for start in range(0, len(rows), self.batch_size):
            yield self._taken(rows[start : start + self.batch_size])

    def arrays(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """All examples at once in the order of the dataset, for a framework that shuffles for itself."""
        return self._taken(self._rows)

    def _taken(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        tokens = self._examples.padded(rows, self._length, self._vocabulary)
        return tokens, self._examples.labels[rows].astype(np.float32)

    def batch_done(self) -> None:
        """Tell that one more batch was trained on; backends call it after each batch."""
        self._done += 1
        if self._on_batch is not None:
            self._on_batch(self._done)


def epoch_order(seed: int, epoch: int, n: int, *, another: bool = False) -> NDArray[np.int64]:
    """Order of the training examples in one epoch of the matched division, the same for every backend.

    `another` gives a second order of the same seed, for the factor ``order``.
    """
    return np.random.default_rng([seed, 0x0D3F if another else 0x0D3E, epoch]).permutation(n)
