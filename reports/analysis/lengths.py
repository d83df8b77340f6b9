"""Accuracy by the length of an example: whether a model that is said to remember longer does better on long ones.

The buckets come from the lengths of the test examples alone, so that no result has a say in where they end.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.analysis.statistics import mean_interval, paired_counts, paired_difference, welch
from rnn_crosscheck.reports.read.comparison import Comparison

#: parts of equal size that the test examples are cut into
PARTS = 5

#: which of two cells is said to remember longer, first
_CELLS = ("lstm", "rnn")

_SIDES = ["division", "backend", "a", "b"]


def buckets(comparison: Comparison) -> pd.DataFrame:
    """Give one row a bucket of lengths: fifths of the test examples, then those that fit the models' input or not.

    Lengths are in tokens, before anything is cut. Equal lengths are never torn apart, so the fifths are equal in
    size only nearly. A scheme that puts all examples into one bucket is left out.

    Columns: scheme (``fifths`` or ``cut``), bucket, low, high (tokens, both included), examples.
    """
    lengths = comparison.test["length"].to_numpy()
    rows = []
    if len(lengths):
        for scheme, edges in (
            ("fifths", inner_quantiles(lengths)),
            ("cut", np.array([comparison.manifest.protocol.data.length])),
        ):
            place = np.searchsorted(edges, lengths, side="left")
            parts = [lengths[place == bucket] for bucket in np.unique(place)]
            if len(parts) > 1:
                rows += [
                    (scheme, bucket, int(mine.min()), int(mine.max()), len(mine)) for bucket, mine in enumerate(parts)
                ]
    return pd.DataFrame(rows, columns=["scheme", "bucket", "low", "high", "examples"])


def accuracy_by_length(comparison: Comparison) -> pd.DataFrame:
    """Give one row a bucket of a division x model x backend: its accuracy there, over seeds.

    Columns: scheme, bucket, low_tokens, high_tokens, examples, division, model, backend, seeds, mean, sd, low, high
    (t interval of the mean over seeds).
    """
    columns = ["scheme", "bucket", "low_tokens", "high_tokens", "examples", "division", "model", "backend", "seeds",
               "mean", "sd", "low", "high"]  # fmt: skip
    known, shares = buckets(comparison), _shares(comparison)
    rows = []
    for keys, group in grouped(comparison.ok, "division", "model", "backend"):
        for bucket, values in zip(each(known), shares[list(group.index)].to_numpy(), strict=True):
            spread = pd.Series(values).std()
            rows.append((*bucket, *keys, len(values), values.mean(), spread, *mean_interval(values, (0, 1))))
    return pd.DataFrame(rows, columns=columns)


def lead_by_length(comparison: Comparison) -> pd.DataFrame:
    """Give one row a bucket of a division x backend: accuracy of the lstm minus that of the rnn.

    With two seeds a side on, the interval is Welch's over seeds; with one, it is over the bucket's examples and
    says nothing about other seeds.

    Columns: division, backend, a (the lstm), b (the rnn), scheme, bucket, low_tokens, high_tokens, examples, seeds_a,
    seeds_b, difference, low, high, over.
    """
    columns = [*_SIDES, "scheme", "bucket", "low_tokens", "high_tokens", "examples", "seeds_a", "seeds_b",
               "difference", "low", "high", "over"]  # fmt: skip
    known, shares, right = buckets(comparison), _shares(comparison), comparison.right()
    place = comparison.probabilities.columns.get_indexer
    rows = []
    for keys, runs_a, runs_b in _sides(comparison):
        for row, bucket in enumerate(each(known)):
            one, two = shares.iloc[row][runs_a], shares.iloc[row][runs_b]
            if min(len(one), len(two)) > 1:
                interval, over = welch(one, two), "seeds"
            else:
                inside = right[_inside(comparison, bucket.low, bucket.high)]
                counts = paired_counts(inside, place(pd.Index(runs_a[:1])), place(pd.Index(runs_b[:1])))
                low, high = paired_difference(counts.b, counts.c, counts.n)
                one, two = one.iloc[:1], two.iloc[:1]
                interval, over = (float(low[0]), float(high[0])), "examples"
            rows.append((*keys, *bucket, len(one), len(two), one.mean() - two.mean(), *interval, over))
    return pd.DataFrame(rows, columns=columns)


def growth(comparison: Comparison) -> pd.DataFrame:
    """Give one row a division x backend x scheme: how much the lstm's lead grows from short to long examples.

    That is the lead in the last bucket minus the lead in the first. Each run gives one number, its accuracy in the
    last bucket minus that in the first, so that whatever makes one run good everywhere cancels; the interval over
    those numbers is Welch's, over seeds, and there is none with one seed.

    Columns: division, backend, a, b, scheme, seeds_a, seeds_b, difference, low, high, over.
    """
    columns = [*_SIDES, "scheme", "seeds_a", "seeds_b", "difference", "low", "high", "over"]
    known, shares = buckets(comparison), _shares(comparison)
    rows = []
    for keys, runs_a, runs_b in _sides(comparison):
        for scheme, mine in grouped(known, "scheme"):
            rise = shares.iloc[mine.index[-1]] - shares.iloc[mine.index[0]]
            one, two = rise[runs_a], rise[runs_b]
            rows.append((*keys, scheme, len(one), len(two), one.mean() - two.mean(), *welch(one, two), "seeds"))
    return pd.DataFrame(rows, columns=columns)


def inner_quantiles(values: NDArray[Any]) -> NDArray[Any]:
    """Give the values that end each of `PARTS` parts but the last; fewer where values are equal."""
    return np.asarray(np.unique(np.quantile(values, np.arange(1, PARTS) / PARTS, method="lower")))


def _inside(comparison: Comparison, low: int, high: int) -> NDArray[np.bool_]:
    lengths = comparison.test["length"].to_numpy()
    return np.asarray((lengths >= low) & (lengths <= high))


def _shares(comparison: Comparison) -> pd.DataFrame:
    """Accuracy of each run (column) in each bucket (row, as in `buckets`)."""
    right = comparison.right()
    rows = [right[_inside(comparison, row.low, row.high)].mean(axis=0) for row in each(buckets(comparison))]
    return pd.DataFrame(rows, columns=comparison.probabilities.columns)


def _sides(comparison: Comparison) -> list[tuple[tuple[str, str, str, str], list[str], list[str]]]:
    """Pair each lstm with each rnn of one division and backend: names, and run ids of both sides."""
    cells = {model.name: model.cell for model in comparison.manifest.protocol.models}
    found = []
    for (division, backend), group in grouped(comparison.ok, "division", "backend"):
        runs = {str(name): list(mine.index) for name, mine in grouped(group, "model")}
        sides = [[name for name in runs if cells.get(name) == cell] for cell in _CELLS]
        found += [((division, backend, a, b), runs[a], runs[b]) for a, b in product(*sides)]
    return found
