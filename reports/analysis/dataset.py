"""The data, the protocol and the models as the report shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from rnn_crosscheck.harness.protocol import Protocol
from rnn_crosscheck.harness.results import LayerRecord
from rnn_crosscheck.reports.analysis.frames import grouped
from rnn_crosscheck.reports.read.comparison import Comparison


def splits(comparison: Comparison) -> pd.DataFrame:
    """Give one row a split: examples, positive share, lengths, truncated and out-of-vocabulary shares."""
    rows = [
        {
            "split": name,
            "examples": split.examples,
            "positive": split.positive / split.examples if split.examples else float("nan"),
            "length_min": split.length_min,
            "length_median": split.length_median,
            "length_mean": split.length_mean,
            "length_max": split.length_max,
            "truncated": split.truncated_share,
            "oov": split.oov_share,
        }
        for name, split in comparison.facts.splits.items()
    ]
    return pd.DataFrame(rows)


def dotted(protocol: Protocol) -> dict[str, str]:
    """Flatten the protocol to the dotted keys that override it; the description is none of them."""
    return _dotted(protocol.model_dump(mode="json", exclude={"description"}))


def _dotted(tree: Mapping[str, Any], above: str = "") -> dict[str, str]:
    rows: dict[str, str] = {}
    for key, value in tree.items():
        if key == "models":
            value = {model["name"]: {k: v for k, v in model.items() if k != "name"} for model in value}
        if isinstance(value, dict):
            rows |= _dotted(value, f"{above}{key}.")
        else:
            rows[above + key] = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return rows


def layers(comparison: Comparison) -> pd.DataFrame:
    """Give one row a layer of a model in a backend; divisions whose layers are equal share their rows.

    Columns: model, backend, divisions, layer, output_shape, parameters, trainable, note (what of the
    canonical layout a layer hasn't).
    """
    seen: dict[tuple[str, str, tuple[LayerRecord, ...]], list[str]] = {}
    for run_id, run in comparison.ok.iterrows():
        key = (run["model"], run["backend"], comparison.results[str(run_id)].layers)
        divisions = seen.setdefault(key, [])
        if run["division"] not in divisions:
            divisions.append(run["division"])
    rows = [
        (
            model,
            backend,
            ", ".join(divisions),
            layer.name,
            layer.output_shape,
            layer.parameters,
            layer.trainable,
            layer.note,
        )
        for (model, backend, listed), divisions in seen.items()
        for layer in listed
    ]
    columns = ["model", "backend", "divisions", "layer", "output_shape", "parameters", "trainable", "note"]
    return pd.DataFrame(rows, columns=columns)


def environment(comparison: Comparison) -> pd.DataFrame:
    """Give one row a fact about the surroundings, one column a backend; values that differ by run are all shown."""
    return facts_of(
        {
            str(backend): [comparison.results[str(run_id)].environment for run_id in group.index]
            for backend, group in grouped(comparison.ok, "backend")
        }
    )


def facts_of(environments: Mapping[str, Iterable[Mapping[str, str]]]) -> pd.DataFrame:
    """Put what was told of each backend side by side, as `environment` does."""
    columns = {}
    for backend, told in environments.items():
        values: dict[str, list[str]] = {}
        for environment in told:
            for key, value in environment.items():
                if value not in values.setdefault(key, []):
                    values[key].append(value)
        columns[backend] = {key: " / ".join(found) for key, found in values.items()}
    return pd.DataFrame(columns).fillna("").rename_axis("fact").reset_index()
