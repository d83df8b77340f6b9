from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.results import TimingRecord, TimingResults
from reports.load import Comparison
from reports.timing import again, ratios, training_times

ROUNDS = tuple(int(1e6 * x) for x in (20, 22, 30, 19, 21, 40, 20, 22))


def record(backend: str, factor: float, **changes: object) -> TimingRecord:
    known = {
        "backend": backend,
        "model": "rnn",
        "operation": "train_step",
        "examples": 32,
        "rounds_ns": tuple(int(factor * each) for each in ROUNDS),
        "first_call_ns": int(1e9),
        "baseline": backend == "keras-tensorflow",
        "stopped": "target",
        "threads": 1,
        "peak_memory_bytes": 1,
    }
    return TimingRecord.model_validate(known | changes)


def timed(comparison: Comparison, *records: TimingRecord) -> Comparison:
    return replace(comparison, timings=TimingResults(records=records))


def test_the_ratio_is_taken_round_by_round(comparison: Comparison) -> None:
    table = ratios(timed(comparison, record("keras-tensorflow", 1), record("pytorch", 2)))
    base, other = table.iloc[0], table.iloc[1]
    assert (base["ratio"], base["low"], base["high"]) == (1, 1, 1)
    assert other[["ratio", "low", "high"]].tolist() == pytest.approx([2, 2, 2], rel=1e-6)  # rounds drift, the ratio not
    assert other["ms"] == pytest.approx(2 * base["ms"])
    assert base["examples_per_s"] == pytest.approx(32 / base["ms"] * 1e3)


def test_other_numbers_of_rounds_give_no_ratio(comparison: Comparison) -> None:
    short = record("pytorch", 2, rounds_ns=ROUNDS[:-1])
    table = ratios(timed(comparison, record("keras-tensorflow", 1), short))
    assert np.isnan(table.iloc[1][["ratio", "low", "high"]].astype(float)).all()
    assert not table.iloc[1]["clear"]
    assert table.iloc[1]["ms"] > 0


def test_without_the_baseline_there_is_no_ratio(comparison: Comparison) -> None:
    table = ratios(timed(comparison, record("pytorch", 2)))
    assert np.isnan(table["ratio"].iloc[0])


def test_a_ratio_inside_the_noise_is_not_clear(comparison: Comparison) -> None:
    noisy = tuple(int(each * x) for each, x in zip(ROUNDS, (1.2, 0.9, 1.3, 1.1, 1.2, 0.9, 1.3, 1.1), strict=True))
    base = record("keras-tensorflow", 1, again_ns=noisy)
    table = ratios(timed(comparison, base, record("pytorch", 1.05)))
    assert table.iloc[1]["low"] > 1
    assert not table.iloc[1]["clear"]
    band = again(timed(comparison, base)).iloc[0]
    assert band["band_low"] < 1 / 1.05 < 1.05 < band["band_high"]
    quiet = record("keras-tensorflow", 1, again_ns=ROUNDS)
    assert ratios(timed(comparison, quiet, record("pytorch", 1.05))).iloc[1]["clear"]


def test_a_tuned_setting_is_compared_with_the_default_baseline(comparison: Comparison) -> None:
    tuned = record("keras-tensorflow", 0.5, setting="tuned", baseline=False)
    table = ratios(timed(comparison, record("keras-tensorflow", 1), tuned))
    assert table.iloc[1]["ratio"] == pytest.approx(0.5, rel=1e-6)
    assert table.iloc[1]["setting"] == "tuned"


def test_real_runs_give_epoch_times_and_the_highest_peak(comparison: Comparison) -> None:
    table = training_times(comparison).set_index(["division", "model", "backend"])
    row = table.loc[("native", "rnn", "pytorch")]
    assert row["epoch_s"] == pytest.approx(3.025)
    assert (row["runs"], row["jobs"], row["peak_bytes"]) == (2, 2, 350e6)
    assert table.loc[("matched", "rnn", "pytorch"), "runs"] == 1
