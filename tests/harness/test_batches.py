"""Batches of one epoch."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rnn_crosscheck.harness.batches import Batches, epoch_order


class Rows:
    """Examples whose tokens are their row number."""

    def __init__(self, n: int) -> None:
        self.labels = (np.arange(n) % 2).astype(np.int8)

    def padded(self, rows: NDArray[np.int64], length: int, vocabulary: int) -> NDArray[np.int32]:
        assert vocabulary == 50
        return np.repeat(rows[:, None], length, axis=1).astype(np.int32)


def batches(n: int, size: int, order: NDArray[np.int64] | None, rows: NDArray[np.int64] | None = None) -> Batches:
    rows = np.arange(n) if rows is None else rows
    return Batches(Rows(1000), rows, order=order, batch_size=size, length=3, vocabulary=50)


@given(n=st.integers(1, 70), size=st.integers(1, 40), seed=st.integers(0, 5))
def test_every_example_comes_once_in_the_given_order_and_the_last_batch_is_kept(n: int, size: int, seed: int) -> None:
    order = epoch_order(seed, 1, n)
    parts = batches(n, size, order)
    got = list(parts)
    assert len(got) == len(parts) == -(-n // size)
    np.testing.assert_array_equal(np.concatenate([tokens[:, 0] for tokens, _ in got]), order)
    for tokens, labels in got:
        assert (tokens.dtype, labels.dtype) == (np.int32, np.float32)
        np.testing.assert_array_equal(labels, tokens[:, 0] % 2)


def test_rows_of_a_block_are_taken_through_the_order() -> None:
    rows = np.array([7, 3, 9], np.int64)
    tokens = np.concatenate([t[:, 0] for t, _ in batches(3, 2, np.array([2, 0, 1]), rows)])
    assert tokens.tolist() == [9, 7, 3]
    everything, labels = batches(3, 2, None, rows).arrays()
    assert everything[:, 0].tolist() == [7, 3, 9]
    assert labels.tolist() == [1, 1, 1]


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    assert (epoch_order(1, 2, 100) == epoch_order(1, 2, 100)).all()
    assert (epoch_order(1, 2, 100) != epoch_order(1, 3, 100)).any()
    assert (epoch_order(1, 2, 100) != epoch_order(2, 2, 100)).any()


def test_finished_batches_are_counted() -> None:
    seen: list[int] = []
    parts = Batches(Rows(10), np.arange(10), order=None, batch_size=4, length=3, vocabulary=50, on_batch=seen.append)
    for _ in parts:
        parts.batch_done()
    assert seen == [1, 2, 3]
