"""Intervals, paired tests and agreement: thin, vectorised functions over scipy and statsmodels.

Counts follow one convention: of two models A and B on the same ``n`` examples, ``a`` counts those that both get
right, ``b`` those that only A gets right, ``c`` those that only B gets right, ``d`` those that both get wrong.
Functions take numbers or arrays of one shape. An interval is a pair (low, high); NaN stands for "there is none".

Functions of probabilities take float (examples, runs) or (examples,), with labels 0 or 1 (examples,), and answer for
each run. They compute in float64 whatever the input's precision, and raise ValueError for another number of labels
than examples.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # scipy.stats and statsmodels take longer to import than most reports to build

from rnn_crosscheck.harness.timing.ratios import TRIM

#: confidence of every interval in the report
CONFIDENCE = 0.95

#: what is said of an interval that doesn't decide, and where there is none
UNDECIDED, UNKNOWN = "undecided", "?"

#: how often a number of seeds that is said to decide something would
POWER = 0.8

#: how near log loss lets a probability come to 0 or 1; the workers' losses use the same
CLIP = 1e-7

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
    # A matrix product is far faster on floats, which are exact for counts up to 2**24 and 2**53.
    exact = np.float32 if len(columns) < 1 << 24 else np.float64
    values: NDArray[Any] = columns.astype(exact)
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
    below = np.where(fewer > 0, special.bdtr(np.maximum(fewer - 1, 0), discordant, 0.5), 0)
    p = special.bdtr(fewer, discordant, 0.5) + below
    return np.clip(np.where(b == c, 1.0, p), 0, 1)


def kappa(counts: Counts) -> Floats:
    """Cohen's kappa: agreement beyond what the two margins give by chance.

    On counts of predictions it is the kappa of predictions; on counts of right and wrong it is the
    error-consistency kappa of Geirhos, Meding and Wichmann (2020), https://arxiv.org/abs/2006.16736. The two are
    different figures of the same pair of runs. When both margins hold one and the same class, agreement is
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


def yules_q(counts: Counts) -> Floats:
    """Yule's Q: the odds ratio ad / (bc) on a scale from -1 to 1; on right and wrong, whether errors come together.

    0/0 happens when one of the models is constant (right on every example, or on none). Such a column is independent
    of every other, so Q is 0; but two identical columns have 1. Both are what `kappa` says, and with them Q has
    kappa's sign and at least kappa's size for every table there is. Without examples it is NaN.
    """
    a, b, c, d = (np.asarray(part, np.float64) for part in counts)
    together, apart = a * d, b * c
    undefined = np.where(b + c == 0, 1.0, 0.0)
    result = np.divide(together - apart, together + apart, out=undefined, where=together + apart > 0)
    return np.where(a + b + c + d > 0, result, np.nan)


def wilson(successes: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats]:
    """Wilson interval of a share: what another sample of examples could have given. Without examples NaN."""
    successes, n = np.asarray(successes, np.float64), np.asarray(n, np.float64)
    z, some = _normal(), np.where(n > 0, n, np.nan)
    share, square = successes / some, z**2 / some
    middle, half = share + square / 2, np.sqrt(square * (share * (1 - share) + square / 4))
    return np.maximum(middle - half, 0) / (1 + square), np.minimum((middle + half) / (1 + square), 1)


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
    if len(values) < 2 or _no_spread(values):
        return np.nan, np.nan
    half = _student(len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return max(values.mean() - half, bounds[0]), min(values.mean() + half, bounds[1])


def one_more(values: ArrayLike, bounds: tuple[float, float] = (-np.inf, np.inf)) -> tuple[float, float]:
    """Student's t interval for one more value drawn like `values` (a prediction interval), cut at what is possible.

    It is far wider than that of the mean: the next seed has the whole spread to itself. Normal values assumed;
    fewer than two, or values without any spread, give NaN.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2 or _no_spread(values):
        return np.nan, np.nan
    half = _student(len(values) - 1) * values.std(ddof=1) * np.sqrt(1 + 1 / len(values))
    return max(values.mean() - half, bounds[0]), min(values.mean() + half, bounds[1])


def paired_means(first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
    """Interval of mean(first - second) where the two really are pairs, such as runs from the same weights."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(first) < 2 or _no_spread(first - second, first):
        return np.nan, np.nan
    return mean_interval(first - second, (-1, 1))


def welch(first: ArrayLike, second: ArrayLike, bounds: tuple[float, float] = (-1.0, 1.0)) -> tuple[float, float]:
    """Welch's interval of mean(first) - mean(second), for independent values of unequal spread, cut at `bounds`.

    This is the one for native runs: the same seed number in two frameworks starts nothing equal, so equal
    numbers are no pairs. A side with one value gives NaN, and so do two sides without any spread.
    """
    difference, error, freedom = _welch(np.asarray(first, np.float64), np.asarray(second, np.float64))
    half = _student(freedom) * error
    return max(difference - half, bounds[0]), min(difference + half, bounds[1])


def _welch(first: Floats, second: Floats) -> tuple[float, float, float]:
    """Give the difference of two means, its standard error and degrees of freedom; NaN without any spread."""
    if min(len(first), len(second)) < 2:
        return np.nan, np.nan, np.nan
    parts = np.array([side.var(ddof=1) / len(side) for side in (first, second)])
    variance = parts.sum()
    if _no_spread(first) and _no_spread(second):
        return np.nan, np.nan, np.nan
    shares = parts / variance  # of the variance; squaring that itself would underflow
    freedom = 1 / (shares**2 / [len(first) - 1, len(second) - 1]).sum()
    return float(first.mean() - second.mean()), float(variance**0.5), float(freedom)


def p_of_means(first: ArrayLike, second: ArrayLike, *, paired: bool) -> float:
    """Test whether two means are equal: Welch's t, or Student's on the differences of what really are pairs.

    NaN where `welch` and `paired_means` have no interval.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not paired:
        difference, error, freedom = _welch(first, second)
        return float(2 * special.stdtr(freedom, -abs(difference) / error))
    gaps = first - second
    if len(gaps) < 2 or _no_spread(gaps, first):
        return np.nan
    return float(2 * special.stdtr(len(gaps) - 1, -abs(gaps.mean()) / gaps.std(ddof=1) * len(gaps) ** 0.5))


def values_needed(effect: float, spread: float, alpha: float = 1 - CONFIDENCE, *, paired: bool) -> float:
    """Count the values a side with which an interval reaches less than `effect` to either side, 4 times in 5.

    Parameters
    ----------
    effect
        What the interval has to stay clear of, above 0.
    spread
        Standard deviation of one value, or of one difference where they are `paired`; above 0.
    alpha
        Of the test; less where many pairs are asked about.

    Returns
    -------
    The number of values that a t test needs for a power of 0.8 (statsmodels); NaN where it can't be found.
    """
    from statsmodels.stats.power import TTestIndPower, TTestPower

    power = TTestPower() if paired else TTestIndPower()
    # Beyond this size three values do, and the search for fewer fails.
    size = min(effect / spread, 5.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = np.ravel(power.solve_power(size, alpha=alpha, power=POWER))[0]
    return float(max(2, np.ceil(found))) if np.isfinite(found) else np.nan


def brier(probabilities: ArrayLike, labels: ArrayLike) -> Floats:
    """Mean squared distance of probability and label, 0 to 1; 0.25 for always saying 0.5. Without examples NaN."""
    p, positive = _labelled(probabilities, labels)
    return _share(((p - positive) ** 2).sum(axis=0), len(p))


def log_loss(probabilities: ArrayLike, labels: ArrayLike) -> Floats:
    """Mean binary cross-entropy in nats. Without examples NaN.

    Probabilities are clipped to [1e-7, 1 - 1e-7], as for the losses that the workers store: one sure mistake costs
    16.1 and doesn't make the mean infinite.
    """
    p, positive = _labelled(probabilities, labels)
    p = np.clip(p, CLIP, 1 - CLIP)
    return _share(-np.log(np.where(positive, p, 1 - p)).sum(axis=0), len(p))


def roc_auc(probabilities: ArrayLike, labels: ArrayLike) -> Floats:
    """Area under the ROC curve: how often a positive example gets more than a negative one, ties counting half.

    That is Mann-Whitney's U as a share of all pairs. A constant probability gives 0.5. With labels of one class, or
    without examples, there are no such pairs: NaN.
    """
    p, positive = _labelled(probabilities, labels)
    rows = positive.ravel()
    pairs = np.count_nonzero(rows) * np.count_nonzero(~rows)
    if pairs == 0:
        return np.full(p.shape[1:], np.nan)
    areas = []
    for run in p.reshape(len(p), -1).T:
        # Sorting values and looking places up takes a third of the time of ranking (scipy.stats.rankdata).
        negatives, positives = np.sort(run[~rows]), np.sort(run[rows])
        below = np.searchsorted(negatives, positives, side="left").sum()
        not_above = np.searchsorted(negatives, positives, side="right").sum()
        areas.append((below + not_above) / 2 / pairs)
    return np.array(areas).reshape(p.shape[1:])


class Reliability(NamedTuple):
    """Bins of equal width over the probability of the positive class. Arrays are (bins,) or (bins, runs)."""

    #: (bins + 1,): a bin holds its lower edge and not its upper, but for the last, which holds 1.0 also
    edges: Floats
    examples: NDArray[np.int64]
    #: mean of the probabilities in the bin; NaN when it is empty, as are the three below
    probability: Floats
    #: share of positive labels in the bin
    share: Floats
    #: Wilson interval of that share
    low: Floats
    high: Floats


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = 10) -> Reliability:
    """Compare, bin by bin, what was promised (mean probability) with what came (share of positive labels).

    Without examples every bin is empty: counts 0, and NaN everywhere else.
    """
    examples, promised, positive = _binned(probabilities, labels, bins)
    means = (_share(promised, examples), _share(positive, examples))
    return Reliability(_edges(bins), examples, *means, *wilson(positive, examples))


def ece(probabilities: ArrayLike, labels: ArrayLike, bins: int = 10) -> Floats:
    """Average the distance of promise and outcome over the bins of `reliability`: expected calibration error.

    A bin weighs what its examples weigh, an empty one nothing. It is the error of the positive class' probability,
    not of the "confidence" in the predicted class. Few examples in a bin bias it upwards, so compare only runs on
    equal examples. Without examples NaN. Naeini, Cooper and Hauskrecht (2015),
    https://doi.org/10.1609/aaai.v29i1.9602.
    """
    examples, promised, positive = _binned(probabilities, labels, bins)
    return _share(np.abs(promised - positive).sum(axis=0), examples.sum(axis=0))


def holm(p: ArrayLike) -> Floats:
    """Adjust p values for having asked several questions (Holm's step-down)."""
    p = np.asarray(p, np.float64)
    if len(p) < 2:  # one question needs no correction
        return p
    from statsmodels.stats.multitest import multipletests

    return np.asarray(multipletests(p, method="holm")[1], np.float64)


def independent_ratio(times: ArrayLike, earlier: ArrayLike) -> tuple[float, float]:
    """Interval of what a round of `times` usually takes over what one of `earlier` does, not taken in turn.

    Of logarithms trimmed as `harness.timing.ratios.typical` trims them. Yuen's interval (Welch's for trimmed means),
    since two measurements at two times have no rounds in common. It answers for other rounds at those two times; what
    the machine was doing at either of them is not in it. NaN where one of the two has fewer than two
    rounds, or neither has any spread.
    """
    now, before = np.log(np.asarray(times, np.float64)), np.log(np.asarray(earlier, np.float64))
    if min(len(now), len(before)) < 2 or np.ptp(now) == np.ptp(before) == 0:
        return np.nan, np.nan
    from scipy import stats

    found = stats.ttest_ind(now, before, equal_var=False, trim=TRIM).confidence_interval(CONFIDENCE)
    return float(np.exp(found.low)), float(np.exp(found.high))


def _labelled(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    """Bring both to the shapes that broadcast: (examples, runs) with (examples, 1), or (examples,) with itself."""
    p, positive = np.asarray(probabilities, np.float64), np.asarray(labels) == 1
    if positive.shape != p.shape[:1]:
        raise ValueError(f"expected one label for each of {len(p)} examples, got labels of shape {positive.shape}")
    return p, positive.reshape(-1, *[1] * (p.ndim - 1))


def _edges(bins: int) -> Floats:
    return np.arange(bins + 1) / bins  # each the nearest float; linspace would put 0.3 in the bin below it


def _binned(probabilities: ArrayLike, labels: ArrayLike, bins: int) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Examples, sum of probabilities and number of positive labels by bin, each (bins,) or (bins, runs)."""
    p, positive = _labelled(probabilities, labels)
    shape = (bins, *p.shape[1:])
    runs = int(np.prod(p.shape[1:]))
    # Neither 0 nor 1 is an edge here: what lies on the rim belongs to the bin inside.
    place = np.searchsorted(_edges(bins)[1:-1], p.ravel(), side="right")
    cells = place * runs + np.tile(np.arange(runs), len(p))

    def total(weights: Floats | None) -> Floats:
        return np.bincount(cells, weights, minlength=bins * runs).reshape(shape)

    return (
        total(None).astype(np.int64),
        total(p.ravel()),
        total(np.broadcast_to(positive, p.shape).ravel().astype(np.float64)),
    )


def _no_spread(values: Floats, of: Floats | None = None) -> bool:
    """Whether values, or differences `of` other values, are equal but for how decimal fractions lie in float64."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values if of is None else of).max())


def _student(freedom: float) -> float:
    return float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _normal() -> float:
    return float(special.ndtri((1 + CONFIDENCE) / 2))
