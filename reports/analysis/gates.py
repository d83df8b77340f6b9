"""Judges the gates of ``--crosscheck-fail-if``: what got worse for sure, and what can't be told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rnn_crosscheck.harness.session.gates import Gate, Rule
from rnn_crosscheck.reports.analysis.changes import Changes
from rnn_crosscheck.reports.analysis.frames import each
from rnn_crosscheck.reports.writing import percent, plain, significant


@dataclass(frozen=True)
class Judged:
    """What became of the gates, in sentences.

    Attributes
    ----------
    breaches
        One sentence a cell whose interval lies beyond the bound.
    unjudged
        What could not be judged, and why.
    held
        Gates that no judged cell breaks.
    caveats
        What else a change may come from.
    """

    breaches: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Verdict:
    """One cell: a breach, a reason why it can't be judged, or neither."""

    cell: str
    breach: str = ""
    reason: str = ""


def judge(changes: Changes, gates: Sequence[Gate]) -> Judged:
    """Hold the changes against the gates.

    A gate is broken only by an interval that lies beyond its bound as a whole, never by a mean, and a cell without an
    interval breaks none: it could not be judged.
    """
    breaches, unjudged, held = [], [], []
    for gate in gates:
        found = [] if changes.problem else list(_JUDGES[gate.rule](changes, gate.bound))
        broken = [f"{gate}: {verdict.breach}" for verdict in found if verdict.breach]
        reasons: dict[str, list[str]] = {}
        for verdict in found:
            if verdict.reason:
                reasons.setdefault(verdict.reason, []).append(verdict.cell)
        judged = len(found) - sum(map(len, reasons.values()))
        breaches += broken
        unjudged += [f"{gate} could not be judged for {'; '.join(cells)}: {why}." for why, cells in reasons.items()]
        if not found:
            unjudged.append(f"{gate} could not be judged: {changes.problem or _NOTHING[gate.rule](changes)}")
        elif judged and not broken:
            held.append(f"{gate}: no interval clears the bound ({judged} judged).")
    caveats = []
    if gates and changes.other_protocol:
        caveats.append(f"The protocols differ ({', '.join(changes.protocol['what'])}): a change may come from that.")
    return Judged(tuple(breaches), tuple(unjudged), tuple(held), tuple(caveats))


def _accuracy(changes: Changes, bound: float) -> Iterator[_Verdict]:
    for row in each(changes.accuracy):
        cell = _cell(row)
        breach, reason = "", _no_accuracy(changes, row, bound)
        if not reason and row.high < -bound:
            breach = (
                f"{cell}: accuracy fell by {percent(-row.difference)} points, from {percent(row.before)} to "
                f"{percent(row.now)} % (95 % interval {percent(-row.high)} to {percent(-row.low)}, "
                f"{row.seeds} seeds now, {row.seeds_before} before)."
            )
        yield _Verdict(cell, breach, reason)


def _no_accuracy(changes: Changes, row: Any, bound: float) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Say why a drop can't be judged, or nothing."""
    if not row.seeds:
        return "there is no result now"
    if not row.seeds_before:
        return "there is no result before"
    if not changes.same_examples:
        return "the test examples are others than before, and a drop may be theirs"
    if min(row.seeds, row.seeds_before) == 1:
        return "with one seed there is no interval over seeds"
    # Seeds that don't spread at all have no interval either; without a drop beyond the bound, none is needed.
    return "the seeds don't spread, so there is no interval" if pd.isna(row.low) and -row.difference > bound else ""


def _disagreement(changes: Changes, bound: float) -> Iterator[_Verdict]:
    for row in each(changes.disagreement):
        cell = _cell(row)
        breach, reason = "", "" if row.seeds else "no seed is in both comparisons"
        if row.low > bound:
            seeds = "one seed" if row.seeds == 1 else f"{row.seeds} seeds"
            breach = (
                f"{cell}: {percent(row.disagreement)} % of the predictions are others than before (95 % interval "
                f"{percent(row.low)} to {percent(row.high)} over {row.over}, {seeds})."
            )
        yield _Verdict(cell, breach, reason)


def _slowdown(changes: Changes, bound: float) -> Iterator[_Verdict]:
    for row in each(changes.timings[changes.timings["operation"] == "train_step"]):
        setting = "" if row.setting == "default" else f", {row.setting}"
        cell = plain(f"{row.model} of {row.backend}{setting}")
        breach, reason = "", _no_time(changes, row)
        ratio, low, high, relative = row.ratio, row.low, row.high, ""
        if row.base:
            ratio, low, high = row.change, row.change_low, row.change_high
            relative = f"relative to {plain(row.base)}'s "
        # Two workers of one backend stand as far apart as the noise: that is no slowdown.
        if not reason and low > max(1 + bound, row.noise):
            breach = (
                f"{cell}: a training step {relative}takes {significant(ratio)} times as long as before (95 % interval "
                f"{significant(low)} to {significant(high)})."
            )
        yield _Verdict(cell, breach, reason)


def _no_time(changes: Changes, row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Say why a slowdown can't be judged, or nothing."""
    if pd.isna(row.ms):
        return "it was not timed now"
    if pd.isna(row.ms_before):
        return "it was not timed before"
    if row.unlike:
        return f"the timed calls are other work ({row.unlike})"
    if row.base:
        return _NO_SPREAD if pd.isna(row.change_low) else ""
    if not changes.same_machine:
        return "there is no ratio to a baseline backend, and times of different machines say nothing"
    return _NO_SPREAD if pd.isna(row.low) else ""


def _cell(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    return plain(f"{row.division} {row.model} of {row.backend}")


_JUDGES: Mapping[Rule, Callable[[Changes, float], Iterator[_Verdict]]] = {
    "accuracy-drop": _accuracy,
    "step-slowdown": _slowdown,
    "disagreement": _disagreement,
}

_NO_SPREAD = "its rounds give no interval"

#: why there is no cell at all
_NOTHING: Mapping[Rule, Callable[[Changes], str]] = {
    "accuracy-drop": lambda changes: "no run has a result.",
    "step-slowdown": lambda changes: "no training step was timed.",
    "disagreement": lambda changes: changes.refused or "no cell has results in both comparisons.",
}
