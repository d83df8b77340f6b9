"""The page of runs: every run, every epoch, and the environment."""

from __future__ import annotations

import pandas as pd

from rnn_crosscheck.reports.pages.data import facts_table
from rnn_crosscheck.reports.pages.examples import EXAMPLES_FILE
from rnn_crosscheck.reports.pages.export import STORED, is_stored
from rnn_crosscheck.reports.pages.markdown import Column, code, escape, fenced, folded, number, table, text
from rnn_crosscheck.reports.pages.page import Blocks, Page, Shown, folded_table, shown_table
from rnn_crosscheck.reports.writing import count, decimals, interval, megabytes, percent, significant

_THREE = decimals(3)

#: backends that a table has columns for
_ACROSS = 8


def finding(shown: Shown) -> str:
    """Say how many runs went well, and how long they took."""
    runs = shown.findings.runs
    if runs.empty:
        return "No run was asked for."
    good = int((runs["status"] == "ok").sum())
    return f"{good} of {len(runs)} runs have a result; {significant(runs['total_s'].sum() / 60)} minutes in all."


def blocks(shown: Shown) -> Blocks:
    """Give the page."""
    findings = shown.findings
    if len(findings.runs):
        yield from _lost(shown)
        yield from _runs(findings.runs)
    if len(findings.good):
        whole = STORED if is_stored(shown.comparison) else EXAMPLES_FILE
        yield (
            "Every prediction is kept: a run's in `runs/<run>/predictions.parquet` (example id, label, probability), "
            f"and all of them in columns beside the texts in `{whole}`, which `rnn-crosscheck predictions` reads."
        )
    if len(findings.curves):
        yield _epochs(findings.curves)
    yield from _environment(shown)


def _lost(shown: Shown) -> Blocks:
    runs = shown.findings.runs
    for run_id, run in runs[runs["status"] != "ok"].iterrows():
        if run["status"] == "not run":
            yield f"- **{escape(str(run_id))}** was not run."
            continue
        if run["status"] == "damaged":
            yield f"- **{escape(str(run_id))}** is damaged: {escape(shown.comparison.left_out[str(run_id)])}"
            continue
        killed = f" (signal {escape(run['signal'])})" if run["signal"] else ""
        yield f"- **{escape(str(run_id))}** {run['status']}{killed}: {escape(run['reason'])}"
        failure = shown.comparison.results[str(run_id)].failure
        if failure and failure.log_tail.strip():
            yield folded(f"Last lines of the log of {escape(str(run_id))}", fenced(failure.log_tail))
    for name, reason in shown.comparison.left_out.items():
        if name not in runs.index:
            yield f"- {code(name)} is left out: {escape(reason)}"
    for run_id, reason in shown.comparison.variants.lost.items():
        yield f"- **{escape(run_id)}**, held against the other runs, failed: {escape(reason)}"


def _runs(runs: pd.DataFrame) -> Blocks:
    columns = [
        Column("run", ("run_id",), escape, right=False),
        text("status", "status"),
        Column("accuracy, %", ("accuracy", "low", "high"), _accuracy),
        number("loss", "loss", _THREE),
        number("train loss", "train_loss", _THREE),
        number("valid loss", "valid_loss", _THREE),
        number("epochs", "epochs", count),
        number("train, s", "train_s", significant),
        number("peak, MB", "peak_bytes", megabytes),
    ]
    yield from shown_table("Runs", runs.rename_axis("run_id").reset_index(), columns, "runs")


def _accuracy(share: float, low: float, high: float) -> str:
    return percent(share) if pd.isna(low) else f"{percent(share)} {interval(percent)(low, high)}"


def _epochs(curves: pd.DataFrame) -> str:
    columns = [
        Column("run", ("run_id",), escape, right=False),
        number("epoch", "epoch", count),
        number("train loss", "train_loss", _THREE),
        number("train accuracy, %", "train_accuracy", percent),
        number("valid loss", "valid_loss", _THREE),
        number("valid accuracy, %", "valid_accuracy", percent),
        number("s", "seconds", significant),
    ]
    return folded_table("Every epoch of every run: training and validation loss and accuracy", curves, columns)


def _environment(shown: Shown) -> Blocks:
    manifest, facts = shown.comparison.manifest, shown.comparison.facts
    yield "## Environment"
    known = {
        **manifest.machine,
        "device": manifest.device,
        "threads of a worker": str(manifest.protocol.workers.threads),
        "commit": manifest.commit,
        "fingerprint of the dataset": facts.fingerprint,
    }
    yield facts_table({what: value for what, value in known.items() if value})
    yield from _machines(shown)
    frame = shown.findings.environment
    names = [name for name in frame.columns if name != "fact"]
    for start in range(0, len(names), _ACROSS):
        columns = [text("", "fact"), *(text(name, name) for name in names[start : start + _ACROSS])]
        yield table(frame, columns)
    if facts.inputs_hash:
        yield f"Hash of the test inputs (ids, labels and tokens), equal in every run: {code(facts.inputs_hash)}"


def _machines(shown: Shown) -> Blocks:
    """List the machines of a cluster that trained."""
    trained = pd.DataFrame([result.machine for result in shown.comparison.results.values() if result.machine])
    if trained.empty or trained["node"].nunique() == 1:
        return
    counted = trained.fillna("").value_counts().rename("runs").reset_index().sort_values("node")
    kinds = [text(name, name) for name in ("node", "cpu", "cores", "system", "python")]
    yield "Runs were trained on these machines:"
    yield table(counted, [*kinds, number("runs", "runs", count)])


PAGE = Page("runs", "Runs and environment", finding, blocks)
