"""The section of the report on why backends differ: verdicts, divergence, stages, ranked causes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from rnn_crosscheck.reports.analysis.divergence import ENOUGH_TWINS, HORIZON, ROUNDING, SATURATED, SLACK
from rnn_crosscheck.reports.analysis.findings import Findings, Why
from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.analysis.stages import STAGE_WORDS, others
from rnn_crosscheck.reports.pages import tables
from rnn_crosscheck.reports.pages.answer import judgements
from rnn_crosscheck.reports.pages.markdown import escape, folded, image, note
from rnn_crosscheck.reports.read.comparison import Comparison
from rnn_crosscheck.reports.writing import count, listing, megabytes, percent, scientific

#: causes that are named in front of their table
_FIRST_CAUSES = 3

Blocks = Iterator[str]


def why_they_differ(comparison: Comparison, findings: Findings, figures: Mapping[str, str]) -> Blocks:
    """Write the section block by block; `figures` maps the names of the figures that there are to their paths."""
    why = findings.why
    if findings.runs.empty:
        return
    yield "## Why they differ"
    if why.curves.empty and why.stages.empty and why.effects.empty and why.accuracy.empty:
        yield (
            "Nothing was recorded about it: no stages against the reference, no traced runs with their twins, no "
            "effects of known factors."
        )
        return
    yield "\n".join(f"- {sentence}" for sentence in judgements(why)) or (
        "There is no matched pair of backends to judge."
    )
    if len(why.verdicts):
        yield note(
            "A twin is a run again that rounding alone sets apart from it. Different: a stage of a matched model is "
            f"out of its tolerance, or the pair stands more than {SLACK:g} times as far apart as all continuing twins "
            "do by the next recorded step (largest difference in probability, taken as a running maximum). "
            "Equivalent: neither, up to where the twins are so far apart that nothing can be told from it "
            f"({SATURATED:g}). Differences up to {scientific(ROUNDING)} are float32's rounding and never count. "
            f"Undecided: fewer than {ENOUGH_TWINS} continuing twins."
        )
    yield _what_was_recorded(comparison, why)
    yield from _divergence(comparison, findings, figures)
    yield from _stages(findings)
    yield from _causes(findings)


def _what_was_recorded(comparison: Comparison, why: Why) -> str:
    """Say under which conditions the section's figures hold, and what of it was not recorded."""
    protocol = comparison.manifest.protocol
    said = []
    if comparison.traces and len(why.courses):
        own = [comparison.results[run_id] for run_id in comparison.traces if run_id in comparison.results]
        probes = max(len(trace.probes) for trace in comparison.traces.values())
        seeds = listing(sorted({result.spec.seed for result in own}))
        said.append(f"Matched runs of seed {seeds}, traced on {count(probes)} probes (the first test examples).")
    else:
        said.append("No run was traced, so there is no divergence curve.")
    said.append(_twins_in_words(why.horizons))
    if why.stages.empty:
        said.append("No stages were recorded.")
    if why.effects.empty:
        said.append("No effects of known factors were recorded.")
    if protocol.training.clipnorm > 0:
        said.append(
            f"Gradients were clipped to a global norm of {protocol.training.clipnorm:g} (`training.clipnorm`) in "
            "every run."
        )
    return " ".join(said)


def _twins_in_words(horizons: pd.DataFrame) -> str:
    """Count the twins of each kind, once if every backend and model has as many."""
    if horizons.empty:
        return "There are no twins."
    said = []
    places = horizons[["backend", "model"]].drop_duplicates()
    for kind, rows in grouped(horizons, "kind"):
        if rows["twins"].nunique() == 1 and len(rows) == len(places):
            said.append(f"{rows['twins'].iloc[0]} {kind}")
        else:
            each_place = [f"{row.twins} of {escape(row.backend)}'s {escape(row.model)}" for row in each(rows)]
            said.append(f"{kind} {listing(each_place)}")
    return f"Twins of each of them: {'; '.join(said)}."


def _divergence(comparison: Comparison, findings: Findings, figures: Mapping[str, str]) -> Blocks:
    why = findings.why
    if why.curves.empty:
        return
    yield "### Step by step, and the horizon"
    if "divergence" in figures:
        yield image(figures["divergence"], _divergence_in_words(why))
        yield note(
            "Steps and differences are on logarithmic axes. Thick: matched pairs. Thin: continuing twins in their "
            "backend's colour; dashed: initial twins. Dotted: the horizon. Below: gradient norm and loss of each "
            "backend's own run, the largest of each stretch of steps. No difference at all is drawn at the lower edge."
        )
    yield _horizons_in_words(why)
    if why.horizons["horizon"].notna().any() and not comparison.manifest.protocol.training.clipnorm:
        yield (
            'Beyond the horizon, single seeds and "the same seed in both frameworks" say nothing. What may tame it: '
            "`--crosscheck-set training.clipnorm=1`, which clips gradients to a global norm."
        )
    yield tables.divergence(findings)
    yield "At the end of training:"
    yield tables.ends(findings)


def _divergence_in_words(why: Why) -> str:
    said = []
    for (model, kind), group in grouped(why.curves, "model", "kind"):
        ends = group.groupby("step")["max"].max()
        name = "matched pair" if kind == "matched" else f"{kind} twins"
        said.append(f"{model} {name} from {scientific(ends.iloc[0])} to {scientific(ends.iloc[-1])}")
    spikes = [f"{model} {scientific(rows['gradient_norm'].max())}" for model, rows in grouped(why.courses, "model")]
    return (
        f"Largest difference in probability by step, first to last: {'; '.join(said)}. Largest gradient norm: "
        f"{', '.join(spikes)}"
    )


def _horizons_in_words(why: Why) -> str:
    """Say where the twins of each backend and model pass the horizon."""
    if why.horizons.empty:
        return ""
    said = []
    models = [model for model, _ in grouped(why.curves, "model")]
    in_order = why.horizons.sort_values("model", key=lambda names: names.map(models.index), kind="stable")
    for (model, kind), rows in grouped(in_order, "model", "kind"):
        steps = [
            f"{escape(row.backend)} "
            + (f"none in {count(row.last)} steps" if math.isnan(row.horizon) else f"step {count(row.horizon)}")
            for row in each(rows)
        ]
        said.append(f"{escape(model)}, {kind} twins: {listing(steps)}")
    return f"First recorded step at which a twin passes {HORIZON:g}: {'; '.join(said)}."


def _stages(findings: Findings) -> Blocks:
    why = findings.why
    if why.stages.empty:
        return
    yield "### Stage by stage"
    if (why.stages["division"] == "matched").any():
        yield tables.stages(findings)
    kinked = why.records[why.records["compared"].notna() & (why.records["division"] == "matched")]
    if len(kinked):
        said = [
            f"{escape(row.backend)}, {escape(row.model)} {count(row.flipped)} of {count(row.compared)}"
            + (f", none further from 0 than {scientific(row.largest)}" if row.flipped else "")
            for row in each(kinked)
        ]
        yield (
            f"Relu units that are on in a matched model and off in the reference, or the other way round: "
            f"{'; '.join(said)}. Such a flip is rounding at the kink of a relu, not a fault."
        )
    native = why.records[why.records["division"] == "native"]
    if len(native):
        yield "What each framework's own defaults do otherwise (findings, not failures):"
        yield "\n".join(f"- {_leaves(row)}" for row in each(native))
    rows = len(why.stages)
    cost = (
        f"Recording them took {scientific(why.records['seconds'].sum())} s in all and "
        f"{megabytes(why.records['peak_memory_bytes'].max())} MB at most."
    )
    yield folded(f"Every parameter at every stage ({rows} rows)", tables.every_stage(findings), cost)


def _leaves(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Say where a native model leaves the matched arithmetic, and with which switches the reference does the same."""
    name = f"{escape(row.backend)}, {escape(row.model)}, native"
    if not row.stage:
        return f"{name}: keeps to the matched arithmetic at every stage."
    said = (
        f"{name}: leaves the matched arithmetic at the stage *{STAGE_WORDS[row.stage]}* ({escape(row.parameter)}: "
        f"{scientific(row.error)} / {scientific(row.tolerance)})"
    )
    over = f"error over tolerance {scientific(row.explained)} (without: {scientific(row.unexplained)})"
    if not row.values:
        return f"{said}; no switch of the reference is known to do the same."
    source = "as the backend declares" if row.declared else "found by trying the known switches"
    if row.explained > 1:
        return f"{said}; the reference with {escape(row.values)} comes closest, but does not reproduce it: {over}."
    return f"{said}; reproduced by the reference with {escape(row.values)}, {source}: {over}."


def _causes(findings: Findings) -> Blocks:
    why = findings.why
    if why.effects.empty and why.accuracy.empty:
        return
    yield "### Ranked causes"
    for (a, b), rows in grouped(why.causes, "a", "b"):
        firsts = [
            f"{escape(model)}: "
            + ", ".join(f"{row.rank}. {escape(row.title)} ({_size(row)})" for row in each(mine.head(_FIRST_CAUSES)))
            for model, mine in grouped(rows, "model")
        ]
        yield f"**{escape(a)} against {escape(b)}, native.** {'; '.join(firsts)}."
        yield tables.causes(rows)
    if len(why.causes):
        measured = bool(why.causes["seeds"].max())
        ranked = (
            "by the size of the effect on test accuracy (matched runs with that factor alone switched, minus matched "
            "runs of the same seeds, mean over the backends of the pair that were trained so), then, where that was "
            "not measured, by the mean difference"
            if measured
            else "by the mean difference, since no run with a switched factor was trained"
        )
        yield note(
            "Factors that are so in exactly one of the two frameworks' own defaults, each switched alone in the "
            f"float64 reference from what matched models have. Ranked {ranked}. Differences: in probability over the "
            "probes, after the last recorded step. An effect within the horizon isn't an effect on accuracy: it says "
            "how soon and how far a factor moves a trajectory, not which way."
        )
    elif len(why.effects):
        yield "No known factor is native in exactly one backend of a pair."
    rest = others(why.effects, why.causes)
    if len(rest):
        yield folded(f"Factors that set no pair apart ({len(rest)} rows)", tables.other_factors(findings))
    if len(why.accuracy):
        yield folded("Effect of each factor on accuracy, by backend", tables.accuracy_effects(findings))


def _size(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Give the size of a cause, by what it is ranked by."""
    if not row.seeds:
        return f"mean difference {scientific(row.mean)}"
    span = "" if math.isnan(row.low) else f" [{percent(row.low)}, {percent(row.high)}]"
    return f"accuracy {percent(row.difference)}{span} points"
