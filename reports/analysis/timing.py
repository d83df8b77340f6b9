"""How fast: ratios to the baseline first, absolute times beside them, and the machine's own noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from rnn_crosscheck.harness.results import RunResult, TimingRecord
from rnn_crosscheck.harness.timing.ratios import a_against_a, against_baseline, typical
from rnn_crosscheck.reports.analysis.frames import grouped
from rnn_crosscheck.reports.analysis.stages import over_tolerance
from rnn_crosscheck.reports.read.comparison import Comparison

_CELL = ("model", "operation", "division", "setting")

_MEASURED = ("ratio", "low", "high", "wide_low", "wide_high", "load")

_RATIOS = [*_CELL, "backend", "baseline", *_MEASURED, "clear", "ms", "examples_per_s", "build_s", "trace_s",
           "first_call_s", "peak_bytes", "rounds", "starts", "stopped", "threads", "memory_kept"]  # fmt: skip

#: an interval of a ratio that spans more than this factor says next to nothing
WIDE = 2.0

#: calls of single examples that a percentile takes: ten of them beyond it would be better, one there must be
_CALLS = {50: 2, 95: 20, 99: 100}


def is_wide(low: float, high: float) -> bool:
    """Whether an interval of a ratio says next to nothing."""
    return bool(high > WIDE * low)


def ratios(comparison: Comparison) -> pd.DataFrame:
    """Give one row a timed operation of a backend and setting: its time in times of the baseline's, then what it took.

    ``clear`` tells whether the ratio's interval lies outside both 1 and the A/A band, which is how far two workers of
    the baseline itself stood apart. Times are trimmed means of the rounds' logarithms, as the ratios are. ``trace_s``
    is what the first call took above a later one: tracing, compiling, filling caches. A ratio whose interval spans more
    than a factor of `WIDE` is none: ``wide_low`` and ``wide_high`` are its ends, and ``load`` was the machine's.

    Columns: model, operation, division, setting, backend, baseline, ratio, low, high, wide_low, wide_high, load, clear,
    ms, examples_per_s, build_s, trace_s, first_call_s (building and the first call together), peak_bytes, rounds (of
    all starts), starts, stopped, threads, memory_kept (whether the worker kept the memory that it freed).
    """
    noise = {(row["model"], row["operation"]): row for _, row in again(comparison).iterrows()}
    rows = []
    for record in own_sizes(comparison):
        measured = _against_baseline(comparison, record)
        low, high = measured["low"], measured["high"]
        band = noise.get((record.model, record.operation))
        edges = (1.0, 1.0) if band is None else (band["band_low"], band["band_high"])
        usual = typical(record.rounds_ns)
        rows.append(
            {
                **{column: getattr(record, column) for column in _CELL},
                "backend": record.backend,
                "baseline": record.baseline,
                **measured,
                "clear": bool(high < edges[0] or low > edges[1]),
                "ms": usual / 1e6,
                "examples_per_s": record.examples / usual * 1e9,
                "build_s": record.build_ns / 1e9,
                "trace_s": max(record.first_call_ns - record.build_ns - usual, 0) / 1e9,
                "first_call_s": record.first_call_ns / 1e9,
                "peak_bytes": record.peak_memory_bytes,
                "rounds": len(record.rounds_ns),
                "starts": max(len(record.starts), 1),
                "stopped": record.stopped,
                "threads": record.threads,
                "memory_kept": keeps_memory(record),
            }
        )
    return pd.DataFrame(rows, columns=_RATIOS).astype({"baseline": bool, "clear": bool, "memory_kept": bool})


def _against_baseline(comparison: Comparison, record: TimingRecord) -> dict[str, float]:
    """Give a record's ratio with its interval; one that is too wide stands apart, and there is no ratio then."""
    value, low, high, _ = against_baseline(comparison.timings.records, record) or [np.nan] * 4
    if is_wide(low, high):
        found = (np.nan, np.nan, np.nan, low, high)
    else:
        found = (value, low, high, np.nan, np.nan)
    return {**dict(zip(_MEASURED[:-1], found, strict=True)), "load": record.load}


def again(comparison: Comparison) -> pd.DataFrame:
    """Give the A/A pairs: the baseline measured against itself in a second worker.

    Columns: model, operation, division, setting, backend, ratio, low, high, band_low, band_high (the interval
    made symmetric around 1).
    """
    rows = []
    for record in own_sizes(comparison):
        if (found := a_against_a(comparison.timings.records, record)) is None or np.isnan(found.low):
            continue
        value, low, high, _ = found
        reach = max(high, 1 / low)
        cell = (getattr(record, column) for column in _CELL)
        rows.append((*cell, record.backend, value, low, high, 1 / reach, reach))
    return pd.DataFrame(rows, columns=[*_CELL, "backend", "ratio", "low", "high", "band_low", "band_high"])


def single_examples(comparison: Comparison) -> pd.DataFrame:
    """Give how long one example alone takes, call by call; NaN where there are too few calls for a percentile.

    Columns: model, backend, setting, p50_ms, p95_ms, p99_ms, calls, threads.
    """
    rows = []
    for record in own_sizes(comparison):
        if record.calls_ns:
            calls = np.asarray(record.calls_ns, np.float64) / 1e6
            shares = [
                float(np.percentile(calls, share)) if len(calls) >= fewest else np.nan
                for share, fewest in _CALLS.items()
            ]
            rows.append((record.model, record.backend, record.setting, *shares, len(calls), record.threads))
    return pd.DataFrame(rows, columns=["model", "backend", "setting", "p50_ms", "p95_ms", "p99_ms", "calls", "threads"])


def sweep(comparison: Comparison) -> pd.DataFrame:
    """Give throughput over batch sizes and over lengths, the protocol's own sizes among them; empty without a sweep.

    Columns: model, operation, axis ('batch size' or 'length'), size, backend, setting, baseline, ratio, low, high,
    wide_low, wide_high, load (see `ratios`), ms, examples_per_s, rounds, starts, stopped, threads.
    """
    protocol = comparison.manifest.protocol
    swept = {(record.model, record.operation) for record in comparison.timings.records if _is_swept(record)}
    rows = []
    for record in comparison.timings.records:
        if (record.model, record.operation) not in swept:
            continue
        axes = []
        if not record.length:
            axes.append(("batch size", record.batch_size or protocol.training.batch_size))
        if not record.batch_size:
            axes.append(("length", record.length or protocol.data.length))
        usual = typical(record.rounds_ns)
        for axis, size in axes:
            rows.append(
                (
                    *(record.model, record.operation, axis, size, record.backend, record.setting, record.baseline),
                    *_against_baseline(comparison, record).values(),
                    *(usual / 1e6, record.examples / usual * 1e9),
                    *(len(record.rounds_ns), max(len(record.starts), 1), record.stopped, record.threads),
                )
            )
    columns = ["model", "operation", "axis", "size", "backend", "setting", "baseline", *_MEASURED, "ms",
               "examples_per_s", "rounds", "starts", "stopped", "threads"]  # fmt: skip
    found = pd.DataFrame(rows, columns=columns)
    found = found[found.groupby(["model", "operation", "axis"])["size"].transform("nunique") > 1]
    order = ["model", "operation", "axis", "size"]
    return found.sort_values(order, kind="stable", ignore_index=True, key=_in_order_of_appearance)


def _in_order_of_appearance(values: pd.Series) -> pd.Series:
    if values.name == "size":
        return values
    return pd.Series(pd.factorize(values)[0], index=values.index)


def drift(comparison: Comparison) -> pd.DataFrame:
    """Give every round of the first operation of each model, in times of the median of its worker's own rounds.

    Columns: model, operation, backend, setting, again (whether it is the baseline's second worker), start (from 1),
    round (from 1, over all starts), value.
    """
    rows: list[tuple[object, ...]] = []
    seen: dict[str, str] = {}
    for record in own_sizes(comparison):
        if seen.setdefault(record.model, record.operation) != record.operation:
            continue
        for second, rounds in ((False, record.rounds_ns), (True, record.again_ns)):
            if not rounds:
                continue
            starts = record.starts or (len(rounds),)
            numbers = np.repeat(np.arange(1, len(starts) + 1), starts)
            of = (record.model, record.operation, record.backend, record.setting, second)
            values = np.asarray(rounds, np.float64) / np.median(rounds)
            rows += [(*of, start, n, value) for n, (start, value) in enumerate(zip(numbers, values, strict=True), 1)]
    return pd.DataFrame(rows, columns=["model", "operation", "backend", "setting", "again", "start", "round", "value"])


def tuned(comparison: Comparison) -> pd.DataFrame:
    """Give for each tuned setting whether it computes the same: its matched model against the reference.

    Columns: model, backend, setting, stages (that were compared), failed (the first one out of its tolerance, or ""),
    error, tolerance (of that one, else of the parameter that comes closest to its tolerance).
    """
    rows = []
    for record in comparison.stages:
        if record.setting == "default":
            continue
        worst = record.first_failed or max(record.stages, key=over_tolerance)
        failed = "" if record.first_failed is None else record.first_failed.stage
        stages = len({stage.stage for stage in record.stages})
        rows.append((record.model, record.backend, record.setting, stages, failed, worst.error, worst.tolerance))
    return pd.DataFrame(rows, columns=["model", "backend", "setting", "stages", "failed", "error", "tolerance"])


def training_times(comparison: Comparison) -> pd.DataFrame:
    """Give what the real runs took, one row a division x model x backend x machine, as means over its runs.

    Traced runs are left out where others are there: they read loss and gradient norm after every update. First steps
    are taken out of epochs.

    Columns: division, model, backend, machine (empty where all runs were on one), runs, epoch_s, epoch_sd,
    first_step_s, start_s, predict_s, peak_bytes, jobs, memory_kept (whether every run's process kept the memory that
    it freed).
    """
    columns = ["division", "model", "backend", "machine", "runs", "epoch_s", "epoch_sd", "first_step_s", "start_s",
               "predict_s", "peak_bytes", "jobs", "memory_kept"]  # fmt: skip
    rows = []
    nodes = comparison.ok.index.map(lambda run_id: comparison.results[run_id].machine.get("node", ""))
    placed = comparison.ok.assign(machine=nodes if nodes.nunique() > 1 else "")
    for keys, group in grouped(placed, "division", "model", "backend", "machine"):
        results = [comparison.results[run_id] for run_id in group.index]
        results = [result for result in results if result.trace is None] or results
        epochs = pd.Series([seconds for result in results for seconds in _epochs(result)], dtype=float)
        durations = [result.durations for result in results if result.durations]
        parts = [
            pd.Series([getattr(each, part) for each in durations], dtype=float).mean()
            for part in ("first_step", "start", "predict")
        ]
        peaks = pd.Series([result.peak_memory_bytes for result in results], dtype=float)
        jobs = max(result.jobs for result in results)
        kept = all(keeps_memory(result) for result in results)
        rows.append((*keys, len(results), epochs.mean(), epochs.std(), *parts, peaks.max(), jobs, kept))
    return pd.DataFrame(rows, columns=columns)


def _epochs(result: RunResult) -> Iterator[float]:
    """Give the seconds of each epoch; the first step, which traces and compiles, is told apart."""
    for epoch in result.history:
        first = result.durations.first_step if result.durations and epoch is result.history[0] else 0.0
        yield epoch.seconds - first


def keeps_memory(record: RunResult | TimingRecord) -> bool:
    """Whether the process kept the memory that it freed, as far as it told."""
    return record.environment.get("freed memory") == "kept"


def own_sizes(comparison: Comparison) -> Iterator[TimingRecord]:
    """Give what was measured at the protocol's own batch size and length."""
    return (record for record in comparison.timings.records if not _is_swept(record))


def _is_swept(record: TimingRecord) -> bool:
    return bool(record.batch_size or record.length)
