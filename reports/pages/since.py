"""The page on what changed since an earlier comparison."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from rnn_crosscheck.reports.analysis.changes import Changes
from rnn_crosscheck.reports.analysis.frames import each, grouped, records
from rnn_crosscheck.reports.analysis.timing import is_wide
from rnn_crosscheck.reports.analysis.verdicts import UNMEASURED
from rnn_crosscheck.reports.pages.markdown import Column, code, escape, number, plain_table, text, texts
from rnn_crosscheck.reports.pages.page import Blocks, Page, Shown, folded_table, shown_table
from rnn_crosscheck.reports.pages.speed import backend_column, operation_in_words
from rnn_crosscheck.reports.writing import NONE, count, decimals, interval, named, percent, plain, significant

_TWO = decimals(2)

#: values of the protocol that are spelled out; the table has the rest
_SPELLED_OUT = 6


def finding(shown: Shown) -> str:
    """Say the most important change."""
    since = shown.findings.since
    if since is None:
        return ""
    if since.problem:
        return f"Nothing can be said about the earlier comparison {code(since.place)}: {escape(since.problem)}"
    if since.nothing:
        return "No backend and model has results in both comparisons, so nothing can be compared."
    return " ".join(in_short(since))


def blocks(shown: Shown) -> Blocks:
    """Give the page."""
    since = shown.findings.since
    if since is None or since.problem:
        return
    commit = f", commit {code(since.commit)}" if since.commit else ""
    yield f"Compared with {code(since.place)}, made {escape(since.created)}{commit}. {' '.join(_told(since))}"
    rows = since.conditions
    shown_rows = rows if len(since.protocol) > _SPELLED_OUT else rows[rows["of"] != "protocol"]
    yield folded_table("Conditions that differ", shown_rows, _condition_columns())
    if since.nothing:
        return
    if len(since.accuracy):
        yield "## Accuracy, now and before"
        yield from shown_table("Accuracy", since.accuracy, accuracy_columns(bold=True), "what-changed-since")
    if len(since.disagreement):
        yield "## Predictions, now and before"
        yield from _disagreement(since.disagreement)
    if len(since.timings):
        yield "## Times, now and before"
        yield from _timings(since.timings)


def _told(since: Changes) -> Iterator[str]:
    """Say what the two don't have in common, before any figure."""
    protocol = since.protocol
    may = " A change may come from that." if since.other_protocol else " That is how much was measured, not what."
    if len(protocol) > _SPELLED_OUT:
        yield f"**The protocols differ** in {len(protocol)} values, listed below.{may}"
    elif len(protocol):
        values = [f"{escape(row.what)} is {_value(row.now)}, before {_value(row.before)}" for row in each(protocol)]
        yield f"**The protocols differ**: {'; '.join(values)}.{may}"
    else:
        yield "Both were made under one protocol."
    if since.refused:
        yield escape(since.refused)
    if not since.same_examples:
        yield "Accuracy is given over each one's own examples, so a change may be theirs."
    if not since.same_machine and len(since.timings):
        yield "The machines differ or aren't known, so absolute times of the two say nothing about the backends."


def _value(value: str) -> str:
    return escape(value) or "nothing"


def _condition_columns() -> list[Column]:
    return [
        *texts("of", "what"),
        Column("before", ("before",), lambda value: escape(value) or NONE, right=False),
        Column("now", ("now",), lambda value: escape(value) or NONE, right=False),
    ]


def accuracy_columns(*, bold: bool) -> list[Column]:
    """Give the columns of accuracy now and before; with `bold`, what the interval is sure of is."""

    def difference(value: float, low: float, high: float) -> str:
        written = _signed(value)
        return f"**{written}**" if bold and (low > 0 or high < 0) else written

    return [
        *texts("model", "division", "backend"),
        number("before, %", "before", percent),
        number("now, %", "now", percent),
        Column("now - before, points", ("difference", "low", "high"), difference),
        Column("95 % interval", ("low", "high"), interval(percent)),
        Column("seeds now, before", ("seeds", "seeds_before"), lambda now, before: f"{now}, {before}"),
        Column("same run conditions", ("alike", "shared"), _of),
    ]


def _disagreement(rows: pd.DataFrame) -> Blocks:
    """Show predictions that are others than before."""
    columns = [
        *texts("model", "division", "backend"),
        number("other predictions, %", "disagreement", percent),
        Column("95 % interval", ("low", "high"), interval(percent)),
        Column("interval over", ("over",), lambda over: over or NONE, right=False),
        number("seeds in both", "seeds", count),
        Column("same run conditions", ("alike", "seeds"), _of),
    ]
    yield from shown_table("Predictions", rows, columns, "what-changed-since")


def _timings(timings: pd.DataFrame) -> Blocks:
    """Show times now and before."""
    bases = sorted({base for base in timings["base"] if base})
    base = bases[0] if len(bases) == 1 else "the baseline"
    columns = [
        text("model", "model"),
        Column("operation", ("operation",), operation_in_words, right=False),
        backend_column(),
        Column("ms before, now", ("ms_before", "ms"), lambda *times: ", ".join(map(significant, times))),
        Column("now / before", ("ratio", "low", "high"), _with_interval),
        Column(
            f"times {base}'s before, now", ("relative_before", "relative"), lambda *both: ", ".join(map(_TWO, both))
        ),
        Column("change", ("change", "change_low", "change_high", "noise"), _change),
        Column("A/A band", ("noise",), _band),
    ]
    unlike = [
        f"{escape(why)} ({'; '.join(dict.fromkeys(_timed(row) for row in each(rows)))})"
        for why, rows in grouped(timings[timings["unlike"] != ""], "unlike")
    ]
    if unlike:
        yield f"Other work now than before, so not comparable: {'; '.join(unlike)}."
    yield from shown_table("Times", timings, columns, "what-changed-since")


def _with_interval(value: float, low: float, high: float) -> str:
    if is_wide(low, high):
        return UNMEASURED
    return _TWO(value) if pd.isna(low) else f"{_TWO(value)} {interval(_TWO)(low, high)}"


def _timed(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    return f"{escape(row.model)}, {row.operation.replace('_', ' ')}"


def _change(change: float, low: float, high: float, noise: float) -> str:
    written = _with_interval(change, low, high)
    return f"**{written}**" if written != UNMEASURED and (low > noise or high < 1 / noise) else written


def _band(noise: float) -> str:
    return NONE if noise == 1 else interval(_TWO)(1 / noise, noise)


def _signed(share: float) -> str:
    """Write a difference with its sign; what rounds to nothing has none."""
    written = percent(share)
    return f"+{written}" if share > 0 and written != percent(0) else written


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole}" if whole else NONE


def terminal(since: Changes) -> list[tuple[str, str]]:
    """Give title and plain text of the table that a terminal shows."""
    if since.problem or since.accuracy.empty:
        return []
    return [(f"accuracy since {plain(since.place)}", plain_table(since.accuracy, accuracy_columns(bold=False)))]


def as_rows(since: Changes) -> dict[str, Any]:
    """Give everything that the section says as plain values."""
    return {
        "place": since.place,
        "problem": since.problem or None,
        "created": since.created,
        "commit": since.commit,
        "predictions_refused": since.refused or None,
        "same_examples": since.same_examples,
        "same_machine": since.same_machine,
        "conditions": records(since.conditions),
        "accuracy": records(since.accuracy),
        "disagreement": records(since.disagreement),
        "timings": records(since.timings),
    }


# --- the finding -----------------------------------------------------------------------------------------------


def in_short(since: Changes) -> list[str]:
    """Say the most important change in one sentence, a loss before a gain; nothing if nothing could be compared."""
    if since.problem or since.nothing:
        return []
    said = [*_accuracy_in_short(since), *_predictions_in_short(since), *_steps_in_short(since)]
    differ = ", under another protocol" if since.other_protocol else ""
    return [f"Since the earlier comparison{differ}: {'; '.join(said)}."]


def _accuracy_in_short(since: Changes) -> Iterator[str]:
    known = since.accuracy[since.accuracy["difference"].notna()]
    if known.empty:
        return
    over = "" if since.same_examples else ", over other examples"
    fell, rose = known[known["high"] < 0], known[known["low"] > 0]
    for rows, what, sign in ((fell, "fell", -1), (rose, "rose", 1)):
        if len(rows):
            row = next(each(rows.sort_values("difference", ascending=sign < 0, kind="stable")))
            low, high = sorted((sign * row.low, sign * row.high))
            cells = f", the most of {len(rows)} such changes" if len(rows) > 1 else ""
            yield (
                f"**accuracy {what} by {percent(abs(row.difference))} points** ({_cell(row)}, 95 % interval "
                f"{percent(low)} to {percent(high)}{over}{cells})"
            )
    if len(fell) or len(rose):
        return
    row = next(each(known.loc[[known["difference"].abs().idxmax()]]))
    if known["low"].isna().all():
        yield (
            f"accuracy moved by {_signed(row.difference)} points at most ({_cell(row)}{over}), with too few seeds for "
            "an interval"
        )
    else:
        span = "no interval" if pd.isna(row.low) else f"95 % interval {percent(row.low)} to {percent(row.high)}"
        yield (
            f"no accuracy moved by an interval that excludes 0; the largest move is {_signed(row.difference)} points "
            f"({_cell(row)}, {span}{over})"
        )


def _predictions_in_short(since: Changes) -> Iterator[str]:
    known = since.disagreement[since.disagreement["seeds"] > 0]
    if since.refused:
        yield "predictions can't be held against each other"
    elif len(known):
        row = next(each(known.sort_values("disagreement", ascending=False, kind="stable")))
        if row.disagreement == 0:
            yield "not one prediction of a seed in both is another"
        else:
            yield (
                f"{percent(row.disagreement)} % of the predictions at most are others ({_cell(row)}, 95 % interval "
                f"{percent(row.low)} to {percent(row.high)} over {row.over})"
            )


def _steps_in_short(since: Changes) -> Iterator[str]:
    steps = since.timings[(since.timings["operation"] == "train_step") & (since.timings["unlike"] == "")]
    relative = steps[steps["change_low"].notna()]
    slower = relative[relative["change_low"] > relative["noise"]]
    faster = relative[relative["change_high"] < 1 / relative["noise"]]
    if len(slower) or len(faster):
        found = slower.nlargest(1, "change") if len(slower) else faster.nsmallest(1, "change")
        row = next(each(found))
        yield (
            f"**a training step takes {significant(row.change)} times as long** ({_whose(row)}, relative to "
            f"{escape(row.base)}; {significant(row.change_low)} to {significant(row.change_high)})"
        )
    elif len(relative):
        yield "relative to the baseline backend, no training step became clearly slower or faster"
    # The machine is in these, so they are never said as loudly; but nothing else tells of a slower baseline.
    alone = steps[(steps["base"] == "") & (steps["low"] > steps["noise"])]
    if since.same_machine and len(alone):
        row = next(each(alone.nlargest(1, "ratio")))
        yield (
            f"by the clock a training step takes {significant(row.ratio)} times as long ({_whose(row)}; "
            f"{significant(row.low)} to {significant(row.high)}), which holds what the machine did at the two times"
        )


def _whose(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    return f"{escape(row.model)} of {escape(named(row.backend, row.setting))}"


def _cell(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    return f"{escape(row.model)} of {escape(row.backend)}, {row.division}"


PAGE = Page("since", "What changed since", finding, blocks)
