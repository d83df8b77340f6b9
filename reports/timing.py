"""How fast: ratios to the baseline first, absolute times beside them, and the machine's own noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from harness.results import TimingRecord
from reports.frames import grouped
from reports.load import Comparison
from reports.statistics import geometric_mean, ratio_interval

_CELL = ("model", "operation", "division", "setting")

_RATIOS = [*_CELL, "backend", "baseline", "ratio", "low", "high", "clear", "ms", "examples_per_s", "first_call_s",
           "peak_bytes", "rounds", "stopped", "threads"]  # fmt: skip


def ratios(comparison: Comparison, generator: np.random.Generator) -> pd.DataFrame:
    """Give one row a timed operation of a backend: its time in times of the baseline's, then what it took.

    Times are geometric means over rounds, so that the ratio of two of them is the ratio shown. ``clear`` tells
    whether the ratio's interval lies outside both 1 and the A/A band, which is how far two workers of the
    baseline itself stood apart.

    Columns: model, operation, division, setting, backend, baseline, ratio, low, high, clear, ms, examples_per_s,
    first_call_s, peak_bytes, rounds, stopped, threads.
    """
    noise = {tuple(row[column] for column in _CELL): row for _, row in again(comparison, generator).iterrows()}
    rows = []
    for record in comparison.timings.records:
        base = _baseline(comparison, record)
        ratio, low, high = np.nan, np.nan, np.nan
        if base is not None and len(base.rounds_ns) == len(record.rounds_ns):
            # Other numbers of rounds were not taken in turn, and then there is no ratio to speak of.
            ratio = geometric_mean(np.divide(record.rounds_ns, base.rounds_ns))
            low, high = (1.0, 1.0) if record.baseline else ratio_interval(record.rounds_ns, base.rounds_ns, generator)
        band = noise.get(_cell(record))
        edges = (1.0, 1.0) if band is None else (band["band_low"], band["band_high"])
        typical = geometric_mean(record.rounds_ns)
        rows.append(
            {
                **dict(zip(_CELL, _cell(record), strict=True)),
                "backend": record.backend,
                "baseline": record.baseline,
                "ratio": ratio,
                "low": low,
                "high": high,
                "clear": bool(high < edges[0] or low > edges[1]),
                "ms": typical / 1e6,
                "examples_per_s": record.examples / typical * 1e9,
                "first_call_s": record.first_call_ns / 1e9,
                "peak_bytes": record.peak_memory_bytes,
                "rounds": len(record.rounds_ns),
                "stopped": record.stopped,
                "threads": record.threads,
            }
        )
    return pd.DataFrame(rows, columns=_RATIOS).astype({"baseline": bool, "clear": bool})


def again(comparison: Comparison, generator: np.random.Generator) -> pd.DataFrame:
    """Give the A/A pairs: the baseline measured against itself in a second worker.

    Columns: model, operation, division, setting, backend, ratio, low, high, band_low, band_high (the interval
    made symmetric around 1).
    """
    rows = []
    for record in _with_twin(comparison):
        low, high = ratio_interval(record.again_ns, record.rounds_ns, generator)
        reach = max(high, 1 / low)
        ratio = geometric_mean(np.divide(record.again_ns, record.rounds_ns))
        rows.append((*_cell(record), record.backend, ratio, low, high, 1 / reach, reach))
    return pd.DataFrame(rows, columns=[*_CELL, "backend", "ratio", "low", "high", "band_low", "band_high"])


def training_times(comparison: Comparison) -> pd.DataFrame:
    """Give what the real runs took, one row a division x model x backend, as means over its runs.

    Traced runs are left out where others are there: they read loss and gradient norm after every update.

    Columns: division, model, backend, runs, epoch_s, epoch_sd, first_step_s, start_s, predict_s, peak_bytes, jobs.
    """
    columns = ["division", "model", "backend", "runs", "epoch_s", "epoch_sd", "first_step_s", "start_s", "predict_s",
               "peak_bytes", "jobs"]  # fmt: skip
    rows = []
    for keys, group in grouped(comparison.ok, "division", "model", "backend"):
        results = [comparison.results[run_id] for run_id in group.index]
        results = [result for result in results if result.trace is None] or results
        epochs = pd.Series([epoch.seconds for result in results for epoch in result.history], dtype=float)
        durations = [result.durations for result in results if result.durations]
        parts = [
            pd.Series([getattr(each, part) for each in durations], dtype=float).mean()
            for part in ("first_step", "start", "predict")
        ]
        peaks = pd.Series([result.peak_memory_bytes for result in results], dtype=float)
        jobs = max(result.jobs for result in results)
        rows.append((*keys, len(results), epochs.mean(), epochs.std(), *parts, peaks.max(), jobs))
    return pd.DataFrame(rows, columns=columns)


def _cell(record: TimingRecord) -> tuple[str, str, str, str]:
    return record.model, record.operation, record.division, record.setting


def _baseline(comparison: Comparison, record: TimingRecord) -> TimingRecord | None:
    # A setting of its own (tuned) is compared with what the baseline does by default.
    place = (record.model, record.operation, record.division)
    for other in comparison.timings.records:
        if other.baseline and (other.model, other.operation, other.division) == place:
            return other
    return None


def _with_twin(comparison: Comparison) -> Iterator[TimingRecord]:
    for record in comparison.timings.records:
        if record.baseline and len(record.again_ns) == len(record.rounds_ns) > 1:
            yield record
