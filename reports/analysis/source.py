"""The figures of the notebook that this project grew out of, beside ours under the same protocol."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rnn_crosscheck.harness.protocol import Protocol
from rnn_crosscheck.reports.analysis.statistics import one_more, paired_counts
from rnn_crosscheck.reports.read.comparison import Comparison

# What the notebook this project grew out of printed, in December 2021, for one seed of Keras on 25,000 test
# reviews. These are the only figures of this report that were not computed here.
SOURCE_EXAMPLES = 25_000
#: test accuracy by recurrent cell
SOURCE_ACCURACY = {"rnn": 0.61804, "lstm": 0.80996}
#: reviews that both cells got right, only the rnn, only the lstm, neither
SOURCE_COUNTS = {"both_right": 12_848, "only_rnn": 2_603, "only_lstm": 7_401, "both_wrong": 2_148}

#: what the notebook set; under anything else its figures are no yardstick
_SETTINGS = {"vocabulary": 5000, "length": 500, "epochs": 3, "batch_size": 32, "train_examples": 0}


def applies(protocol: Protocol) -> bool:
    """Whether a protocol is the notebook's."""
    values = {**protocol.data.model_dump(), **protocol.training.model_dump()}
    return protocol.name == "imdb" and all(values[key] == value for key, value in _SETTINGS.items())


def source_accuracy(protocol: Protocol) -> dict[str, float]:
    """Give the notebook's accuracy for each model that it had; empty under another protocol."""
    if not applies(protocol):
        return {}
    return {model.name: SOURCE_ACCURACY[model.cell] for model in protocol.models}


def beside_the_source(comparison: Comparison) -> pd.DataFrame:
    """Give one row a figure of the notebook, beside the native runs of Keras, which is what the notebook used.

    Shares of the test examples, since ours can be one review fewer than the notebook's. The four counts are taken of
    runs that share the seed number. Empty under another protocol, or without native runs of Keras.

    Columns: what, backend, source (share), source_count, seeds, mean, sd, least, most, next_low, next_high (where
    95 % of further seeds would lie), below (how many of our seeds lie below the notebook).
    """
    columns = ["what", "backend", "source", "source_count", "seeds", "mean", "sd", "least", "most", "next_low",
               "next_high", "below"]  # fmt: skip
    rows: list[tuple[object, ...]] = []
    runs = comparison.ok[comparison.ok["division"] == "native"]
    keras = [backend for backend in comparison.manifest.backends if backend.startswith("keras")]
    for backend in keras[:1] if applies(comparison.manifest.protocol) else []:
        cells: dict[str, str] = {model.cell: model.name for model in comparison.manifest.protocol.models}
        seeds = {
            cell: runs[(runs["backend"] == backend) & (runs["model"] == name)].reset_index().set_index("seed")["run_id"]
            for cell, name in cells.items()
        }
        right, place = comparison.right(), comparison.probabilities.columns.get_indexer
        for cell, source in SOURCE_ACCURACY.items():
            if len(seeds.get(cell, ())):
                values = right[:, place(pd.Index(seeds[cell]))].mean(axis=0)
                count = round(source * SOURCE_EXAMPLES)
                rows.append((f"accuracy of the {cells[cell]}", backend, source, count, *_spread(values, source)))
        if not set(SOURCE_ACCURACY) <= set(seeds):
            continue
        common = seeds["rnn"].index.intersection(seeds["lstm"].index)
        if len(common):
            counts = paired_counts(right, *(place(pd.Index(seeds[cell].loc[common])) for cell in ("rnn", "lstm")))
            for (name, count), ours in zip(SOURCE_COUNTS.items(), counts, strict=True):
                source = count / SOURCE_EXAMPLES
                what = name.replace("_", " ").replace("only rnn", f"only the {cells['rnn']} right")
                what = what.replace("only lstm", f"only the {cells['lstm']} right")
                rows.append((what, backend, source, count, *_spread(ours / counts.n, source)))
    return pd.DataFrame(rows, columns=columns)


def _spread(values: np.ndarray, source: float) -> tuple[float, ...]:
    spread = values.std(ddof=1) if len(values) > 1 else np.nan
    below = int((values < source).sum())
    return len(values), values.mean(), spread, values.min(), values.max(), *one_more(values, (0, 1)), below
