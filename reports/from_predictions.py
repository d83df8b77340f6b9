"""The accuracy and disagreement parts of a report, from predictions alone: nobody knows how they were trained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rnn_crosscheck.harness.errors import ResultsError
from rnn_crosscheck.harness.folder import refuse_foreign, says_of_itself, write_text
from rnn_crosscheck.harness.results import FORMAT
from rnn_crosscheck.reports.analysis import accuracy, disagreement
from rnn_crosscheck.reports.analysis.findings import Examples, ids_of
from rnn_crosscheck.reports.analysis.frames import each, record, records
from rnn_crosscheck.reports.pages import browse
from rnn_crosscheck.reports.pages.agreement import MOST_PAIRS, pair_figures
from rnn_crosscheck.reports.pages.examples import browse_link, mistakes, pair_in_words, split_examples, whole_examples
from rnn_crosscheck.reports.pages.markdown import (
    Column,
    code,
    document,
    escape,
    folded,
    note,
    number,
    table,
    text,
    texts,
)
from rnn_crosscheck.reports.pages.page import LONG
from rnn_crosscheck.reports.read.predictions import Predictions, read_predictions
from rnn_crosscheck.reports.writing import count, interval, listing, p_value, percent

#: pairs whose examples are listed, and models and pairs that the answer spells out
_LISTED, _SPELLED_OUT, _SPELLED_PAIRS = 4, 4, 3


@dataclass(frozen=True)
class PredictionFindings:
    """The tables of such a report; each is described where it is computed."""

    runs: pd.DataFrame
    pairs: pd.DataFrame
    examples: tuple[Examples, ...]
    read: tuple[Examples, ...]
    mistakes: pd.DataFrame


def build(paths: Sequence[Path], output: Path) -> Path:
    """Read files of predictions and write ``report.md`` and ``comparison.json`` into `output`; give the former.

    Raises
    ------
    ResultsError
        A file can't be used (see `read_predictions`), or `output` can't be written. Then nothing is written.
    UsageError
        `output` holds anything but an earlier report of this kind.
    """
    refuse_foreign(output, "--output", lambda folder: says_of_itself(folder / "comparison.json", {"files", "joined"}))
    predictions = read_predictions(paths)
    findings = find(predictions)
    report = output / "report.md"
    try:
        write_text(output / "comparison.json", as_json(predictions, findings))
        groups = disagreement.groups(findings.pairs)
        title = f"{' against '.join(map(str, findings.runs.index))}"
        browse.write(
            output, title, predictions, groups, ids_of((*findings.examples, *findings.read), findings.mistakes)
        )
        write_text(report, render(predictions, findings))
    except OSError as error:
        raise ResultsError(f"{output} can't be written: {error.strerror}.") from None
    return report


def find(predictions: Predictions) -> PredictionFindings:
    """Compute every table; examples only where there are texts to read."""
    pairs = disagreement.pairs(predictions)
    chosen = [pair for _, pair in pairs.head(_LISTED).iterrows()] if predictions.has_text else []
    return PredictionFindings(
        runs=accuracy.run_accuracy(predictions),
        pairs=pairs,
        examples=tuple(Examples(pair, disagreement.split_examples(predictions, pair)) for pair in chosen),
        read=tuple(Examples(pair, disagreement.read_in_full(predictions, pair)) for pair in chosen[:1]),
        mistakes=disagreement.sure_mistakes(predictions, limit=10 if predictions.has_text else 0),
    )


def answer(predictions: Predictions, findings: PredictionFindings) -> list[str]:
    """Say in a few sentences what the figures carry, each with its uncertainty."""
    total = count(len(predictions.test))
    best = findings.runs.sort_values("accuracy", ascending=False, kind="stable").head(_SPELLED_OUT)
    marks = [
        f"{escape(str(name))} {percent(row['accuracy'])} % ({percent(row['low'])} to {percent(row['high'])})"
        for name, row in best.iterrows()
    ]
    more = "" if len(findings.runs) <= _SPELLED_OUT else f", the best {_SPELLED_OUT} of {len(findings.runs)}"
    said = [f"Accuracy on {total} examples, with 95 % intervals over examples{more}: {listing(marks)}."]
    pairs = findings.pairs
    if len(pairs):
        largest = pairs.loc[pairs["difference"].abs().sort_values(ascending=False, kind="stable").index]
        phrases = [_difference(row) for row in each(largest.head(_SPELLED_PAIRS))]
        rest = "" if len(pairs) <= _SPELLED_PAIRS else f" These are the largest of {len(pairs)} differences."
        said.append(f"{'; '.join(phrases)}.{rest}")
        most = pairs.nlargest(_SPELLED_PAIRS, "disagreement")
        shares = [
            f"{escape(row.run_a)} and {escape(row.run_b)} on {percent(row.disagreement)} % (kappa {row.kappa:.2f})"
            for row in each(most)
        ]
        said.append(f"Disagreement{'' if len(pairs) <= _SPELLED_PAIRS else ', the largest'}: {listing(shares)}.")
    said.append(
        "**Each of these is one trained model.** Nothing here says what another seed would have given, so nothing "
        "here tells two recipes apart: two seeds of one recipe can disagree as much."
    )
    return said


def _difference(row: object) -> str:
    values = row._asdict()  # type: ignore[attr-defined]  # a named tuple of pandas
    sign = 1 if values["difference"] >= 0 else -1
    ahead, behind = ("run_a", "run_b") if sign == 1 else ("run_b", "run_a")
    low, high = sorted((sign * values["low"], sign * values["high"]))
    gap = percent(abs(values["difference"]))
    names = escape(values[ahead]), escape(values[behind])
    stood = f"{names[0]} stood {gap} points above {names[1]}"
    if gap == percent(0):
        stood = f"{names[0]} and {names[1]} stood less than 0.05 points apart"
    clear = "" if low > 0 or high < 0 else ", which includes 0"
    return f"{stood} (95 % interval {percent(low)} to {percent(high)}{clear}; McNemar, Holm: p {_p(values['p_holm'])})"


def _p(p: float) -> str:
    written = p_value(p)
    return written.replace("<", "&lt;") if written.startswith("<") else f"= {written}"


def render(predictions: Predictions, findings: PredictionFindings) -> str:
    """Write the document."""
    return document(_blocks(predictions, findings)) + "\n"


def _blocks(predictions: Predictions, findings: PredictionFindings) -> Iterator[str]:
    names = [escape(str(name)) for name in findings.runs.index]
    shown = names if len(names) <= _SPELLED_OUT else [*names[: _SPELLED_OUT - 1], f"{len(names) - 3} more"]
    yield f"# {' against '.join(shown)}: predictions on {count(len(predictions.test))} examples"
    files = " ".join(str(path) for path in predictions.files)
    positive = float((predictions.test["label"] == 1).mean())
    yield (
        f"{percent(positive)} % of the labels are positive. {predictions.joined} Reproduce with "
        f"{code(f'rnn-crosscheck predictions {files}')}"
    ).replace("  ", " ")
    yield "## In short"
    yield "\n".join(f"- {sentence}" for sentence in answer(predictions, findings))
    yield "## Accuracy"
    columns = [
        text("model", "run_id"),
        number("accuracy, %", "accuracy", percent),
        Column("95 % interval", ("low", "high"), interval(percent)),
        *texts("column", "file"),
    ]
    yield table(findings.runs.rename_axis("run_id").reset_index(), columns)
    yield note(
        "Share of the examples that a model gets right; a probability of 0.5 or more says positive. The interval "
        "(Wilson) is over examples: what this one trained model could score on other examples like these."
    )
    yield from _agreement(findings)
    yield from _examples(findings)
    yield browse_link(predictions)


def _agreement(findings: PredictionFindings) -> Iterator[str]:
    total = len(findings.pairs)
    if not total:
        return
    yield "## Agreement"
    yield "Two models with two answers disagree on an example exactly when one of them is right."
    if total > MOST_PAIRS:
        yield f"The {count(total)} single pairs are in `comparison.json`, under `pairs`."
        return
    shown = table(findings.pairs, [text("A", "run_a"), text("B", "run_b"), *pair_figures()])
    yield folded(f"Every pair of models ({total} pairs)", shown) if total > LONG else shown
    yield note(
        "Examples that both get right, only A, only B, neither. A - B: accuracy with the paired 95 % interval over "
        f"examples. p: McNemar's mid-p test, then corrected for all {total} pairs (Holm). A large p is no evidence "
        "that two models are alike."
    )


def _examples(findings: PredictionFindings) -> Iterator[str]:
    listed = [examples for examples in findings.examples if len(examples.rows)]
    if not listed and not findings.read and findings.mistakes.empty:
        return
    yield "## Examples"
    for place, examples in enumerate(listed):
        if place:
            yield folded(pair_in_words(examples), split_examples(examples))
            continue
        yield f"### {pair_in_words(examples)}"
        yield split_examples(examples)
        yield note(
            "Probability of the positive class from each of the two; at 0.5 or more it is the prediction. The largest "
            "gaps first; the text is the beginning of the example's own."
        )
    for examples in findings.read:
        yield folded(pair_in_words(examples, "read in full"), *whole_examples(examples))
    if len(findings.mistakes):
        title = f"Wrong in every model, the surest first ({len(findings.runs)} models)"
        yield folded(title, mistakes(findings.mistakes))
    yield (
        "What can be concluded from examples: that these trained models differ on these texts. What can't: why, or "
        "that the same recipe trained again would."
    )


def as_json(predictions: Predictions, findings: PredictionFindings) -> str:
    """Write everything that the report says for machines, in the words of a comparison's own ``comparison.json``."""
    content = {
        "format": FORMAT,
        "in_short": answer(predictions, findings),
        "files": [str(path) for path in predictions.files],
        "joined": predictions.joined,
        "examples_total": len(predictions.test),
        "runs": records(
            findings.runs[["file", "column", "accuracy", "low", "high"]].rename_axis("run_id").reset_index()
        ),
        "pairs": records(
            findings.pairs.drop(columns=["kind", "division", "backend_a", "backend_b", "seed_a", "seed_b"])
        ),
        "examples": [
            {"pair": record(examples.pair[["run_a", "run_b"]].to_dict()), "rows": records(examples.rows)}
            for examples in findings.examples
        ],
        "mistakes": records(findings.mistakes),
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
