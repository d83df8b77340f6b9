from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.inter_rater import cohens_kappa

from reports.statistics import (
    Counts,
    disagreement,
    double_fault,
    geometric_mean,
    holm,
    kappa,
    mcnemar_midp,
    mean_interval,
    one_more,
    oracle,
    paired_counts,
    paired_difference,
    paired_means,
    ratio_interval,
    welch,
    wilson,
)

small = st.integers(0, 40)
values = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=2, max_size=8)


def counts(a: int, b: int, c: int, d: int) -> Counts:
    return Counts(*(np.array([part]) for part in (a, b, c, d)))


def columns(a: int, b: int, c: int, d: int) -> np.ndarray:
    first = [True] * a + [True] * b + [False] * c + [False] * d
    second = [True] * a + [False] * b + [True] * c + [False] * d
    return np.array([first, second]).T.reshape(-1, 2)


def test_four_counts_of_the_source_experiment_give_its_accuracies() -> None:
    lstm_and_rnn = paired_counts(columns(12_848, 7_401, 2_603, 2_148), [0], [1])
    assert [int(part[0]) for part in lstm_and_rnn] == [12_848, 7_401, 2_603, 2_148]
    assert int(lstm_and_rnn.n[0]) == 25_000
    assert (lstm_and_rnn.a + lstm_and_rnn.b)[0] / 25_000 == pytest.approx(0.80996)
    assert (lstm_and_rnn.a + lstm_and_rnn.c)[0] / 25_000 == pytest.approx(0.61804)
    assert disagreement(lstm_and_rnn)[0] == pytest.approx(10_004 / 25_000)
    low, high = paired_difference(7_401, 2_603, 25_000)
    assert low < 0.80996 - 0.61804 < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt((0.40016 - 0.19192**2) / 25_000), rel=1e-3)
    assert mcnemar_midp(7_401, 2_603) < 1e-300


def test_a_table_worked_by_hand() -> None:
    # 20 examples: 8 both right, 5 only A, 1 only B, 6 both wrong.
    table = counts(8, 5, 1, 6)
    assert disagreement(table)[0] == pytest.approx(0.3)
    assert double_fault(table)[0] == pytest.approx(0.3)
    assert oracle(table)[0] == pytest.approx(0.7)
    # Discordant 6, 1 of them for B: 2 * (C(6,0) + C(6,1)) / 64 less C(6,1) / 64.
    assert mcnemar_midp(5, 1) == pytest.approx((2 * 7 - 6) / 64)
    # Observed 0.7; chance (13 * 9 + 7 * 11) / 400 = 0.485.
    assert kappa(table)[0] == pytest.approx((0.7 - 0.485) / (1 - 0.485))


def test_identical_models_give_no_evidence_of_a_difference() -> None:
    assert mcnemar_midp([0, 3], [0, 3]).tolist() == [1.0, 1.0]
    assert disagreement(counts(5, 0, 0, 5))[0] == 0
    assert kappa(counts(5, 0, 0, 5))[0] == 1
    low, high = paired_difference(0, 0, 100)
    assert low < 0 < high


@pytest.mark.parametrize("table", [(7, 0, 0, 0), (0, 0, 0, 7)])
def test_kappa_of_two_constant_models_that_agree_is_1(table: tuple[int, int, int, int]) -> None:
    assert kappa(counts(*table))[0] == 1


def test_kappa_of_models_that_never_agree_is_not_positive() -> None:
    assert kappa(counts(0, 4, 4, 0))[0] == -1
    assert kappa(counts(0, 4, 0, 0))[0] == 0


def test_no_examples_give_no_figures() -> None:
    empty = paired_counts(np.zeros((0, 2), bool), [0], [1])
    assert int(empty.n[0]) == 0
    for figure in (disagreement, oracle, double_fault, kappa):
        assert np.isnan(figure(empty)).all()
    assert np.isnan(wilson(0, 0)).all()
    assert np.isnan(paired_difference(0, 0, 0)).all()
    assert mcnemar_midp(0, 0) == 1


def test_no_pairs_give_empty_tables() -> None:
    nothing = paired_counts(np.ones((3, 2), bool), [], [])
    assert [len(part) for part in nothing] == [0, 0, 0, 0]
    assert len(holm([])) == 0
    assert len(kappa(nothing)) == 0


@given(arrays(bool, st.tuples(st.integers(1, 30), st.just(3))))
def test_counts_equal_counting(right: np.ndarray) -> None:
    found = paired_counts(right, [0, 0, 1], [1, 2, 2])
    for place, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        x, y = right[:, i], right[:, j]
        expected = [(x & y).sum(), (x & ~y).sum(), (~x & y).sum(), (~x & ~y).sum()]
        assert [int(part[place]) for part in found] == expected


@pytest.mark.filterwarnings("ignore:invalid value")  # statsmodels' own variance of kappa, which isn't used
@given(small, small, small, small)
def test_kappa_equals_statsmodels_and_scikit_learn(a: int, b: int, c: int, d: int) -> None:
    table = np.array([[a, b], [c, d]])
    one_class = min(table.sum(axis=0).min(), table.sum(axis=1).min()) == 0
    if one_class and table.max() == table.sum():
        return  # 0/0 there, or no examples; the answer defined here has tests of its own
    assert kappa(counts(a, b, c, d))[0] == pytest.approx(cohens_kappa(table).kappa, abs=1e-12)
    pair = columns(a, b, c, d)
    assert kappa(counts(a, b, c, d))[0] == pytest.approx(cohen_kappa_score(pair[:, 0], pair[:, 1]), abs=1e-12)


@given(small, small)
def test_midp_lies_half_a_point_probability_below_the_exact_test(b: int, c: int) -> None:
    exact = float(mcnemar([[0, b], [c, 0]], exact=True).pvalue)
    point = float(stats.binom.pmf(min(b, c), b + c, 0.5))
    expected = 1.0 if b == c else exact - point
    assert float(mcnemar_midp(b, c)) == pytest.approx(expected, abs=1e-12)
    assert float(mcnemar_midp(b, c)) == pytest.approx(float(mcnemar_midp(c, b)))


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilson_solves_its_equation(successes: int, n: int) -> None:
    successes = min(successes, n)
    z = stats.norm.ppf(0.975)
    share = successes / n
    for edge in wilson(successes, n):
        assert (share - edge) ** 2 == pytest.approx(z**2 * edge * (1 - edge) / n, abs=1e-9)


@given(small, small, small, small)
def test_the_paired_difference_is_antisymmetric_and_within_reason(a: int, b: int, c: int, d: int) -> None:
    n = a + b + c + d
    if n == 0:
        return
    low, high = paired_difference(b, c, n)
    back_low, back_high = paired_difference(c, b, n)
    assert (low, high) == (pytest.approx(-back_high), pytest.approx(-back_low))
    assert -1 <= low <= high <= 1


def test_the_paired_difference_covers_the_truth() -> None:
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(100, [0.7, 0.15, 0.05, 0.1], size=4000)
    low, high = paired_difference(drawn[:, 1], drawn[:, 2], 100)
    assert 0.935 < np.mean((low <= 0.1) & (high >= 0.1)) < 0.97


@given(values)
def test_mean_interval_equals_scipy(numbers: list[float]) -> None:
    low, high = mean_interval(numbers)
    if np.ptp(numbers) == 0:
        assert np.isnan([low, high]).all()
        return
    expected = stats.ttest_1samp(numbers, 0).confidence_interval(0.95)
    assert (low, high) == (pytest.approx(expected.low, abs=1e-9), pytest.approx(expected.high, abs=1e-9))


def test_one_value_has_no_interval() -> None:
    assert np.isnan(mean_interval([0.8])).all()
    assert np.isnan(welch([0.8], [0.7, 0.6])).all()
    assert np.isnan(paired_means([0.8], [0.7])).all()
    assert np.isnan(ratio_interval([2], [1], np.random.default_rng(0))).all()


def test_values_without_spread_claim_no_certainty() -> None:
    assert np.isnan(mean_interval([0.5, 0.5])).all()
    assert np.isnan(welch([0.5, 0.5], [0.8, 0.8])).all()


def test_intervals_are_cut_at_what_is_possible() -> None:
    assert mean_interval([0.99, 0.9], (0, 1))[1] == 1
    assert welch([1.0, 0.0], [0.0, 1.0]) == (-1, 1)


@pytest.mark.filterwarnings("ignore:Precision loss")  # scipy's; one side may be all but constant
@given(values, values)
def test_welch_equals_scipy(first: list[float], second: list[float]) -> None:
    low, high = welch(first, second)
    if np.var(first) + np.var(second) < 1e-9:
        return  # scipy's degrees of freedom are rounding noise there
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert low == pytest.approx(max(expected.low, -1), abs=1e-6)
    assert high == pytest.approx(min(expected.high, 1), abs=1e-6)


def test_equal_values_in_pairs_are_known_better_than_apart() -> None:
    first, second = [0.70, 0.80, 0.90], [0.69, 0.785, 0.89]
    paired, apart = paired_means(first, second), welch(first, second)
    assert paired[0] > 0 > apart[0]


@settings(max_examples=20)  # statsmodels collects garbage at every call, 80 ms each
@given(st.lists(st.floats(0, 1), max_size=10))
def test_holm_equals_its_definition(p: list[float]) -> None:
    order = np.argsort(p, kind="stable")
    expected = np.zeros(len(p))
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        expected[place] = highest
    np.testing.assert_allclose(holm(p), expected, atol=1e-12)


def test_rounds_are_compared_one_by_one() -> None:
    generator = np.random.default_rng(1)
    machine = np.exp(generator.normal(0, 0.5, 40))  # drifts far more than the two differ
    baseline = 100 * machine
    times = 71 * machine * np.exp(generator.normal(0, 0.01, 40))
    low, high = ratio_interval(times, baseline, np.random.default_rng(2))
    assert low < 0.71 < high
    assert high - low < 0.01
    assert ratio_interval(times, baseline, np.random.default_rng(2)) == (low, high)
    with pytest.raises(ValueError, match="40 of them against 39"):
        ratio_interval(times, baseline[1:], np.random.default_rng(2))


def test_the_ratio_of_geometric_means_is_the_geometric_mean_of_ratios() -> None:
    first, second = np.array([1.0, 5.0, 2.0]), np.array([2.0, 3.0, 7.0])
    assert geometric_mean(first) / geometric_mean(second) == pytest.approx(geometric_mean(first / second))


def test_one_more_value_lies_where_student_s_t_says() -> None:
    values = np.array([0.7, 0.8, 0.85, 0.9, 0.75])
    low, high = one_more(values)
    # By another road: simulated draws of five values and a sixth fall inside in 95 of 100 cases.
    generator = np.random.default_rng(0)
    drawn = generator.normal(size=(20_000, 6))
    inside = [low <= row[5] <= high for row in drawn[:4000] for low, high in [one_more(row[:5])]]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.01)
    assert (low + high) / 2 == pytest.approx(0.8)
    assert high - low == pytest.approx((mean_interval(values)[1] - mean_interval(values)[0]) * np.sqrt(6))
    assert np.isnan(one_more([0.5])).all()
    assert np.isnan(one_more([0.5, 0.5])).all()
    assert one_more([0.1, 0.9], (0, 1)) == (0, 1)
