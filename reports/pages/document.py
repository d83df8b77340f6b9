"""The report as one Markdown document: answer, evidence, conditions, details."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from rnn_crosscheck.harness.results import ExampleFacts
from rnn_crosscheck.reports.analysis.dataset import dotted
from rnn_crosscheck.reports.analysis.findings import Findings
from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.pages import tables
from rnn_crosscheck.reports.pages.agreement import agreement
from rnn_crosscheck.reports.pages.answer import DIVISION_WORDS, ENOUGH_SEEDS, answer, remembering
from rnn_crosscheck.reports.pages.causes import why_they_differ
from rnn_crosscheck.reports.pages.examples import examples
from rnn_crosscheck.reports.pages.export import STORED
from rnn_crosscheck.reports.pages.markdown import code, document, escape, fenced, folded, image, note, unless_long
from rnn_crosscheck.reports.pages.since import what_changed
from rnn_crosscheck.reports.pages.speed import speed
from rnn_crosscheck.reports.read.comparison import Comparison
from rnn_crosscheck.reports.writing import count, listing, percent

#: words of the example that is shown as ids and words
_SHOWN_WORDS = 12


def render(comparison: Comparison, findings: Findings, figures: Mapping[str, str]) -> str:
    """Write the document; `figures` maps the names of the figures that there are to their paths."""
    sections = (
        _head,
        _short,
        what_changed,
        _accuracy,
        speed,
        agreement,
        why_they_differ,
        examples,
        _conditions,
        _runs,
        _environment,
    )
    return document(block for section in sections for block in section(comparison, findings, figures)) + "\n"


Figures = Mapping[str, str]
Blocks = Iterator[str]


def _head(comparison: Comparison, findings: Findings, figures: Figures) -> Blocks:
    manifest, facts = comparison.manifest, comparison.facts
    models = listing([escape(name) for name in dict.fromkeys(comparison.runs["model"])])
    backends = " against ".join(escape(name) for name in manifest.backends)
    yield f"# {backends}: {models} on {escape(facts.name)}"
    yield (
        f"Protocol {escape(manifest.protocol.name)}, {count(len(comparison.test))} test examples, on "
        f"{manifest.device}, {escape(manifest.created)}. Reproduce with {code(manifest.command)}"
    )
    for name in manifest.inference:
        yield (
            f"**{escape(name)}** trains nothing: it predicts with the weights that others have trained, which the "
            "transplants show, and its predictions are timed. It has no accuracy, seeds or learning curves of its own, "
            "no training step to be timed and no stages to be compared."
        )


def _short(comparison: Comparison, findings: Findings, figures: Figures) -> Blocks:
    yield "## In short"
    yield "\n".join(f"- {sentence}" for sentence in answer(findings))


def _accuracy(comparison: Comparison, findings: Findings, figures: Figures) -> Blocks:
    if findings.accuracy.empty:
        return
    yield "## Accuracy"
    yield tables.accuracy(findings)
    if "accuracy" in figures:
        means = [f"{row.model} {row.division} {row.backend} {percent(row.mean)} %" for row in each(findings.accuracy)]
        yield image(figures["accuracy"], f"Accuracy of every run, a dot each. Means: {'; '.join(means)}")
        caption = (
            "A dot a run; bar and pale band: mean over seeds and its 95 % interval, cut at the edge of the figure."
        )
        if findings.source:
            marks = [f"{escape(model)} {percent(value)} %" for model, value in findings.source.items()]
            caption += f" Cross: the one seed of the experiment that this protocol comes from ({listing(marks)})."
        yield note(caption)
    if findings.accuracy["seeds"].min() < ENOUGH_SEEDS:
        yield f"With fewer than {ENOUGH_SEEDS} seeds the dots say more than the intervals."
    yield from _beside_source(findings)
    if len(findings.backends):
        yield "### Between backends"
        yield unless_long("Every pair of backends", len(findings.backends), tables.backend_differences(findings))
    if len(findings.models):
        yield "### Between models"
        yield unless_long("Every pair of models", len(findings.models), tables.model_differences(findings))
    yield from _by_length(findings, figures)
    yield "### Loss and learning curves"
    yield unless_long("Loss", len(findings.accuracy), tables.loss(findings))
    if "learning" in figures:
        yield image(figures["learning"], _curves_in_words(findings.curves))
        yield note(
            "Solid: validation (thin: one seed, thick: their mean). Dashed: training, mean over seeds, while the "
            "weights move."
        )
    if len(findings.quality):
        yield "### Probabilities: ranking and calibration"
        yield unless_long("Probabilities", len(findings.quality), tables.quality(findings))
        if "reliability" in figures:
            said = [
                f"{row.model} {row.division} {row.backend} {percent(row.ece)} points" for row in each(findings.quality)
            ]
            yield image(figures["reliability"], f"Reliability. Expected calibration error: {'; '.join(said)}")
            yield note(
                "What was promised against what came: the share of positive labels among examples that a model gives "
                "so much, in tenths. On the grey line a probability means what it says; below it, it is too high."
            )
    if len(findings.curves):
        title = f"Every epoch of every run: training and validation loss and accuracy ({len(findings.curves)} rows)"
        yield folded(title, tables.epochs(findings))


def _beside_source(findings: Findings) -> Blocks:
    rows = findings.beside_source
    if rows.empty:
        return
    yield "### Beside the notebook"
    yield tables.beside_source(findings)
    # The two accuracies lead the table; the counts follow from them and from how the mistakes coincide.
    said = [_place_of_source(row) for row in each(rows[rows["what"].str.startswith("accuracy")])]
    if int(rows["seeds"].min()) == 1:
        meant = "Here too there is one seed of a model, so there is no spread to hold its figures against."
    else:
        meant = (
            "How far seeds lie apart is what its figures are to be held against. What lies outside needs another "
            "explanation (another version of Keras, another machine, a rarer seed), and these figures can't tell which."
        )
    yield f"{' '.join(said)} The notebook is one seed, and one seed decides nothing. {meant}"


def _place_of_source(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Say where a figure of the source experiment lies among ours."""
    gap = abs(row.source - row.mean)
    side = "below" if row.source < row.mean else "above"
    said = f"The notebook's {escape(row.what)} ({percent(row.source)} %) lies {percent(gap)} points {side} our mean"
    if row.seeds == 1:
        return f"{said}, which is a single seed."
    spread = "" if not row.sd else f", {gap / row.sd:.1f} of our standard deviations"
    within = row.least <= row.source <= row.most
    place = "inside" if within else "outside"
    reach = f"{place} the range of our {row.seeds} seeds ({percent(row.least)} to {percent(row.most)} %)"
    if within or math.isnan(row.next_low):
        return f"{said}{spread}, {reach}."
    expected = row.next_low <= row.source <= row.next_high
    further = f"where 95 % of further seeds would lie ({percent(row.next_low)} to {percent(row.next_high)} %)"
    return f"{said}{spread}, {reach}, {'but inside' if expected else 'and outside'} {further}."


def _by_length(findings: Findings, figures: Figures) -> Blocks:
    if findings.lengths.empty:
        return
    yield "### By length"
    if "lengths" in figures:
        fifths = findings.lengths[findings.lengths["scheme"] == "fifths"]
        said = [
            f"{model} {division} {backend} from {percent(line['mean'].iloc[0])} to {percent(line['mean'].iloc[-1])} %"
            for (division, model, backend), line in grouped(fifths, "division", "model", "backend")
        ]
        alt = f"Accuracy by the length of the examples, shortest fifth to longest: {'; '.join(said)}"
        yield image(figures["lengths"], alt)
        yield note("Mean over seeds; whiskers: its 95 % interval, cut at the edge of the figure. A dash a model.")
    if len(findings.leads):
        yield "\n".join(f"- {sentence}" for sentence in remembering(findings))
        yield tables.lead_by_length(findings)
        yield (
            "What can't be concluded: that memory is the reason. Long reviews differ from short ones in more than "
            "their length, and of a review that is cut neither model sees the beginning."
        )
    yield folded("Accuracy of every model by length", tables.by_length(findings))


def _curves_in_words(curves: pd.DataFrame) -> str:
    said = []
    for (division, model, backend), group in grouped(curves, "division", "model", "backend"):
        means = group.groupby("epoch")["valid_accuracy"].mean()
        said.append(f"{model} {division} {backend} from {percent(means.iloc[0])} to {percent(means.iloc[-1])} %")
    return f"Learning curves by epoch. Validation accuracy: {'; '.join(said)}"


def _conditions(comparison: Comparison, findings: Findings, figures: Figures) -> Blocks:
    facts = comparison.facts
    yield "## Data, protocol, models, choices"
    yield "### Data"
    yield (
        f"{escape(facts.name)}: {escape(facts.source)}. {count(facts.distinct_words)} distinct words in the "
        "training split."
    )
    yield tables.splits(findings)
    yield "\n".join(f"- {line}" for line in [*_shapes(comparison), *_single_examples(comparison)])
    if facts.shown:
        yield folded("That one example in full: ids, words and label", *_whole_encoding(facts.shown))
    yield "### Protocol"
    protocol = comparison.manifest.protocol
    if protocol.description:
        yield escape(protocol.description)
    yield "\n".join(
        f"- {DIVISION_WORDS[division]}: seeds {listing(sorted(set(rows['seed'])))}."
        for division, rows in grouped(comparison.runs, "division")
    )
    yield folded(
        "Every value of the protocol, by the key that overrides it",
        tables.facts(dotted(protocol)),
    )
    if len(findings.layers):
        yield "### Models"
        yield tables.layers(findings)
    if len(findings.curves):
        yield "### Why this loss and this optimizer"
        yield from _choices(comparison, findings)


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


def _choices(comparison: Comparison, findings: Findings) -> Blocks:
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
        f"{len(findings.good)} runs were worse than that guess. Its slope at the model's last sum is prediction "
        "minus label, so it is steepest where a model is sure and wrong; a squared error would go flat just there."
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


def _runs(comparison: Comparison, findings: Findings, figures: Figures) -> Blocks:
    yield "## Every run"
    if findings.runs.empty:
        yield "No run was asked for."
        return
    yield unless_long("Runs", len(findings.runs), tables.runs(findings))
    if len(findings.good):
        yield (
            "Every prediction is kept: a run's in `runs/<run>/predictions.parquet` (example id, label, probability), "
            f"and all of them in columns beside the texts in `{STORED}`, which `rnn-crosscheck predictions` reads."
        )
    for run_id, run in findings.runs[findings.runs["status"] != "ok"].iterrows():
        if run["status"] == "not run":
            yield f"- **{escape(str(run_id))}** was not run."
            continue
        killed = f" (signal {escape(run['signal'])})" if run["signal"] else ""
        yield f"- **{escape(str(run_id))}** {run['status']}{killed}: {escape(run['reason'])}"
        failure = comparison.results[str(run_id)].failure
        if failure and failure.log_tail.strip():
            yield folded(f"Last lines of the log of {escape(str(run_id))}", fenced(failure.log_tail))
    for run_id, reason in comparison.variants.lost.items():
        yield f"- **{escape(run_id)}**, held against the runs above, failed: {escape(reason)}"


def _environment(comparison: Comparison, findings: Findings, figures: Figures) -> Blocks:
    manifest = comparison.manifest
    yield "## Environment"
    known = {
        **manifest.machine,
        "device": manifest.device,
        "threads of a worker": str(manifest.protocol.workers.threads),
    }
    yield tables.facts({what: value for what, value in known.items() if value})
    if len(findings.environment):
        yield tables.environment(findings)
    hashes = {
        "Commit": manifest.commit,
        "Fingerprint of the dataset": comparison.facts.fingerprint,
        "Hash of the test inputs (ids, labels and tokens), equal in every run": comparison.facts.inputs_hash,
    }
    yield "\n".join(f"- {what}: {code(value)}" for what, value in hashes.items() if value)
