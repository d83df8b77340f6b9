"""The front page: one screen with the verdict, the three tables, and the way to the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from rnn_crosscheck.reports.analysis.examples import SPLIT, STABLE
from rnn_crosscheck.reports.analysis.findings import Findings
from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.analysis.verdicts import TIMED, missing_seeds
from rnn_crosscheck.reports.analysis.words import Reader
from rnn_crosscheck.reports.pages.accuracy import ENOUGH_SEEDS, accuracy_figure, accuracy_table, cut
from rnn_crosscheck.reports.pages.agreement import group_columns
from rnn_crosscheck.reports.pages.examples import brief, browse_link, sides_of
from rnn_crosscheck.reports.pages.markdown import (
    Column,
    code,
    document,
    escape,
    number,
    plain_table,
    table,
    text,
    texts,
)
from rnn_crosscheck.reports.pages.page import Blocks, Page, Shown
from rnn_crosscheck.reports.pages.speed import baseline, timing_columns
from rnn_crosscheck.reports.pages.verdict import MOST_MODELS, Cell, Question, questions, sentences
from rnn_crosscheck.reports.writing import count, decimals, interval, listing, percent, plain

_TWO = decimals(2)

#: rows of each table, and runs that are named as lost
_ROWS, _NAMED = 12, 3

#: columns of a terminal
_WIDTH = 100


def front_page(shown: Shown, pages: Sequence[tuple[Page, str]]) -> str:
    """Write ``report.md``; `pages` are those of details that there are, with their findings."""
    return document(
        [
            *_head(shown),
            *_verdict(shown),
            accuracy_figure(shown),
            *_tables(shown),
            *_examples(shown),
            *_trust(shown),
            *_contents(shown, pages),
        ]
    )


def _head(shown: Shown) -> Blocks:
    manifest, facts = shown.comparison.manifest, shown.comparison.facts
    models = listing([escape(name) for name in shown.findings.model_names])
    backends = " against ".join(escape(name) for name in manifest.backends)
    yield f"# {backends}: {models} on {escape(facts.name)}"
    yield (
        f"Protocol {escape(manifest.protocol.name)}, {count(len(shown.comparison.test))} test examples, on "
        f"{manifest.device}, {escape(manifest.created[:10])}: {code(manifest.command)}"
    )
    if missing := _missing(shown):
        yield f"**Unfinished**, still without {listing(missing)}. This goes on from what is there: {shown.command()}"
    yield from _left_out(shown)
    if lost := without_result(shown.findings.runs):
        yield f"{lost} See [runs]({shown.page('runs')})."
    for name, reason in shown.comparison.timings.failures.items():
        yield f"**{escape(name)} was not timed**: {escape(reason)}"
    if manifest.inference:
        names = listing([escape(name) for name in manifest.inference])
        yield f"{names} trains nothing: it predicts with the weights of the others, and its predictions are timed."


def _missing(shown: Shown) -> list[str]:
    """Name what was planned and isn't there: nobody has asked for it, or it was interrupted."""
    comparison, runs = shown.comparison, shown.findings.runs
    manifest = comparison.manifest
    left_out = comparison.left_out.keys()  # named below, with the reason
    planned = {
        "runs": (len(runs), int((runs["status"] != "not run").sum())),
        "twins and variants": (
            len(manifest.variants),
            len({*comparison.variants.results, *comparison.variants.lost, *(left_out & set(manifest.variants))}),
        ),
        "checks of stages and causes": (
            len(manifest.parity_keys),
            len((*comparison.stages, *comparison.effects, *(left_out & manifest.parity_keys.keys()))),
        ),
        "checks of trained weights": (
            len(manifest.trained),
            len((_of_trained(shown) | left_out) & set(manifest.trained)),
        ),
    }
    missing = [f"{n - there} of {n} {what}" for what, (n, there) in planned.items() if there < n]
    timed = comparison.timings.records or comparison.timings.failures or "the times" in left_out
    return missing if timed or not manifest.timing_keys else [*missing, "the times"]


def _of_trained(shown: Shown) -> set[str]:
    """Name the checks of trained weights that are there, or have nothing to look at."""
    comparison = shown.comparison
    backends = comparison.runs["backend"]
    if comparison.probabilities.columns.empty:
        return set(comparison.manifest.trained)
    listed = {one.pair[f"run_{side}"] for one in shown.findings.examples for side in "ab"}
    read = {*comparison.occlusions.backends, *(set(comparison.manifest.backends) - set(backends[list(listed)]))}
    there = [f"transplants-{record.backend}" for record in comparison.transplants]
    return {name.replace(":", ".") for name in (*there, *(f"occlusions-{backend}" for backend in read))}


def _left_out(shown: Shown) -> Blocks:
    """Name what failed, or is damaged on disk, and how to get it."""
    left_out = shown.comparison.left_out
    for name, reason in list(left_out.items())[:_NAMED]:
        yield f"**Without** {code(name)}: {escape(reason)}"
    if left_out:
        more = len(left_out) - _NAMED
        others = f"{more} more are in [runs]({shown.page('runs')}). " if more > 0 else ""
        yield f"{others}This makes what is left out anew: {shown.command()}"


def without_result(runs: pd.DataFrame) -> str:
    """Name the runs that were lost; nothing if all that was tried went well."""
    lost = runs[~runs["status"].isin(["ok", "not run"])]
    if lost.empty:
        return ""
    kinds = listing([f"{len(group)} {status}" for status, group in grouped(lost, "status")])
    names = [escape(str(name)) for name in lost.index[:_NAMED]]
    names += [f"{len(lost) - len(names)} more"] if len(lost) > len(names) else []
    have = "has" if len(lost) == 1 else "have"
    return f"**{len(lost)} of {len(runs)} runs {have} no result** ({kinds}): {listing(names)}."


def _verdict(shown: Shown) -> Blocks:
    findings = shown.findings
    yield "\n".join(f"- {sentence}" for sentence in in_short(findings))
    asked = questions(findings)
    if not asked:
        return
    models = [model for model in findings.model_names if any(model in row.cells for row in asked)]
    rows = [
        {"": row.asked} | {model: row.cells[model].link(shown.page(row.page)) for model in models if model in row.cells}
        for row in asked
    ]
    columns = [text("", ""), *(Column(model, (model,), str, right=False) for model in models[:MOST_MODELS])]
    yield table(pd.DataFrame(rows, columns=["", *models]).fillna(""), columns, padded=False)
    if len(models) > MOST_MODELS:
        page = next(row.page for row in asked if models[-1] in row.cells)
        yield f"{len(models) - MOST_MODELS} more models are in [{page}]({shown.page(page)})."


def in_short(findings: Findings) -> list[str]:
    """Give the verdict in sentences, whatever there is."""
    said = sentences(findings)
    if findings.accuracy.empty:
        none = "No run has a result" if (findings.runs["status"] != "not run").any() else "No run was trained"
        said.append(f"{none}, so nothing can be concluded about accuracy and predictions.")
    elif findings.accuracy["backend"].nunique() == 1:
        name = escape(findings.accuracy["backend"].iloc[0])
        said.insert(0, f"Only {name} has results, so backends can't be compared.")
    elif findings.backends.empty:
        said.insert(0, "No model has results of two backends, so they can't be compared.")
    return said


def _what_would_decide(shown: Shown) -> Blocks:
    """Say how many seeds would probably decide what is open, how long they take, and the command."""
    for row in missing_seeds(shown.findings.verdicts, shown.findings.runs):
        models = listing([escape(model) for model in row["models"]])
        runs = shown.comparison.runs
        there = sorted(set(runs.loc[runs["division"] == row["division"], "seed"]))
        option = f"seeds.{row['division']}={_seeds_in_all(there, row['seeds'])}"
        yield (
            f"{row['seeds']} {row['division']} seeds would probably decide {models}, about "
            f"{_minutes(row['seconds'])} here: {shown.command('--crosscheck-set', option)}"
        )


def _seeds_in_all(there: Sequence[int], wanted: int) -> str:
    """Write seeds so that those that are there are among them."""
    more = [seed for seed in range(wanted + len(there)) if seed not in there]
    seeds = [*there, *more][:wanted]
    return str(wanted) if seeds == list(range(wanted)) else str(seeds).replace(" ", "")


def _minutes(seconds: float) -> str:
    return f"{count(max(1, round(seconds / 60)))} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _tables(shown: Shown) -> Blocks:
    findings = shown.findings
    if len(findings.accuracy):
        yield "## Accuracy, %"
        yield accuracy_table(shown, _ROWS)
    if len(findings.timings):
        yield f"## Time ({escape(baseline(findings))}, default = 1)"
        timed = findings.timings
        order = (timed["operation"] != TIMED).astype(int) + 2 * (timed["operation"] == "predict_one")
        rows = timed.assign(order=order).sort_values("order", kind="stable")
        wanted = ("model", "operation", "backend", "ratio", "95 % interval", "ms")
        yield cut(shown, rows, [column for column in timing_columns() if column.head in wanted], _ROWS, "speed")
    if len(groups := findings.groups):
        across = groups[groups["kind"] == groups["kind"].iloc[0]]
        yield "## Disagreement, % of the test examples"
        yield from _disagreement(shown, across)


def _disagreement(shown: Shown, rows: pd.DataFrame) -> Blocks:
    """Show the groups of pairs; of many, those that disagree most beyond their floor, and the rest is counted."""
    total = len(rows)
    if total > _ROWS:
        on_top = (rows["disagreement"] - rows["floor"]).fillna(0)
        rows = rows.loc[on_top.nlargest(_ROWS).index]
    hidden = total - len(rows)
    wanted = ("division", "runs", "disagree, %", "range", "floor, %", "kappa", "pairs")
    yield table(rows, [column for column in group_columns() if column.head in wanted])
    if hidden:
        yield f"{hidden} more in [agreement]({shown.page('agreement')})."


def _examples(shown: Shown) -> Blocks:
    chosen = [
        (one.pair, row) for one in shown.findings.examples[:1] for row in each(one.rows) if row.kind in (STABLE, SPLIT)
    ][:3]
    if not chosen:
        yield browse_link(shown.comparison)
        return
    yield "## Three examples"
    marked = (
        " Marked: the words that moved A's (ᴬ) and B's (ᴮ) prediction most."
        if len(shown.comparison.occlusions.words)
        else ""
    )
    yield f"*{sides_of(shown.findings.examples[0])}.{marked}*"
    reader = Reader(shown.comparison.occlusions)
    for pair, row in chosen:
        yield from brief(pair, row, reader)
    yield browse_link(shown.comparison)


def _trust(shown: Shown) -> Blocks:
    findings = shown.findings
    lines = [
        *_seeds(findings.accuracy),
        *_what_would_decide(shown),
        *_noise(findings),
        *_processors(shown),
        *_not_recorded(shown),
    ]
    if lines:
        yield "## How far to trust it"
        yield "\n".join(f"- {line}" for line in lines)


def _seeds(summaries: pd.DataFrame) -> Blocks:
    if summaries.empty:
        return
    least = {division: int(rows["seeds"].min()) for division, rows in grouped(summaries, "division")}
    said = listing([f"{n} {division}" for division, n in least.items()])
    few = f" Fewer than {ENOUGH_SEEDS} say little: look at the dots." if min(least.values()) < ENOUGH_SEEDS else ""
    yield f"Seeds of each backend and model: {said}.{few} All this holds for this protocol only."


def _noise(findings: Findings) -> Blocks:
    band = findings.again[findings.again["operation"] == TIMED]
    if len(band):
        yield (
            "Noise of this machine: a training step of one backend in two processes took "
            f"{_TWO(band['band_low'].min())} to {_TWO(band['band_high'].max())} of each other's time."
        )
    elif len(findings.timings):
        yield "The machine's noise is not known: no backend was timed against itself."


def _processors(shown: Shown) -> Blocks:
    """Say that the runs of a cluster were not all on one kind of processor."""
    machines = [result.machine for result in shown.comparison.results.values()]
    kinds = sorted({escape(machine["cpu"]) for machine in machines if "cpu" in machine})
    if len(kinds) > 1:
        yield (
            f"Runs were trained on {len(kinds)} kinds of processor ({listing(kinds)}), which round differently. "
            f"Part of what two runs differ by may be that: see [runs]({shown.page('runs')})."
        )


def _not_recorded(shown: Shown) -> Blocks:
    """Say what rounding does is not known, and the command that tells."""
    manifest = shown.comparison.manifest
    twins = (shown.findings.why.ends["kind"] != "matched").any()
    if "matched" in shown.findings.accuracy["division"].to_numpy() and not twins:
        planned = manifest.protocol.parity.continuing_twins > 0
        added = shown.command("--crosscheck-set", "parity.continuing_twins=3")
        how = "They were left out." if planned else f"This adds them: {added}"
        yield f"There are no twins, so what rounding alone does is not known. {how}"


def _contents(shown: Shown, pages: Sequence[tuple[Page, str]]) -> Blocks:
    if pages:
        yield "## Contents"
        yield "\n".join(f"- [{page.title}]({shown.page(page.name)}): {finding}" for page, finding in pages)


def terminal(findings: Findings) -> list[tuple[str, str]]:
    """Give title and text of the tables for the end of a terminal session, no wider than 100 columns.

    One backend alone has no verdict on its accuracy, so that is shown as it is.
    """
    shown = []
    if findings.accuracy["backend"].nunique() == 1:
        columns = [*texts("backend", "model", "division"), number("accuracy, %", "mean", percent)]
        columns += [Column("95 % interval", ("low", "high"), interval(percent)), number("n", "seeds", count)]
        shown.append(("accuracy", plain_table(findings.accuracy, columns)))
    asked = questions(findings)
    return [*shown, ("verdict", _plain_verdict(findings, asked))] if asked else shown


def _plain_verdict(findings: Findings, asked: Sequence[Question]) -> str:
    models = [model for model in findings.model_names if any(model in row.cells for row in asked)][:MOST_MODELS]
    first = max(len(row.asked) for row in asked)
    if 14 * len(models) > _WIDTH - first:
        # As many models as fit side by side.
        models = models[: max(1, (_WIDTH - first) // 14)]
    room = (_WIDTH - first) // len(models) - 2
    rows: list[list[Any]] = [[row.asked, *(row.cells.get(model, Cell()).plain() for model in models)] for row in asked]
    heads = ["", *(name if len(name := plain(model)) <= room else f"{name[: room - 1]}…" for model in models)]
    widths = [None, *([room] * len(models))]
    return tabulate(rows, headers=heads, tablefmt="simple", maxcolwidths=widths)
