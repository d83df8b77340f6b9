"""Intervals, paired tests and agreement: thin, vectorised functions over scipy and statsmodels.

Counts follow one convention: of two models A and B on the same ``n`` examples, ``a`` counts those that both get
right, ``b`` those that only A gets right, ``c`` those that only B gets right, ``d`` those that both get wrong.
Functions take numbers or arrays of one shape. An interval is a pair (low, high); NaN stands for "there is none".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

#: confidence of every interval in the report
CONFIDENCE = 0.95

Floats = NDArray[np.float64]


class Counts(NamedTuple):
    """Examples by who is right: both, only A, only B, neither. Each is an array, one entry a pair."""

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    c: NDArray[np.int64]
    d: NDArray[np.int64]

    @property
    def n(self) -> NDArray[np.int64]:
        """Examples."""
        return self.a + self.b + self.c + self.d


def paired_counts(columns: NDArray[np.bool_], first: ArrayLike, second: ArrayLike) -> Counts:
    """Count true/true, true/false, false/true and false/false for pairs of columns.

    Parameters
    ----------
    columns : bool (examples, runs)
        With "is right" the counts are a, b, c, d; with "predicts positive" they are what Cohen's kappa needs.
    first, second : int (pairs,)
        Column numbers of A and B.
    """
    one, two = np.asarray(first, np.intp), np.asarray(second, np.intp)
    values = columns.astype(np.float64)  # exact for counts, and a matrix product is far faster on floats
    both = np.rint(values.T @ values).astype(np.int64)
    true = np.diagonal(both)
    a = both[one, two]
    b, c = true[one] - a, true[two] - a
    return Counts(a, b, c, len(columns) - a - b - c)


def _share(part: ArrayLike, whole: ArrayLike) -> Floats:
    """Divide; nothing of nothing is NaN."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    nothing = np.full(np.broadcast(part, whole).shape, np.nan)
    return np.asarray(np.divide(part, whole, out=nothing, where=whole > 0))


def disagreement(counts: Counts) -> Floats:
    """Share of examples on which two binary models differ, (b + c) / n; also called churn."""
    return _share(np.add(counts.b, counts.c), counts.n)


def oracle(counts: Counts) -> Floats:
    """Accuracy of somebody who knew which of the two to trust, 1 - d/n."""
    return 1 - double_fault(counts)


def double_fault(counts: Counts) -> Floats:
    """Share of examples that both get wrong, d / n."""
    return _share(counts.d, counts.n)


def mcnemar_midp(b: ArrayLike, c: ArrayLike) -> Floats:
    """Test whether b and c are halves of b + c: McNemar, two-sided, exact with the mid-p correction.

    ``b + c = 0`` gives 1: models that never differ give no evidence of a difference. Fagerland, Lydersen and
    Laake (2013), https://doi.org/10.1186/1471-2288-13-91.
    """
    b, c = np.asarray(b, np.int64), np.asarray(c, np.int64)
    fewer, discordant = np.minimum(b, c), b + c
    p = 2 * stats.binom.cdf(fewer, discordant, 0.5) - stats.binom.pmf(fewer, discordant, 0.5)
    return np.clip(np.where(b == c, 1.0, p), 0, 1)


def kappa(counts: Counts) -> Floats:
    """Cohen's kappa: agreement beyond what the two margins give by chance.

    On counts of predictions it is the kappa of predictions; on counts of right and wrong it is the
    error-consistency kappa of Geirhos et al. (2020). When both margins hold one and the same class, agreement is
    complete and chance explains it too (0/0): defined as 1, as for any two identical columns. Without examples it
    is NaN.
    """
    a, b, c, d = (np.asarray(part, np.float64) for part in counts)
    n = a + b + c + d
    observed = _share(a + d, n)
    chance = _share((a + b) * (a + c) + (c + d) * (b + d), n * n)
    room = 1 - chance
    result = np.divide(observed - chance, room, out=np.ones_like(room), where=room > 0)
    return np.where(n > 0, result, np.nan)


def wilson(successes: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats]:
    """Wilson interval of a share: what another sample of examples could have given. Without examples NaN."""
    successes, n = np.asarray(successes, np.float64), np.asarray(n, np.float64)
    some = np.where(n > 0, n, 1)
    low, high = proportion_confint(np.minimum(successes, some), some, alpha=1 - CONFIDENCE, method="wilson")
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def paired_difference(b: ArrayLike, c: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats]:
    """Interval of accuracy A minus accuracy B over the same examples: the adjusted Wald interval.

    One example is added to b and one to c, which keeps the coverage near its name also for small and for empty
    tables. Bonett and Price (2012), https://doi.org/10.3102/1076998611411915. Without examples NaN.
    """
    b, c, n = (np.asarray(part, np.float64) for part in (b, c, n))
    only_a, only_b = (b + 1) / (n + 2), (c + 1) / (n + 2)
    middle = only_a - only_b
    half = _normal() * np.sqrt(np.maximum(only_a + only_b - middle**2, 0) / (n + 2))
    none = np.where(n > 0, 0, np.nan)
    return np.maximum(middle - half, -1) + none, np.minimum(middle + half, 1) + none


def mean_interval(values: ArrayLike, bounds: tuple[float, float] = (-np.inf, np.inf)) -> tuple[float, float]:
    """Student's t interval of a mean, cut at what is possible.

    One value has no interval, and neither have values without any spread, which would claim to be certain: NaN.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2 or np.ptp(values) == 0:
        return np.nan, np.nan
    half = _student(len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return max(values.mean() - half, bounds[0]), min(values.mean() + half, bounds[1])


def one_more(values: ArrayLike, bounds: tuple[float, float] = (-np.inf, np.inf)) -> tuple[float, float]:
    """Student's t interval for one more value drawn like `values` (a prediction interval), cut at what is possible.

    It is far wider than that of the mean: the next seed has the whole spread to itself. Normal values assumed;
    fewer than two, or values without any spread, give NaN.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2 or np.ptp(values) == 0:
        return np.nan, np.nan
    half = _student(len(values) - 1) * values.std(ddof=1) * np.sqrt(1 + 1 / len(values))
    return max(values.mean() - half, bounds[0]), min(values.mean() + half, bounds[1])


def paired_means(first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
    """Interval of mean(first - second) where the two really are pairs, such as runs from the same weights."""
    return mean_interval(np.asarray(first, np.float64) - np.asarray(second, np.float64), (-1, 1))


def welch(first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
    """Welch's interval of mean(first) - mean(second), for independent values of unequal spread.

    This is the one for native runs: the same seed number in two frameworks starts nothing equal, so equal
    numbers are no pairs. A side with one value gives NaN, and so do two sides without any spread.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if min(len(first), len(second)) < 2:
        return np.nan, np.nan
    parts = np.array([side.var(ddof=1) / len(side) for side in (first, second)])
    difference, variance = first.mean() - second.mean(), parts.sum()
    if variance == 0:
        return np.nan, np.nan
    shares = parts / variance  # of the variance; squaring that itself would underflow
    freedom = 1 / (shares**2 / [len(first) - 1, len(second) - 1]).sum()
    half = _student(freedom) * np.sqrt(variance)
    return max(difference - half, -1.0), min(difference + half, 1.0)


def holm(p: ArrayLike) -> Floats:
    """Adjust p values for having asked several questions (Holm's step-down)."""
    p = np.asarray(p, np.float64)
    return np.asarray(multipletests(p, method="holm")[1], np.float64) if len(p) else p


def geometric_mean(values: ArrayLike) -> float:
    """Mean for times and ratios; the ratio of two geometric means is the geometric mean of the ratios."""
    return float(np.exp(np.log(np.asarray(values, np.float64)).mean()))


def ratio_interval(
    times: ArrayLike, baseline: ArrayLike, generator: np.random.Generator, resamples: int = 10_000
) -> tuple[float, float]:
    """Bootstrap interval of the geometric mean of times / baseline over interleaved rounds.

    Ratios are taken round by round, so that what the machine did in a round cancels. Fewer than two rounds give NaN.

    Raises
    ------
    ValueError
        The two don't have the same rounds.
    """
    times, baseline = np.asarray(times, np.float64), np.asarray(baseline, np.float64)
    if times.shape != baseline.shape:
        raise ValueError(f"rounds are compared one by one, got {len(times)} of them against {len(baseline)}")
    if len(times) < 2:
        return np.nan, np.nan
    logs = np.log(times / baseline)
    drawn = logs[generator.integers(len(logs), size=(resamples, len(logs)))].mean(axis=1)
    low, high = np.exp(np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    return float(low), float(high)


def _normal() -> float:
    return float(stats.norm.ppf((1 + CONFIDENCE) / 2))


def _student(freedom: float) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
