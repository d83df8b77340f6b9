"""How good the probabilities are, beside the predictions made from them: ranking, calibration, losses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from rnn_crosscheck.harness.machine import available_cores
from rnn_crosscheck.reports.analysis.frames import grouped
from rnn_crosscheck.reports.analysis.statistics import brier, ece, log_loss, reliability, roc_auc
from rnn_crosscheck.reports.read.comparison import Predicted

#: figures of a run, each a column of `quality`
MEASURES = {"auc": roc_auc, "log_loss": log_loss, "brier": brier, "ece": ece}


def quality(predicted: Predicted) -> pd.DataFrame:
    """Give one row a division x model x backend: means over seeds.

    Columns: division, model, backend, seeds, auc (area under the ROC curve), log_loss, brier, ece (expected
    calibration error).
    """
    labels = predicted.test["label"].to_numpy()

    def of_run(run_id: str) -> list[float]:
        values = predicted.probabilities[run_id].to_numpy(np.float64)
        return [float(measure(values, labels)) for measure in MEASURES.values()]

    # Run by run: of a thousand runs together every step would take as much memory as all of them.
    runs = predicted.probabilities.columns
    with ThreadPoolExecutor(available_cores()) as threads:
        figures = pd.DataFrame([*threads.map(of_run, runs)], index=runs, columns=[*MEASURES], dtype=np.float64)
    rows = [
        (*keys, len(group), *figures.loc[group.index].mean())
        for keys, group in grouped(predicted.ok, "division", "model", "backend")
    ]
    return pd.DataFrame(rows, columns=["division", "model", "backend", "seeds", *MEASURES])


def curves(predicted: Predicted) -> pd.DataFrame:
    """Give one row a bin of a division x model x backend, the predictions of all its seeds together.

    Columns: division, model, backend, low_edge, high_edge, examples, probability (mean), share (of positive labels),
    low, high (Wilson). Seeds see the same examples, so the interval is that of one seed's number of examples.
    """
    labels = predicted.test["label"].to_numpy()
    rows = []
    for keys, group in grouped(predicted.ok, "division", "model", "backend"):
        values = predicted.probabilities[list(group.index)].to_numpy()
        found = reliability(values.ravel(), np.repeat(labels, values.shape[1]))
        reach = np.sqrt(values.shape[1])
        low, high = (np.clip(found.share + reach * (edge - found.share), 0, 1) for edge in (found.low, found.high))
        bins = (found.edges[:-1], found.edges[1:], found.examples, found.probability, found.share, low, high)
        rows += [(*keys, *one) for one in zip(*bins, strict=True)]
    columns = ["division", "model", "backend", "low_edge", "high_edge", "examples", "probability", "share", "low",
               "high"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)
