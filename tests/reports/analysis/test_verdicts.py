from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_crosscheck.harness.protocol import MarginSpec
from rnn_crosscheck.reports.analysis.findings import find
from rnn_crosscheck.reports.analysis.statistics import (
    UNDECIDED,
    UNKNOWN,
    mean_interval,
    p_of_means,
    paired_means,
    values_needed,
    welch,
)
from rnn_crosscheck.reports.analysis.verdicts import BETTER, SAME, of_accuracy, word
from rnn_crosscheck.reports.read.comparison import load
from tests.reports.folders import write_comparison

NAN = float("nan")


@pytest.mark.parametrize(
    ("low", "high", "p", "said"),
    [
        (0.012, 0.03, 0.001, BETTER),
        (0.002, 0.03, 0.001, BETTER),  # excludes 0 and reaches beyond the margin
        (0.002, 0.008, 0.001, SAME),  # excludes 0, and nobody would act on it
        (-0.004, 0.009, 0.4, SAME),
        (-0.004, 0.011, 0.4, UNDECIDED),
        (0.002, 0.03, 0.06, UNDECIDED),  # not after Holm's correction
        (NAN, NAN, NAN, UNKNOWN),
    ],
)
def test_the_word_of_an_interval(low: float, high: float, p: float, said: str) -> None:
    assert word(low, high, p, (-0.01, 0.01)) == said


@given(st.floats(-0.2, 0.2), st.floats(0, 0.2), st.floats(0, 1))
def test_a_word_never_says_more_than_its_interval(low: float, width: float, p: float) -> None:
    high = low + width
    said = word(low, high, p, (-0.01, 0.01))
    if said == SAME:
        assert max(abs(low), abs(high)) <= 0.01
    if said == BETTER:
        assert low > 0 or high < 0
        assert p < 0.0501


def table(*values: list[float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give the tables that a verdict is made of: accuracies of each backend, in points, native lstm."""
    from rnn_crosscheck.reports.analysis.accuracy import summary

    runs = pd.DataFrame(
        [
            {"division": "native", "model": "lstm", "backend": f"b{place}", "accuracy": value / 100, "status": "ok",
             "loss": 0.0}
            for place, mine in enumerate(values)
            for value in mine
        ]
    )  # fmt: skip
    rows = []
    for a in range(len(values)):
        for b in range(a + 1, len(values)):
            one, two = np.array(values[a]) / 100, np.array(values[b]) / 100
            low, high = welch(one, two)
            rows.append({"division": "native", "model": "lstm", "a": f"b{a}", "b": f"b{b}", "seeds_a": len(one),
                         "seeds_b": len(two), "difference": one.mean() - two.mean(), "low": low, "high": high,
                         "over": "seeds", "p": p_of_means(one, two, paired=False),
                         "spread": ((one.var(ddof=1) + two.var(ddof=1)) / 2) ** 0.5})  # fmt: skip
    return pd.DataFrame(rows), summary(runs)


def test_the_best_is_held_against_the_second_whichever_comes_first() -> None:
    (row,) = of_accuracy(*table([70.0, 71.0], [80.0, 81.0], [85.0, 85.1]), MarginSpec()).to_dict("records")
    assert (row["best"], row["second"], row["pairs"]) == ("b2", "b1", 3)
    assert row["value"] == pytest.approx(0.0455)
    low, high = welch(np.array([0.85, 0.851]), np.array([0.80, 0.81]))
    assert (row["low"], row["high"]) == pytest.approx((low, high))


def test_what_is_undecided_says_how_many_seeds_would_do() -> None:
    (row,) = of_accuracy(*table([80.0, 84.0, 82.0], [80.5, 82.5, 78.5]), MarginSpec()).to_dict("records")
    assert row["verdict"] == UNDECIDED
    spread = ((np.var([80, 84, 82], ddof=1) + np.var([80.5, 82.5, 78.5], ddof=1)) / 2) ** 0.5
    assert row["needed"] == values_needed(1.5, spread, paired=False) > 3
    (sure,) = of_accuracy(*table([80.0, 80.2, 80.1], [90.0, 90.1, 90.2]), MarginSpec()).to_dict("records")
    assert (sure["verdict"], sure["best"]) == (BETTER, "b1")
    assert np.isnan(sure["needed"])
    (same,) = of_accuracy(*table([80.0, 80.2, 80.1], [80.1, 80.2, 80.3]), MarginSpec()).to_dict("records")
    assert same["verdict"] == SAME


@pytest.mark.parametrize("paired", [False, True])
def test_so_many_values_decide_four_times_in_five(paired: bool) -> None:
    needed = int(values_needed(1.0, 1.0, paired=paired))
    generator = np.random.default_rng(0)
    sides = generator.normal(0, 1 if not paired else 0.5**0.5, (2, 2000, needed))
    sides[0] += 1.0
    intervals = [welch(a, b, (-np.inf, np.inf)) if not paired else _paired(a - b) for a, b in zip(*sides, strict=True)]
    assert np.mean([low > 0 for low, _ in intervals]) == pytest.approx(0.82, abs=0.05)


def _paired(values: np.ndarray) -> tuple[float, float]:

    return mean_interval(values)


def test_times_are_judged_between_the_two_fastest_whatever_the_baseline(tmp_path: Path) -> None:
    comparison = load(write_comparison(tmp_path, backends=("a", "b", "c", "d"), seeds={"native": (0,)}))
    rows = find(comparison).verdicts
    speed = rows[rows["question"] == "speed"].set_index("model")
    # In times of a: b 0.71, c 1.3, d 0.9.
    assert speed[["best", "second", "verdict", "pairs"]].to_numpy().tolist() == [["b", "d", BETTER, 6]] * 2
    assert speed["value"].tolist() == pytest.approx([0.71 / 0.9] * 2, rel=0.03)
    assert (speed["high"] < 1 / 1.05).all()


def test_equal_gaps_are_no_certainty_however_floats_round_them() -> None:
    for first, second in (([0.745, 0.705], [0.7, 0.66]), ([0.745, 0.705, 0.805], [0.74, 0.7, 0.8])):
        assert np.isnan(paired_means(first, second)).all()
        assert np.isnan(p_of_means(first, second, paired=True))
    assert np.isnan(welch([0.7] * 3, [0.5] * 3)).all()


@pytest.mark.parametrize("paired", [False, True])
@given(size=st.floats(0.05, 50))
def test_the_number_of_values_is_always_found(size: float, paired: bool) -> None:
    assert 2 <= values_needed(size, 1.0, paired=paired) < 10_000


def test_the_better_one_is_that_of_the_runs_that_are_compared() -> None:
    # By all its means a is ahead; of the seeds that both have, b is.
    between = pd.DataFrame([{"division": "matched", "model": "lstm", "a": "a", "b": "b", "seeds_a": 3, "seeds_b": 3,
                             "difference": -0.03, "low": -0.031, "high": -0.029, "over": "seeds, paired", "p": 1e-4,
                             "spread": 0.001}])  # fmt: skip
    means = pd.DataFrame({"division": "matched", "model": "lstm", "backend": ["a", "b"], "mean": [0.85, 0.84]})
    (row,) = of_accuracy(between, means, MarginSpec()).to_dict("records")
    assert (row["verdict"], row["best"], row["value"], row["low"]) == (BETTER, "b", 0.03, 0.029)
