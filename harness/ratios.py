"""Ratios of times that were measured in turn, with their intervals.

The one definition of "A takes 1.4 times as long as B": the session stops measuring by it, the report shows it, and
pytest-benchmark's entries carry it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.results import TimingRecord

#: of the rounds, left out at either end: what the machine did to one round says nothing of the ratio
TRIM = 0.2
CONFIDENCE = 0.95
#: rounds that an interval takes
FEWEST = 5


class Ratio(NamedTuple):
    """A ratio with its 95 % interval; NaN stands for "there is none"."""

    value: float
    low: float
    high: float

    @property
    def reach(self) -> float:
        """Half of the interval's width, as a share of the ratio."""
        return float(np.sqrt(self.high / self.low) - 1)


def typical(times: ArrayLike) -> float:
    """Give what a round usually takes: the trimmed mean of the logarithms, as `ratio` takes it, in the unit given.

    The ratio of two of these is close to the trimmed mean of the ratios, but not the same: that one is taken round by
    round.
    """
    ordered = np.sort(np.log(np.asarray(times, np.float64)))
    cut = int(TRIM * len(ordered))
    return float(np.exp(ordered[cut : len(ordered) - cut].mean()))


def ratio(times: ArrayLike, baseline: ArrayLike) -> Ratio:
    """Give times / baseline of interleaved rounds.

    The ratio is taken round by round, so that whatever the machine did to a whole round cancels. Of the logarithms the
    trimmed mean is taken: a fifth of the rounds is left out at either end, where only one of the two was disturbed.
    The interval is Student's for a trimmed mean (Tukey and McLaughlin, 1963: variance of the winsorised values,
    degrees of freedom of what was kept). Neighbouring rounds that were disturbed alike count as fewer rounds than they
    are: the variance grows by (1 + r) / (1 - r) with r the correlation of neighbours, if it is above 0.

    Parameters
    ----------
    times, baseline : (rounds,)
        Above 0, in any unit, in the order in which they were measured.

    Raises
    ------
    ValueError
        The two don't have the same rounds, or one of them isn't above 0.
    """
    of_times, of_baseline = np.asarray(times, np.float64), np.asarray(baseline, np.float64)
    if of_times.shape != of_baseline.shape:
        raise ValueError(f"rounds are compared one by one, got {len(of_times)} of them against {len(of_baseline)}")
    if not ((of_times > 0) & (of_baseline > 0)).all():
        raise ValueError("times are above 0")
    logs = np.log(of_times / of_baseline)
    n = len(logs)
    if not n:
        return Ratio(np.nan, np.nan, np.nan)
    cut = int(TRIM * n)
    ordered = np.sort(logs)
    kept = ordered[cut : n - cut]
    centre = float(kept.mean())
    if n < FEWEST:
        return Ratio(float(np.exp(centre)), np.nan, np.nan)
    # Imported here: SciPy takes longer than all else that a session needs to list its tests.
    from scipy import stats

    winsorised = np.clip(logs, kept[0], kept[-1])
    variance = float(winsorised.var(ddof=1)) * _inflation(winsorised) / (n * (1 - 2 * cut / n) ** 2)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(kept) - 1)) * variance**0.5
    low, value, high = np.exp([centre - half, centre, centre + half])
    return Ratio(float(value), float(low), float(high))


def against_baseline(records: Sequence[TimingRecord], record: TimingRecord) -> Ratio | None:
    """Give a record's time in times of the baseline's of the same point; None if they weren't measured in turn."""
    base = next((other for other in records if other.baseline and other.point == record.point), None)
    if base is None or len(base.rounds_ns) != len(record.rounds_ns):
        return None
    return ratio(record.rounds_ns, base.rounds_ns)


def _inflation(values: NDArray[np.float64]) -> float:
    """How much larger the variance of a mean is than if neighbours knew nothing of each other."""
    deviations = values - values.mean()
    total = float((deviations**2).sum())
    if total <= 0:
        return 1.0
    r = float((deviations[1:] * deviations[:-1]).sum()) / total
    # From n values it comes out too low by (1 + 3 r) / n (Marriott and Pope, 1954).
    r = min(max(r + (1 + 3 * r) / len(values), 0.0), 0.9)
    return (1 + r) / (1 - r)
