"""The section on agreement: the noise ladder, excess disagreement, pairs, and where the disagreement lives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from harness.results import TRANSPLANT_TOLERANCE
from reports import tables
from reports.answer import ENOUGH_SEEDS
from reports.excess import FEWEST_SEEDS
from reports.findings import Findings
from reports.frames import each, grouped
from reports.load import Comparison
from reports.markdown import count, escape, folded, image, listing, note, percent, scientific, unless_long

#: more pairs than this fold away; with more than the second number, only their groups are shown
FOLD_PAIRS, MOST_PAIRS = 12, 120

#: more pairs of backends are spelled out in the tables alone
SPELLED_OUT = 6

#: pairs of backends whose buckets are shown; the file has the rest
_BUCKETS = 4

#: every single pair of runs, and every bucket, for those who want them all
PAIRS_FILE, WHERE_FILE = "pairs.csv", "where.csv"

_KINDS = {
    "backends": "Across backends: same model, division and seed number",
    "models": "Across models: same backend, division and seed number",
    "seeds": "Across seeds: same backend, model and division (*reseeded*)",
}


def agreement(comparison: Comparison, findings: Findings, figures: Mapping[str, str]) -> Iterator[str]:
    """Write the section."""
    if findings.pairs.empty and findings.transplants.empty:
        return
    yield "## Agreement"
    yield (
        "Two models with two answers disagree on an example exactly when one of them is right. How much that means "
        "depends on how much two *equal* models disagree, so pairs of runs stand on a ladder, by what the two still "
        "share: trained weights (transplanted), everything but rounding (twin), weights and batches (matched), the "
        "seed's number (native pair), backend and model (reseeded), or the backend alone (architecture)."
    )
    if said := [*sentences(findings), *_transplanted(comparison, findings)]:
        yield "\n".join(f"- {sentence}" for sentence in said)
    if "ladder" in figures:
        yield image(figures["ladder"], _ladder_in_words(findings.rungs))
        yield note(
            "A dot a pair of runs; in a backend's colour where both are of one backend, dark where they are of two. "
            "Bar: mean with its 95 % interval over runs and examples, cut at the edge of the figure; transplants and "
            "twins are of single runs and have none."
        )
    if len(findings.excesses):
        yield "### More than chance"
        yield unless_long("Excess disagreement", len(findings.excesses), tables.excesses(findings))
        if findings.excesses[["seeds_a", "seeds_b"]].to_numpy().min() < ENOUGH_SEEDS:
            yield (
                f"With fewer than {ENOUGH_SEEDS} seeds a side an interval is not worth much: the dots of single pairs "
                "say more."
            )
    if len(findings.rungs):
        yield "### The ladder in figures"
        yield unless_long("Every rung", len(findings.rungs), tables.rungs(findings))
    yield from _pairs(findings)
    if len(findings.together):
        yield "### All runs of a kind at once"
        yield unless_long("Three runs and more", len(findings.together), tables.together(findings))
    yield from _where(findings)


def sentences(findings: Findings) -> list[str]:
    """Say of each pair of backends and model how much of its disagreement is chance and how much comes on top."""
    said = []
    listed = list(grouped(findings.excesses, "model", "backend_a", "backend_b"))
    for (model, a, b), rows in listed[:SPELLED_OUT]:
        parts = [_of_division(row) for row in each(rows)]
        twins = rows["twins"].dropna()
        chaos = (
            f" Rounding alone, in twins of one run, changes {percent(twins.iloc[0])} % of the predictions."
            if len(twins)
            else ""
        )
        said.append(f"**{escape(model)}, {escape(a)} and {escape(b)}.** {' '.join(parts)}{chaos}")
    if len(listed) > len(said):
        said.append(
            f"{len(listed) - len(said)} more pairs are in the table under [More than chance](#more-than-chance)."
        )
    return said


def _of_division(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    start = "With their own defaults" if row.division == "native" else "Under equal conditions"
    seeds = f"{row.seeds_a} seeds each" if row.seeds_a == row.seeds_b else f"{row.seeds_a} and {row.seeds_b} seeds"
    said = (
        f"{start} two runs disagree on {percent(row.between)} % of the examples; two seeds of one backend do on "
        f"{percent(row.floor)} %, so {percent(row.excess)} points are the backends'"
    )
    if pd.isna(row.low):
        few = min(row.seeds_a, row.seeds_b) < FEWEST_SEEDS
        return f"{said} ({seeds}; {f'an interval takes {FEWEST_SEEDS}' if few else 'there is no interval'})."
    clear = "" if row.low > 0 or row.high < 0 else ", which includes 0"
    return f"{said} (95 % interval {percent(row.low)} to {percent(row.high)}{clear}; {seeds})."


def _transplanted(comparison: Comparison, findings: Findings) -> list[str]:
    """Say whether trained weights give the same probabilities elsewhere; in bold where they don't."""
    rows = findings.transplants
    across = rows[rows["source"] != rows["target"]]
    said = []
    if len(across):
        worst = across["max_difference"].max()
        beyond = rows[rows["max_difference"] > TRANSPLANT_TOLERANCE]
        if beyond.empty:
            said.append(
                "Trained weights of one backend, loaded into another, give the same probabilities to "
                f"{scientific(worst)} ({len(across)} transplants; at most {scientific(TRANSPLANT_TOLERANCE)} is "
                "allowed), so no disagreement comes from predicting."
            )
        for row in each(beyond):
            said.append(
                f"**Trained weights of {escape(row.source)}, loaded into {escape(row.target)}, predict otherwise**: "
                f"{escape(row.model)}, {row.division}, seed {row.seed}: by {scientific(row.max_difference)} in "
                f"probability, where at most {scientific(TRANSPLANT_TOLERANCE)} is allowed, and {count(row.changed)} "
                f"of {count(row.examples)} predictions change."
            )
    missing = {run_id: why for record in comparison.transplants for run_id, why in record.left_out.items()}
    said += [f"Not transplanted: {escape(run_id)}: {escape(why)}" for run_id, why in missing.items()]
    return said


def _ladder_in_words(rungs: pd.DataFrame) -> str:
    said = [
        f"{name}: {percent(rows['disagreement'].min())} to {percent(rows['disagreement'].max())} %"
        for name, rows in grouped(rungs, "name")
    ]
    return f"The noise ladder. Mean disagreement of the groups on each rung: {'; '.join(said)}"


def _pairs(findings: Findings) -> Iterator[str]:
    if findings.pairs.empty:
        return
    yield "### Pairs of runs"
    yield unless_long("Groups of pairs", len(findings.groups), tables.groups(findings))
    total = len(findings.pairs)
    yield f"Every single pair, with oracle accuracy, error consistency and Yule's Q, is a row of `{PAIRS_FILE}`."
    if total > MOST_PAIRS:
        return
    for kind, title in _KINDS.items():
        rows = int((findings.pairs["kind"] == kind).sum())
        if rows > FOLD_PAIRS:
            yield folded(f"{title.replace('*', '')} ({rows} pairs)", tables.pairs(findings, kind))
        elif rows:
            yield f"#### {title}"
            yield tables.pairs(findings, kind)


def _where(findings: Findings) -> Iterator[str]:
    if findings.where.empty:
        return
    yield "### Where the disagreement lives"
    yield (
        "In each bucket of test examples: what two runs of different seeds disagree on, less what two seeds of one "
        "backend do there. Buckets are cut by quantiles of the examples or at fixed places, never by what disagrees in "
        "them."
    )
    listed = list(grouped(findings.where, "division", "model", "backend_a", "backend_b"))
    for (division, model, a, b), rows in listed[:_BUCKETS]:
        yield folded(f"{escape(model)}, {division}: {listing([escape(a), escape(b)])}", tables.where(rows))
    yield note(
        "Floor: mean of what A's and B's own seeds disagree on. On top: excess disagreement with its 95 % interval "
        "over runs and examples. Length: tokens before anything is cut. Confidence: how far the mean probability of "
        "all runs of the two is on the way from 0.5 to 0 or 1; it is made of the same predictions, so disagreement "
        "falls with it by construction, and the floor with it."
    )
    if len(listed) > _BUCKETS:
        yield f"{len(listed) - _BUCKETS} more pairs of backends are in `{WHERE_FILE}`."
