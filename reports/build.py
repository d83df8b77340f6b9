"""Builds the report of a comparison's folder: figures, ``comparison.json`` and ``report.md``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.results import FORMAT, new_folder, write_text
from reports import figures, tables
from reports.answer import answer
from reports.document import render
from reports.findings import Findings, find
from reports.load import Comparison, load


@dataclass(frozen=True)
class Built:
    """What was built.

    Attributes
    ----------
    report
        Path of ``report.md``.
    accuracy, timings
        The tables behind the summary.
    summary
        Title and plain text of the tables that a terminal shows.
    """

    report: Path
    accuracy: pd.DataFrame
    timings: pd.DataFrame
    summary: Sequence[tuple[str, str]]


def build(results_dir: Path) -> Built:
    """Read a comparison's folder and write its report into it, each file whole or not at all.

    Raises
    ------
    ResultsError
        The folder is not a comparison, is damaged, or holds runs that don't belong together.
    """
    comparison = load(results_dir)
    findings = find(comparison)
    drawn = draw(comparison, findings)
    with new_folder(results_dir / "figures") as folder:
        for name, svg in drawn.items():
            (folder / f"{name}.svg").write_text(svg, encoding="utf-8", newline="\n")
    write_text(results_dir / "comparison.json", as_json(comparison, findings))
    report = results_dir / "report.md"
    write_text(report, render(comparison, findings, {name: f"figures/{name}.svg" for name in drawn}))
    return Built(report, findings.accuracy, findings.timings, tables.terminal(findings))


def summary_tables(comparison: Comparison) -> list[tuple[str, str]]:
    """Give title and plain text of the accuracy and the timing table, as far as there are any."""
    return tables.terminal(find(comparison))


def draw(comparison: Comparison, findings: Findings) -> dict[str, str]:
    """Draw the figures that there are numbers for: name to SVG."""
    backends = comparison.manifest.backends
    drawn = {}
    if len(findings.accuracy):
        drawn["accuracy"] = figures.accuracy(findings.runs, findings.accuracy, backends, findings.source)
    if len(findings.curves):
        drawn["learning"] = figures.learning_curves(findings.curves, backends)
    timed = findings.timings
    if (~timed["baseline"] & timed["ratio"].notna()).any():
        drawn["ratios"] = figures.ratios(timed, backends, findings.again)
    return drawn


def as_json(comparison: Comparison, findings: Findings) -> str:
    """Write everything that the report says for machines: the sentences, the conditions, and each table as rows.

    Shares are fractions, durations carry their unit in their name, and null stands for "there is none".
    """
    content = {
        "format": FORMAT,
        "in_short": answer(findings),
        "manifest": comparison.manifest.model_dump(mode="json"),
        "dataset": comparison.facts.model_dump(mode="json"),
        "runs": _rows(findings.runs.rename_axis("run_id").reset_index()),
        "failures": {
            run_id: result.failure.model_dump(mode="json")
            for run_id, result in comparison.results.items()
            if result.failure
        },
        "accuracy": _rows(findings.accuracy),
        "source_accuracy": findings.source,
        "differences_between_backends": _rows(findings.backends),
        "differences_between_models": _rows(findings.models),
        "learning_curves": _rows(findings.curves),
        "timings": _rows(findings.timings),
        "timings_again": _rows(findings.again),
        "timing_failures": comparison.timings.failures,
        "training_times": _rows(findings.training),
        "agreement": _rows(findings.groups),
        "pairs": _rows(findings.pairs),
        "examples": [
            {"pair": _row(examples.pair[["run_a", "run_b"]].to_dict()), "rows": _rows(examples.rows)}
            for examples in findings.examples
        ],
        "mistakes": _rows(findings.mistakes),
        "splits": _rows(findings.splits),
        "layers": _rows(findings.layers),
        "environment": _rows(findings.environment),
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [_row(row) for row in frame.to_dict("records")]


def _row(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): _value(value) for key, value in row.items()}


def _value(value: Any) -> Any:  # noqa: ANN401 - whatever a DataFrame holds
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return list(value) if isinstance(value, tuple) else value
