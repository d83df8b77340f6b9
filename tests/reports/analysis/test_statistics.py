from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, cohen_kappa_score, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.inter_rater import cohens_kappa

from rnn_crosscheck.harness.worker.train import score
from rnn_crosscheck.reports.analysis.statistics import (
    Counts,
    brier,
    disagreement,
    double_fault,
    ece,
    holm,
    kappa,
    log_loss,
    mcnemar_midp,
    mean_interval,
    one_more,
    oracle,
    p_of_means,
    paired_counts,
    paired_difference,
    paired_means,
    reliability,
    roc_auc,
    welch,
    wilson,
    yules_q,
)

small = st.integers(0, 40)
values = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=2, max_size=8)
tables = arrays(bool, st.tuples(st.integers(0, 12), st.integers(1, 5)))


@st.composite
def predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draw probabilities (examples, runs), edges of bins among them, and labels of one class or two."""
    examples, runs = draw(st.integers(1, 25)), draw(st.integers(1, 3))
    on_edges = st.integers(0, 10).map(lambda tenths: tenths / 10)
    probabilities = draw(arrays(np.float64, (examples, runs), elements=st.one_of(on_edges, st.floats(0, 1))))
    return probabilities, draw(arrays(np.int8, examples, elements=st.integers(0, 1)))


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
    assert oracle(lstm_and_rnn)[0] == pytest.approx(22_852 / 25_000)
    # Of errors that came together by chance alone: 0.80996 * 0.61804 + 0.19004 * 0.38196 agree, and 14,996 did.
    chance = 0.80996 * 0.61804 + 0.19004 * 0.38196
    assert kappa(lstm_and_rnn)[0] == pytest.approx((14_996 / 25_000 - chance) / (1 - chance))
    assert yules_q(lstm_and_rnn)[0] == pytest.approx(
        (12_848 * 2_148 - 7_401 * 2_603) / (12_848 * 2_148 + 7_401 * 2_603)
    )


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
    # ad = 48, bc = 5.
    assert yules_q(table)[0] == pytest.approx(43 / 53)


def test_identical_models_give_no_evidence_of_a_difference() -> None:
    assert mcnemar_midp([0, 3], [0, 3]).tolist() == [1.0, 1.0]
    assert disagreement(counts(5, 0, 0, 5))[0] == 0
    assert kappa(counts(5, 0, 0, 5))[0] == 1
    assert yules_q(counts(5, 0, 0, 5))[0] == 1
    low, high = paired_difference(0, 0, 100)
    assert low < 0 < high


@pytest.mark.parametrize("table", [(7, 0, 0, 0), (0, 0, 0, 7)])
def test_two_constant_models_that_agree_have_kappa_and_q_of_1(table: tuple[int, int, int, int]) -> None:
    assert kappa(counts(*table))[0] == 1
    assert yules_q(counts(*table))[0] == 1


def test_kappa_of_models_that_never_agree_is_not_positive() -> None:
    assert kappa(counts(0, 4, 4, 0))[0] == -1
    assert kappa(counts(0, 4, 0, 0))[0] == 0


def test_no_examples_give_no_figures() -> None:
    empty = paired_counts(np.zeros((0, 2), bool), [0], [1])
    assert int(empty.n[0]) == 0
    for figure in (disagreement, oracle, double_fault, kappa, yules_q):
        assert np.isnan(figure(empty)).all()
    assert np.isnan(wilson(0, 0)).all()
    assert np.isnan(paired_difference(0, 0, 0)).all()
    assert mcnemar_midp(0, 0) == 1


def test_no_pairs_give_empty_tables() -> None:
    nothing = paired_counts(np.ones((3, 2), bool), [], [])
    assert [len(part) for part in nothing] == [0, 0, 0, 0]
    assert len(holm([])) == 0
    assert len(kappa(nothing)) == 0
    assert len(yules_q(nothing)) == 0


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


def test_kappa_of_predictions_and_error_consistency_are_two_figures() -> None:
    # Both models call 4 of 6 examples positive; 3 and 5 of them are right.
    labels = np.array([1, 1, 0, 0, 1, 0], bool)
    predicted = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 1, 0]], bool).T
    of_predictions = paired_counts(predicted, [0], [1])
    of_errors = paired_counts(predicted == labels[:, None], [0], [1])
    # Agreement is 4 of 6 in both; chance is 20/36 by shares of positives, 18/36 by accuracies of 3/6 and 5/6.
    assert kappa(of_predictions)[0] == pytest.approx((24 - 20) / (36 - 20))
    assert kappa(of_errors)[0] == pytest.approx((24 - 18) / (36 - 18))
    assert disagreement(of_predictions) == disagreement(of_errors)


@given(small, small, small, small)
def test_error_consistency_equals_its_definition(a: int, b: int, c: int, d: int) -> None:
    right = columns(a, b, c, d)
    if len(right) == 0:
        return
    one, two = right.mean(axis=0)
    expected = one * two + (1 - one) * (1 - two)
    observed = (right[:, 0] == right[:, 1]).mean()
    found = kappa(paired_counts(right, [0], [1]))[0]
    if (right == right[0, 0]).all():
        assert found == 1
    else:
        assert found == pytest.approx((observed - expected) / (1 - expected), abs=1e-12)


@given(small, small, small, small)
def test_q_is_the_odds_ratio_on_another_scale_and_has_the_sign_of_kappa(a: int, b: int, c: int, d: int) -> None:
    table = counts(a, b, c, d)
    found, agreement = yules_q(table)[0], kappa(table)[0]
    if a + b + c + d == 0:
        assert np.isnan(found)
        return
    if a * d > 0 < b * c:
        odds = a * d / (b * c)
        assert found == pytest.approx((odds - 1) / (odds + 1), abs=1e-12)
    assert abs(found) >= abs(agreement) - 1e-12
    assert np.sign(found) == np.sign(np.round(agreement, 12))
    assert yules_q(counts(b, a, d, c))[0] == pytest.approx(-found) or b + c == 0 or a + d == 0


@pytest.mark.parametrize("table", [(3, 4, 0, 0), (3, 0, 4, 0), (0, 4, 0, 3), (0, 0, 4, 3), (0, 4, 0, 0)])
def test_a_constant_model_says_nothing_about_another(table: tuple[int, int, int, int]) -> None:
    assert yules_q(counts(*table))[0] == 0
    assert kappa(counts(*table))[0] == pytest.approx(0)


def test_q_of_models_that_are_never_both_right_or_both_wrong_is_least() -> None:
    assert yules_q(counts(0, 4, 4, 0))[0] == -1
    assert yules_q(counts(3, 0, 1, 2))[0] == 1  # already one empty discordant cell is the most


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


@pytest.mark.parametrize("table", [(9, 0, 0, 0), (0, 0, 0, 9), (5, 0, 0, 4), (0, 9, 0, 0), (0, 0, 9, 0)])
def test_a_bootstrap_without_spread_claims_no_certainty(table: tuple[int, int, int, int]) -> None:
    assert np.isfinite(paired_difference(table[1], table[2], sum(table))).all()


@given(values)
def test_mean_interval_equals_scipy(numbers: list[float]) -> None:
    low, high = mean_interval(numbers)
    if np.ptp(numbers) <= 1e-12 * np.abs(numbers).max():
        assert np.isnan([low, high]).all()
        return
    expected = stats.ttest_1samp(numbers, 0).confidence_interval(0.95)
    assert (low, high) == (pytest.approx(expected.low, abs=1e-9), pytest.approx(expected.high, abs=1e-9))


def test_one_value_has_no_interval() -> None:
    assert np.isnan(mean_interval([0.8])).all()
    assert np.isnan(welch([0.8], [0.7, 0.6])).all()
    assert np.isnan(paired_means([0.8], [0.7])).all()


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


@settings(max_examples=12)  # statsmodels collects garbage at every call, 80 ms each
@given(st.lists(st.floats(0, 1), max_size=10))
def test_holm_equals_its_definition(p: list[float]) -> None:
    order = np.argsort(p, kind="stable")
    expected = np.zeros(len(p))
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        expected[place] = highest
    np.testing.assert_allclose(holm(p), expected, atol=1e-12)


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


def test_scores_of_probabilities_worked_by_hand() -> None:
    probabilities, labels = np.array([0.9, 0.6, 0.6, 0.2]), np.array([1, 1, 0, 0])
    assert brier(probabilities, labels) == pytest.approx((0.01 + 0.16 + 0.36 + 0.04) / 4)
    assert log_loss(probabilities, labels) == pytest.approx(-np.log(0.9 * 0.6 * 0.4 * 0.8) / 4)
    # Four pairs: three in order, one a tie.
    assert roc_auc(probabilities, labels) == pytest.approx(3.5 / 4)
    # Bins of 0.9, of both 0.6 and of 0.2: off by 0.1, 2 * 0.1 and 0.2.
    assert ece(probabilities, labels) == pytest.approx((0.1 + 0.2 + 0.2) / 4)


def test_a_sure_mistake_costs_16_nats_and_not_infinitely_many() -> None:
    assert log_loss(np.array([0.0, 1.0]), np.array([1, 0])) == pytest.approx(-np.log(1e-7))
    assert log_loss(np.array([0.0, 1.0]), np.array([0, 1])) == pytest.approx(1e-7, rel=1e-6)


@settings(max_examples=30)  # scikit-learn checks its arguments for longer than it computes
@given(predictions())
def test_scores_of_probabilities_equal_scikit_learn(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = drawn
    found = [figure(probabilities, labels) for figure in (brier, log_loss, roc_auc)]
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    for run, column in enumerate(probabilities.T):
        expected = [
            brier_score_loss(labels, column, pos_label=1),
            sklearn_log_loss(labels, clipped[:, run], labels=[0, 1]),
            roc_auc_score(labels, column) if len(set(labels)) == 2 else np.nan,
        ]
        assert [figure[run] for figure in found] == pytest.approx(expected, abs=1e-12, nan_ok=True)


@settings(max_examples=40)
@given(predictions(), st.integers(1, 12))
def test_a_run_scores_the_same_alone_and_among_others(drawn: tuple[np.ndarray, np.ndarray], bins: int) -> None:
    probabilities, labels = drawn
    together = reliability(probabilities, labels, bins)
    for run, column in enumerate(probabilities.T):
        for figure in (brier, log_loss, roc_auc):
            assert figure(probabilities, labels)[run] == pytest.approx(float(figure(column, labels)), nan_ok=True)
        assert ece(probabilities, labels, bins)[run] == pytest.approx(float(ece(column, labels, bins)))
        for whole, part in zip(together[1:], reliability(column, labels, bins)[1:], strict=True):
            np.testing.assert_allclose(whole[:, run], part)


def test_log_loss_is_what_the_workers_store() -> None:
    generator = np.random.default_rng(0)
    probabilities = np.concatenate([generator.random(500), [0, 1, 0, 1]]).astype(np.float32)
    labels = generator.integers(0, 2, 504).astype(np.int8)
    assert log_loss(probabilities, labels) == pytest.approx(score(probabilities, labels)[0], abs=1e-12)


@settings(max_examples=40)
@given(predictions(), st.integers(1, 12))
def test_reliability_equals_counting_bin_by_bin(drawn: tuple[np.ndarray, np.ndarray], bins: int) -> None:
    probabilities, labels = drawn
    column = probabilities[:, 0]
    found = reliability(column, labels, bins)
    assert found.edges.tolist() == [place / bins for place in range(bins + 1)]
    distance = 0.0
    for place in range(bins):
        last = place == bins - 1
        inside = (column >= place / bins) & ((column < (place + 1) / bins) | last)
        assert found.examples[place] == inside.sum()
        if not inside.any():
            assert np.isnan([figure[place] for figure in found[2:]]).all()
            continue
        assert found.probability[place] == pytest.approx(column[inside].mean())
        assert found.share[place] == pytest.approx(labels[inside].mean())
        assert (found.low[place], found.high[place]) == wilson(labels[inside].sum(), inside.sum())
        distance += abs(column[inside].mean() - labels[inside].mean()) * inside.sum()
    assert ece(column, labels, bins) == pytest.approx(distance / len(column), abs=1e-12)


def test_reliability_equals_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.random(2000)  # none on an edge, where scikit-learn's bins hold their upper one
    labels = (generator.random(2000) < probabilities**2).astype(int)
    share, promised = calibration_curve(labels, probabilities, n_bins=10)
    found = reliability(probabilities, labels)
    np.testing.assert_allclose(found.share, share)
    np.testing.assert_allclose(found.probability, promised)


def test_a_probability_on_an_edge_belongs_to_the_bin_above_and_1_to_the_last() -> None:
    tenths = np.arange(11) / 10
    assert reliability(tenths, np.ones(11)).examples.tolist() == [1] * 9 + [2]
    # In float32 three tenths are a little more than 0.3, and seven tenths a little less than 0.7.
    single = reliability(np.array([0.3, 0.7], np.float32), np.ones(2))
    assert np.flatnonzero(single.examples).tolist() == [3, 6]


def test_labels_of_one_class_leave_only_the_curve_undefined() -> None:
    probabilities = np.array([[0.8, 1.0], [0.6, 1.0]])
    assert np.isnan(roc_auc(probabilities, np.ones(2))).tolist() == [True, True]
    assert np.isnan(roc_auc(probabilities[:, 0], np.zeros(2)))
    assert brier(probabilities, np.ones(2)) == pytest.approx([0.1, 0])
    assert log_loss(probabilities, np.ones(2)) == pytest.approx([-np.log(0.48) / 2, 1e-7])
    assert ece(probabilities, np.ones(2)) == pytest.approx([0.3, 0])


def test_a_constant_probability_orders_nothing() -> None:
    assert roc_auc(np.full(5, 0.5), np.array([1, 0, 0, 1, 0])) == 0.5
    assert ece(np.full(4, 0.25), np.array([1, 0, 0, 0])) == 0


@pytest.mark.parametrize("shape", [(0,), (0, 3)])
def test_no_examples_give_no_scores(shape: tuple[int, ...]) -> None:
    nothing, labels = np.zeros(shape, np.float32), np.zeros(0, np.int8)
    for figure in (brier, log_loss, roc_auc, ece):
        assert figure(nothing, labels).shape == shape[1:]
        assert np.isnan(figure(nothing, labels)).all()
    found = reliability(nothing, labels)
    assert found.examples.tolist() == np.zeros((10, *shape[1:])).tolist()
    for figures in found[2:]:
        assert figures.shape == (10, *shape[1:])
        assert np.isnan(figures).all()


@pytest.mark.parametrize("figure", [brier, log_loss, roc_auc, ece, reliability])
def test_every_example_needs_its_label(figure: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match=r"one label for each of 3 examples, got labels of shape \(1,\)"):
        figure(np.array([0.1, 0.2, 0.3]), np.array([1]))
    with pytest.raises(ValueError, match="one label for each of 3 examples"):
        figure(np.zeros((3, 2)), np.zeros((3, 2)))


@given(arrays(np.float64, st.integers(2, 9), elements=st.floats(0, 1)), st.integers(0, 2**31))
def test_p_of_means_is_that_of_scipy(first: np.ndarray, seed: int) -> None:
    second = np.random.default_rng(seed).uniform(size=len(first))
    assert p_of_means(first, second, paired=False) == pytest.approx(
        stats.ttest_ind(first, second, equal_var=False).pvalue, rel=1e-6
    )
    assert p_of_means(first, second, paired=True) == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=1e-6)
    assert np.isnan(p_of_means([0.5, 0.5], [0.5, 0.5], paired=False))
    assert np.isnan(p_of_means([0.5, 0.6], [0.4, 0.5], paired=True)) == (np.ptp([0.5 - 0.4, 0.6 - 0.5]) == 0)
