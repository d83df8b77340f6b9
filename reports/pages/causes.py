"""The page on causes: whether backends compute the same, where they part, and what known difference does it."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from rnn_crosscheck.reports.analysis.divergence import ENOUGH_TWINS, HORIZON, SLACK
from rnn_crosscheck.reports.analysis.findings import Why
from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.analysis.stages import (
    STAGE_WORDS,
    SURE,
    by_accuracy,
    orders,
    others,
    worst,
)
from rnn_crosscheck.reports.analysis.statistics import UNDECIDED, UNKNOWN
from rnn_crosscheck.reports.pages.markdown import Column, escape, folded, number, table, text, texts
from rnn_crosscheck.reports.pages.page import Blocks, Page, Shown, folded_table, how_to_read, shown_table
from rnn_crosscheck.reports.pages.verdict import stages_in_words
from rnn_crosscheck.reports.read.comparison import Comparison
from rnn_crosscheck.reports.writing import NONE, count, decimals, interval, listing, megabytes, percent, scientific

_TWO = decimals(2)

#: by what causes are ranked: whether every one of known effect was trained with
_RANKED = {
    True: "effect on accuracy (**bold** and first: those that surely have one)",
    False: "mean difference: not every one was trained with",
}

#: what is said of the first causes, by their verdict
_FIRST = {
    SURE: "Surely changes the accuracy",
    UNDECIDED: "Largest effect on the accuracy, but undecided",
    UNKNOWN: "Largest effect on the accuracy, of too few seeds to tell",
    "": "First of the known causes between native models",
}

#: causes that are named in front of their table, and pairs that the finding spells out
_FIRST_CAUSES, _SPELLED_OUT = 3, 4

#: steps of the divergence that a table has columns for
_STEPS = 6


def finding(shown: Shown) -> str:
    """Say whether matched models compute the same, and what the first cause of a difference is."""
    why = shown.findings.why
    if shown.findings.runs.empty and why.stages.empty:
        return ""
    if why.curves.empty and why.stages.empty and why.effects.empty and why.accuracy.empty:
        return "Nothing was recorded: no stages against the reference, no twins, no effects of known factors."
    said = [*false_declarations(why), stages_in_words(why)]
    judged = why.verdicts.head(_SPELLED_OUT)
    several = len(why.verdicts[["a", "b"]].drop_duplicates()) > 1
    pairs = [
        (f"{_pair(row)}, " if several else "") + f"{escape(row.model)} {row.verdict}{_because(row)}"
        for row in each(judged)
    ]
    if pairs:
        said.append(f"Matched pairs beside twins: {'; '.join(pairs)}.")
    firsts = why.causes[why.causes["rank"] == 1].sort_values("verdict", key=lambda said: said.map(list(_FIRST).index))
    firsts = firsts.drop_duplicates(["title", "native_in", "model"])
    for verdict, mine in grouped(firsts, "verdict"):
        names = [
            f"{escape(title)} of {escape(backend)} ({listing([escape(model) for model in rows['model']])})"
            for (title, backend), rows in grouped(mine, "title", "native_in")
        ]
        said.append(f"{_FIRST[verdict]}: {listing(names[:_SPELLED_OUT])}.")
    return " ".join(part for part in said if part)


def false_declarations(why: Why) -> list[str]:
    """Name what backends declare of their native models and isn't so, a sentence a backend."""
    false = why.records[why.records["contradicted"] != ""]
    return [
        f"**What {escape(str(backend))} declares of its native models is false**: "
        f"{'; '.join(f'{escape(row.model)}: {escape(row.contradicted)}' for row in each(rows))}."
        for backend, rows in grouped(false, "backend")
    ]


def _because(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Give in a few words what a verdict rests on."""
    if row.verdict == "undecided":
        return f" ({row.twins} of {ENOUGH_TWINS} continuing twins)" if row.twins < ENOUGH_TWINS else " (no traces)"
    if row.verdict == "equivalent":
        apart = f"they part like twins, from step {count(row.horizon)} on"
        return f" ({'no horizon' if pd.isna(row.horizon) else apart})"
    if isinstance(row.stage, str):
        return f" ({STAGE_WORDS[row.stage]}: {escape(row.parameter)} in {escape(row.backend)})"
    return f" (they part at step {count(row.parts_at)}, sooner than twins)"


def blocks(shown: Shown) -> Blocks:
    """Give the page."""
    why = shown.findings.why
    if why.curves.empty and why.stages.empty and why.effects.empty and why.accuracy.empty:
        return
    yield "\n".join(f"- {sentence}" for sentence in judgements(why)) or "There is no matched pair of backends to judge."
    if len(why.verdicts):
        if (why.verdicts["twins"] < ENOUGH_TWINS).any():
            added = ["--crosscheck-set", f"parity.continuing_twins={ENOUGH_TWINS}"]
            if (why.verdicts["twins"] == 0).any() and shown.comparison.manifest.protocol.parity.twins_in:
                added += ["--crosscheck-set", "parity.twins_in=[]"]
            yield f"This adds the twins that a verdict takes: {shown.command(*added)}"
        yield how_to_read("verdicts-on-matched-pairs")
    yield from _causes(why)
    yield from _stages(why)
    yield from _divergence(shown)


def judgements(why: Why) -> list[str]:
    """Write the verdict on each matched pair as one sentence or two, with the numbers that it rests on."""
    return [f"{escape(row.model)}, {_pair(row)}: **{row.verdict}**. {_judgement(row)}" for row in each(why.verdicts)]


def _judgement(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    twins = f"{count(row.twins)} continuing twin{'' if row.twins == 1 else 's'}"
    if row.verdict == "undecided" and pd.isna(row.last):
        return f"Not both of them were traced ({twins}), so there is no curve to judge. {_checked(row)}"
    if isinstance(row.stage, str):
        said = (
            f"The first stage out of its tolerance is the {STAGE_WORDS[row.stage]} of {escape(row.backend)}: "
            f"{escape(row.parameter)} is {scientific(row.error)} off the reference, where {scientific(row.tolerance)} "
            "is allowed."
        )
        if pd.isna(row.last):
            return said
        return f"{said} Besides, {_apart(row)}{'' if row.twins else '; there are no twins to hold that against'}."
    checked = _checked(row)
    if row.verdict == "undecided":
        there = f"{'is' if row.twins == 1 else 'are'} {twins if row.twins else 'none'}"
        return f"A verdict takes {ENOUGH_TWINS} continuing twins, and there {there}. So far, {_apart(row)}. {checked}"
    if row.verdict == "different":
        when = "no twin passed the horizon" if pd.isna(row.horizon) else f"the horizon is step {count(row.horizon)}"
        return (
            f"They part at step {count(row.parts_at)} ({when}): {scientific(row.parts_difference)} in probability, "
            f"more than {SLACK:g} times the {scientific(row.parts_twins)} that the {twins} reach by the next recorded "
            f"step. {checked}"
        )
    return f"Against {twins}, {_apart(row)}. {checked}"


def _checked(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Say what is known of the stages of a pair none of whose recorded stages failed."""
    stages = {0: "No stages were recorded.", 1: "The stages of one of them were recorded and are within tolerance."}
    return stages.get(row.staged, "Every stage of both is within its tolerance.")


def _apart(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Say how far a pair stands apart before its horizon and at the end, beside twins."""

    def gap(difference: float, twins: float) -> str:
        beside = "" if pd.isna(twins) else f" (twins {scientific(twins)})"
        return f"{scientific(difference)}{beside}"

    last = f"{gap(row.difference, row.difference_twins)} at most over all {count(row.last)} steps"
    if pd.isna(row.horizon):
        passed = f", with no twin past {HORIZON:g}: no horizon was reached" if row.twins else ""
        return f"the largest difference in probability is {last}{passed}"
    if pd.isna(row.calm):
        return f"twins pass {HORIZON:g} at the first recorded step; the largest difference in probability is {last}"
    return (
        f"the largest difference in probability is {gap(row.calm_difference, row.calm_twins)} up to step "
        f"{count(row.calm)}, before the horizon (step {count(row.horizon)}, where a twin passes {HORIZON:g}), "
        f"and {last}"
    )


def _pair(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    return f"{escape(row.a)} and {escape(row.b)}"


# --- ranked causes ------------------------------------------------------------------------------------------


def _causes(why: Why) -> Blocks:
    if why.effects.empty and why.accuracy.empty:
        return
    yield "## Ranked causes"
    if false_declarations(why):
        yield "What rests on a false declaration, named above, is wrong here as well."
    for (a, b), rows in grouped(why.causes, "a", "b"):
        firsts = [
            f"{escape(model)}: "
            + ", ".join(f"{row.rank}. {escape(row.title)} ({_size(row)})" for row in each(mine.head(_FIRST_CAUSES)))
            for model, mine in grouped(rows, "model")
        ]
        yield f"**{escape(a)} against {escape(b)}, native.** {'; '.join(firsts)}."
        yield folded_table(f"Every known cause: {escape(a)} against {escape(b)}", rows, _cause_columns(rows))
    if len(why.causes):
        measured = {by_accuracy(rows) for _, rows in grouped(why.causes, "a", "b", "model")}
        ranked = " or ".join(said for was, said in _RANKED.items() if was in measured)
        unknown = why.causes["mean"].isna().any()
        last = " The effect of what no switch does isn't known; it stands last." if unknown else ""
        yield f"Each factor is switched alone. They are ranked by {ranked}.{last}"
        yield "\n".join(
            f"- {escape(row.model)}, {_pair(row)}: the orders of {count(row.factors)} causes by the size of their "
            f"effect on accuracy and by their first updates correlate by {_TWO(row.correlation)} (Spearman)"
            + (f"; furthest apart: {escape(row.apart)}." if row.apart else ".")
            for row in each(orders(why.causes))
        )
        yield how_to_read("ranked-causes")
    elif len(why.effects):
        yield "No pair of backends differs in a known factor."
    yield folded_table("Factors that set no pair apart", others(why.effects, why.causes), _other_columns())
    yield folded_table(
        "Effect of each factor on accuracy, by backend",
        why.accuracy,
        [
            *texts("model", "backend"),
            text("factor", "title"),
            number("accuracy, points", "difference", percent),
            Column("95 % interval", ("low", "high"), interval(percent)),
            number("seeds", "seeds", count),
        ],
        "ranked-causes",
    )


def _cause_columns(rows: pd.DataFrame) -> list[Column]:
    columns = [
        text("model", "model"),
        number("rank", "rank", count),
        text("cause", "title"),
        Column("native", ("native_in", "native", "a", "b", "beside"), _native_in_both, right=False),
        text("matched", "matched"),
        Column("difference, mean (largest)", ("mean", "max"), _mean_and_largest),
        number("after step", "steps", count),
    ]
    if rows["seeds"].max():
        columns += [
            Column("accuracy, points", ("difference", "low", "high", "verdict"), _accuracy_points),
            number("seeds", "seeds", count),
        ]
    return columns


def _native_in_both(backend: str, value: str, a: str, b: str, beside: str) -> str:
    return escape(f"{backend}: {value}" + (f"; {b if backend == a else a}: {beside}" if beside else ""))


def _mean_and_largest(mean: float, largest: float) -> str:
    if math.isnan(mean):
        return "not known"
    return f"{scientific(mean)} ({scientific(largest)})"


def _accuracy_points(difference: float, low: float, high: float, verdict: str) -> str:
    said = percent(difference) if pd.isna(low) else f"{percent(difference)} {interval(percent)(low, high)}"
    return f"**{said}**" if verdict == SURE else said


def _other_columns() -> list[Column]:
    return [
        text("model", "model"),
        text("factor", "title"),
        text("switched to", "values"),
        Column("native in", ("native_in",), lambda names: escape(", ".join(names)) or "none", right=False),
        Column("difference, mean (largest)", ("mean", "max"), _mean_and_largest),
        number("after step", "steps", count),
    ]


# --- stages -------------------------------------------------------------------------------------------------


def _stages(why: Why) -> Blocks:
    if why.stages.empty:
        return
    yield "## Stage by stage"
    matched = worst(why.stages[why.stages["division"] == "matched"])
    models = list(dict.fromkeys(matched["model"]))
    shown = {
        (backend, stage): dict.fromkeys(models, NONE) | {"backend": str(backend), "stage": STAGE_WORDS[str(stage)]}
        for (backend, stage), _ in grouped(matched, "backend", "stage")
    }
    for row in each(matched):
        shown[row.backend, row.stage][row.model] = _stage_cell(row)
    if shown:
        columns = texts("backend", "stage")
        columns += [Column(model, (model,), str, right=False) for model in models[:_STEPS]]
        yield from shown_table(
            "Matched models against the reference",
            pd.DataFrame(list(shown.values())),
            columns,
            "stages",
        )
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
    yield _every_stage(why)


def _every_stage(why: Why) -> str:
    columns = [
        *texts("backend", "model", "division"),
        Column("stage", ("stage",), lambda stage: STAGE_WORDS[stage], right=False),
        text("parameter", "parameter"),
        Column("error, largest (relative)", ("max_error", "l2_error"), _mean_and_largest),
        Column("tolerance", ("tolerance", "measure"), _tolerance),
        Column("within", ("ok",), lambda ok: "yes" if ok else "**no**", right=False),
        text("note", "note"),
    ]
    return folded(
        f"Every parameter at every stage ({len(why.stages)} rows)",
        table(why.stages, columns, padded=False),
        "Largest: the largest absolute difference from the reference. Relative: norm of the difference over norm of "
        "the reference. The tolerance is for the one that it names. Recording them took "
        f"{scientific(why.records['seconds'].sum())} s in all and "
        f"{megabytes(why.records['peak_memory_bytes'].max())} MB at most.",
    )


def _tolerance(allowed: float, measure: str) -> str:
    return f"{scientific(allowed)} ({'largest' if measure == 'max' else 'relative'})"


# --- step by step -------------------------------------------------------------------------------------------


def _divergence(shown: Shown) -> Blocks:
    why = shown.findings.why
    yield "## Step by step, and the horizon"
    yield _what_was_recorded(shown.comparison, why)
    if why.curves.empty:
        return
    if figure := shown.figure("divergence", _divergence_in_words(why)):
        yield figure
    yield _horizons_in_words(why)
    if why.horizons["horizon"].notna().any() and not shown.comparison.manifest.protocol.training.clipnorm:
        yield (
            'Beyond the horizon, single seeds and "the same seed in both frameworks" say nothing. What may tame it: '
            "`--crosscheck-set training.clipnorm=1`, which clips gradients to a global norm."
        )
    yield _by_step(why.curves)
    yield how_to_read("step-by-step")
    yield _ends(why.ends)


def _by_step(curves: pd.DataFrame) -> str:
    """Show the largest difference at a few steps: a row a matched pair or a backend's twins."""
    recorded = sorted(curves["step"].unique())
    wanted = [step for step in recorded if str(step).strip("0") == "1"][-_STEPS + 1 :]
    wanted = [step for step in wanted if step < recorded[-1]] + recorded[-1:]
    rows = []
    for (model, kind, a, b), group in grouped(curves, "model", "kind", "a", "b"):
        most = group.groupby("step")["max"].max()
        who = f"{a} and {b}, matched" if kind == "matched" else f"{a}, {kind} twins"
        rows.append({"model": model, "runs": who} | {f"{step}": most.get(step, math.nan) for step in wanted})
    columns = texts("model", "runs")
    columns += [number(f"step {count(step)}", f"{step}", scientific) for step in wanted]
    return folded_table("Largest difference by step", pd.DataFrame(rows), columns)


def _ends(ends: pd.DataFrame) -> str:
    columns = [
        text("model", "model"),
        Column("runs", ("kind", "a", "b", "number"), _pair_or_twin, right=False),
        Column("accuracy, %", ("accuracy_a", "accuracy_b"), lambda a, b: f"{percent(a)}, {percent(b)}"),
        Column("difference, points", ("accuracy_a", "accuracy_b"), lambda a, b: percent(b - a)),
        number("disagree, %", "disagreement", percent),
    ]
    if ends["noise_most"].notna().any():
        columns.append(Column("noise", ("noise_least", "noise_most"), _noise))
    return folded_table("At the end of training", ends, columns, "step-by-step")


def _what_was_recorded(comparison: Comparison, why: Why) -> str:
    """Say under which conditions the section's figures hold, and what of it was not recorded."""
    protocol = comparison.manifest.protocol
    said = []
    if comparison.traces and len(why.courses):
        own = [comparison.results[run_id] for run_id in comparison.traces if run_id in comparison.results]
        probes = max(len(trace.probes) for trace in comparison.traces.values())
        seeds = listing(sorted({result.spec.seed for result in own}))
        said.append(f"Matched runs of seed {seeds}, traced on {count(probes)} probes (the first test examples).")
    elif not comparison.left_out:
        said.append("No run was traced, so there is no divergence curve.")
    said.append(_twins_in_words(why.horizons))
    if why.stages.empty and not comparison.left_out:
        said.append("No stages were recorded.")
    if why.effects.empty and not comparison.left_out:
        said.append("No effects of known factors were recorded.")
    if comparison.left_out:
        said.append("What is left out, and why, is said in [runs](runs.md).")
    if protocol.training.clipnorm > 0:
        said.append(
            f"Gradients were clipped to a global norm of {protocol.training.clipnorm:g} (`training.clipnorm`) in "
            "every run."
        )
    return " ".join(said)


def _twins_in_words(horizons: pd.DataFrame) -> str:
    """Count the twins of each kind that a backend and model has."""
    said = []
    for kind, rows in grouped(horizons, "kind"):
        least, most = rows["twins"].min(), rows["twins"].max()
        said.append(f"{least if least == most else f'{least} to {most}'} {kind}")
    return f"Twins of each of them: {'; '.join(said)}." if said else "There are no twins."


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


def _size(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Give the size of a cause, by what it is ranked by."""
    if not row.seeds:
        return "effect not known" if math.isnan(row.mean) else f"mean difference {scientific(row.mean)}"
    span = "" if math.isnan(row.low) else f" [{percent(row.low)}, {percent(row.high)}]"
    said = f"accuracy {percent(row.difference)}{span} points"
    return f"**{said}**" if row.verdict == SURE else said


def _pair_or_twin(kind: str, a: str, b: str, twin: int) -> str:
    return f"{escape(a)} and {escape(b)}, matched" if kind == "matched" else f"{escape(a)} and {kind} twin {twin}"


def _noise(least: float, most: float) -> str:
    return NONE if pd.isna(least) else f"{scientific(least)} to {scientific(most)}"


def _stage_cell(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    said = f"{escape(row.parameter)} {scientific(row.error)} / {scientific(row.tolerance)}"
    return f"{said} ✓" if row.ok else f"**{said}** ✗"


PAGE = Page("causes", "Causes", finding, blocks)
