from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from rnn_crosscheck.harness.parity.reference import ReferenceModel
from rnn_crosscheck.harness.protocol import ModelSpec, TrainingSpec
from rnn_crosscheck.harness.weights import initial_weights
from rnn_crosscheck.reports.analysis.excess import Estimate, Parts, between, excess, paired, within

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def said(*rows: str) -> Bools:
    """Write a row an example, a character a run: ``+`` for positive."""
    return np.array([[character == "+" for character in row] for row in rows])


# --- worked by hand -----------------------------------------------------------------------------------------

# Two runs a side; what the pairs do on each of the four examples:
A = said("++", "+-", "++", "--")
B = said("--", "+-", "+-", "--")
# a1 b1, a1 b2, a2 b1, a2 b2 differ on example 1 all, 2 the two in the middle, 3 the second and the last, 4 none.
# a1 and a2 differ on example 2 alone; b1 and b2 on examples 2 and 3.


def test_disagreement_between_two_groups_worked_by_hand() -> None:
    assert between(A, B, seeds_shared=False) == (4 + 2 + 2 + 0) / 16
    assert between(A, B, seeds_shared=True) == (2 + 2 + 1 + 0) / 8  # a1 b2 and a2 b1 only


def test_disagreement_within_a_group_worked_by_hand() -> None:
    assert within(A).estimate().value == 1 / 4
    assert within(B).estimate().value == 2 / 4
    three = said("+--", "+++", "++-")  # 2, 0 and 2 of the 3 pairs differ
    assert within(three).values.tolist() == pytest.approx([2 / 3, 0, 2 / 3])
    assert within(three).estimate().value == pytest.approx(4 / 9)


def test_disagreement_of_pairs_worked_by_hand() -> None:
    parts = paired(A, B)
    assert parts.values.tolist() == [1, 0, 0.5, 0]
    assert parts.estimate().value == 3 / 8
    assert parts.influences[0].tolist() == [[0, 0], [0, 0], [-0.5, 0.5], [0, 0]]


def test_excess_worked_by_hand() -> None:
    apart = excess(A, B, seeds_shared=False)
    assert apart.values.tolist() == [1, 0.5 - 1, 0.5 - 0.5, 0]
    assert apart.estimate().value == 8 / 16 - (1 / 4 + 2 / 4) / 2
    shared = excess(A, B, seeds_shared=True)
    assert shared.values.tolist() == [1, 1 - 1, 0.5 - 0.5, 0]
    assert shared.estimate().value == 5 / 8 - (1 / 4 + 2 / 4) / 2


def test_influences_worked_by_hand() -> None:
    # Example 2: each run of A disagrees with one of B's two, as they do on average; likewise each of B.
    # Example 3: a1 and a2 disagree with one of B's each; b1 with none of A's, b2 with both.
    of_a, of_b = excess(A, B, seeds_shared=False).influences
    assert of_a.tolist() == [[0, 0]] * 4
    assert of_b.tolist() == [[0, 0], [0, 0], [-0.5, 0.5], [0, 0]]


def test_an_interval_worked_by_hand() -> None:
    # Four examples, three pairs of runs.
    differ = np.array([[1, 1, 1], [1, 0, 0], [1, 0, 0], [0, 0, 0]])
    parts = paired(differ == 1, np.zeros((4, 3), bool))
    of_examples = np.var([1, 1 / 3, 1 / 3, 0], ddof=1) / 4
    # Means of the runs: 3/4, 1/4, 1/4, so 1/3, -1/6 and -1/6 from their own mean. Single runs on single examples:
    # 0, 2/3, 2/3, 0 of the first, and 0, -1/3, -1/3, 0 of the two others.
    of_runs = 1 / 9 + 2 / 36
    of_both = (np.var([0, 2 / 3, 2 / 3, 0], ddof=1) + 2 * np.var([0, 1 / 3, 1 / 3, 0], ddof=1)) / 4
    variance = (of_runs - of_both) / (3 * 2)
    assert variance > 0
    total = of_examples + variance
    half = stats.t.ppf(0.975, total**2 / (variance**2 / 2)) * np.sqrt(total)
    assert parts.estimate() == pytest.approx((5 / 12, 5 / 12 - half, 5 / 12 + half))
    assert parts.estimate((0.0, 1.0)).low == 0.0  # it is below, as it stands


def test_groups_of_different_sizes() -> None:
    parts = excess(A, said("---", "+--", "++-", "---"), seeds_shared=False)
    assert parts.estimate().value == pytest.approx((1 + 1 / 2 + 1 / 3 + 0) / 4 - (1 / 4 + (2 / 3 + 2 / 3) / 4) / 2)
    with pytest.raises(ValueError, match="come in pairs, got 2 and 3 of them"):
        excess(A, said("---", "+--", "++-", "---"), seeds_shared=True)


# --- degenerate ---------------------------------------------------------------------------------------------


def without_an_interval(found: Estimate, value: float) -> None:
    np.testing.assert_allclose(found, (value, np.nan, np.nan), atol=1e-15)


def test_nothing_is_known_without_examples() -> None:
    none = np.zeros((0, 3), bool)
    for parts in (paired(none, none), within(none), excess(none, none, seeds_shared=False)):
        without_an_interval(parts.estimate(), np.nan)
    without_an_interval(within(said("+-+", "---")).at(np.array([False, False])).estimate(), np.nan)


def test_one_example_has_no_interval() -> None:
    without_an_interval(within(said("++-")).estimate(), 2 / 3)


def test_one_pair_of_runs_has_no_interval() -> None:
    column, other = said("+", "-", "-"), said("+", "+", "-")
    without_an_interval(paired(column, other).estimate(), 1 / 3)
    without_an_interval(within(np.hstack([column, other])).estimate(), 1 / 3)  # two runs of a kind are one pair


@pytest.mark.parametrize("seeds_shared", [False, True])
def test_two_seeds_a_side_have_no_interval(seeds_shared: bool) -> None:
    parts, rows = excess(A, B, seeds_shared=seeds_shared), np.array([True, True, False, True])
    without_an_interval(parts.estimate(), 1 / 4 if seeds_shared else 1 / 8)
    without_an_interval(parts.at(rows).estimate(), 1 / 3 if seeds_shared else 1 / 6)
    third = said("+", "+", "-", "-")
    three = excess(np.hstack([A, third]), np.hstack([B, ~third]), seeds_shared=seeds_shared)
    assert np.isfinite(three.estimate()).all()
    assert np.isfinite(three.at(rows).estimate()).all()


def test_values_without_any_spread_have_no_interval() -> None:
    always = np.ones((5, 3), bool)
    without_an_interval(within(always).estimate(), 0.0)
    without_an_interval(paired(always, ~always).estimate(), 1.0)
    without_an_interval(excess(always, ~always, seeds_shared=False).estimate(), 1.0)


@pytest.mark.parametrize("seeds_shared", [False, True])
def test_rounding_is_no_spread(seeds_shared: bool) -> None:
    # On one example of 14 one run of A is alone. It disagrees with B as with its own kind, so the excess is 0 on every
    # example; and what it moves, on that example alone, is what single runs on single examples make.
    alone = np.zeros((14, 3), bool)
    alone[4, 0] = True
    without_an_interval(excess(alone, np.zeros((14, 3), bool), seeds_shared=seeds_shared).estimate(), 0)
    same = np.repeat(said("+--"), 7, axis=0)
    without_an_interval(excess(same, same, seeds_shared=True).estimate(), 0)


# --- for every table ----------------------------------------------------------------------------------------


few = settings(max_examples=25, deadline=None)


@st.composite
def groups(draw: st.DrawFn, same_size: bool = False) -> tuple[Bools, Bools]:
    examples, k = draw(st.integers(1, 8)), draw(st.integers(2, 5))
    m = k if same_size else draw(st.integers(2, 5))
    return draw(arrays(bool, (examples, k))), draw(arrays(bool, (examples, m)))


def brute(a: Bools, b: Bools, *, seeds_shared: bool) -> tuple[float, float, float]:
    """D(A, B), D(A, A') and D(B, B') as means over pairs, one by one."""

    def differ(x: Bools, y: Bools) -> float:
        return float(np.mean(x != y))

    across = [
        differ(a[:, i], b[:, j])
        for i, j in product(range(a.shape[1]), range(b.shape[1]))
        if not (seeds_shared and i == j)
    ]
    own = [np.mean([differ(x, y) for x, y in combinations(side.T, 2)]) for side in (a, b)]
    return float(np.mean(across)), float(own[0]), float(own[1])


@few
@given(groups())
def test_figures_are_means_over_pairs(found: tuple[Bools, Bools]) -> None:
    a, b = found
    across, own_a, own_b = brute(a, b, seeds_shared=False)
    assert between(a, b, seeds_shared=False) == pytest.approx(across)
    assert within(a).estimate().value == pytest.approx(own_a)
    assert excess(a, b, seeds_shared=False).estimate().value == pytest.approx(across - (own_a + own_b) / 2)


@few
@given(groups(same_size=True))
def test_pairs_of_one_seed_are_left_out_where_seeds_are_shared(found: tuple[Bools, Bools]) -> None:
    a, b = found
    across, own_a, own_b = brute(a, b, seeds_shared=True)
    assert between(a, b, seeds_shared=True) == pytest.approx(across)
    assert excess(a, b, seeds_shared=True).estimate().value == pytest.approx(across - (own_a + own_b) / 2)
    assert paired(a, b).estimate().value == pytest.approx(np.mean(a != b))


def every_kind(a: Bools, b: Bools) -> list[Parts]:
    k = min(a.shape[1], b.shape[1])
    return [
        within(a),
        paired(a[:, :k], b[:, :k]),
        excess(a, b, seeds_shared=False),
        excess(a[:, :k], b[:, :k], seeds_shared=True),
    ]


@few
@given(groups())
def test_influences_of_a_group_cancel_on_every_example(found: tuple[Bools, Bools]) -> None:
    for parts in every_kind(*found):
        for part in parts.influences:
            np.testing.assert_allclose(part.sum(axis=1), 0, atol=1e-12)


@few
@given(groups())
def test_an_influence_is_what_leaving_a_run_out_changes(found: tuple[Bools, Bools]) -> None:
    a, k = found[0], found[0].shape[1]
    assume(k > 2)
    other = np.repeat(found[1][:, :1], k, axis=1)
    pairs, own = paired(a, other), within(a)
    for run in range(k):
        rest = np.delete(a, run, axis=1)
        of_pairs = pairs.values - paired(rest, other[:, 1:]).values
        np.testing.assert_allclose(of_pairs, pairs.influences[0][:, run] / (k - 1), atol=1e-12)
        # Each of its pairs leaves with it, so a run weighs more among fewer.
        of_own = own.values - within(rest).values
        np.testing.assert_allclose(of_own, own.influences[0][:, run] / (k - 2), atol=1e-12)


@few
@given(groups(same_size=True))
def test_an_influence_on_the_excess_is_how_a_run_differs_from_its_group(found: tuple[Bools, Bools]) -> None:
    def moved(a: Bools, b: Bools, run: int, seeds_shared: bool) -> Floats:
        others = np.delete(b, run, axis=1) if seeds_shared else b
        own = np.delete(a, run, axis=1)
        return np.asarray((a[:, [run]] != others).mean(axis=1) - (a[:, [run]] != own).mean(axis=1))

    a, b = found
    runs = range(a.shape[1])
    for seeds_shared in (False, True):
        of_a = np.stack([moved(a, b, run, seeds_shared) for run in runs], axis=1)
        of_b = np.stack([moved(b, a, run, seeds_shared) for run in runs], axis=1)
        expected = [of_a + of_b] if seeds_shared else [of_a, of_b]
        for part, whole in zip(excess(a, b, seeds_shared=seeds_shared).influences, expected, strict=True):
            np.testing.assert_allclose(part, whole - whole.mean(axis=1)[:, None], atol=1e-12)


@few
@given(groups(same_size=True), st.booleans())
def test_neither_side_comes_first(found: tuple[Bools, Bools], seeds_shared: bool) -> None:
    a, b = found
    one, other = (excess(*sides, seeds_shared=seeds_shared).estimate() for sides in ((a, b), (b, a)))
    np.testing.assert_allclose(one, other, atol=1e-9)
    assert between(a, b, seeds_shared=seeds_shared) == pytest.approx(between(b, a, seeds_shared=seeds_shared))
    np.testing.assert_allclose(paired(a, b).estimate(), paired(b, a).estimate(), atol=1e-12)


@few
@given(groups())
def test_turning_every_prediction_round_changes_nothing(found: tuple[Bools, Bools]) -> None:
    a, b = found
    for one, other in zip(every_kind(a, b), every_kind(~a, ~b), strict=True):
        np.testing.assert_allclose(one.estimate(), other.estimate(), atol=1e-9)


@few
@given(arrays(bool, st.tuples(st.integers(1, 8), st.integers(2, 5))))
def test_identical_runs_have_no_excess_where_they_are_paired(a: Bools) -> None:
    # Pairs of a seed with itself left out, A and B disagree exactly as A does with itself.
    assert excess(a, a, seeds_shared=True).estimate().value == pytest.approx(0, abs=1e-12)
    assert paired(a, a).estimate().value == 0
    # With these pairs in, less.
    alike = excess(a, a, seeds_shared=False).estimate().value
    assert alike == pytest.approx(-within(a).estimate().value / a.shape[1])


@few
@given(groups())
def test_all_rows_are_the_whole(found: tuple[Bools, Bools]) -> None:
    for parts in every_kind(*found):
        all_rows = parts.at(np.ones(len(parts.values), bool))
        np.testing.assert_array_equal(all_rows.values, parts.values)
        np.testing.assert_equal(tuple(all_rows.estimate()), tuple(parts.estimate()))


@few
@given(groups(), st.data())
def test_some_rows_are_what_their_own_table_gives(found: tuple[Bools, Bools], data: st.DataObject) -> None:
    a, b = found
    rows = data.draw(arrays(bool, len(a)))
    assume(rows.any())
    for parts, own in zip(every_kind(a, b), every_kind(a[rows], b[rows]), strict=True):
        np.testing.assert_equal(tuple(parts.at(rows).estimate()), tuple(own.estimate()))


@few
@given(groups())
def test_intervals_hold_their_value_and_stay_in_their_bounds(found: tuple[Bools, Bools]) -> None:
    for parts in every_kind(*found)[:2]:
        inside(parts.estimate((0.0, 1.0)), 0.0)
    for parts in every_kind(*found)[2:]:
        inside(parts.estimate(), -1.0)


def inside(found: Estimate, least: float) -> None:
    assert least - 1e-12 <= found.value <= 1 + 1e-12
    assert np.isnan(found.low) == np.isnan(found.high)
    if not np.isnan(found.low):
        assert least <= found.low <= found.value <= found.high <= 1


# --- on runs whose truth is known ---------------------------------------------------------------------------

#: standard deviation of what the examples are like, in units of one run's own noise
EXAMPLES_SPREAD = 1.5


def simulated(latent: Floats, k: int, generator: np.random.Generator, of_seeds: Floats) -> Bools:
    """Simulate k runs that say positive where example, seed and the run's own noise are above 0 together."""
    return np.asarray(latent[:, None] + of_seeds + generator.normal(size=(len(latent), k)) > 0)


def known_excess(apart: float, of_seeds: float) -> float:
    """Mean of (p_A - p_B)**2 over examples, in closed form.

    With examples t ~ N(0, 1.5²) and B's own d ~ N(0, apart²), p_A is Phi(t / s) and p_B is Phi((t + d) / s), s² = 1 +
    of_seeds². The mean of a product of two Phi is the probability that two correlated normal values are both above 0:
    1/4 + arcsin(correlation) / (2 pi) (Sheppard, 1899, https://doi.org/10.1098/rsta.1899.0003).
    """
    noise = 1 + of_seeds**2
    of_a, of_b = EXAMPLES_SPREAD**2, EXAMPLES_SPREAD**2 + apart**2
    # t is all that the two have in common, so their covariance is its variance.
    same_a, same_b = np.arcsin(of_a / (noise + of_a)), np.arcsin(of_b / (noise + of_b))
    across = np.arcsin(of_a / np.sqrt((noise + of_a) * (noise + of_b)))
    return float(same_a + same_b - 2 * across) / (2 * np.pi)


def test_the_known_excess_is_what_drawing_gives() -> None:
    generator = np.random.default_rng(0)
    t, d = generator.normal(0, EXAMPLES_SPREAD, 10**6), generator.normal(0, 0.7, 10**6)
    s = np.sqrt(1 + 0.3**2)
    drawn = np.square(stats.norm.cdf(t / s) - stats.norm.cdf((t + d) / s))
    assert known_excess(0.7, 0.3) == pytest.approx(drawn.mean(), abs=5 * drawn.std() / 1000)
    assert known_excess(0.0, 0.3) == pytest.approx(0, abs=1e-15)


def coverage(k: int, examples: int, seeds_shared: bool, seed: int, times: int = 500) -> float:
    """Share of simulated comparisons whose interval holds the known excess."""
    generator = np.random.default_rng(seed)
    known, hits = known_excess(0.7, 0.3), 0
    for _ in range(times):
        t, d = generator.normal(0, EXAMPLES_SPREAD, examples), generator.normal(0, 0.7, examples)
        seeds_a, seeds_b = generator.normal(0, 0.3, (2, k))
        a = simulated(t, k, generator, seeds_a)
        b = simulated(t + d, k, generator, seeds_a if seeds_shared else seeds_b)
        found = excess(a, b, seeds_shared=seeds_shared).estimate()
        hits += found.low <= known <= found.high
    return hits / times


@pytest.mark.slow
@pytest.mark.parametrize(
    ("k", "examples", "seeds_shared"),
    [
        pytest.param(5, 2000, False, id="5 seeds a side"),
        pytest.param(5, 2000, True, id="5 shared seeds"),
        pytest.param(10, 500, False, id="10 seeds a side, few examples"),
    ],
)
def test_intervals_hold_a_known_excess_as_often_as_they_say(k: int, examples: int, seeds_shared: bool) -> None:
    assert 0.93 <= coverage(k, examples, seeds_shared, seed=0) <= 0.97


def halvings(runs: Bools) -> list[Estimate]:
    """Hold each half of an even number of runs against the other: all ways to halve them."""
    first, *others = range(runs.shape[1])
    found = []
    for half in combinations(others, runs.shape[1] // 2 - 1):
        chosen = [first, *half]
        rest = np.delete(runs, chosen, axis=1)
        found.append(excess(runs[:, chosen], rest, seeds_shared=False).estimate())
    return found


def hold_zero(found: list[Estimate]) -> float:
    """Share of intervals that 0 is in; where there is none, nothing was found."""
    return float(np.mean([not (one.low > 0 or one.high < 0) for one in found]))


@pytest.mark.slow
@pytest.mark.parametrize("of_seeds", [0.0, 0.3, 1.0])
def test_halves_of_one_recipe_have_no_excess(of_seeds: float) -> None:
    generator = np.random.default_rng(0)
    found: list[Estimate] = []
    for _ in range(40):
        latent = generator.normal(0, EXAMPLES_SPREAD, 1000)
        runs = simulated(latent, 8, generator, generator.normal(0, of_seeds, 8))
        found += halvings(runs)
    assert len(found) == 40 * 35
    assert hold_zero(found) >= 0.90


# --- on runs that were trained ------------------------------------------------------------------------------

SIZES = {"vocabulary": 30, "length": 10, "units": 4, "embedding": 4}
MODELS = (
    ModelSpec(name="tanh", cell="rnn", activation="tanh", **SIZES),
    ModelSpec(name="relu", cell="rnn", activation="relu", **SIZES),
    ModelSpec(name="lstm", cell="lstm", **SIZES),
)


def noisy_reviews(seed: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Make up examples of which each token speaks for one label or the other, some loudly, and chance has a say."""
    generator = np.random.default_rng(seed)
    speaks = generator.normal(size=SIZES["vocabulary"])
    tokens = generator.integers(4, SIZES["vocabulary"], (512 + 600, SIZES["length"])).astype(np.int32)
    logits = speaks[tokens].sum(axis=1) + generator.logistic(size=len(tokens))
    return tokens, (logits > 0).astype(np.float32)


def trained(spec: ModelSpec, seed: int, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Bools:
    """Train on the first 512 examples, and say what the model predicts for the rest."""
    model = ReferenceModel(spec, TrainingSpec(learning_rate=0.02), initial_weights(spec, seed))
    generator = np.random.default_rng(seed)
    for _ in range(12):
        for rows in np.split(generator.permutation(512), 16):
            model.step64(tokens[rows], labels[rows])
    return np.asarray(model.logits64(tokens[512:]) >= 0)


@pytest.mark.long
def test_halves_of_trained_seeds_have_no_excess() -> None:
    found: list[Estimate] = []
    for spec, number in product(MODELS, range(2)):
        tokens, labels = noisy_reviews(number)
        runs = np.stack([trained(spec, seed, tokens, labels) for seed in range(8)], axis=1)
        right = (runs == (labels[512:] == 1)[:, None]).mean(axis=0)
        assert right.mean() > 0.6  # they have learnt something,
        assert within(runs).estimate().value > 0.03  # and not the same
        found += halvings(runs)
    assert hold_zero(found) >= 0.90
