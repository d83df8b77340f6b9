"""Where the disagreement of two backends lives: by length, cut, unknown words, confidence and label.

Buckets are cut by quantiles of the test examples, or at fixed places, never by what disagrees in them. In each the
reseeded floor is taken off, so that what is left is not chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnn_crosscheck.reports.analysis.excess import between, excess
from rnn_crosscheck.reports.analysis.frames import each
from rnn_crosscheck.reports.analysis.ladder import FEWEST, sides
from rnn_crosscheck.reports.analysis.lengths import buckets, inner_quantiles
from rnn_crosscheck.reports.read.comparison import THRESHOLD, Comparison
from rnn_crosscheck.reports.writing import count, percent

#: how sure the runs are on average, cut at fixed places: share of the way from 0.5 to 0 or 1
_SURE = (0.0, 0.25, 0.5, 0.75, 1.0)

_COLUMNS = ["division", "model", "backend_a", "backend_b", "what", "bucket", "examples", "between", "floor", "excess",
            "low", "high"]  # fmt: skip


def where(comparison: Comparison) -> pd.DataFrame:
    """Give one row a pair of backends, division, model and bucket.

    Columns: division, model, backend_a, backend_b, what (``length``, ``cut``, ``unknown words``, ``confidence``,
    ``label``), bucket (in words), examples, between (mean disagreement over pairs with different seeds), floor,
    excess with low and high over runs and examples. Sides with fewer than two seeds have no floor and no rows.
    """
    positive = comparison.probabilities.to_numpy() >= THRESHOLD
    of_data = [*_of_data(comparison)]
    rows = []
    for side in sides(comparison):
        if min(len(side.columns_a), len(side.columns_b)) < FEWEST:
            continue
        a, b = positive[:, side.columns_a], positive[:, side.columns_b]
        parts = excess(a, b, seeds_shared=side.shared)
        mean = comparison.probabilities.iloc[:, [*side.columns_a, *side.columns_b]].to_numpy().mean(axis=1)
        for what, bucket, inside in (*of_data, *_by_confidence(mean)):
            estimate = parts.at(inside).estimate()
            apart = between(a[inside], b[inside], seeds_shared=side.shared)
            floor = apart - estimate.value
            rows.append((*side[:4], what, bucket, int(inside.sum()), apart, floor, *estimate))
    return pd.DataFrame(rows, columns=_COLUMNS)


Bucket = tuple[str, str, NDArray[np.bool_]]


def _of_data(comparison: Comparison) -> Iterator[Bucket]:
    """Cut the test examples by what they are; a kind with one bucket alone is left out."""
    test = comparison.test
    length = test["length"].to_numpy()
    for row in each(buckets(comparison)):
        inside = (length >= row.low) & (length <= row.high)
        name = f"{count(row.low)} to {count(row.high)}"
        yield ("length", name, inside) if row.scheme == "fifths" else ("cut", "cut" if row.bucket else "whole", inside)
    yield from _quantiles("unknown words", test["oov"].to_numpy(np.float64))
    label = test["label"].to_numpy()
    if len(np.unique(label)) > 1:
        yield "label", "negative", label == 0
        yield "label", "positive", label == 1


def _quantiles(what: str, values: NDArray[np.float64]) -> Iterator[Bucket]:
    """Cut at quantiles; equal values stay together, so there may be fewer buckets, and not of equal size."""
    if np.isnan(values).any() or not len(values):
        return
    places = np.searchsorted(inner_quantiles(values), values, side="left")
    used = np.unique(places)
    if len(used) < 2:
        return
    for place in used:
        inside = places == place
        yield what, f"{percent(values[inside].min())} to {percent(values[inside].max())} %", inside


def _by_confidence(mean: NDArray[np.floating]) -> Iterator[Bucket]:
    sure = np.abs(2 * mean.astype(np.float64) - 1)
    for low, high in pairwise(_SURE):
        inside = (sure >= low) & ((sure < high) | (high == _SURE[-1]))
        if inside.any():
            yield "confidence", f"{low:g} to {high:g}", inside
