"""The page on agreement: the noise ladder, excess disagreement, pairs, and where the disagreement lives."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pandas as pd

from rnn_crosscheck.harness.results import TRANSPLANT_TOLERANCE
from rnn_crosscheck.reports.analysis.excess import FEWEST_SEEDS
from rnn_crosscheck.reports.analysis.findings import Findings
from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.pages.accuracy import in_range
from rnn_crosscheck.reports.pages.markdown import Column, escape, folded, number, table, text
from rnn_crosscheck.reports.pages.page import Blocks, Page, Shown, folded_table, how_to_read, shown_table
from rnn_crosscheck.reports.read.comparison import Comparison
from rnn_crosscheck.reports.writing import NONE, count, decimals, interval, listing, p_value, percent, scientific

_TWO = decimals(2)

#: with more pairs, only their groups are shown
MOST_PAIRS = 120

#: more pairs of backends are spelled out in the tables alone
SPELLED_OUT = 6

#: pairs of backends whose buckets are shown; the file has the rest
_BUCKETS = 4

#: every single pair of runs, and every bucket, for those who want them all
PAIRS_FILE, WHERE_FILE = "pairs.csv", "where.csv"

_KINDS = {
    "backends": "Across backends: same model, division and seed number",
    "models": "Across models: same backend, division and seed number",
    "seeds": "Across seeds: same backend, model and division (reseeded)",
}


def finding(shown: Shown) -> str:
    """Say how much runs disagree, beside what two equal ones do."""
    findings = shown.findings
    groups = findings.groups
    if groups.empty:
        return "Nothing but transplants can be compared." if len(findings.transplants) else ""
    kind = groups["kind"].iloc[0]
    across = groups[groups["kind"] == kind]
    rows = across[across["division"] == across["division"].iloc[0]].nlargest(3, "disagreement").sort_index()
    said = [f"{_who(row)} on {percent(row.disagreement)} %{_floor(row)}" for row in each(rows)]
    mine = int((across["division"] == across["division"].iloc[0]).sum())
    rest = f" (the largest of {mine} pairs)" if mine > len(rows) else ""
    return f"Of {count(len(shown.comparison.test))} test examples, {'; '.join(said)}{rest}."


def _who(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    if row.kind == "seeds":
        return f"two seeds of {escape(row.backend_a)} disagree ({escape(row.model_a)}, {row.division})"
    sides = (row.backend_a, row.backend_b) if row.kind == "backends" else (row.model_a, row.model_b)
    shared = row.backend_a if row.kind == "models" else row.model_a
    return f"{listing([escape(side) for side in sides])} disagree ({escape(shared)}, {row.division})"


def _floor(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    if row.kind == "seeds":
        return ""
    return " (one seed: no floor)" if pd.isna(row.floor) else f" (two seeds of one: {percent(row.floor)} %)"


def blocks(shown: Shown) -> Blocks:
    """Give the page."""
    findings = shown.findings
    said = [*sentences(findings), *_transplanted(shown.comparison, findings)]
    yield "\n".join(f"- {sentence}" for sentence in said)
    if figure := shown.figure("ladder", _ladder_in_words(findings.rungs) if len(findings.rungs) else ""):
        yield figure
        yield how_to_read("the-noise-ladder")
    if len(findings.excesses):
        yield "## More than chance"
        yield from _excesses(findings.excesses)
    if len(findings.rungs):
        yield _rungs(findings.rungs)
    yield from _pairs(findings)
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
        said.append(f"**Not there**: trained weights of {'; '.join(names[:SPELLED_OUT])}{more}.")
    left_out = {run_id: why for record in comparison.transplants for run_id, why in record.left_out.items()}
    said += [f"Not transplanted: {escape(run_id)}: {escape(why)}" for run_id, why in left_out.items()]
    return said


def _ladder_in_words(rungs: pd.DataFrame) -> str:
    said = [
        f"{name}: {percent(rows['disagreement'].min())} to {percent(rows['disagreement'].max())} %"
        for name, rows in grouped(rungs, "name")
    ]
    return f"The noise ladder. Mean disagreement of the groups on each rung: {'; '.join(said)}"


def _excesses(excesses: pd.DataFrame) -> Blocks:
    columns = [
        Column("runs", ("model", "division", "backend_a", "backend_b"), _of_backends, right=False),
        Column("seeds", ("seeds_a", "seeds_b"), lambda a, b: f"{a}, {b}"),
        number("A and B, %", "between", percent),
        number("A's own, %", "own_a", percent),
        number("B's own, %", "own_b", percent),
        number("on top, points", "excess", percent),
        Column("95 % interval", ("low", "high"), interval(percent)),
        Column("twins of A, of B, %", ("twins_a", "twins_b"), _both),
    ]
    yield from shown_table("Excess disagreement", excesses, columns, "excess-disagreement")


def _of_backends(model: str, division: str, a: str, b: str) -> str:
    return escape(f"{model}, {division}: {a} (A), {b} (B)")


def _both(a: float, b: float) -> str:
    return NONE if all(pd.isna(share) for share in (a, b)) else f"{percent(a)}, {percent(b)}"


def _rungs(rungs: pd.DataFrame) -> str:
    columns = [
        number("rung", "rung", count),
        text("the two", "name"),
        text("division", "division"),
        Column("runs", ("model_a", "model_b", "backend_a", "backend_b"), _two_sides, right=False),
        number("disagree, %", "disagreement", percent),
        Column("95 % interval", ("low", "high"), interval(percent)),
        Column("range", ("least", "most", "pairs"), in_range),
        number("pairs", "pairs", count),
    ]
    return folded_table("The ladder in figures", rungs, columns, "the-noise-ladder")


def _two_sides(model_a: str, model_b: str, backend_a: str, backend_b: str) -> str:
    models = model_a if model_a == model_b else f"{model_a}, {model_b}"
    backends = backend_a if backend_a == backend_b else f"{backend_a}, {backend_b}"
    return escape(f"{models}: {backends}")


def group_columns() -> list[Column]:
    """Give the columns of a table of groups of pairs."""
    parts = ("both_right", "only_a", "only_b", "both_wrong")
    return [
        text("division", "division"),
        Column("runs", ("model_a", "model_b", "backend_a", "backend_b", "kind"), _sides, right=False),
        number("disagree, %", "disagreement", percent),
        Column("range", ("least", "most", "pairs"), in_range),
        number("floor, %", "floor", percent),
        Column("both right, only A, only B, both wrong, %", parts, lambda *shares: ", ".join(map(percent, shares))),
        number("kappa", "kappa", _TWO),
        number("pairs", "pairs", count),
    ]


def _sides(model_a: str, model_b: str, backend_a: str, backend_b: str, kind: str) -> str:
    if kind == "backends":
        return escape(f"{model_a}: {backend_a}, {backend_b}")
    return escape(f"{backend_a}: {model_a}, {model_b}") if kind == "models" else escape(f"{backend_a}: {model_a}")


def _pairs(findings: Findings) -> Blocks:
    if findings.pairs.empty:
        return
    yield "## Pairs of runs"
    yield from shown_table("Groups of pairs", findings.groups, group_columns(), "groups-of-pairs")
    yield f"Every single pair, with oracle accuracy, error consistency and Yule's Q, is a row of `{PAIRS_FILE}`."
    if len(findings.pairs) > MOST_PAIRS:
        return
    columns = [
        text("division", "division"),
        Column("runs", ("model_a", "model_b", "backend_a", "backend_b", "kind"), _sides, right=False),
        Column("seeds", ("seed_a", "seed_b"), lambda a, b: f"{a}, {b}"),
        *pair_figures(),
    ]
    for kind, title in _KINDS.items():
        rows = findings.pairs[findings.pairs["kind"] == kind]
        yield folded_table(title, rows, columns, "pairs")


def pair_figures() -> list[Column]:
    """Give the columns with the figures of a pair."""
    counts = ("both_right", "only_a", "only_b", "both_wrong")
    return [
        Column("both right, only A, only B, both wrong", counts, lambda *examples: "; ".join(map(count, examples))),
        number("disagree, %", "disagreement", percent),
        number("kappa", "kappa", _TWO),
        Column("A - B, points", ("difference", "low", "high"), _points),
        number("p", "p", p_value),
        number("p, Holm", "p_holm", p_value),
    ]


def _points(difference: float, low: float, high: float) -> str:
    return f"{percent(difference)} {interval(percent)(low, high)}"


def _where(findings: Findings) -> Blocks:
    if findings.where.empty:
        return
    yield "## Where the disagreement lives"
    columns = [
        text("by", "what"),
        text("bucket", "bucket"),
        number("examples", "examples", count),
        number("disagree, %", "between", percent),
        number("floor, %", "floor", percent),
        number("on top, points", "excess", percent),
        Column("95 % interval", ("low", "high"), interval(percent)),
    ]
    listed = list(grouped(findings.where, "division", "model", "backend_a", "backend_b"))
    for (division, model, a, b), rows in listed[:_BUCKETS]:
        yield folded(f"{escape(model)}, {division}: {listing([escape(a), escape(b)])}", table(rows, columns))
    if len(listed) > _BUCKETS:
        yield f"{len(listed) - _BUCKETS} more pairs of backends are in `{WHERE_FILE}`."
    yield how_to_read("where-the-disagreement-lives")


PAGE = Page("agreement", "Agreement", finding, blocks)
