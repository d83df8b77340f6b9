"""The page on accuracy: how accurate each backend is, and how sure it is that they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.analysis.verdicts import BETTER
from rnn_crosscheck.reports.pages.markdown import Column, escape, number, table, text, texts
from rnn_crosscheck.reports.pages.page import Blocks, Page, Shown, folded_table, how_to_read, shown_table
from rnn_crosscheck.reports.pages.verdict import accuracy_in_words, leads_that_grow
from rnn_crosscheck.reports.writing import NONE, count, decimals, interval, listing, percent

_THREE = decimals(3)

#: with fewer seeds, an interval over them is not worth much
ENOUGH_SEEDS = 5

#: backends that a table has columns for, and means that are spelled out
_ACROSS, _SPELLED_OUT = 7, 8


def finding(shown: Shown) -> str:
    """Say who is more accurate."""
    if shown.findings.accuracy.empty:
        return ""
    return " ".join(accuracy_in_words(shown.findings)) or f"{escape(means_in_words(shown.findings.accuracy))}."


def blocks(shown: Shown) -> Blocks:
    """Give the page."""
    findings = shown.findings
    yield accuracy_table(shown)
    yield how_to_read("accuracy")
    yield accuracy_figure(shown)
    if findings.accuracy["seeds"].min() < ENOUGH_SEEDS:
        yield f"With fewer than {ENOUGH_SEEDS} seeds the dots say more than the intervals."
    yield from _beside_source(shown)
    if len(findings.backends):
        yield "## Between backends"
        yield from _differences("Every pair of backends", findings.backends, "model")
    if len(findings.models):
        yield "## Between models"
        yield _models_in_words(findings.models, findings.growth)
        yield from _differences("Every pair of models", findings.models, "backend")
    yield from _by_length(shown)
    yield from _learning(shown)
    yield from _probabilities(shown)


def means_in_words(summaries: pd.DataFrame) -> str:
    """Give the means in words, as far as one bears to hear them."""
    said = [f"{row.model} {row.division} {row.backend} {percent(row.mean)} %" for row in each(summaries)]
    more = f"; {len(said) - _SPELLED_OUT} more" if len(said) > _SPELLED_OUT else ""
    return "; ".join(said[:_SPELLED_OUT]) + more


def accuracy_figure(shown: Shown) -> str:
    """Show the figure of every run, with its caption."""
    source = shown.findings.source
    figure = shown.figure(
        "accuracy", f"Accuracy of every run, a dot each. Means: {means_in_words(shown.findings.accuracy)}"
    )
    if not figure:
        return ""
    caption = (
        "*A dot a run; bar and pale band: mean over seeds and its 95 % interval. Dashed: always the larger class.*"
    )
    if source:
        marks = listing([f"{escape(model)} {percent(value)} %" for model, value in source.items()])
        caption = f"{caption[:-1]} Cross: the one seed of the notebook ({marks}).*"
    return f"{figure}\n\n{caption}"


def accuracy_table(shown: Shown, most: int | None = None) -> str:
    """Accuracy by model and division, a column a backend; in bold what the verdict calls better.

    At most so many rows, the rest counted. Of more backends than a page has room for, each has a row.
    """
    summaries = shown.findings.accuracy
    verdicts = shown.findings.verdicts
    better = verdicts[(verdicts["question"] == "accuracy") & (verdicts["verdict"] == BETTER)]
    clear = set(zip(better["division"], better["model"], better["best"], strict=True))
    backends = list(summaries["backend"].unique())
    wide = len(backends) <= _ACROSS
    rows = []
    for (division, model), group in grouped(summaries, "division", "model"):
        row: dict[str, str] = dict.fromkeys(backends, NONE) | {"model": str(model), "division": str(division)}
        for one in each(group):
            mean = percent(one.mean)
            mean = f"**{mean}**" if (division, model, one.backend) in clear else mean
            spread = f"sd {percent(one.sd)}, n {one.seeds}" if one.seeds > 1 else f"n {one.seeds}"
            span = f" {interval(percent)(one.low, one.high)}" if one.seeds > 1 else ""
            row[one.backend] = f"{mean} ({spread}){span}"
            if len(backends) > _ACROSS:
                rows.append(
                    {"model": model, "division": division, "backend": one.backend, "accuracy": row[one.backend]}
                )
        if len(backends) <= _ACROSS:
            rows.append(row)
    columns = texts("model", "division")
    if wide:
        columns += [Column(backend, (backend,), str) for backend in backends]
    else:
        columns += [text("backend", "backend"), Column("accuracy, %", ("accuracy",), str)]
    return cut(shown, pd.DataFrame(rows), columns, most, "accuracy")


def cut(shown: Shown, rows: pd.DataFrame, columns: list[Column], most: int | None, page: str) -> str:
    """Show at most so many rows of a table, and count the rest."""
    left = 0 if most is None else len(rows) - most
    written = table(rows if most is None else rows.head(most), columns)
    return written if left <= 0 else f"{written}\n\n{left} more in [{page}]({shown.page(page)})."


def _differences(title: str, rows: pd.DataFrame, shared: str) -> Blocks:
    columns = [
        text(shared, shared),
        text("division", "division"),
        text("A", "a"),
        text("B", "b"),
        number("A - B, points", "difference", percent),
        Column("95 % interval", ("low", "high"), interval(percent)),
        Column("seeds", ("seeds_a", "seeds_b"), lambda a, b: f"{a}, {b}"),
        text("interval over", "over"),
    ]
    yield from shown_table(title, rows, columns, "differences")


def _models_in_words(models: pd.DataFrame, growth: pd.DataFrame) -> str:
    """Say how often a model is surely the better one, and how often its lead grows with the length."""
    clear = int(((models["over"] != "examples") & ((models["low"] > 0) | (models["high"] < 0))).sum())
    said = f"The interval excludes 0 in {clear} of {len(models)} comparisons of two models."
    grows, known = leads_that_grow(growth)
    if not known:
        return said
    return f"{said} A lead that clearly grows with the length: {grows} of {known} (see [By length](#by-length))."


# --- beside the notebook ------------------------------------------------------------------------------------


def _beside_source(shown: Shown) -> Blocks:
    rows = shown.findings.beside_source
    if rows.empty:
        return
    yield "## Beside the notebook"
    # The two accuracies lead the table; the counts follow from them and from how the mistakes coincide.
    said = [_place_of_source(row) for row in each(rows[rows["what"].str.startswith("accuracy")])]
    if int(rows["seeds"].min()) == 1:
        meant = "Here too there is one seed of a model, so there is no spread to hold its figures against."
    else:
        meant = (
            "A figure outside needs another explanation than the seed: another version of Keras, another machine, a "
            "rarer seed. These figures can't tell which."
        )
    yield f"{' '.join(said)} The notebook is one seed, and one seed decides nothing. {meant}"
    columns = [
        Column("of the test examples, %", ("what",), escape, right=False),
        Column("notebook", ("source", "source_count"), lambda share, n: f"{percent(share)} ({count(n)})"),
        number("ours, mean", "mean", percent),
        number("sd", "sd", percent),
        Column("range", ("least", "most", "seeds"), in_range),
        Column("95 % of further seeds", ("next_low", "next_high"), interval(percent)),
        Column("ours below it", ("below", "seeds"), lambda below, seeds: f"{below} of {seeds}"),
    ]
    yield from shown_table("Beside the notebook", rows, columns, "beside-the-notebook")


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
    expected = row.next_low <= row.source <= row.next_high
    further = f"where 95 in 100 further seeds would lie ({percent(row.next_low)} to {percent(row.next_high)} %)"
    return f"{said}{spread}, {reach}, {'but inside' if expected else 'and outside'} {further}."


def in_range(least: float, most: float, pairs: int) -> str:
    """Write a range; one value has none."""
    return interval(percent)(least, most) if pairs > 1 else NONE


# --- by length ----------------------------------------------------------------------------------------------


def _by_length(shown: Shown) -> Blocks:
    lengths, leads, growth = shown.findings.lengths, shown.findings.leads, shown.findings.growth
    if lengths.empty:
        return
    yield "## By length"
    fifths = lengths[lengths["scheme"] == "fifths"]
    said = [
        f"{model} {division} {backend} from {percent(line['mean'].iloc[0])} to {percent(line['mean'].iloc[-1])} %"
        for (division, model, backend), line in grouped(fifths, "division", "model", "backend")
    ]
    if len(leads):
        yield "\n".join(f"- {sentence}" for sentence in remembering(growth))
    yield shown.figure(
        "lengths", f"Accuracy by the length of the examples, shortest fifth to longest: {'; '.join(said)}"
    )
    seeds = {"n": lambda row: str(row.seeds)}
    for scheme, title in (("fifths", "Accuracy in each fifth"), ("cut", "Accuracy of what is whole and what is cut")):
        rows = lengths[lengths["scheme"] == scheme]
        yield folded_table(title, *_by_bucket(rows, ["model", "division", "backend"], _in_bucket, seeds), "by-length")
    if len(leads):
        yield from _leads(leads, growth)


def _leads(leads: pd.DataFrame, growth: pd.DataFrame) -> Blocks:
    """Show the lead of one model over another by the length of the examples, and how much it grows."""
    named = leads.assign(**{"lead of": leads["a"] + " over " + leads["b"]})
    for scheme, head in (("fifths", "last fifth - first"), ("cut", "cut - whole")):
        grown = {
            (row.division, row.backend, row.a, row.b): _points(row.difference, row.low, row.high)
            for row in each(growth[growth["scheme"] == scheme])
        }

        def rise(row: Any, grown: Mapping[Any, str] = grown) -> str:  # noqa: ANN401 - a named tuple of pandas
            return grown.get((row.division, row.backend, row.a, row.b), NONE)

        mine = named[named["scheme"] == scheme]
        rows, columns = _by_bucket(mine, ["lead of", "division", "backend"], _lead_in_bucket, {head: rise})
        yield folded_table(
            f"The lead, {'in each fifth' if scheme == 'fifths' else 'whole and cut'}", rows, columns, "by-length"
        )
    yield (
        "These figures don't show that memory is the reason. Long reviews differ from short ones in more than their "
        "length, and of a review that is cut neither model sees the beginning."
    )


def remembering(growth: pd.DataFrame) -> list[str]:
    """Say what the figures carry of the claim that an lstm remembers longer: a sentence a division and backend."""
    said = []
    for row in each(growth[growth["scheme"] == "fifths"]):
        points = f"{'+' if row.difference > 0 else ''}{percent(row.difference)} points"
        lead = f"{escape(row.backend)}, {row.division}: the {escape(row.a)}'s lead over the {escape(row.b)}"
        if pd.isna(row.low):
            few = min(row.seeds_a, row.seeds_b) == 1
            verdict = "with one seed, nothing can be said about whether it grows" if few else "there is no interval"
        elif row.low > 0:
            verdict = "it grows with the length, as the claim would have it"
        elif row.high < 0:
            verdict = "it shrinks with the length, against the claim"
        else:
            verdict = "the interval includes 0, so these seeds neither show that it grows nor that it doesn't"
        span = "" if pd.isna(row.low) else f" {interval(percent)(row.low, row.high)}"
        said.append(
            f"{lead} changes by {points}{span} from the shortest fifth of the examples to the longest; {verdict}."
        )
    return said


def bucket_name(low: int, high: int) -> str:
    """Name a bucket of lengths."""
    return count(low) if low == high else f"{count(low)} to {count(high)}"


def _by_bucket(
    rows: pd.DataFrame, names: list[str], write: Callable[[Any], str], more: Mapping[str, Callable[[Any], str]]
) -> tuple[pd.DataFrame, list[Column]]:
    """Bring buckets into columns: a row a model in a backend."""
    heads: dict[int, str] = {}
    for row in each(rows.drop_duplicates("bucket")):
        kind = "" if row.scheme == "fifths" else "cut: " if row.bucket else "whole: "
        heads[row.bucket] = f"{kind}{bucket_name(row.low_tokens, row.high_tokens)} ({count(row.examples)})"
    written = []
    for keys, group in grouped(rows, *names):
        cells: dict[str, str] = dict(zip(names, keys, strict=True))
        cells |= {f"bucket {row.bucket}": write(row) for row in each(group)}
        written.append(cells | {head: made(next(each(group))) for head, made in more.items()})
    columns = [text(name, name) for name in names]
    columns += [Column(head, (f"bucket {bucket}",), str) for bucket, head in heads.items()]
    return pd.DataFrame(written), [*columns, *(Column(head, (head,), str) for head in more)]


def _in_bucket(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    return _points(row.mean, row.low, row.high)


def _lead_in_bucket(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    written = _points(row.difference, row.low, row.high)
    return f"*{written}*" if row.over == "examples" else written


def _points(value: float, low: float, high: float) -> str:
    return percent(value) if pd.isna(low) else f"{percent(value)} {interval(percent)(low, high)}"


# --- loss and probabilities ---------------------------------------------------------------------------------


def _learning(shown: Shown) -> Blocks:
    curves = shown.findings.curves
    yield "## Loss and learning curves"
    columns = [
        *texts("model", "division", "backend"),
        number("loss", "loss", _THREE),
        number("sd", "loss_sd", _THREE),
        number("n", "seeds", count),
    ]
    if len(curves):
        said = []
        for (division, model, backend), group in grouped(curves, "division", "model", "backend"):
            means = group.groupby("epoch")["valid_accuracy"].mean()
            said.append(f"{model} {division} {backend} from {percent(means.iloc[0])} to {percent(means.iloc[-1])} %")
        yield shown.figure("learning", f"Learning curves by epoch. Validation accuracy: {'; '.join(said)}")
    yield folded_table("Loss on the test examples", shown.findings.accuracy, columns)
    yield how_to_read("loss-and-learning-curves")


def _probabilities(shown: Shown) -> Blocks:
    quality = shown.findings.quality
    if quality.empty:
        return
    yield "## Probabilities"
    said = [f"{row.model} {row.division} {row.backend} {percent(row.ece)} points" for row in each(quality)]
    yield shown.figure("reliability", f"Reliability. Expected calibration error: {'; '.join(said)}")
    columns = [
        *texts("model", "division", "backend"),
        number("ROC AUC", "auc", _THREE),
        number("Brier", "brier", _THREE),
        number("log loss", "log_loss", _THREE),
        number("calibration error, points", "ece", percent),
        number("n", "seeds", count),
    ]
    yield from shown_table("Ranking and calibration", quality, columns, "probabilities")


PAGE = Page("accuracy", "Accuracy", finding, blocks)
