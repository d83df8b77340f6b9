"""Builds the report of a comparison's folder: figures, ``comparison.json`` and ``report.md``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rnn_crosscheck.harness.errors import ResultsError, UsageError
from rnn_crosscheck.harness.folder import new_file, way_to, write_text
from rnn_crosscheck.harness.results import FORMAT
from rnn_crosscheck.reports.analysis.changes import Changes, changes
from rnn_crosscheck.reports.analysis.examples import every_example
from rnn_crosscheck.reports.analysis.findings import Findings, find
from rnn_crosscheck.reports.analysis.frames import record, records
from rnn_crosscheck.reports.pages import figures, tables
from rnn_crosscheck.reports.pages.agreement import PAIRS_FILE, WHERE_FILE
from rnn_crosscheck.reports.pages.answer import answer
from rnn_crosscheck.reports.pages.document import render
from rnn_crosscheck.reports.pages.examples import EXAMPLES_FILE
from rnn_crosscheck.reports.pages.export import STORED, write_stored
from rnn_crosscheck.reports.pages.since import as_rows
from rnn_crosscheck.reports.pages.since import terminal as changed
from rnn_crosscheck.reports.pages.speed import terminal_table
from rnn_crosscheck.reports.read.comparison import Comparison, load

#: every figure that `draw` can draw
FIGURES = ("accuracy", "lengths", "learning", "ratios", "drift", "sweep", "reliability", "ladder", "divergence")


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
    since
        What changed since an earlier comparison, if there is one to compare with.
    """

    report: Path
    accuracy: pd.DataFrame
    timings: pd.DataFrame
    summary: Sequence[tuple[str, str]]
    since: Changes | None = None


def build(results_dir: Path, baseline: Path | None = None) -> Built:
    """Read a comparison's folder and write its report into it, each file whole or not at all.

    Parameters
    ----------
    results_dir
        Folder of the comparison.
    baseline
        Folder of an earlier comparison; without one, that which the manifest names, if it is still there.

    Raises
    ------
    ResultsError
        A folder is not a comparison, is damaged, or holds runs that don't belong together.
    UsageError
        The baseline is the comparison itself.
    """
    comparison = load(results_dir)
    since = _since(results_dir, comparison, baseline)
    findings = find(comparison, since)
    drawn = draw(comparison, findings)
    for name in FIGURES:
        path = results_dir / "figures" / f"{name}.svg"
        if name in drawn:
            write_text(path, drawn[name])
        else:
            path.unlink(missing_ok=True)  # of runs that are gone
    write_text(results_dir / "comparison.json", as_json(comparison, findings))
    if len(comparison.probabilities.columns):
        write_stored(results_dir / STORED, comparison)
        _write_frame(results_dir / EXAMPLES_FILE, every_example(comparison, findings.pairs))
    else:
        for name in (STORED, EXAMPLES_FILE):  # of runs that are gone
            (results_dir / name).unlink(missing_ok=True)
    for name, frame in ((PAIRS_FILE, findings.pairs), (WHERE_FILE, findings.where)):
        write_text(results_dir / name, frame.to_csv(index=False, lineterminator="\n"))
    report = results_dir / "report.md"
    write_text(report, render(comparison, findings, {name: f"figures/{name}.svg" for name in drawn}))
    shown = [*terminal(findings), *(changed(since) if since else ())]
    return Built(report, findings.accuracy, findings.timings, shown, since)


def _since(results_dir: Path, comparison: Comparison, baseline: Path | None) -> Changes | None:
    """Compare with the earlier comparison that was named now, or when the comparison was made."""
    if baseline is not None:
        if baseline.resolve() == results_dir.resolve():
            raise UsageError(f"The baseline {baseline} is the comparison itself; give the folder of an earlier one.")
        return changes(comparison, load(baseline), way_to(baseline, results_dir))
    if not (place := comparison.manifest.baseline):
        return None
    folder = results_dir.resolve() / place
    if not folder.is_dir():
        return Changes(place, problem="Its folder isn't there any more.")
    try:
        return changes(comparison, load(folder), place)
    except ResultsError as error:
        # The report says nothing of where things lie on this machine.
        return Changes(place, problem=str(error).replace(str(folder), place))


def _write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a Parquet file whole or not at all."""
    with new_file(path) as scratch:
        frame.to_parquet(scratch, index=False)


def summary_tables(comparison: Comparison) -> list[tuple[str, str]]:
    """Give title and plain text of the accuracy and the timing table, as far as there are any."""
    return terminal(find(comparison))


def terminal(findings: Findings) -> list[tuple[str, str]]:
    """Give title and plain text of the tables that a terminal shows."""
    timed = [("timing", terminal_table(findings))] if len(findings.timings) else []
    return [*tables.terminal(findings), *timed]


def draw(comparison: Comparison, findings: Findings) -> dict[str, str]:
    """Draw the figures that there are numbers for: name to SVG."""
    backends = comparison.manifest.backends
    drawn = {}
    if len(findings.accuracy):
        drawn["accuracy"] = figures.accuracy(findings.runs, findings.accuracy, backends, findings.source)
    fifths = findings.lengths[findings.lengths["scheme"] == "fifths"]
    if fifths["bucket"].nunique() > 1:
        drawn["lengths"] = figures.by_length(fifths, backends)
    if len(findings.curves):
        drawn["learning"] = figures.learning_curves(findings.curves, backends)
    timed = findings.timings
    if (~timed["baseline"] & timed["ratio"].notna()).any():
        drawn["ratios"] = figures.ratios(timed, backends, findings.again)
    if len(findings.drift):
        drawn["drift"] = figures.drift(findings.drift, backends)
    if len(findings.sweep):
        drawn["sweep"] = figures.sweep(findings.sweep, backends)
    if findings.reliability["examples"].any():
        drawn["reliability"] = figures.reliability(findings.reliability, backends)
    if len(findings.rungs):
        drawn["ladder"] = figures.ladder(findings.dots, findings.rungs, backends)
    if len(findings.why.curves):
        drawn["divergence"] = figures.divergence(
            findings.why.curves, findings.why.courses, findings.why.horizons, backends
        )
    return drawn


def as_json(comparison: Comparison, findings: Findings) -> str:
    """Write everything that the report says for machines: the sentences, the conditions, and each table as rows.

    Shares are fractions, durations carry their unit in their name, and null stands for "there is none".
    """
    content = {
        "format": FORMAT,
        "in_short": answer(findings),
        "since": as_rows(findings.since) if findings.since else None,
        "manifest": comparison.manifest.model_dump(mode="json"),
        "dataset": comparison.facts.model_dump(mode="json"),
        "runs": records(findings.runs.rename_axis("run_id").reset_index()),
        "failures": {
            run_id: result.failure.model_dump(mode="json")
            for run_id, result in comparison.results.items()
            if result.failure
        },
        "accuracy": records(findings.accuracy),
        "source_accuracy": findings.source,
        "beside_the_source": records(findings.beside_source),
        "differences_between_backends": records(findings.backends),
        "differences_between_models": records(findings.models),
        "accuracy_by_length": records(findings.lengths),
        "lead_by_length": records(findings.leads),
        "growth_of_the_lead": records(findings.growth),
        "learning_curves": records(findings.curves),
        "timings": records(findings.timings),
        "timings_again": records(findings.again),
        "timings_of_single_examples": records(findings.single),
        "timings_by_size": records(findings.sweep),
        "rounds": records(findings.drift),
        "tuned_settings": records(findings.tuned),
        "timing_failures": comparison.timings.failures,
        "training_times": records(findings.training),
        "agreement": records(findings.groups),
        "pairs": records(findings.pairs),
        "ladder": records(findings.rungs),
        "ladder_pairs": records(findings.dots),
        "excess_disagreement": records(findings.excesses),
        "transplants": records(findings.transplants),
        "all_runs_at_once": records(findings.together),
        "where_the_disagreement_lives": records(findings.where),
        "probabilities": records(findings.quality),
        "reliability": records(findings.reliability),
        "verdicts": records(findings.why.verdicts),
        "divergence": records(findings.why.curves),
        "horizons": records(findings.why.horizons),
        "twins": records(findings.why.ends),
        "parity_stages": records(findings.why.stages),
        "parity": records(findings.why.records),
        "effects": records(findings.why.effects),
        "effects_on_accuracy": records(findings.why.accuracy),
        "causes": records(findings.why.causes),
        "examples": [
            {"pair": record(examples.pair[["run_a", "run_b"]].to_dict()), "rows": records(examples.rows)}
            for examples in findings.examples
        ],
        "read_in_full": [
            {"pair": record(examples.pair[["run_a", "run_b"]].to_dict()), "rows": records(examples.rows)}
            for examples in findings.read
        ],
        "mistakes": records(findings.mistakes),
        "splits": records(findings.splits),
        "layers": records(findings.layers),
        "environment": records(findings.environment),
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
