"""The page on the conditions: data, protocol, models, and why this loss and this optimizer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from rnn_crosscheck.harness.results import ExampleFacts
from rnn_crosscheck.reports.analysis.dataset import dotted
from rnn_crosscheck.reports.analysis.frames import grouped
from rnn_crosscheck.reports.pages.markdown import Column, escape, folded, number, table, text, texts
from rnn_crosscheck.reports.pages.page import Blocks, Page, Shown, shown_table
from rnn_crosscheck.reports.read.comparison import Comparison
from rnn_crosscheck.reports.writing import count, decimals, listing, percent

#: words of the example that is shown as ids and words
_SHOWN_WORDS = 12

_DIVISIONS = {
    "native": "With each framework's own defaults (*native*)",
    "matched": "With equal initial weights, batches and arithmetic (*matched*)",
}


def finding(shown: Shown) -> str:
    """Say which data."""
    facts, data = shown.comparison.facts, shown.comparison.manifest.protocol.data
    cut = facts.splits["test"].truncated_share if "test" in facts.splits else math.nan
    longer = "" if math.isnan(cut) else f"; {percent(cut)} % of the test examples are longer than {data.length} tokens"
    return f"{escape(facts.name)}: {escape(facts.source)}, {count(facts.distinct_words)} distinct words{longer}."


def blocks(shown: Shown) -> Blocks:
    """Give the page."""
    comparison, findings = shown.comparison, shown.findings
    facts, protocol = comparison.facts, comparison.manifest.protocol
    yield "## Data"
    yield from _splits(findings.splits)
    yield "\n".join(f"- {line}" for line in [*_shapes(comparison), *_single_examples(comparison)])
    if facts.shown:
        yield folded("That one example in full: ids, words and label", *_whole_encoding(facts.shown))
    yield "## Protocol"
    if protocol.description:
        yield escape(protocol.description)
    yield "\n".join(
        f"- {_DIVISIONS[division]}: seeds {listing(sorted(set(rows['seed'])))}."
        for division, rows in grouped(comparison.runs, "division")
    )
    yield folded("Every value of the protocol, by the key that overrides it", facts_table(dotted(protocol)))
    if len(findings.layers):
        yield "## Models"
        yield from _layers(findings.layers)
    if len(findings.curves):
        yield "## Why this loss and this optimizer"
        yield from _choices(shown)


def facts_table(rows: dict[str, str]) -> str:
    """Two columns: what, and its value."""
    frame = pd.DataFrame({"what": list(rows), "value": list(rows.values())})
    return table(frame, texts("what", "value"))


def _splits(splits: pd.DataFrame) -> Blocks:
    columns = [
        text("split", "split"),
        number("examples", "examples", count),
        number("positive, %", "positive", percent),
        number("shortest", "length_min", count),
        number("median", "length_median", decimals(1)),
        number("mean", "length_mean", decimals(1)),
        number("longest", "length_max", count),
        number("truncated, %", "truncated", percent),
        number("oov, %", "oov", percent),
    ]
    yield from shown_table("Splits", splits, columns, "splits")


def _layers(rows: pd.DataFrame) -> Blocks:
    """Show the layers of every model in every backend, and their sum."""
    parts = []
    for _, group in grouped(rows, "model", "backend", "divisions"):
        total = {"layer": "total", "output_shape": None, "note": ""} | group[
            ["parameters", "trainable"]
        ].sum().to_dict()
        parts += [group, pd.DataFrame([group.iloc[0].to_dict() | total])]
    columns = [
        *texts("model", "backend"),
        text("division", "divisions"),
        text("layer", "layer"),
        Column("output shape", ("output_shape",), _shape),
        number("parameters", "parameters", count),
        number("trainable", "trainable", count),
        *([text("note", "note")] if (rows["note"] != "").any() else []),
    ]
    yield from shown_table("Layers", pd.concat(parts, ignore_index=True), columns)


def _shape(shape: Any) -> str:  # noqa: ANN401 - a tuple or nothing, out of a DataFrame
    return f"({', '.join(map(str, shape))})" if isinstance(shape, tuple) else ""


def _shapes(comparison: Comparison) -> Blocks:
    """Say what arrays the models see, and what padding and cutting did to the texts."""
    length = comparison.manifest.protocol.data.length
    shapes = [f"{escape(name)} ({count(split.examples)}, {length})" for name, split in comparison.facts.splits.items()]
    yield (
        f"Arrays that the models see: token ids, int32 (examples, time): {', '.join(shapes)}; labels, int8 (examples), "
        "0 or 1."
    )
    tokens = comparison.test["length"].to_numpy()
    if len(tokens):
        short, cut = int((tokens < length).sum()), int((tokens > length).sum())
        filled = 1 - np.minimum(tokens, length).mean() / length
        lost = np.maximum(tokens - length, 0).sum() / tokens.sum()
        yield (
            f"Of the {count(len(tokens))} test examples, {count(short)} are shorter than {length} tokens and padded in "
            f"front with the id 0, and {count(cut)} are longer and lose their beginning. Padding is "
            f"{percent(filled)} % of the array; {percent(lost)} % of all tokens are cut off."
        )


def _single_examples(comparison: Comparison) -> Blocks:
    facts = comparison.facts
    if facts.shown:
        yield f"One example as the models see it: {_in_words(facts.shown)}"
    if facts.shortest:
        yield f"The shortest example: {_in_words(facts.shortest)}"
    if facts.longest:
        yield f"The longest example: {_in_words(facts.longest, facts.longest_length)}"
    elif facts.longest_id:
        yield f"The longest example: {escape(facts.longest_id)}, {count(facts.longest_length)} tokens."


def _whole_encoding(example: ExampleFacts) -> Blocks:
    yield f"Ids: {' '.join(map(str, example.ids))}"
    yield f"Words: {' '.join(escape(word) for word in example.words)}"
    yield f"Label: {example.label} ({'positive' if example.label else 'negative'})"


def _in_words(example: ExampleFacts, tokens: int = 0) -> str:
    """Show the beginning of an example as ids and words; `tokens` is its own length where more of it was cut off."""
    ids, words = example.ids[:_SHOWN_WORDS], example.words[:_SHOWN_WORDS]
    more = " …" if len(example.ids) > _SHOWN_WORDS else ""
    kept = count(len(example.ids))
    cut = tokens > len(example.ids)
    length = f"{count(tokens)} tokens, of which the models see the last {kept}" if cut else f"{kept} tokens"
    return (
        f"{escape(example.example_id)}, label {example.label}, {length}; ids "
        f"{' '.join(map(str, ids))}{more}; words {' '.join(escape(word) for word in words)}{more}"
    )


def _choices(shown: Shown) -> Blocks:
    comparison, findings = shown.comparison, shown.findings
    curves = findings.curves
    ends = curves.groupby("run_id", sort=False)
    first, last = ends.first(), ends.last()
    guess = math.log(2)
    worse = int((findings.good["loss"] > guess).sum())
    yield (
        "**Binary cross-entropy.** A label is one of two, and a model says how probable *positive* is. This loss "
        "is what the right answer's probability costs, as minus its logarithm: saying 0.5 to everything costs ln 2 "
        f"= {guess:.3f}. After the last epoch the validation loss of the {len(last)} runs was "
        f"{last['valid_loss'].min():.3f} to {last['valid_loss'].max():.3f}, and on the test examples {worse} of "
        f"{len(findings.good)} runs were worse than that guess."
    )
    training = comparison.manifest.protocol.training
    rose = int((last["valid_loss"] > ends["valid_loss"].min()).sum())
    yield (
        "**Adam.** Most words are rare, and a word's row of the embedding learns only from batches that hold the "
        "word. Adam divides each weight's step by the usual size of its own gradient, so rare words move too, and "
        f"one learning rate ({training.learning_rate:g}) serves all models without being tuned for each. With it, "
        f"validation accuracy stood at {percent(first['valid_accuracy'].mean())} % on average after the first epoch "
        f"and at {percent(last['valid_accuracy'].mean())} % after the last of {training.epochs}; in {rose} of "
        f"{len(last)} runs the validation loss had been lower before the last epoch. No other optimizer was run, so "
        "this shows that Adam works here, not that it is the best choice."
    )


PAGE = Page("data", "Data, protocol, models", finding, blocks)
