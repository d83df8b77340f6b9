from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rnn_crosscheck.reports.analysis.accuracy import differences, run_table, summary
from rnn_crosscheck.reports.analysis.statistics import paired_difference
from rnn_crosscheck.reports.read.comparison import Comparison, load
from tests.reports.folders import labels, probabilities, write_comparison


def accuracy_of(division: str, backend: str, model: str, seed: int) -> float:
    return float(np.mean((probabilities(division, backend, model, seed) >= 0.5) == (labels() == 1)))


def test_a_run_has_its_accuracy_and_a_lost_one_its_reason(comparison: Comparison) -> None:
    runs = run_table(comparison)
    good = runs.loc["native-pytorch-lstm-seed1"]
    assert good["accuracy"] == pytest.approx(accuracy_of("native", "pytorch", "lstm", 1))
    assert good["low"] < good["accuracy"] < good["high"]
    lost = runs.loc["matched-pytorch-rnn-seed1"]
    assert (lost["status"], lost["reason"], lost["signal"]) == ("failed", "The worker was killed.", "SIGKILL")
    assert np.isnan(lost[["accuracy", "low", "high", "loss"]].astype(float)).all()


def test_summaries_are_over_seeds(comparison: Comparison) -> None:
    table = summary(run_table(comparison)).set_index(["division", "model", "backend"])
    row = table.loc[("native", "lstm", "pytorch")]
    both = [accuracy_of("native", "pytorch", "lstm", seed) for seed in (0, 1)]
    assert row["mean"] == pytest.approx(np.mean(both))
    assert row["sd"] == pytest.approx(np.std(both, ddof=1))
    assert row["mean"] - row["low"] == pytest.approx(stats.t.ppf(0.975, 1) * np.std(both, ddof=1) / np.sqrt(2))
    assert row["high"] == 1  # cut at what is possible
    single = table.loc[("matched", "rnn", "pytorch")]
    assert single["seeds"] == 1
    assert np.isnan(single[["sd", "low", "high"]].astype(float)).all()


def test_native_seeds_are_no_pairs_and_matched_ones_are(comparison: Comparison) -> None:
    table = differences(comparison, run_table(comparison), "backend").set_index(["division", "model"])
    native = table.loc[("native", "lstm")]
    assert (native["a"], native["b"], native["over"]) == ("keras-tensorflow", "pytorch", "seeds")
    sides = [[accuracy_of("native", name, "lstm", seed) for seed in (0, 1)] for name in (native["a"], native["b"])]
    expected = stats.ttest_ind(*sides, equal_var=False).confidence_interval(0.95)
    assert native[["low", "high"]].tolist() == pytest.approx([expected.low, expected.high])
    assert table.loc[("matched", "lstm"), "over"] == "seeds, paired"


def test_models_are_never_paired(comparison: Comparison) -> None:
    table = differences(comparison, run_table(comparison), "model")
    assert set(table["over"]) == {"seeds", "examples"}
    assert table["difference"].notna().all()


def test_a_single_seed_gives_an_interval_over_examples_that_decides_nothing(comparison: Comparison) -> None:
    table = differences(comparison, run_table(comparison), "backend").set_index(["division", "model"])
    row = table.loc[("matched", "rnn")]  # one of the two runs on one side was killed
    assert (row["seeds_a"], row["seeds_b"], row["over"]) == (1, 1, "examples")
    a, b = (probabilities("matched", name, "rnn", 0) >= 0.5 for name in ("keras-tensorflow", "pytorch"))
    right_a, right_b = a == (labels() == 1), b == (labels() == 1)
    low, high = paired_difference((right_a & ~right_b).sum(), (~right_a & right_b).sum(), 60)
    assert row[["low", "high"]].tolist() == pytest.approx([float(low), float(high)])


def test_seeds_that_differ_between_backends_are_compared_all_the_same(tmp_path: Path) -> None:
    lost = ["matched-pytorch-lstm-seed0", "matched-keras-tensorflow-lstm-seed1"]
    folder = write_comparison(tmp_path, missing=lost, models=("lstm",), seeds={"matched": (0, 1)})
    comparison = load(folder)
    row = differences(comparison, run_table(comparison), "backend").iloc[0]
    expected = accuracy_of("matched", "keras-tensorflow", "lstm", 0) - accuracy_of("matched", "pytorch", "lstm", 1)
    assert row["difference"] == pytest.approx(expected)
    assert row["over"] == "examples"
