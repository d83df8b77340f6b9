"""The page on speed: measured in turn, at other sizes, by single examples, and what the real runs took."""

from __future__ import annotations

import json

import pandas as pd

from rnn_crosscheck.reports.analysis.findings import Findings
from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.analysis.stages import STAGE_WORDS
from rnn_crosscheck.reports.analysis.timing import WIDE
from rnn_crosscheck.reports.analysis.verdicts import UNMEASURED
from rnn_crosscheck.reports.pages.markdown import Column, escape, folded, number, text, texts
from rnn_crosscheck.reports.pages.page import Blocks, Page, Shown, folded_table, shown_table
from rnn_crosscheck.reports.pages.verdict import speed_in_words
from rnn_crosscheck.reports.writing import (
    count,
    decimals,
    interval,
    listing,
    megabytes,
    named,
    scientific,
    significant,
)

_TWO = decimals(2)


def finding(shown: Shown) -> str:
    """Say whose training step is faster."""
    findings = shown.findings
    if findings.timings.empty and findings.training.empty and not shown.comparison.timings.failures:
        return ""
    if findings.timings.empty:
        return "Nothing was measured in turn, so there are no ratios; times of single runs drift with the machine."
    return " ".join(speed_in_words(findings)) or _untold(findings)


def _untold(findings: Findings) -> str:
    alone = findings.timings["backend"].nunique() == 1
    return f"Only {escape(baseline(findings))} was timed." if alone else "No training step was timed in turn."


def blocks(shown: Shown) -> Blocks:
    """Give the page."""
    findings = shown.findings
    failures = shown.comparison.timings.failures
    yield "\n".join(f"- **{escape(name)} was not timed**: {escape(reason)}" for name, reason in failures.items())
    if len(findings.timings):
        yield from _in_turn(shown)
    if len(findings.sweep):
        yield from _other_sizes(shown)
    if len(findings.training):
        yield "## The real runs"
        yield from _training(findings.training)
    facts = shown.comparison.facts
    if facts.encode_seconds > 0:
        yield (
            f"Reading and encoding the dataset took {significant(facts.encode_seconds)} s when it was loaded first "
            f"({count(facts.encoded_examples)} examples, {significant(facts.encoded_examples / facts.encode_seconds)} "
            "a second); it is the same for all backends, and kept."
        )


def baseline(findings: Findings) -> str:
    """Name the backend that the others' times are divided by."""
    timed = findings.timings
    names = timed.loc[timed["baseline"], "backend"]
    return str(names.iloc[0]) if len(names) else "the baseline"


def timing_columns() -> list[Column]:
    """Give the columns of a table of times."""
    return [
        text("model", "model"),
        Column("operation", ("operation",), operation_in_words, right=False),
        backend_column(),
        *_ratio_columns(),
        number("threads", "threads", count),
        number("peak, MB", "peak_bytes", megabytes),
    ]


def _ratio_columns() -> list[Column]:
    return [
        Column("ratio", ("ratio", "wide_low"), lambda ratio, wide: _TWO(ratio) if pd.isna(wide) else UNMEASURED),
        Column("95 % interval", ("low", "high", "baseline"), _ratio_interval),
        number("ms", "ms", significant),
        number("examples/s", "examples_per_s", significant),
    ]


def _unmeasured(timed: pd.DataFrame) -> Blocks:
    """Say of which ratios nothing is known, and what may be to blame."""
    for row in each(timed[timed["wide_low"].notna()]):
        size = f" at {row.axis} {count(row.size)}" if "axis" in timed else ""
        load = f", and the machine's load was {row.load:.1f}" if row.load else ""
        wants = f"{count(row.threads)} thread{'s' if row.threads > 1 else ''}"
        yield (
            f"**Not measured**: {escape(row.model)} {operation_in_words(row.operation)}{size}, "
            f"{escape(named(row.backend, row.setting))}. Its interval, {interval(_TWO)(row.wide_low, row.wide_high)}, "
            f"spans more than a factor of {WIDE:g}. It takes {wants}{load}."
        )


def backend_column() -> Column:
    """Give the column that names a backend with its setting."""
    return Column("backend", ("backend", "setting"), lambda name, setting: escape(named(name, setting)), right=False)


def operation_in_words(operation: str) -> str:
    """Write the name of an operation."""
    return operation.replace("_", " ")


def _in_turn(shown: Shown) -> Blocks:
    findings = shown.findings
    timed = findings.timings
    base = baseline(findings)
    kept = timed.loc[timed["memory_kept"], "setting"].unique()
    if shown.figure("ratios", ""):
        said = [
            f"{row.model} {operation_in_words(row.operation)}, {named(row.backend, row.setting)}: {row.ratio:.2f}"
            for row in each(timed[~timed["baseline"] & timed["ratio"].notna()])
        ]
        yield shown.figure("ratios", f"Time in times of {base}'s. {'; '.join(said)}")
    yield from shown_table("Times of every operation", timed, timing_columns(), "times")
    yield from _unmeasured(timed)
    memory = f" Workers in the setting {listing(list(kept))} keep the memory that they free." if len(kept) else ""
    yield f"{_rounds(timed)}{memory}"
    yield _noise(findings)
    if len(findings.tuned):
        yield _tuned(findings)
    if (timed["setting"] == "tuned").any() and (left_out := _left_out(shown)):
        overrides = (word for override in left_out.values() for word in ("--crosscheck-set", override))
        yield f"Left out in tuned settings: {listing(list(left_out))}. This adds it: {shown.command(*overrides)}"
    if drift := shown.figure("drift", _drift_in_words(findings.drift)):
        yield folded(
            "What the machine did meanwhile",
            drift,
            "Each round in times of the median of its worker's own rounds. What all lines do together cancels in the "
            "ratios. Dashed: tuned settings; dotted: the baseline's second worker; upright: workers were started "
            "afresh. Rounds beyond an edge are drawn at it.",
        )
    yield _first_calls(timed)
    if len(findings.single):
        yield "## One example at a time"
        yield from _single_examples(findings.single)


def _ratio_interval(low: float, high: float, baseline: bool) -> str:
    return "baseline" if baseline else interval(_TWO)(low, high)


def _rounds(timed: pd.DataFrame) -> str:
    """Say how many rounds there were and why they ended."""
    fewest, most = timed["rounds"].min(), timed["rounds"].max()
    rounds = f"{fewest} to {most}" if fewest < most else f"{most}"
    stopped = timed["stopped"].value_counts()
    why = [
        f"{stopped[reason]} {words}"
        for reason, words in (
            ("target", "because every ratio was known well enough"),
            ("limit", "at the limit of rounds"),
            ("time", "at the limit of time"),
        )
        if reason in stopped
    ]
    starts = int(timed["starts"].max())
    over = f" over {starts} starts of the workers" if starts > 1 else ""
    return f"{rounds} rounds{over}; of {len(timed)} rows, they ended in {listing(why)}."


def _noise(findings: Findings) -> str:
    again = findings.again
    if again.empty:
        return "There is no A/A pair (the baseline measured against itself), so the machine's noise is not known."
    said = [
        f"{escape(row.model)} {operation_in_words(row.operation)} {_TWO(row.ratio)} {interval(_TWO)(row.low, row.high)}"
        for row in each(again)
    ]
    return (
        f"A/A, {escape(baseline(findings))} against a second worker of itself: {'; '.join(said)}. That is the noise of "
        "this machine: a ratio inside it is not a difference."
    )


def _tuned(findings: Findings) -> str:
    """Say whether tuned settings compute the same."""
    good = findings.tuned[findings.tuned["failed"] == ""]
    bad = findings.tuned[findings.tuned["failed"] != ""]
    lines = []
    if len(good):
        who = listing([f"{escape(row.backend)} ({escape(row.model)})" for row in each(good)])
        lines.append(f"Tuned settings compute the same: matched models keep every stage within its tolerance ({who}).")
    for row in each(bad):
        lines.append(
            f"**{escape(row.backend)}, {escape(row.model)}, {escape(row.setting)}, computes something else**: "
            f"{STAGE_WORDS[row.failed]} has an error of {scientific(row.error)}, its tolerance is "
            f"{scientific(row.tolerance)}. Its times are no times of the same work."
        )
    return "\n".join(f"- {line}" for line in lines)


def _left_out(shown: Shown) -> dict[str, str]:
    """Name what the protocol leaves out in tuned settings, with the override that adds it."""
    protocol = shown.comparison.manifest.protocol
    left_out = {}
    if "tuned" not in protocol.parity.settings:
        left_out["the stages against the reference"] = 'parity.settings=["default","tuned"]'
    if not set(protocol.timing.operations) <= set(protocol.timing.tuned_operations):
        left_out["other operations"] = f"timing.tuned_operations={json.dumps(protocol.timing.operations)}"
    return left_out


def _drift_in_words(drift: pd.DataFrame) -> str:
    said = [
        f"{model} {operation_in_words(operation)} from {group['value'].min():.2f} to {group['value'].max():.2f}"
        for (model, operation), group in grouped(drift, "model", "operation")
    ]
    return f"Every round in times of its worker's median. {'; '.join(said)}"


def _fastest(swept: pd.DataFrame) -> list[str]:
    """Name the fastest of each panel, in words for who can't see the figure."""
    said = []
    for (model, operation, axis), group in grouped(swept, "model", "operation", "axis"):
        best = next(each(group.nlargest(1, "examples_per_s")))
        said.append(
            f"{model} {operation_in_words(operation)} by {axis}: most with {named(best.backend, best.setting)} at "
            f"{best.size}, {significant(best.examples_per_s)}"
        )
    return said


def _first_calls(timed: pd.DataFrame) -> str:
    columns = [
        text("model", "model"),
        Column("operation", ("operation",), operation_in_words, right=False),
        backend_column(),
        number("build, s", "build_s", significant),
        number("trace and compile, s", "trace_s", significant),
        Column("a later call, s", ("ms",), lambda ms: significant(ms / 1e3)),
        number("all, s", "first_call_s", significant),
    ]
    return folded_table("The first call: build, trace, compile", timed, columns, "the-first-call")


def _single_examples(single: pd.DataFrame) -> Blocks:
    columns = [
        text("model", "model"),
        backend_column(),
        number("p50, ms", "p50_ms", significant),
        number("p95, ms", "p95_ms", significant),
        number("p99, ms", "p99_ms", significant),
        number("calls", "calls", count),
        number("threads", "threads", count),
    ]
    yield from shown_table("Single examples", single, columns, "single-examples")


def _other_sizes(shown: Shown) -> Blocks:
    yield "## Other batch sizes and lengths"
    swept = shown.findings.sweep
    yield shown.figure("sweep", f"Examples a second. {'; '.join(_fastest(swept))}")
    columns = [
        text("model", "model"),
        Column("operation", ("operation",), operation_in_words, right=False),
        text("over", "axis"),
        number("size", "size", count),
        backend_column(),
        *_ratio_columns(),
    ]
    yield from shown_table("Every size", swept, columns, "other-sizes")
    yield from _unmeasured(swept)


def _training(training: pd.DataFrame) -> Blocks:
    columns = [
        *texts("model", "division", "backend"),
        *([text("machine", "machine")] if training["machine"].any() else []),
        Column("epoch, s (sd)", ("epoch_s", "epoch_sd"), _with_sd),
        number("first step, s", "first_step_s", significant),
        number("start, s", "start_s", significant),
        number("predict, s", "predict_s", significant),
        number("peak, MB", "peak_bytes", megabytes),
        Column("runs (side by side)", ("runs", "jobs"), lambda runs, jobs: f"{runs} ({jobs})"),
    ]
    if (kept := training["memory_kept"]).any():
        who = "These runs" if kept.all() else "Some of these runs"
        yield f"{who} kept the memory that they freed, so their steps may be shorter than those timed by default."
    yield from shown_table("Training times", training, columns, "the-real-runs")


def _with_sd(mean: float, sd: float) -> str:
    return significant(mean) if pd.isna(sd) else f"{significant(mean)} ({significant(sd)})"


PAGE = Page("speed", "Speed", finding, blocks)
