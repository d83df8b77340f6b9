"""The way from a comparison's folder to its report: ``report.md``, ``details/``, figures and ``comparison.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rnn_crosscheck.harness.errors import ResultsError, UsageError
from rnn_crosscheck.harness.folder import new_file, resolved, way_to, write_text
from rnn_crosscheck.harness.machine import available_cores
from rnn_crosscheck.harness.results import FORMAT
from rnn_crosscheck.reports.analysis.changes import Changes, changes
from rnn_crosscheck.reports.analysis.examples import every_example
from rnn_crosscheck.reports.analysis.findings import Findings, find
from rnn_crosscheck.reports.analysis.frames import record, records
from rnn_crosscheck.reports.analysis.ladder import RUNGS
from rnn_crosscheck.reports.pages import accuracy, agreement, browse, causes, data, examples, figures, runs, speed
from rnn_crosscheck.reports.pages import since as what_changed
from rnn_crosscheck.reports.pages.export import STORED, is_stored, write_stored
from rnn_crosscheck.reports.pages.front import front_page, in_short
from rnn_crosscheck.reports.pages.front import terminal as verdict
from rnn_crosscheck.reports.pages.page import WORDS, Page, Shown, render
from rnn_crosscheck.reports.read.comparison import Comparison, load, load_whole
from rnn_crosscheck.reports.writing import listing

#: pages of details, in the order of the contents
PAGES: tuple[Page, ...] = (
    what_changed.PAGE,
    accuracy.PAGE,
    causes.PAGE,
    speed.PAGE,
    agreement.PAGE,
    examples.PAGE,
    data.PAGE,
    runs.PAGE,
)


#: test examples of a comparison whose figures are drawn side by side with the rest
_MANY = 2_000

#: pairs of runs that `comparison.json` lists
_ROWS = 10_000


@dataclass(frozen=True)
class Built:
    """What was built.

    Attributes
    ----------
    report
        Path of ``report.md``.
    summary
        Title and plain text of the tables that a terminal shows.
    since
        What changed since an earlier comparison, if there is one to compare with.
    """

    report: Path
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
    # A process takes a second to start, which only what is large makes up for.
    apart = len(comparison.test) >= _MANY and available_cores() > 1
    with figures.Drawing() if apart else nullcontext() as drawing:
        return _build(results_dir, comparison, baseline, drawing)


def _build(results_dir: Path, comparison: Comparison, baseline: Path | None, drawing: figures.Drawing | None) -> Built:
    since = _since(results_dir, comparison, baseline)
    findings = find(comparison, since)
    if drawing:
        drawing.begin(comparison.manifest.backends, findings)
    write_text(results_dir / "comparison.json", as_json(comparison, findings))
    if is_stored(comparison):
        write_stored(results_dir / STORED, comparison)
    else:
        (results_dir / STORED).unlink(missing_ok=True)
    if len(comparison.probabilities.columns):
        with new_file(results_dir / examples.EXAMPLES_FILE) as scratch:
            frame = every_example(comparison, findings.pairs)
            # Probabilities hardly repeat: a dictionary of them makes the file larger, and writing it slow.
            repeated = [name for name, kind in frame.dtypes.items() if kind.kind != "f"]
            frame.to_parquet(scratch, index=False, use_dictionary=repeated, write_statistics=False)
    else:  # the runs are gone
        (results_dir / examples.EXAMPLES_FILE).unlink(missing_ok=True)
    browse.write(
        results_dir, _title(comparison), comparison, findings.groups, findings.shown_examples, comparison.occlusions
    )
    for name, frame in ((agreement.PAIRS_FILE, findings.pairs), (agreement.WHERE_FILE, findings.where)):
        with new_file(results_dir / name) as scratch:
            _write_csv(frame, scratch)
    front, details = pages(comparison, findings, frozenset(figures.wanted(findings)))
    drawn = drawing.end() if drawing else figures.draw(comparison.manifest.backends, findings)
    every = {f"{name}.svg" for name in figures.names()}
    _replace(results_dir / "figures", {f"{name}.svg": text for name, text in drawn.items()}, every)
    _replace(results_dir / "details", details, {WORDS, *(f"{page.name}.md" for page in PAGES)})
    write_text(results_dir / "report.md", front)
    return Built(
        results_dir / "report.md", [*verdict(findings), *(what_changed.terminal(since) if since else ())], since
    )


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import csv

    # pandas takes seconds for the pairs of a thousand runs.
    csv.write_csv(pa.Table.from_pandas(frame, preserve_index=False), path)


def _title(comparison: Comparison) -> str:
    models = listing(list(dict.fromkeys(comparison.runs["model"])))
    return f"{' against '.join(comparison.manifest.backends)}: {models} on {comparison.facts.name}"


def _replace(folder: Path, files: dict[str, str], known: set[str]) -> None:
    """Write files of a folder, and take away those of ours that no longer hold."""
    for name in known:
        if name in files:
            write_text(folder / name, files[name])
        else:
            (folder / name).unlink(missing_ok=True)


def pages(
    comparison: Comparison, findings: Findings, drawn: frozenset[str] = frozenset()
) -> tuple[str, dict[str, str]]:
    """Write the front page, and the pages of details by the names of their files."""
    shown = Shown(comparison, findings, drawn)
    there = [(page, finding) for page in PAGES if (finding := page.finding(shown))]
    details = {f"{page.name}.md": render(page, shown) + "\n" for page, _ in there}
    details[WORDS] = (Path(__file__).parent / "pages" / WORDS).read_text(encoding="utf-8")
    return front_page(shown, there) + "\n", details


def _since(results_dir: Path, comparison: Comparison, baseline: Path | None) -> Changes | None:
    """Compare with the earlier comparison that was named now, or when the comparison was made."""
    if baseline is not None:
        if resolved(baseline) == resolved(results_dir):
            raise UsageError(f"The baseline {baseline} is the comparison itself; give the folder of an earlier one.")
        return changes(comparison, load_whole(baseline), way_to(baseline, results_dir))
    if not (place := comparison.manifest.baseline):
        return None
    folder = resolved(results_dir) / place
    if not folder.is_dir():
        return Changes(place, problem="Its folder isn't there any more.")
    try:
        return changes(comparison, load_whole(folder), place)
    except ResultsError as error:
        # The report says nothing of where things lie on this machine.
        return Changes(place, problem=str(error).replace(str(folder), place))


def as_json(comparison: Comparison, findings: Findings) -> str:
    """Write everything that the report says for machines: the sentences, the conditions, and each table as rows.

    Shares are fractions, durations carry their unit in their name, and null stands for "there is none". Of more
    than `_ROWS` pairs of runs, the file that has them is named.
    """
    dots = findings.dots
    content = {
        "format": FORMAT,
        "in_short": in_short(findings),
        "answers": records(findings.verdicts),
        "since": what_changed.as_rows(findings.since) if findings.since else None,
        "manifest": comparison.manifest.model_dump(mode="json"),
        "dataset": comparison.facts.model_dump(mode="json"),
        "runs": records(findings.runs.rename_axis("run_id").reset_index()),
        "failures": {
            run_id: result.failure.model_dump(mode="json")
            for run_id, result in comparison.results.items()
            if result.failure
        },
        "left_out": comparison.left_out,
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
        "pairs": records(findings.pairs) if len(findings.pairs) <= _ROWS else agreement.PAIRS_FILE,
        "ladder": records(findings.rungs),
        "ladder_pairs": records(dots if len(dots) <= _ROWS else dots[dots["rung"] < RUNGS.index("matched")]),
        "excess_disagreement": records(findings.excesses),
        "transplants": records(findings.transplants),
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
