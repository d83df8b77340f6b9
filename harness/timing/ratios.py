"""Ratios of times that were measured in turn, with their intervals.

The one definition of "A takes 1.4 times as long as B": the session stops measuring by it, the report shows it, and
pytest-benchmark's entries carry it.

Two things make a ratio uncertain. Rounds differ, since the machine does other things meanwhile; more rounds help. And
workers differ: where a process happens to lie in memory makes two workers of one backend differ by half a per cent or
more for as long as they live, which no number of rounds shows. So workers are started several times, and the spread of
the ratio over starts is part of its interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnn_crosscheck.harness.results import TimingRecord

#: of the rounds, left out at either end: what the machine did to one round says nothing of the ratio
TRIM = 0.2
CONFIDENCE = 0.95
#: rounds that an interval takes
FEWEST = 5

Floats = NDArray[np.float64]


class Ratio(NamedTuple):
    """A ratio with its 95 % interval, and the p value of no difference; NaN stands for "there is none"."""

    value: float
    low: float
    high: float
    p: float

    @property
    def reach(self) -> float:
        """How far the interval reaches from the ratio, as a share of it."""
        return float(np.sqrt(self.high / self.low) - 1)


def typical(times: ArrayLike) -> float:
    """Give what a round usually takes: the trimmed mean of the logarithms, as `ratio` takes it, in the unit given.

    The ratio of two of these is close to the trimmed mean of the ratios, but not the same: that one is taken round by
    round.
    """
    return float(np.exp(_trimmed(np.log(np.asarray(times, np.float64))).mean()))


def ratio(times: ArrayLike, baseline: ArrayLike) -> Ratio:
    """Give times / baseline of the interleaved rounds of one start.

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
    start = _start(times, baseline)
    return _interval(start.centre, start.variance, start.kept - 1)


def against_baseline(records: Sequence[TimingRecord], record: TimingRecord) -> Ratio | None:
    """Give a record's time in times of the baseline's of the same point; None if they weren't measured in turn.

    The mean over starts of what `ratio` gives for each. Its interval holds the spread over rounds, which is the
    record's own, and the spread over starts, which is taken from all pairs of workers of its model together, since
    three starts of one pair say little.
    """
    base = _base(records, record)
    return None if base is None else _over_starts(records, record.model, _starts(record.rounds_ns, base))


def a_against_a(records: Sequence[TimingRecord], record: TimingRecord) -> Ratio | None:
    """Give the time of the baseline's second worker in times of the first, as `against_baseline` does."""
    if not record.baseline or len(record.again_ns) != len(record.rounds_ns) or not record.rounds_ns:
        return None
    return _over_starts(records, record.model, _starts(record.again_ns, record))


@dataclass(frozen=True)
class _Start:
    """Logarithm of a ratio in one start, the variance of that, and how many rounds were kept of it."""

    centre: float
    variance: float
    kept: int


def _start(times: ArrayLike, baseline: ArrayLike) -> _Start:
    of_times, of_baseline = np.asarray(times, np.float64), np.asarray(baseline, np.float64)
    if of_times.shape != of_baseline.shape:
        raise ValueError(f"rounds are compared one by one, got {len(of_times)} of them against {len(of_baseline)}")
    if not ((of_times > 0) & (of_baseline > 0)).all():
        raise ValueError("times are above 0")
    logs = np.log(of_times / of_baseline)
    n = len(logs)
    if not n:
        return _Start(np.nan, np.nan, 0)
    kept = _trimmed(logs)
    if n < FEWEST:
        return _Start(float(kept.mean()), np.nan, len(kept))
    winsorised = np.clip(logs, kept[0], kept[-1])
    variance = float(winsorised.var(ddof=1)) * _inflation(winsorised) * n / len(kept) ** 2
    return _Start(float(kept.mean()), variance, len(kept))


def _trimmed(values: Floats) -> Floats:
    ordered = np.sort(values)
    cut = int(TRIM * len(ordered))
    return ordered[cut : len(ordered) - cut]


def _inflation(values: Floats) -> float:
    """How much larger the variance of a mean is than if neighbours knew nothing of each other."""
    deviations = values - values.mean()
    total = float((deviations**2).sum())
    if total <= 0:
        return 1.0
    r = float((deviations[1:] * deviations[:-1]).sum()) / total
    # From n values it comes out too low by (1 + 3 r) / n (Marriott and Pope, 1954).
    r = min(max(r + (1 + 3 * r) / len(values), 0.0), 0.9)
    return (1 + r) / (1 - r)


def _interval(centre: float, variance: float, freedom: float) -> Ratio:
    if np.isnan(variance):
        return Ratio(float(np.exp(centre)), np.nan, np.nan, np.nan)
    # Imported here: SciPy takes longer than all else that a session needs to list its tests.
    from scipy.special import stdtr, stdtrit

    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * variance**0.5
    low, value, high = np.exp([centre - half, centre, centre + half])
    p = 2 * stdtr(freedom, -abs(centre) / variance**0.5) if variance > 0 else centre == 0
    return Ratio(float(value), float(low), float(high), float(p))


def _base(records: Sequence[TimingRecord], record: TimingRecord) -> TimingRecord | None:
    base = next((other for other in records if other.baseline and other.point == record.point), None)
    in_turn = base is not None and len(base.rounds_ns) == len(record.rounds_ns) and base.starts == record.starts
    return base if in_turn else None


def _starts(times: Sequence[int], base: TimingRecord) -> list[_Start]:
    ends = np.cumsum(base.starts or (len(base.rounds_ns),))
    return [
        _start(times[end - size : end], base.rounds_ns[end - size : end])
        for end, size in zip(ends, base.starts or (len(base.rounds_ns),), strict=True)
    ]


def _over_starts(records: Sequence[TimingRecord], model: str, starts: Sequence[_Start]) -> Ratio:
    centre = float(np.mean([start.centre for start in starts]))
    within = float(np.mean([start.variance for start in starts]))
    if len(starts) == 1:
        return _interval(centre, within, starts[0].kept - 1)
    between, pairs = _between(records, model)
    return _interval(centre, (between + within) / len(starts), (len(starts) - 1) * max(pairs, 1))


def _between(records: Sequence[TimingRecord], model: str) -> tuple[float, int]:
    """Variance of a ratio's logarithm over starts, above what rounds explain; and the pairs of workers it is from.

    Each point of each pair gives an estimate; how sure it is, is how little its rounds spread.
    """
    found, weights = [], []
    pairs = set()
    for name, starts in _pairs(records, model):
        within = float(np.mean([start.variance for start in starts]))
        if len(starts) < 2 or not within > 0:
            continue
        found.append(float(np.var([start.centre for start in starts], ddof=1)) - within)
        weights.append(within**-2)
        pairs.add(name)
    return (max(0.0, float(np.average(found, weights=weights))) if found else 0.0), len(pairs)


def _pairs(records: Sequence[TimingRecord], model: str) -> Iterator[tuple[tuple[str, str], list[_Start]]]:
    """Give each other worker of a model beside the baseline's, point by point."""
    for record in records:
        base = _base(records, record)
        if record.model != model or base is None or not record.rounds_ns:
            continue
        if record is not base:
            yield (record.backend, record.setting), _starts(record.rounds_ns, base)
        elif len(record.again_ns) == len(record.rounds_ns):
            yield (record.backend, "again"), _starts(record.again_ns, record)
