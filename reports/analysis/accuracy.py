"""How accurate: each run, each backend x model over seeds, and the differences between them."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from rnn_crosscheck.reports.analysis.frames import grouped
from rnn_crosscheck.reports.analysis.statistics import (
    mean_interval,
    p_of_means,
    paired_counts,
    paired_difference,
    paired_means,
    welch,
    wilson,
)
from rnn_crosscheck.reports.read.comparison import IDENTITY, Comparison, Predicted


def run_table(comparison: Comparison) -> pd.DataFrame:
    """Give one row a run asked for: status, accuracy with its Wilson interval, losses, durations.

    Columns: `IDENTITY`, status, accuracy, low, high, loss, train_loss and valid_loss (last epoch), epochs,
    train_s, total_s, peak_bytes, jobs, finished, reason, signal. What a run doesn't have is NaN or empty.
    """
    rows = {}
    for run_id in comparison.runs.index:
        result = comparison.results.get(run_id)
        last = result.history[-1] if result and result.history else None
        rows[run_id] = {
            "loss": result.scores.loss if result and result.scores else np.nan,
            "train_loss": last.train_loss if last else np.nan,
            "valid_loss": last.valid_loss if last else np.nan,
            "epochs": len(result.history) if result else 0,
            "train_s": result.durations.train if result and result.durations else np.nan,
            "total_s": result.durations.total if result and result.durations else np.nan,
            "peak_bytes": (result.peak_memory_bytes if result else None) or np.nan,
            "jobs": result.jobs if result else 0,
            "finished": result.finished if result else "",
            "reason": result.failure.reason if result and result.failure else "",
            "signal": (result.failure.signal if result and result.failure else None) or "",
        }
    details = pd.DataFrame.from_dict(rows, orient="index")
    return run_accuracy(comparison).join(details)


def run_accuracy(predicted: Predicted) -> pd.DataFrame:
    """Give one row a run asked for: its columns in `runs`, accuracy, and the Wilson interval low and high.

    What a run without result doesn't have is NaN.
    """
    n, right = len(predicted.test), predicted.right().sum(axis=0)
    low, high = wilson(right, n)
    columns = {"accuracy": right / max(n, 1), "low": low, "high": high}
    return predicted.runs.join(pd.DataFrame(columns, index=predicted.probabilities.columns))


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Give one row a division x model x backend that has a result, over its seeds.

    Columns: division, model, backend, seeds, mean, sd, low, high (t interval of the mean over seeds; NaN for one
    seed), loss, loss_sd.
    """
    columns = ["division", "model", "backend", "seeds", "mean", "sd", "low", "high", "loss", "loss_sd"]
    rows = []
    for keys, group in grouped(_ok(runs), "division", "model", "backend"):
        values, loss = group["accuracy"], group["loss"]
        interval = mean_interval(values, (0, 1))
        rows.append((*keys, len(group), values.mean(), values.std(), *interval, loss.mean(), loss.std()))
    return pd.DataFrame(rows, columns=columns)


def differences(comparison: Comparison, runs: pd.DataFrame, across: Literal["backend", "model"]) -> pd.DataFrame:
    """Give one row a pair of backends (or models) under equal conditions: mean accuracy A minus mean accuracy B.

    Over seeds the interval is Welch's, since equal seed numbers start nothing equal; only matched runs of two
    backends share their start and are paired by seed. Where a side has one run, the interval is over the examples
    of one pair of runs: it says nothing about other seeds.

    Columns: division, model (or backend), a, b, seeds_a, seeds_b, difference, low, high, over (``seeds``,
    ``seeds, paired`` or ``examples``), p (of no difference, over seeds), spread (standard deviation of one seed, or of
    one seed's difference where they are paired).
    """
    other = "model" if across == "backend" else "backend"
    columns = ["division", other, "a", "b", "seeds_a", "seeds_b", "difference", "low", "high", "over", "p", "spread"]
    rows = []
    for (division, shared), group in grouped(_ok(runs), "division", other):
        sides = [
            (name, side.rename_axis("run_id").reset_index().set_index("seed")) for name, side in grouped(group, across)
        ]
        for (name_a, a), (name_b, b) in combinations(sides, 2):
            one, two = a["accuracy"], b["accuracy"]
            common = one.index.intersection(two.index)
            if division == "matched" and across == "backend" and len(common) > 1:
                one, two = one[common], two[common]
                interval, over = paired_means(one, two), "seeds, paired"
                p, spread = p_of_means(one, two, paired=True), (one - two).std()
            elif min(len(one), len(two)) > 1:
                interval, over = welch(one, two), "seeds"
                p, spread = p_of_means(one, two, paired=False), ((one.var() + two.var()) / 2) ** 0.5
            else:
                # The runs with the first seeds that both have, if any, stand for the pair.
                seed_a, seed_b = (common[0], common[0]) if len(common) else (one.index[0], two.index[0])
                one, two = one[[seed_a]], two[[seed_b]]
                pair = (str(a.loc[seed_a, "run_id"]), str(b.loc[seed_b, "run_id"]))
                interval, over = _over_examples(comparison, *pair), "examples"
                p = spread = np.nan
            difference = one.mean() - two.mean()
            rows.append((division, shared, name_a, name_b, len(one), len(two), difference, *interval, over, p, spread))
    return pd.DataFrame(rows, columns=columns)


def learning_curves(comparison: Comparison) -> pd.DataFrame:
    """Give one row a run and epoch: `IDENTITY`, run_id, and the figures of the epoch."""
    identity = comparison.runs[list(IDENTITY)].to_dict("index")
    rows = [
        {"run_id": run_id, **identity[run_id], **epoch.model_dump()}
        for run_id in comparison.ok.index
        for epoch in comparison.results[run_id].history
    ]
    return pd.DataFrame(rows)


def _ok(runs: pd.DataFrame) -> pd.DataFrame:
    return runs[runs["status"] == "ok"]


def _over_examples(comparison: Comparison, run_a: str, run_b: str) -> tuple[float, float]:
    right = comparison.right()[:, comparison.probabilities.columns.get_indexer(pd.Index([run_a, run_b]))]
    counts = paired_counts(right, [0], [1])
    low, high = paired_difference(counts.b, counts.c, counts.n)
    return float(low[0]), float(high[0])
