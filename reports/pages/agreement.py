"""The section on agreement: the noise ladder, excess disagreement, pairs, and where the disagreement lives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Any

import pandas as pd

from rnn_crosscheck.harness.results import TRANSPLANT_TOLERANCE
from rnn_crosscheck.reports.analysis.excess import FEWEST_SEEDS
from rnn_crosscheck.reports.analysis.findings import Findings
from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.pages import tables
from rnn_crosscheck.reports.pages.answer import ENOUGH_SEEDS
from rnn_crosscheck.reports.pages.markdown import escape, folded, image, note, unless_long
from rnn_crosscheck.reports.read.comparison import Comparison
from rnn_crosscheck.reports.writing import count, listing, percent, scientific

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
    """Say of each pair of backends and model how much of its disagreement its own seeds have as well."""
    said = []
    listed = list(grouped(findings.excesses, "model", "backend_a", "backend_b"))
    for (model, a, b), rows in listed[:SPELLED_OUT]:
        parts = [_of_division(row) for row in each(rows)]
        said.append(f"**{escape(model)}, {escape(a)} and {escape(b)}.** {' '.join(parts)}")
    if len(listed) > len(said):
        said.append(
            f"{len(listed) - len(said)} more pairs are in the table under [More than chance](#more-than-chance)."
        )
    return said


def _of_division(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    a, b = escape(row.backend_a), escape(row.backend_b)
    if row.division == "native":
        said = f"With their own defaults two runs disagree on {percent(row.between)} % of the examples"
    else:
        said = (
            f"Under equal conditions two runs of different seeds disagree on {percent(row.between)} % of the examples "
            f"({percent(row.same_seed)} % from equal weights)"
        )
    seeds = f"{row.seeds_a} seeds each" if row.seeds_a == row.seeds_b else f"{row.seeds_a} and {row.seeds_b} seeds"
    said += f", two seeds of {a} on {percent(row.own_a)} %, two of {b} on {percent(row.own_b)} %: "
    points = f"{percent(row.excess)} points on top of the mean of these"
    if pd.isna(row.low):
        few = min(row.seeds_a, row.seeds_b) < FEWEST_SEEDS
        said += f"{points} ({seeds}; {f'an interval takes {FEWEST_SEEDS}' if few else 'there is no interval'})."
    else:
        clear = "" if row.low > 0 else ", so more than seeds do is not shown"
        said += f"{points} (95 % interval {percent(row.low)} to {percent(row.high)}, {seeds}){clear}."
    known = [
        f"{percent(share)} % ({name})" for share, name in ((row.twins_a, a), (row.twins_b, b)) if not pd.isna(share)
    ]
    return f"{said} Rounding alone changes {listing(known)} of the predictions of one run." if known else said


def _transplanted(comparison: Comparison, findings: Findings) -> list[str]:
    """Say whether trained weights give the same probabilities elsewhere; in bold where they don't, or nobody knows."""
    rows = findings.transplants
    across = rows[rows["source"] != rows["target"]]
    beyond = rows[rows["max_difference"] > TRANSPLANT_TOLERANCE]
    said = [
        f"**Trained weights of {escape(row.source)}, loaded into {escape(row.target)}, predict otherwise**: "
        f"{escape(row.model)}, {row.division}, seed {row.seed}: by {scientific(row.max_difference)} in "
        f"probability, where at most {scientific(TRANSPLANT_TOLERANCE)} is allowed, and {count(row.changed)} "
        f"of {count(row.examples)} predictions change."
        for row in each(beyond)
    ]
    if rows.empty:
        return said
    there = set(zip(across["division"], across["model"], across["source"], across["target"], strict=True))
    wanted = [
        (division, model, a, b)
        for (division, model), runs in grouped(comparison.ok, "division", "model")
        for a, b in permutations(dict.fromkeys(runs["backend"]), 2)
    ]
    missing = [place for place in wanted if place not in there]
    if beyond.empty and len(across):
        many = f"{len(across)} transplant{'' if len(across) == 1 else 's'}"
        so = "" if missing else ", so no disagreement comes from predicting"
        said.append(
            "Trained weights of one backend, loaded into another, give the same probabilities to "
            f"{scientific(across['max_difference'].max())} ({many}, one seed each; at most "
            f"{scientific(TRANSPLANT_TOLERANCE)} is allowed){so}."
        )
    if missing:
        names = [f"{escape(a)} in {escape(b)} ({escape(model)}, {division})" for division, model, a, b in missing]
        more = f" and {len(names) - SPELLED_OUT} more" if len(names) > SPELLED_OUT else ""
        said.append(f"**Not tried**: trained weights of {'; '.join(names[:SPELLED_OUT])}{more}.")
    left_out = {run_id: why for record in comparison.transplants for run_id, why in record.left_out.items()}
    said += [f"Not transplanted: {escape(run_id)}: {escape(why)}" for run_id, why in left_out.items()]
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
        "In each bucket of test examples: what runs of the two backends disagree on, less what the seeds of each do "
        "there, on average. Buckets are cut by quantiles of the examples or at fixed places, never by what disagrees "
        "in them."
    )
    listed = list(grouped(findings.where, "division", "model", "backend_a", "backend_b"))
    for (division, model, a, b), rows in listed[:_BUCKETS]:
        yield folded(f"{escape(model)}, {division}: {listing([escape(a), escape(b)])}", tables.where(rows))
    yield note(
        "Floor: mean of what A's and B's own seeds disagree on. On top: excess disagreement with its 95 % interval "
        "over runs and examples. Length: tokens before anything is cut. Unknown words: their share of the tokens that "
        "the models see. Confidence: how far the mean probability of "
        "all runs of the two is on the way from 0.5 to 0 or 1; it is made of the same predictions, so disagreement "
        "falls with it by construction, and the floor with it."
    )
    if len(listed) > _BUCKETS:
        yield f"{len(listed) - _BUCKETS} more pairs of backends are in `{WHERE_FILE}`."
