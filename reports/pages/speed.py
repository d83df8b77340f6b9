"""The section about speed: measured in turn, at other sizes, by single examples, and what the real runs took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from rnn_crosscheck.reports.analysis.findings import Findings
from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.analysis.stages import STAGE_WORDS
from rnn_crosscheck.reports.pages.markdown import (
    Column,
    escape,
    folded,
    image,
    note,
    number,
    plain_table,
    table,
    text,
    unless_long,
)
from rnn_crosscheck.reports.read.comparison import Comparison
from rnn_crosscheck.reports.writing import count, decimals, interval, listing, megabytes, named, scientific, significant

_TWO = decimals(2)


def speed(comparison: Comparison, findings: Findings, figures: Mapping[str, str]) -> Iterator[str]:
    """Give the blocks of the section; none if nothing was timed or trained."""
    failures = comparison.timings.failures
    if findings.timings.empty and findings.training.empty and not failures:
        return
    yield "## Speed"
    if failures:
        yield "\n".join(f"- **{escape(name)} was not timed**: {escape(reason)}" for name, reason in failures.items())
    if len(findings.timings):
        yield from _in_turn(findings, figures)
    else:
        yield "Nothing was measured in turn, so there are no ratios; times of single runs drift with the machine."
    if len(findings.sweep):
        yield from _other_sizes(findings, figures)
    if len(findings.training):
        yield "### The real runs"
        yield unless_long("Training times", len(findings.training), training(findings))
    yield from _encoding(comparison)


def terminal_table(findings: Findings) -> str:
    """Give the timing table as a terminal shows it."""
    wanted = ("model", "operation", "backend", f"times {baseline(findings)}'s", "95 % interval", "ms")
    return plain_table(findings.timings, [column for column in _columns(baseline(findings)) if column.head in wanted])


def baseline(findings: Findings) -> str:
    """Name the backend that the others' times are divided by."""
    timed = findings.timings
    names = timed.loc[timed["baseline"], "backend"]
    return str(names.iloc[0]) if len(names) else "the baseline"


def _in_turn(findings: Findings, figures: Mapping[str, str]) -> Iterator[str]:
    timed = findings.timings
    yield unless_long("Times of every operation", len(timed), timings(findings))
    yield _noise(findings)
    if len(findings.tuned):
        yield _tuned(findings)
    if "ratios" in figures:
        shown = timed[~timed["baseline"] & timed["ratio"].notna()]
        said = [
            f"{row.model} {_words(row.operation)}, {named(row.backend, row.setting)}: {row.ratio:.2f}"
            for row in each(shown)
        ]
        yield image(figures["ratios"], f"Time in times of {baseline(findings)}'s. {'; '.join(said)}")
        yield note(
            "Point and line: ratio with its 95 % interval; grey: the A/A band, inside which nothing is a difference."
        )
    if "drift" in figures:
        yield image(figures["drift"], _drift_in_words(findings.drift))
        yield note(
            "What the machine did meanwhile: each round in times of the median of its worker's own rounds. What all "
            "lines do together cancels in the ratios. Dashed: tuned settings; dotted: the baseline's second worker; "
            "upright: workers were started afresh. Rounds beyond an edge are drawn at it."
        )
    yield folded(f"The first call: build, trace, compile ({len(timed)} rows)", first_calls(findings))
    if len(findings.single):
        yield "### One example at a time"
        yield unless_long("Single examples", len(findings.single), single_examples(findings))


def _columns(base: str) -> list[Column]:
    """Columns of the timing table; `base` names the baseline."""
    return [
        text("model", "model"),
        Column("operation", ("operation",), _words, right=False),
        _backend(),
        number(f"times {base}'s", "ratio", _TWO),
        Column("95 % interval", ("low", "high", "baseline"), _ratio_interval),
        number("ms", "ms", significant),
        number("examples/s", "examples_per_s", significant),
        number("threads", "threads", count),
        number("peak, MB", "peak_bytes", megabytes),
    ]


def _backend() -> Column:
    return Column("backend", ("backend", "setting"), lambda name, setting: escape(named(name, setting)), right=False)


def _words(operation: str) -> str:
    return operation.replace("_", " ")


def _ratio_interval(low: float, high: float, baseline: bool) -> str:
    return "baseline" if baseline else interval(_TWO)(low, high)


def timings(findings: Findings) -> str:
    """Show what was measured in turn."""
    timed = findings.timings
    kept = timed.loc[timed["memory_kept"], "setting"].unique()
    memory = f"Workers in the setting {listing(list(kept))} keep the memory that they free. " if len(kept) else ""
    return (
        table(timed, _columns(baseline(findings)))
        + "\n\n"
        + note(
            "Time in times of the baseline's first (below 1 is faster), taken round by round while the workers of all "
            "backends and settings are alive and take turns: the trimmed mean of the ratios (a fifth of the rounds is "
            "left out at either end) with its interval over rounds and starts; then the same mean of the absolute "
            "times on this machine. A backend alone has its default setting, what its users get; nothing that is timed "
            f"asks for determinism, which the real runs do. {memory}Peak: the most memory of the worker. "
            f"{_rounds(timed)}"
        )
    )


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
        return note("There is no A/A pair (the baseline measured against itself), so the machine's noise is not known.")
    said = [
        f"{escape(row.model)} {_words(row.operation)} {_TWO(row.ratio)} {interval(_TWO)(row.low, row.high)}"
        for row in each(again)
    ]
    return note(
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


def _drift_in_words(drift: pd.DataFrame) -> str:
    said = [
        f"{model} {_words(operation)} from {group['value'].min():.2f} to {group['value'].max():.2f}"
        for (model, operation), group in grouped(drift, "model", "operation")
    ]
    return f"Every round in times of its worker's median. {'; '.join(said)}"


def first_calls(findings: Findings) -> str:
    """Show what is paid once."""
    columns = [
        text("model", "model"),
        Column("operation", ("operation",), _words, right=False),
        _backend(),
        number("build, s", "build_s", significant),
        number("trace and compile, s", "trace_s", significant),
        Column("a later call, s", ("ms",), lambda ms: significant(ms / 1e3)),
        number("all, s", "first_call_s", significant),
    ]
    return (
        table(findings.timings, columns)
        + "\n\n"
        + note(
            "What is paid once, never averaged in. Build: creating the model. Trace and compile: what the first call "
            "took above a later one. All: building and the first call together. The process and the framework are "
            "started before."
        )
    )


def single_examples(findings: Findings) -> str:
    """Show what single calls took."""
    columns = [
        text("model", "model"),
        _backend(),
        number("p50, ms", "p50_ms", significant),
        number("p95, ms", "p95_ms", significant),
        number("p99, ms", "p99_ms", significant),
        number("calls", "calls", count),
        number("threads", "threads", count),
    ]
    return (
        table(findings.single, columns)
        + "\n\n"
        + note(
            "One padded example a call, from tokens to a probability, call by call: half of the calls were quicker "
            "than p50, 95 and 99 in a hundred than p95 and p99, which show what the machine does to a single call."
        )
    )


def _other_sizes(findings: Findings, figures: Mapping[str, str]) -> Iterator[str]:
    yield "### Other batch sizes and lengths"
    swept = findings.sweep
    if "sweep" in figures:
        yield image(figures["sweep"], f"Examples a second. {'; '.join(_fastest(swept))}")
        yield note(
            "Examples a second, both axes logarithmic; batch sizes at the protocol's length, lengths at its batch "
            "size. Dashed: tuned settings."
        )
    yield unless_long("Every size", len(swept), by_size(findings))


def by_size(findings: Findings) -> str:
    """Show every size of a sweep."""
    swept = findings.sweep
    columns = [
        text("model", "model"),
        Column("operation", ("operation",), _words, right=False),
        text("over", "axis"),
        number("size", "size", count),
        _backend(),
        number(f"times {baseline(findings)}'s", "ratio", _TWO),
        Column("95 % interval", ("low", "high", "baseline"), _ratio_interval),
        number("ms", "ms", significant),
        number("examples/s", "examples_per_s", significant),
        number("threads", "threads", count),
    ]
    return table(swept, columns) + "\n\n" + note(_rounds(swept))


def _fastest(swept: pd.DataFrame) -> list[str]:
    """Name the fastest of each panel, in words for who can't see the figure."""
    said = []
    for (model, operation, axis), group in grouped(swept, "model", "operation", "axis"):
        best = next(each(group.nlargest(1, "examples_per_s")))
        said.append(
            f"{model} {_words(operation)} by {axis}: most with {named(best.backend, best.setting)} at {best.size}, "
            f"{significant(best.examples_per_s)}"
        )
    return said


def training(findings: Findings) -> str:
    """Show what the real runs took."""
    columns = [
        text("model", "model"),
        text("division", "division"),
        text("backend", "backend"),
        number("epoch, s", "epoch_s", significant),
        number("sd", "epoch_sd", significant),
        number("first step, s", "first_step_s", significant),
        number("start, s", "start_s", significant),
        number("predict, s", "predict_s", significant),
        number("peak, MB", "peak_bytes", megabytes),
        number("side by side", "jobs", count),
        number("n", "runs", count),
    ]
    said = (
        "Means over n real runs. Epoch: training alone, with its standard deviation over epochs and runs. Start: "
        "from the start of the process to a framework that is ready. Predict: the test examples, once. Peak: the "
        "most memory of any of the runs. Side by side: the most runs that were trained at once; times of a run in "
        "company hold for that company only."
    )
    if (kept := findings.training["memory_kept"]).any():
        who = "These runs" if kept.all() else "Some of these runs"
        said += f" {who} kept the memory that they freed, so their steps may be shorter than those timed by default."
    return table(findings.training, columns) + "\n\n" + note(said)


def _encoding(comparison: Comparison) -> Iterator[str]:
    facts = comparison.facts
    if facts.encode_seconds > 0:
        yield note(
            f"Reading and encoding the dataset took {significant(facts.encode_seconds)} s when it was loaded first "
            f"({count(facts.encoded_examples)} examples, {significant(facts.encoded_examples / facts.encode_seconds)} "
            "a second); it is the same for all backends, and kept."
        )
