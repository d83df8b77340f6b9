"""The page of examples: each a compact block that a person can read, with the words that mattered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from rnn_crosscheck.reports.analysis.examples import FLIP, GAP, SPLIT, STABLE, WRONG, kinds
from rnn_crosscheck.reports.analysis.findings import Examples, Findings
from rnn_crosscheck.reports.analysis.frames import each
from rnn_crosscheck.reports.analysis.words import LEAST, Moved, Read, Reader
from rnn_crosscheck.reports.pages import browse
from rnn_crosscheck.reports.pages.markdown import Column, escape, folded, number, table, text
from rnn_crosscheck.reports.pages.page import Blocks, Page, Shown, how_to_read
from rnn_crosscheck.reports.read.comparison import Comparison, Predicted
from rnn_crosscheck.reports.writing import count, decimals, interval, listing, percent

_THREE = decimals(3)

#: every example with every run's prediction
EXAMPLES_FILE = "examples.parquet"

_TITLES = {
    STABLE: "Stable splits: every seed of A says one thing, every seed of B the other",
    SPLIT: "Splits: A says one thing and B the other; with one seed a side, nobody can tell whether another would",
    GAP: "Largest gaps besides: mean probabilities furthest apart",
    FLIP: "Coin flips: the seed decides",
    WRONG: "Both wrong, the surest first: look for a wrong label, or for a verdict that was cut off",
}


def finding(shown: Shown) -> str:
    """Say how many examples split two sides for good."""
    findings = shown.findings
    if not any(len(one.rows) for one in (*findings.examples, *findings.read)) and findings.mistakes.empty:
        return ""
    said = []
    for one in findings.examples[:1]:
        pair, counts = one.pair, one.counts
        across, shared = ("backend", "model") if pair["kind"] == "backends" else ("model", "backend")
        a, b = (escape(str(pair[f"{across}_{side}"])) for side in ("a", "b"))
        kind = SPLIT if SPLIT in counts else STABLE
        flips = f" and {count(counts.get(FLIP, 0))} coin flips" if kind == STABLE else ""
        said.append(
            f"{a} against {b} ({escape(str(pair[f'{shared}_a']))}, {pair['division']}): {count(counts.get(kind, 0))} "
            f"{kind}s{flips} among {count(sum(counts.values()))} examples."
        )
    return " ".join(said) or "What every run gets wrong."


def blocks(shown: Shown) -> Blocks:
    """Give the page."""
    findings = shown.findings
    yield browse_link(shown.comparison, shown.root)
    reader = Reader(shown.comparison.occlusions)
    listed = [one for one in findings.examples if len(one.rows)]
    for place, one in enumerate(listed):
        if place:
            yield folded(sides_of(one), *_blocks(one, reader))
            continue
        yield f"## {sides_of(one)}"
        yield from _blocks(one, reader)
    if listed:
        yield _explained(len(shown.comparison.occlusions.words) > 0)
    yield from _on_disk(shown.comparison, findings)
    yield from _in_full([one for one in findings.read if len(one.rows)])
    if len(findings.mistakes):
        yield folded(
            f"Wrong in every run, the surest first ({len(findings.good)} runs)",
            mistakes(findings.mistakes),
            "Probabilities: the least and the most over all runs. Look for a wrong label, or for a text whose verdict "
            "was cut off.",
        )


def browse_link(predicted: Predicted, root: str = "") -> str:
    """Lead to the page on which all examples can be browsed; of too many there is none."""
    all_of_them = f"all {count(len(predicted.test))} examples"
    if browse.is_there(predicted):
        return (
            f"[Browse {all_of_them}]({root}{browse.PAGE}) in a web browser: filter, search, and read them beside how "
            "much two equal models disagree."
        )
    return (
        f"There is no page to browse {all_of_them}: they are too many." if len(predicted.probabilities.columns) else ""
    )


def brief(pair: Any, row: Any, reader: Reader) -> Blocks:  # noqa: ANN401 - a row each of pandas
    """Show one example in three lines: what it is, what the two sides say of it, and its text."""
    across = "backend" if pair["kind"] == "backends" else "model"
    seen = {side: reader.read(str(pair[f"run_{side}"]), row.example_id) for side in ("a", "b")}
    sides = [f"{escape(pair[f'{across}_{side}'])} {_said(row, side)}" for side in ("a", "b")]
    label = "positive" if row.label else "negative"
    yield f"**{escape(row.example_id)}**, labelled {label}. Probability of positive: {'; '.join(sides)}."
    yield f"> {_marked(row, seen, reader)}"


def sides_of(one: Examples) -> str:
    """Name A and B, what they share, and how many seeds of each were asked."""
    pair, row = one.pair, one.rows.iloc[0]
    across, shared = ("backend", "model") if pair["kind"] == "backends" else ("model", "backend")
    a, b = (escape(str(pair[f"{across}_{side}"])) for side in ("a", "b"))
    seeds = f"{row['seeds_a']} and {row['seeds_b']} seeds"
    return f"A is {a}, B is {b}: {escape(str(pair[f'{shared}_a']))}, {pair['division']}, {seeds}"


def _explained(occluded: bool) -> str:
    words = (
        "Words: what happens to the run's probability of *positive* when they are left out (+0.20: the word raised it "
        "by 0.20), single words first, then blocks of five in a row; in the text ᴬ and ᴮ mark those of A's and of B's "
        "run. That is measured on one run a side, so it says what moved this model, not what moves the recipe. "
        if occluded
        else ""
    )
    return how_to_read(
        f"{words}Probabilities are means over seeds, with least and most. What can be concluded: that these trained "
        "models differ on these texts. What can't: that other seeds would (with few seeds many a stable split is "
        "luck), or that the frameworks differ, which is what [Agreement](agreement.md) is about."
    )


def _blocks(one: Examples, reader: Reader) -> Blocks:
    kind = ""
    for row in each(one.rows):
        if row.kind != kind:
            kind = row.kind
            yield f"*{_TITLES[kind]}.*"
        yield from _block(one.pair, row, reader)


def _block(pair: Any, row: Any, reader: Reader) -> Blocks:  # noqa: ANN401 - a row each of pandas
    cut = ", of which the models see the end only" if row.truncated else ""
    seen_part = "of what they see" if row.truncated else "of them"
    unknown = "" if row.oov != row.oov else f"; {percent(row.oov)} % {seen_part} unknown words"
    tokens = "" if row.length != row.length else f"; {count(row.length)} tokens{cut}{unknown}"
    seen = {side: reader.read(str(pair[f"run_{side}"]), row.example_id) for side in ("a", "b")}
    lines = [f"**{escape(row.example_id)}**, label {'positive' if row.label else 'negative'}{tokens}. {_seen(row)}"]
    across = "backend" if pair["kind"] == "backends" else "model"
    for side in ("a", "b"):
        own = reader.whole(str(pair[f"run_{side}"]), row.example_id)
        words = _words(seen[side], int(pair[f"seed_{side}"]), own)
        lines.append(f"- {side.upper()}, {escape(pair[f'{across}_{side}'])}: {_said(row, side)}{words}")
    yield "\n".join(lines[:1]) + "\n\n" + "\n".join(lines[1:])
    yield f"> {_marked(row, seen, reader)}"


def _seen(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Say in one line what the runs make of it."""
    if row.kind == STABLE:
        one, other = ("positive", "negative") if row.positive_a else ("negative", "positive")
        return f"All {row.seeds_a} seeds of A say {one}, all {row.seeds_b} of B {other}."
    if row.kind == WRONG:
        return f"Every run says {'negative' if row.label else 'positive'}."
    if row.seeds_a == row.seeds_b == 1:
        said = ["positive" if positive else "negative" for positive in (row.positive_a, row.positive_b)]
        return f"Both say {said[0]}." if said[0] == said[1] else f"A says {said[0]}, B {said[1]}."
    return (
        f"{row.positive_a} of {row.seeds_a} seed{'' if row.seeds_a == 1 else 's'} of A and {row.positive_b} of "
        f"{row.seeds_b} of B say positive."
    )


def _said(row: Any, side: str) -> str:  # noqa: ANN401 - a named tuple of pandas
    mean, least, most = (getattr(row, f"{what}_{side}") for what in ("mean", "least", "most"))
    spread = f" ({least:.2f} to {most:.2f})" if getattr(row, f"seeds_{side}") > 1 else ""
    return f"{mean:.2f}{spread}"


def _words(read: Read | None, seed: int, whole: float | None) -> str:
    """Name the words that moved one run, and which run that is."""
    if read is None or whole is None:
        return ""
    moved = [*read.single, *read.stretches]
    if not moved:
        return f"; no word left out moves seed {seed} ({whole:.2f}) by {LEAST:g}"
    return f"; words of seed {seed} ({whole:.2f}): {listing([_moved(one) for one in moved])}"


def _moved(one: Moved) -> str:
    return f"*{escape(' '.join(one.words))}* {one.effect:+.2f}"


def _marked(row: Any, seen: Mapping[str, Read | None], reader: Reader) -> str:  # noqa: ANN401 - a named tuple
    """Show the text around the words that mattered, with these marked; without any, its beginning or its end."""
    places = {side: read.positions if read else frozenset[int]() for side, read in seen.items()}
    pieces = reader.snippet(row.example_id, places["a"] | places["b"])
    if pieces is None:
        return escape(row.snippet) or "(no text)"
    marks = {"a": "ᴬ", "b": "ᴮ"}
    written = []
    for place, word in pieces:
        by = "".join(mark for side, mark in marks.items() if place in places[side])
        written.append(f"**{escape(word)}**{by}" if by else escape(word))
    return " ".join(written)


def _on_disk(comparison: Comparison, findings: Findings) -> Blocks:
    across = findings.pairs[findings.pairs["kind"] == "backends"]
    if across.empty:
        return
    pair = across.iloc[0]
    shown = kinds(comparison, pair)
    kind = STABLE if (shown == STABLE).any() else SPLIT
    column = f"{pair['division']}-{pair['model_a']}-{pair['backend_a']}-{pair['backend_b']}_split"
    if "`" in column or "\n" in column:
        return
    yield (
        f"All {count(len(comparison.test))} test examples, with every run's probability and prediction and their kind "
        f"for each pair of backends, are in `{EXAMPLES_FILE}`:"
    )
    yield (
        "```python\n"
        "import pandas\n\n"
        f'examples = pandas.read_parquet("{EXAMPLES_FILE}")\n'
        f'examples[examples[{json.dumps(column)}] == "{kind}"][["label", "text"]]\n'
        "```"
    )


def _in_full(read: list[Examples]) -> Blocks:
    if not read:
        return
    yield "## Read in full"
    yield (
        "Of each outcome of a pair of models, both right, one of them alone, both wrong, a few examples with their "
        "whole text. They are drawn by the SHA-256 of their ids, the smallest first: anybody can repeat the draw, "
        "and nobody picked them."
    )
    for one in read:
        yield folded(pair_in_words(one, "read in full"), *whole_examples(one))
    yield (
        "What can be concluded: what kind of text this data set holds, and whether a label looks right. What "
        "can't: which word or which turn of a text moved a model, since nobody looked inside it, and anything "
        "about the many thousands that were not drawn. Where the seeds of a side don't all give one answer, the "
        "outcome is partly luck."
    )


def whole_examples(one: Examples) -> Blocks:
    """Show each example with what both models said, and its text as a quotation."""
    pair = one.pair
    for row in each(one.rows):
        said = [
            f"{escape(pair[f'model_{side}'])} {probability:.3f}"
            + (f" (right in {right} of {seeds} seeds)" if seeds > 1 else "")
            for side, probability, right, seeds in (
                ("a", row.probability_a, row.right_a, row.seeds_a),
                ("b", row.probability_b, row.right_b, row.seeds_b),
            )
        ]
        cut = ", of which the models see the end only" if row.truncated else ""
        tokens = "" if row.length is None else f"; {count(row.length)} tokens{cut}"
        missing = f"; {count(row.left_out)} characters are not shown" if row.left_out else ""
        yield (
            f"**{row.outcome[0].upper()}{row.outcome[1:]}** (one of {count(row.of)}): {escape(row.example_id)}, "
            f"label {row.label}; {listing(said)}{tokens}{missing}."
        )
        yield f"> {escape(row.text) or '(no text)'}"


def pair_in_words(one: Examples, verb: str = "disagree") -> str:
    """Name the two runs of a pair and what they share, as far as it is known."""
    pair = one.pair
    across = "backend" if pair["kind"] == "backends" else "model"
    shared = pair["model_a"] if across == "backend" else pair["backend_a"]
    said = f"{pair[f'{across}_a']} (A) and {pair[f'{across}_b']} (B) {verb}"
    return escape(f"{said}: {shared}, {pair['division']}, seed {pair['seed_a']}" if shared else said)


def split_examples(examples: Examples) -> str:
    """Examples on which two models disagree."""
    columns = [
        text("example", "example_id"),
        number("label", "label", count),
        *(number(str(examples.pair[f"model_{side}"]), f"probability_{side}", _THREE) for side in ("a", "b")),
        number("gap", "gap", _THREE),
        text("text", "snippet"),
    ]
    return table(examples.rows, columns, padded=False)


def mistakes(rows: pd.DataFrame) -> str:
    """Examples that every run gets wrong."""
    columns = [
        text("example", "example_id"),
        number("label", "label", count),
        Column("probabilities", ("least", "most"), interval(_THREE)),
        number("tokens", "length", count),
        Column("truncated", ("truncated",), lambda cut: "yes" if cut else "no", right=False),
        text("text", "snippet"),
    ]
    if rows["length"].isna().all():  # predictions of models trained anywhere come without it
        columns = [column for column in columns if column.head not in ("tokens", "truncated")]
    return table(rows, columns, padded=False)


PAGE = Page("examples", "Examples", finding, blocks)
