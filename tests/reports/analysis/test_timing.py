from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from rnn_crosscheck.harness.results import ParityRecord, StageRecord, TimingRecord, TimingResults
from rnn_crosscheck.reports.analysis.timing import again, drift, ratios, single_examples, sweep, training_times, tuned
from rnn_crosscheck.reports.pages import runs, speed
from rnn_crosscheck.reports.read.comparison import Comparison
from tests.reports.rendering import all_pages, page, tables_of

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
    quicker = record("keras-tensorflow", 0.5, setting="tuned", baseline=False)
    table = ratios(timed(comparison, record("keras-tensorflow", 1), quicker))
    assert table.iloc[1]["ratio"] == pytest.approx(0.5, rel=1e-6)
    assert table.iloc[1]["setting"] == "tuned"


def test_real_runs_give_epoch_times_and_the_highest_peak(comparison: Comparison) -> None:
    table = training_times(comparison).set_index(["division", "model", "backend"])
    row = table.loc[("native", "rnn", "pytorch")]
    assert row["epoch_s"] == pytest.approx(3.025)  # without its first step
    assert (row["runs"], row["jobs"], row["peak_bytes"]) == (2, 2, 350e6)
    assert table.loc[("matched", "rnn", "pytorch"), "runs"] == 1
    assert table["memory_kept"].all()

    run_id = next(id for id in comparison.ok.index if "native-pytorch-rnn" in id)
    result = comparison.results[run_id].model_copy(update={"environment": {}})
    older = replace(comparison, results={**comparison.results, run_id: result})
    kept = training_times(older).set_index(["division", "model", "backend"])["memory_kept"]
    assert list(kept.index[~kept]) == [("native", "rnn", "pytorch")]


def test_what_a_first_call_took_above_a_later_one_is_tracing(comparison: Comparison) -> None:
    traced = record("pytorch", 1, build_ns=int(2e8), first_call_ns=int(9e8))
    row = ratios(timed(comparison, traced)).iloc[0]
    assert row["build_s"] == pytest.approx(0.2)
    assert row["trace_s"] == pytest.approx(0.7 - row["ms"] / 1e3)
    # A first call that was no slower than later ones traced nothing.
    quick = record("pytorch", 1, build_ns=0, first_call_ns=1)
    assert ratios(timed(comparison, quick)).iloc[0]["trace_s"] == 0


@pytest.mark.parametrize(("calls", "known"), [(1, 0), (19, 1), (20, 2), (99, 2), (100, 3)])
def test_a_percentile_takes_enough_calls(comparison: Comparison, calls: int, known: int) -> None:
    one = record("pytorch", 1, operation="predict_one", calls_ns=tuple(int(1e6) * n for n in range(1, calls + 1)))
    row = single_examples(timed(comparison, one)).iloc[0]
    found = [row[name] for name in ("p50_ms", "p95_ms", "p99_ms")]
    assert [not np.isnan(value) for value in found] == [True] * known + [False] * (3 - known)
    expected = np.percentile(np.arange(1, calls + 1), (50, 95, 99))
    assert found[:known] == pytest.approx(expected[:known].tolist())
    assert row["calls"] == calls


def test_other_sizes_stay_out_of_the_table_and_are_held_against_the_baseline_of_their_own_size(
    comparison: Comparison,
) -> None:
    own = [record("keras-tensorflow", 1), record("pytorch", 0.5)]
    small = [record("keras-tensorflow", 0.3, batch_size=8), record("pytorch", 0.15, batch_size=8)]
    swept = timed(comparison, *own, *small)
    assert len(ratios(swept)) == 2
    table = sweep(swept)
    assert table["size"].tolist() == [8, 8, 32, 32]
    assert table.loc[table["backend"] == "pytorch", "ratio"].tolist() == pytest.approx([0.5, 0.5])
    assert sweep(timed(comparison, *own)).empty


def test_rounds_are_shown_in_times_of_their_workers_median(comparison: Comparison) -> None:
    base = record("keras-tensorflow", 1, again_ns=tuple(2 * each for each in ROUNDS), starts=(5, 3))
    frame = drift(timed(comparison, base, record("pytorch", 3, starts=(5, 3))))
    lines = frame.groupby(["backend", "again"])["value"].apply(list)
    assert len(lines) == 3
    for line in lines:
        assert line == pytest.approx(np.divide(ROUNDS, np.median(ROUNDS)).tolist())
    assert frame["start"].tolist()[:8] == [1] * 5 + [2] * 3


def test_a_tuned_setting_that_computes_something_else_is_named(comparison: Comparison) -> None:
    def stage(name: str, error: float) -> StageRecord:
        return StageRecord.model_validate(
            {
                "stage": name,
                "parameter": "kernel",
                "max_error": error,
                "l2_error": error,
                "measure": "max",
                "tolerance": 1e-5,
                "ok": error <= 1e-5,
            }
        )

    def parity(backend: str, setting: str, error: float) -> ParityRecord:
        return ParityRecord.model_validate(
            {
                "key": "k",
                "backend": backend,
                "model": "lstm",
                "division": "matched",
                "setting": setting,
                "stages": (stage("forward", 1e-7), stage("gradients", error)),
                "seconds": 1.0,
                "peak_memory_bytes": 1,
            }
        )

    known = (
        parity("pytorch", "tuned", 1e-6),
        parity("keras-tensorflow", "tuned", 0.5),
        parity("pytorch", "default", 1),
    )
    changed = replace(comparison, stages=known, timings=TimingResults(records=(record("pytorch", 1),)))
    table = tuned(changed)
    assert table[["backend", "failed", "stages"]].values.tolist() == [
        ["pytorch", "", 2],
        ["keras-tensorflow", "gradients", 2],
    ]
    assert table["error"].tolist() == [1e-6, 0.5]
    source = page(speed.PAGE, changed)
    assert (
        "Tuned settings compute the same: matched models keep every stage within its tolerance (pytorch (lstm))"
        in source
    )
    assert "**keras-tensorflow, lstm, tuned, computes something else**: gradients has an error of 0.5" in source


def test_a_ratio_whose_interval_spans_more_than_twice_is_none(comparison: Comparison) -> None:
    busy = record("pytorch", 1, baseline=False).model_copy(
        update={"rounds_ns": (10**7,) * 10 + (3 * 10**7,) * 10, "starts": (10, 10), "load": 3.4, "threads": 2}
    )
    usual = record("keras-tensorflow", 1).model_copy(update={"rounds_ns": (10**7,) * 20, "starts": (10, 10)})
    row = ratios(timed(comparison, usual, busy)).iloc[1]
    assert np.isnan(row["ratio"])
    assert row["wide_high"] > 2 * row["wide_low"]
    assert (row["load"], row["threads"]) == (3.4, 2)
    comparison = timed(comparison, usual, busy)
    report = page(speed.PAGE, comparison)
    assert re.search(r"\| rnn +\| train step +\| pytorch +\| +not measured \| +- \|", report)
    assert "**Not measured**: rnn train step, pytorch. Its interval, [" in report
    assert "spans more than a factor of 2. It takes 2 threads, and the machine's load was 3.4." in report


def test_runs_of_a_cluster_are_told_by_machine_and_kinds_of_processor_are_named(comparison: Comparison) -> None:
    def on(node: str, cpu: str) -> dict[str, str]:
        return {"node": node, "cpu": cpu, "cores": "2", "system": "Linux x86_64", "python": "3.11.0"}

    def moved(*machines: dict[str, str]) -> Comparison:
        results = {
            run_id: result.model_copy(update={"machine": machines[number % len(machines)]})
            for number, (run_id, result) in enumerate(comparison.results.items())
        }
        return replace(comparison, results=results)

    alone = moved(on("here", "A"))
    assert set(training_times(alone)["machine"]) == {""}
    assert "Runs were trained on" not in all_pages(alone)

    spread = moved(on("alpha", "A <b>"), on("beta", "B"))
    times = training_times(spread)
    assert set(times["machine"]) == {"alpha", "beta"}
    assert times["runs"].sum() >= training_times(alone)["runs"].sum()
    pages = all_pages(spread)
    assert r"Runs were trained on 2 kinds of processor (A &lt;b&gt; and B), which round differently." in pages
    rows = [row for table in tables_of(page(runs.PAGE, spread)) for row in table.rows if row[0] in ("alpha", "beta")]
    assert [row[1] for row in rows] == ["A <b>", "B"]

    twice = all_pages(moved(on("alpha", "A"), on("beta", "A")))
    assert "kinds of processor" not in twice
    assert "Runs were trained on these machines:" in twice
