"""Every prediction in one JSON file of columns, in the shape in which the source experiment kept its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from rnn_crosscheck.harness.folder import new_file
from rnn_crosscheck.reports.read.comparison import Predicted

#: name of the file in a comparison's folder
STORED = "results_stored.json"

#: values that are put into text at once
_CHUNK = 2_000

#: probabilities that make a file of text which somebody can still open
_MOST = 10_000_000


def is_stored(predicted: Predicted) -> bool:
    """Whether there is such a file: of very many predictions, there are tables alone."""
    return 0 < predicted.probabilities.size <= _MOST


def write_stored(path: Path, predicted: Predicted) -> None:
    """Write ``text``, ``actual_pred``, a ``<model>_prob`` column a run and ``example_id``, whole or not at all.

    Columns are written chunk by chunk, so that the file never lies in memory. Probabilities are float32 and have the
    digits that bring back exactly that number.
    """
    with new_file(path) as scratch, scratch.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(_pieces(predicted))


def column_names(predicted: Predicted) -> dict[str, str]:
    """Name the column of each run: after its model where one run has that model, after the run where several do."""
    runs = predicted.ok
    by_model = runs["model"].is_unique
    return {str(run_id): f"{model if by_model else run_id}_prob" for run_id, model in runs["model"].items()}


def _pieces(predicted: Predicted) -> Iterator[str]:
    names = column_names(predicted)
    yield "{\n"
    yield from _column("text", map(_quoted, _chunks(predicted.test["text"])))
    yield from _column("actual_pred", (",".join(map(str, part.tolist())) for part in _chunks(predicted.test["label"])))
    for run_id, name in names.items():
        values = predicted.probabilities[run_id]
        yield from _column(name, map(_numbers, _chunks(values)))
    yield from _column("example_id", map(_quoted, _chunks(predicted.test.index.to_series())), last=True)
    yield "}\n"


def _column(name: str, parts: Iterable[str], *, last: bool = False) -> Iterator[str]:
    yield f"{json.dumps(name, ensure_ascii=False)}: ["
    for number, part in enumerate(parts):
        yield f",{part}" if number else part
    yield "]\n" if last else "],\n"


def _chunks(values: pd.Series) -> Iterator[pd.Series]:
    return (values.iloc[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))


def _numbers(values: pd.Series) -> str:
    import pyarrow as pa

    # Shortest digits that bring back the same float32, as NumPy's own text, and eight times as fast.
    return ",".join(pa.array(values.to_numpy(np.float32)).cast(pa.string()).to_pylist())


def _quoted(values: pd.Series) -> str:
    return json.dumps(values.tolist(), ensure_ascii=False)[1:-1]
