"""Mean disagreement of groups of runs, and how much of it is more than chance, each with its interval.

``excess = D(A, B) - (D(A, A') + D(B, B')) / 2``, with D the mean disagreement over pairs of runs with different seeds.
What two backends disagree on is chance as far as each disagrees with itself when only the seed changes; the excess is
the rest. With p the share of a backend's seeds that say *positive* of an example, its expectation is the mean of
``(p_A - p_B)**2`` over the examples: 0 for two backends that are alike, never below.

An interval answers for other *runs* and other *examples* at once. Pairs that share a run depend on one another, so it
is made from runs and examples, never from pairs: the variance over runs (by each run's influence on the mean) plus
the variance over examples, less the noise of single runs on single examples, which both hold and which would count
twice. A bootstrap that crosses runs with examples counts it three times (Owen, 2007,
https://doi.org/10.1214/07-AOAS122), which makes its intervals too wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from rnn_crosscheck.reports.analysis.statistics import CONFIDENCE

#: shares of a few runs, and what is made of them, are equal if they are no further apart
_ROUNDING = 1e-12

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


#: Seeds a side that an interval takes. Two seeds of one kind are a single pair, which looks the same from either of
#: them, so how far other seeds would spread can't be told.
FEWEST_SEEDS = 3


class Estimate(NamedTuple):
    """A mean with its 95 % interval over runs and examples; NaN stands for "there is none"."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Parts:
    """What a mean of disagreements is made of.

    Attributes
    ----------
    values
        Of each example, (examples,): their mean is the figure.
    influences
        What each run (or pair of runs that belong together) adds to it, (examples, runs), for each group of runs that
        were drawn independently of the others. Their sum over a group's runs is 0.
    fewest
        Runs that each group must have for an interval: two runs that are compared with one another alone make one
        number, which has no spread.
    """

    values: Floats
    influences: tuple[Floats, ...]
    fewest: int = 2

    def at(self, rows: NDArray[np.bool_]) -> Parts:
        """Take some of the examples only."""
        return Parts(self.values[rows], tuple(part[rows] for part in self.influences), self.fewest)

    def estimate(self, bounds: tuple[float, float] = (-1.0, 1.0)) -> Estimate:
        """Give the mean with its interval, cut at what is possible.

        Fewer than `fewest` runs in a group have no interval, nor has a single example, and neither have values without
        any spread. Student's t with Satterthwaite's degrees of freedom, since few runs tell little of how runs spread.
        """
        n = len(self.values)
        if not n:
            return Estimate(np.nan, np.nan, np.nan)
        value = float(self.values.mean())
        if n < 2 or any(part.shape[1] < self.fewest for part in self.influences):
            return Estimate(value, np.nan, np.nan)
        total, doubtful = 0.0, 0.0
        if np.ptp(self.values) > _ROUNDING:
            total = float(self.values.var(ddof=1)) / n
        for part in self.influences:
            k = part.shape[1]
            of_runs = float((part.mean(axis=0) ** 2).sum())
            of_both = float(part.var(axis=0, ddof=1).sum()) / n
            if of_runs - of_both <= _ROUNDING * max(of_runs, _ROUNDING):
                continue
            variance = (of_runs - of_both) / (k * (k - 1))
            total += variance
            doubtful += variance**2 / (k - 1)
        if total <= 0:
            return Estimate(value, np.nan, np.nan)
        point = (1 + CONFIDENCE) / 2
        reach = float(special.stdtrit(total**2 / doubtful, point) if doubtful > 0 else special.ndtri(point))
        half = reach * total**0.5
        return Estimate(value, max(value - half, bounds[0]), min(value + half, bounds[1]))


def paired(a: Bools, b: Bools) -> Parts:
    """Disagreement of runs that are pairs: column for column, (examples, pairs) each."""
    differ = (a != b).astype(np.float64)
    mean = differ.mean(axis=1)
    return Parts(mean, (differ - mean[:, None],))


def within(a: Bools) -> Parts:
    """Disagreement of runs of one kind with one another, (examples, runs); at least two runs."""
    own = _with_itself(a)
    mean = own.mean(axis=1)
    # A run is in a pair on either side.
    return Parts(mean, (2 * (own - mean[:, None]),), fewest=FEWEST_SEEDS)


def excess(a: Bools, b: Bools, *, seeds_shared: bool) -> Parts:
    """Excess disagreement of two groups of runs.

    Parameters
    ----------
    a, b : bool (examples, runs of A), (examples, runs of B)
        Whether a run says positive; at least two runs each.
    seeds_shared
        Column for column the runs of A and B start from one seed, as matched ones do. Such pairs are left out of
        D(A, B), and the two runs of a seed count as one draw.

    Raises
    ------
    ValueError
        Seeds are shared, but the groups differ in size.
    """
    if seeds_shared and a.shape != b.shape:
        raise ValueError(f"runs that share their seeds come in pairs, got {a.shape[1]} and {b.shape[1]} of them")
    of_a, of_b = _with_others(a, b, seeds_shared), _with_others(b, a, seeds_shared)
    own_a, own_b = _with_itself(a), _with_itself(b)
    between = of_a.mean(axis=1)
    mean_a, mean_b = own_a.mean(axis=1), own_b.mean(axis=1)
    moved_a = (of_a - between[:, None]) - (own_a - mean_a[:, None])
    moved_b = (of_b - between[:, None]) - (own_b - mean_b[:, None])
    values = between - (mean_a + mean_b) / 2
    if seeds_shared:
        return Parts(values, (moved_a + moved_b,), fewest=FEWEST_SEEDS)
    return Parts(values, (moved_a, moved_b), fewest=FEWEST_SEEDS)


def between(a: Bools, b: Bools, *, seeds_shared: bool) -> float:
    """D(A, B): mean disagreement of A's runs with B's, pairs of one seed left out where seeds are shared."""
    return float(_with_others(a, b, seeds_shared).mean())


def _with_itself(a: Bools) -> Floats:
    """Share of the other runs of its kind that a run disagrees with, (examples, runs)."""
    positive = a.sum(axis=1)[:, None]
    k = a.shape[1]
    # A run never disagrees with itself, so it may stay in the count.
    return np.asarray(np.where(a, k - positive, positive) / (k - 1))


def _with_others(a: Bools, b: Bools, seeds_shared: bool) -> Floats:
    """Share of B's runs that each of A's disagrees with, (examples, runs of A)."""
    positive = b.sum(axis=1)[:, None]
    k = b.shape[1]
    differ = np.where(a, k - positive, positive).astype(np.float64)
    return np.asarray((differ - (a != b)) / (k - 1) if seeds_shared else differ / k)
