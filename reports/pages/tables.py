"""The tables of the report as Markdown: which columns, in which words, and the line that explains them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from rnn_crosscheck.reports.analysis.accuracy import best
from rnn_crosscheck.reports.analysis.divergence import HORIZON
from rnn_crosscheck.reports.analysis.findings import Examples, Findings
from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.analysis.stages import STAGE_WORDS, others, worst
from rnn_crosscheck.reports.pages.markdown import Column, escape, note, number, plain_table, table, text
from rnn_crosscheck.reports.writing import (
    NONE,
    count,
    decimals,
    interval,
    megabytes,
    p_value,
    percent,
    scientific,
    significant,
)

_TWO = decimals(2)
_THREE = decimals(3)


def accuracy(findings: Findings) -> str:
    """Accuracy by model and division, a column a backend; the best in bold if it is clearly the best."""
    summaries = findings.accuracy
    clear = best(summaries, findings.backends)
    backends = list(summaries["backend"].unique())
    rows = []
    for (division, model), group in grouped(summaries, "division", "model"):
        row: dict[str, str] = dict.fromkeys(backends, NONE) | {"model": str(model), "division": str(division)}
        for one in each(group):
            mean = percent(one.mean)
            mean = f"**{mean}**" if (division, model, one.backend) in clear else mean
            spread = f"sd {percent(one.sd)}, n {one.seeds}" if one.seeds > 1 else f"n {one.seeds}"
            span = f" {interval(percent)(one.low, one.high)}" if one.seeds > 1 else ""
            row[one.backend] = f"{mean} ({spread}){span}"
        rows.append(row)
    columns = [text("model", "model"), text("division", "division")]
    columns += [Column(f"{backend}, %", (backend,), str) for backend in backends]
    return (
        table(pd.DataFrame(rows), columns)
        + "\n\n"
        + note(
            "Test accuracy in per cent: mean over n seeds (a seed is one training from its own random start), "
            "standard deviation sd, and the 95 % interval of the mean over seeds, which needs at least two. "
            "Native: each framework's own defaults; matched: equal initial weights, batches and arithmetic. Bold: "
            "more accurate than every other backend of the row, by an interval that excludes 0."
        )
    )


def backend_differences(findings: Findings) -> str:
    """Differences between backends."""
    return _differences(findings.backends, "model")


def model_differences(findings: Findings) -> str:
    """Differences between models."""
    return _differences(findings.models, "backend")


def _differences(rows: pd.DataFrame, shared: str) -> str:
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
    return (
        table(rows, columns)
        + "\n\n"
        + note(
            "Accuracy of A minus accuracy of B in percentage points. Over seeds: what other seeds could have given "
            "(Welch's t; paired where equal seeds start from equal weights). Over examples: what other examples "
            "could have given the same two trained models; it says nothing about other seeds."
        )
    )


def beside_source(findings: Findings) -> str:
    """Show the figures of the source experiment beside ours."""
    columns = [
        Column("of the test examples, %", ("what",), escape, right=False),
        Column("notebook", ("source", "source_count"), lambda share, n: f"{percent(share)} ({count(n)})"),
        number("ours, mean", "mean", percent),
        number("sd", "sd", percent),
        Column("range", ("least", "most", "seeds"), _range),
        Column("95 % of further seeds", ("next_low", "next_high"), interval(percent)),
        Column("ours below it", ("below", "seeds"), lambda below, seeds: f"{below} of {seeds}"),
    ]
    rows = findings.beside_source
    return (
        table(rows, columns)
        + "\n\n"
        + note(
            "Notebook: what the notebook this project grew out of printed for its one seed, on 25,000 test reviews "
            f"(their number in brackets). Ours: native runs of {escape(rows['backend'].iloc[0])}; mean, standard "
            "deviation and range over seeds, how many of them lie below the notebook, and where the next seed of ours "
            "would lie 95 times in 100 if seeds were normally distributed."
        )
    )


def epochs(findings: Findings) -> str:
    """Every epoch of every run."""
    columns = [
        Column("run", ("run_id",), escape, right=False),
        number("epoch", "epoch", count),
        number("train loss", "train_loss", _THREE),
        number("train accuracy, %", "train_accuracy", percent),
        number("valid loss", "valid_loss", _THREE),
        number("valid accuracy, %", "valid_accuracy", percent),
        number("s", "seconds", significant),
    ]
    return table(findings.curves, columns)


def by_length(findings: Findings) -> str:
    """Accuracy by the length of the examples: a row a model in a backend, a column a bucket."""
    lengths = findings.lengths
    return (
        _by_bucket(lengths, ["model", "division", "backend"], _in_bucket, {"n": lambda row: str(row.seeds)})
        + "\n\n"
        + note(
            "Accuracy in per cent, mean over n seeds with its 95 % interval over seeds. Heads: tokens of an example "
            "before anything is cut, with the number of test examples; fifths of the test examples first, then those "
            "that fit the models' input and those that are cut to it."
        )
    )


def lead_by_length(findings: Findings) -> str:
    """Show the lead of the lstm over the rnn by the length of the examples, and how much it grows."""
    leads, growth = findings.leads, findings.growth
    grown = {(row.division, row.backend, row.a, row.b, row.scheme): row for row in each(growth)}

    def rise(scheme: str) -> Callable[[Any], str]:
        def written(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
            found = grown.get((row.division, row.backend, row.a, row.b, scheme))
            return NONE if found is None else _points(found.difference, found.low, found.high)

        return written

    more = {"last fifth - first": rise("fifths"), "cut - whole": rise("cut")}
    shown = {head: write for head, write in more.items() if any(write(row) != NONE for row in each(leads))}
    named_leads = leads.assign(**{"lead of": leads["a"] + " over " + leads["b"]})
    return (
        _by_bucket(named_leads, ["lead of", "division", "backend"], _lead_in_bucket, shown)
        + "\n\n"
        + note(
            "Accuracy of the first minus accuracy of the second in percentage points, with its 95 % interval: over "
            "seeds (Welch's t), or, in italics, over the examples of one pair of runs, which says nothing about other "
            "seeds. The last columns: the lead on long examples minus the lead on short ones, over seeds."
        )
    )


def bucket_name(low: int, high: int) -> str:
    """Name a bucket of lengths."""
    return count(low) if low == high else f"{count(low)} to {count(high)}"


def _by_bucket(
    rows: pd.DataFrame,
    names: list[str],
    write: Callable[[Any], str],
    more: Mapping[str, Callable[[Any], str]],
) -> str:
    heads = {
        (row.scheme, row.bucket): f"{bucket_name(row.low_tokens, row.high_tokens)} ({count(row.examples)})"
        for row in each(rows.drop_duplicates(["scheme", "bucket"]))
    }
    shown = []
    for keys, group in grouped(rows, *names):
        cells: dict[str, str] = dict(zip(names, keys, strict=True))
        for row in each(group):
            cells[f"{row.scheme} {row.bucket}"] = write(row)
        cells |= {head: made(next(each(group))) for head, made in more.items()}
        shown.append(cells)
    columns = [text(name, name) for name in names]
    columns += [Column(head, (f"{scheme} {bucket}",), str) for (scheme, bucket), head in _distinct_heads(heads).items()]
    columns += [Column(head, (head,), str) for head in more]
    return table(pd.DataFrame(shown), columns)


def _distinct_heads(heads: Mapping[tuple[str, int], str]) -> dict[tuple[str, int], str]:
    """Tell heads apart that would be one, such as a fifth that is also what is cut."""
    seen: dict[tuple[str, int], str] = {}
    for key, head in heads.items():
        kind = "" if key[0] == "fifths" else "cut: " if key[1] else "whole: "
        seen[key] = kind + head
    return seen


def _in_bucket(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    return _with_interval(row.mean, row.low, row.high)


def _lead_in_bucket(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    written = _with_interval(row.difference, row.low, row.high)
    return f"*{written}*" if row.over == "examples" else written


def _with_interval(value: float, low: float, high: float) -> str:
    return percent(value) if pd.isna(low) else f"{percent(value)} {interval(percent)(low, high)}"


def loss(findings: Findings) -> str:
    """Loss on the test examples."""
    columns = [
        text("model", "model"),
        text("division", "division"),
        text("backend", "backend"),
        number("loss", "loss", _THREE),
        number("sd", "loss_sd", _THREE),
        number("n", "seeds", count),
    ]
    return (
        table(findings.accuracy, columns)
        + "\n\n"
        + note(
            "Binary cross-entropy on the test examples, mean and standard deviation over n seeds; saying 0.5 to "
            "everything gives ln 2 = 0.693."
        )
    )


def groups(findings: Findings) -> str:
    """Disagreement by what the runs differ in, beside the reseeded floor."""
    columns = [
        text("differ in", "kind"),
        text("division", "division"),
        Column("runs", ("model_a", "model_b", "backend_a", "backend_b", "kind"), _sides, right=False),
        number("disagree, %", "disagreement", percent),
        Column("range", ("least", "most", "pairs"), _range),
        number("floor, %", "floor", percent),
        number("both right, %", "both_right", percent),
        number("only A, %", "only_a", percent),
        number("only B, %", "only_b", percent),
        number("both wrong, %", "both_wrong", percent),
        number("kappa", "kappa", _TWO),
        number("pairs", "pairs", count),
    ]
    return (
        table(findings.groups, columns)
        + "\n\n"
        + note(
            "Means over pairs of runs that differ in one thing; A is named first, and the range is that of the "
            "pairs. Floor: what two seeds of the same backend and model disagree on, mean of A's and B's own; only "
            "what lies above it can come from the backend or the model. Kappa: agreement of the predictions beyond "
            "chance; 1 is complete, 0 is chance."
        )
    )


def excesses(findings: Findings) -> str:
    """Disagreement of two backends beyond what seeds do."""
    columns = [
        text("model", "model"),
        text("division", "division"),
        text("A", "backend_a"),
        text("B", "backend_b"),
        Column("seeds", ("seeds_a", "seeds_b"), lambda a, b: f"{a}, {b}"),
        number("A and B, %", "between", percent),
        number("A's own, %", "own_a", percent),
        number("B's own, %", "own_b", percent),
        number("on top, points", "excess", percent),
        Column("95 % interval", ("low", "high"), interval(percent)),
        Column("twins of A, of B, %", ("twins_a", "twins_b"), _both),
    ]
    return (
        table(findings.excesses, columns)
        + "\n\n"
        + note(
            "Disagreement of any run of A with any of B (matched: of those with different seeds), of two seeds of A, "
            "and of two seeds of B. On top: the first less the mean of the other two, or excess disagreement, with its "
            "interval over runs and examples. Twins: what rounding alone changes in one matched run of each."
        )
    )


def _both(a: float, b: float) -> str:
    return NONE if all(pd.isna(share) for share in (a, b)) else f"{percent(a)}, {percent(b)}"


def rungs(findings: Findings) -> str:
    """Give the ladder in figures."""
    columns = [
        number("rung", "rung", count),
        text("the two", "name"),
        text("division", "division"),
        Column("runs", ("model_a", "model_b", "backend_a", "backend_b"), _two_sides, right=False),
        number("disagree, %", "disagreement", percent),
        Column("95 % interval", ("low", "high"), interval(percent)),
        Column("range", ("least", "most", "pairs"), _range),
        number("pairs", "pairs", count),
    ]
    return (
        table(findings.rungs, columns)
        + "\n\n"
        + note(
            "Share of the test examples on which the two runs of a pair predict differently, mean over pairs. Whether "
            "matched pairs part as twins do is judged under Why they differ."
        )
    )


def _two_sides(model_a: str, model_b: str, backend_a: str, backend_b: str) -> str:
    models = model_a if model_a == model_b else f"{model_a}, {model_b}"
    backends = backend_a if backend_a == backend_b else f"{backend_a}, {backend_b}"
    return escape(f"{models}: {backends}")


def together(findings: Findings) -> str:
    """Show sets of three runs and more, all at once."""
    columns = [
        text("model", "model"),
        text("division", "division"),
        Column("backends", ("backends",), lambda names: escape(", ".join(names)), right=False),
        number("runs", "runs", count),
        number("all say one thing, %", "agreed", percent),
        number("Fleiss' kappa", "fleiss", _TWO),
        number("one right at least, %", "oracle", percent),
        number("Cochran's Q", "q", decimals(1)),
        number("p", "p", p_value),
    ]
    return (
        table(findings.together, columns)
        + "\n\n"
        + note(
            "Fleiss' kappa: agreement of all the predictions beyond chance. Cochran's Q tests whether these trained "
            "models are right equally often; a small p says that some of them differ, be it by the seed alone."
        )
    )


def where(rows: pd.DataFrame) -> str:
    """Disagreement of one pair of backends by bucket of the test examples."""
    columns = [
        text("by", "what"),
        text("bucket", "bucket"),
        number("examples", "examples", count),
        number("disagree, %", "between", percent),
        number("floor, %", "floor", percent),
        number("on top, points", "excess", percent),
        Column("95 % interval", ("low", "high"), interval(percent)),
    ]
    return table(rows, columns)


def quality(findings: Findings) -> str:
    """Ranking and calibration of the probabilities."""
    columns = [
        text("model", "model"),
        text("division", "division"),
        text("backend", "backend"),
        number("ROC AUC", "auc", _THREE),
        number("Brier", "brier", _THREE),
        number("log loss", "log_loss", _THREE),
        number("calibration error, points", "ece", percent),
        number("n", "seeds", count),
    ]
    return (
        table(findings.quality, columns)
        + "\n\n"
        + note(
            "Means over n seeds. ROC AUC: how often a positive example gets a higher probability than a negative one "
            "(0.5: chance). Brier: mean squared distance of probability and label (0.25 for always 0.5). Calibration "
            "error: mean distance of what was promised and what came, over ten bins of probability."
        )
    )


def _range(least: float, most: float, pairs: int) -> str:
    return interval(percent)(least, most) if pairs > 1 else NONE


def _sides(model_a: str, model_b: str, backend_a: str, backend_b: str, kind: str) -> str:
    if kind == "backends":
        return escape(f"{model_a}: {backend_a}, {backend_b}")
    return escape(f"{backend_a}: {model_a}, {model_b}") if kind == "models" else escape(f"{backend_a}: {model_a}")


def pairs(findings: Findings, kind: str) -> str:
    """Pairs of runs of one kind."""
    columns = [
        text("division", "division"),
        Column("runs", ("model_a", "model_b", "backend_a", "backend_b", "kind"), _sides, right=False),
        Column("seeds", ("seed_a", "seed_b"), lambda a, b: f"{a}, {b}"),
        *_pair_figures(),
    ]
    rows = findings.pairs[findings.pairs["kind"] == kind]
    return table(rows, columns) + "\n\n" + _pairs_explained(len(findings.pairs), "runs")


def named_pairs(rows: pd.DataFrame) -> str:
    """Pairs of models that are known by their names alone."""
    columns = [text("A", "run_a"), text("B", "run_b"), *_pair_figures()]
    return table(rows, columns) + "\n\n" + _pairs_explained(len(rows), "models")


def _pair_figures() -> list[Column]:
    return [
        number("both right", "both_right", count),
        number("only A", "only_a", count),
        number("only B", "only_b", count),
        number("both wrong", "both_wrong", count),
        number("disagree, %", "disagreement", percent),
        number("kappa", "kappa", _TWO),
        Column("A - B, points", ("difference", "low", "high"), _points),
        number("p", "p", p_value),
        number("p, Holm", "p_holm", p_value),
    ]


def _pairs_explained(total: int, both: str) -> str:
    return note(
        f"Examples that both {both} get right, only A, only B, neither. A - B: accuracy with the paired 95 % "
        "interval over examples. p: McNemar's mid-p test of only A against only B, then corrected for all "
        f"{total} pairs of this report (Holm). It is about these two trained models; a large p is "
        "no evidence that two models are alike."
    )


def _points(difference: float, low: float, high: float) -> str:
    return _with_interval(difference, low, high)


def split_examples(examples: Examples) -> str:
    """Examples on which the two runs of a pair disagree."""
    pair = examples.pair
    across = "backend" if pair["kind"] == "backends" else "model"
    columns = [
        text("example", "example_id"),
        number("label", "label", count),
        *(number(str(pair[f"{across}_{side}"]), f"probability_{side}", _THREE) for side in ("a", "b")),
        number("gap", "gap", _THREE),
        Column("every seed", ("stable",), _stable, right=False),
        text("text", "snippet"),
    ]
    if not pair["division"]:  # of models trained anywhere there is one each
        columns = [column for column in columns if column.head != "every seed"]
    return table(examples.rows, columns, padded=False)


def _stable(stable: Any) -> str:  # noqa: ANN401 - True, False or None out of a DataFrame
    return NONE if stable is None or pd.isna(stable) else "yes" if stable else "no"


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


def named_runs(rows: pd.DataFrame) -> str:
    """Accuracy of models that are known by their names alone."""
    columns = [
        text("model", "run_id"),
        number("accuracy, %", "accuracy", percent),
        Column("95 % interval", ("low", "high"), interval(percent)),
        text("column", "column"),
        text("file", "file"),
    ]
    return (
        table(rows.rename_axis("run_id").reset_index(), columns)
        + "\n\n"
        + note(
            "Share of the examples that a model gets right; a probability of 0.5 or more says positive. The interval "
            "(Wilson) is over examples: what this one trained model could score on other examples like these."
        )
    )


def divergence(findings: Findings) -> str:
    """Differences in probability by step: matched pairs beside the twins of each backend."""
    curves = findings.why.curves
    wanted = curves[curves["step"].map(_is_round).astype(bool) | _is_last(curves)]
    pairs = list(curves.loc[curves["kind"] == "matched", ["a", "b"]].drop_duplicates().itertuples(index=False))
    rows, heads = [], {}
    for (model, step), group in grouped(wanted.sort_values("step", kind="stable"), "model", "step"):
        row: dict[str, Any] = {"model": model, "step": step}
        for (kind, a, b), mine in grouped(group, "kind", "a", "b"):
            who = f", {a} and {b}" if kind == "matched" and len(pairs) > 1 else "" if kind == "matched" else f", {a}"
            for measure, value in (("max", mine["max"].max()), ("mean", mine["mean"].max())):
                if kind == "matched" or measure == "max":
                    name = f"{measure} {kind} {a} {b}"
                    row[name] = value
                    heads[name] = f"{kind}{who}: {'largest' if measure == 'max' else measure}"
        rows.append(row)
    order = {"matched": 0, "continuing": 1, "initial": 2}
    keys = sorted(heads, key=lambda name: order[name.split()[1]])
    frame = pd.DataFrame(rows).sort_values(
        "model", key=lambda names: names.map(list(curves["model"].unique()).index), kind="stable"
    )
    columns = [text("model", "model"), number("step", "step", count)]
    columns += [number(heads[key], key, scientific) for key in keys]
    return (
        table(frame, columns)
        + "\n\n"
        + note(
            "Absolute difference in the probability of the positive class on the probes, after so many updates. "
            "Matched: two backends, same weights and batches. Continuing twin: a backend's own run again, with noise "
            "of the size of its own rounding after every update; initial twin: one weight moved by one unit in the "
            f"last place before training; the largest over all twins. The horizon is where a twin passes {HORIZON:g}."
        )
    )


def _is_round(step: int) -> bool:
    """Whether a step is 1, 2 or 5 times a power of ten."""
    return str(step).rstrip("0") in ("1", "2", "5")


def _is_last(curves: pd.DataFrame) -> pd.Series:
    last: pd.Series = curves["step"] == curves.groupby("model")["step"].transform("max")
    return last


def ends(findings: Findings) -> str:
    """Show what became of pairs and twins at the end of training."""
    rows = findings.why.ends
    noisy = rows["noise_most"].notna().any()
    columns = [
        text("model", "model"),
        Column("runs", ("kind", "a", "b", "number"), _pair_or_twin, right=False),
        Column("accuracy, %", ("accuracy_a", "accuracy_b"), lambda a, b: f"{percent(a)}, {percent(b)}"),
        Column("difference, points", ("accuracy_a", "accuracy_b"), lambda a, b: percent(b - a)),
        number("disagree, %", "disagreement", percent),
    ]
    if noisy:
        columns.append(Column("noise", ("noise_least", "noise_most"), _noise))
    noise = (
        " Noise: standard deviation of what was added to a weight after an update, least and most over the parameters."
        if noisy
        else ""
    )
    return (
        table(rows, columns)
        + "\n\n"
        + note(
            "At the end of training, on all test examples: accuracy of the first and of the second run (a twin is the "
            f"second), and the share of the examples on which their predictions differ.{noise}"
        )
    )


def _pair_or_twin(kind: str, a: str, b: str, twin: int) -> str:
    return f"{escape(a)} and {escape(b)}, matched" if kind == "matched" else f"{escape(a)} and {kind} twin {twin}"


def _noise(least: float, most: float) -> str:
    return NONE if pd.isna(least) else f"{scientific(least)} to {scientific(most)}"


def stages(findings: Findings) -> str:
    """Hold matched models against the reference: a row a stage, a column a backend and model, the worst parameter."""
    matched = worst(findings.why.stages[findings.why.stages["division"] == "matched"])
    present = [stage for stage in STAGE_WORDS if (matched["stage"] == stage).any()]
    places = list(dict.fromkeys(zip(matched["backend"], matched["model"], strict=True)))
    shown = {
        stage: {f"{backend}, {model}": NONE for backend, model in places} | {"stage": STAGE_WORDS[stage]}
        for stage in present
    }
    for row in each(matched):
        shown[row.stage][f"{row.backend}, {row.model}"] = _stage_cell(row)
    columns = [text("stage", "stage")]
    columns += [Column(f"{backend}, {model}", (f"{backend}, {model}",), str, right=False) for backend, model in places]
    return (
        table(pd.DataFrame(list(shown.values())), columns)
        + "\n\n"
        + note(
            "Each backend's matched models against a float64 reference in NumPy, from the same weights on the same "
            "batches: error / tolerance of the parameter that comes closest to its tolerance or is furthest beyond it. "
            "✓ within tolerance, ✗ (bold) out of it. From the first failed stage on, the later ones follow from it."
        )
    )


def _stage_cell(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    said = f"{escape(row.parameter)} {scientific(row.error)} / {scientific(row.tolerance)}"
    return f"{said} ✓" if row.ok else f"**{said}** ✗"


def every_stage(findings: Findings) -> str:
    """Every parameter at every stage, matched and native."""
    columns = [
        text("backend", "backend"),
        text("model", "model"),
        text("division", "division"),
        Column("stage", ("stage",), lambda stage: STAGE_WORDS[stage], right=False),
        text("parameter", "parameter"),
        number("largest error", "max_error", scientific),
        number("relative error", "l2_error", scientific),
        Column(
            "tolerance",
            ("tolerance", "measure"),
            lambda allowed, measure: f"{scientific(allowed)} ({'largest' if measure == 'max' else 'relative'})",
        ),
        Column("within", ("ok",), lambda ok: "yes" if ok else "**no**", right=False),
        text("note", "note"),
    ]
    return (
        table(findings.why.stages, columns, padded=False)
        + "\n\n"
        + note(
            "Largest: the largest absolute difference from the reference. Relative: norm of the difference over norm "
            "of the reference. The tolerance is for the one that it names."
        )
    )


def causes(rows: pd.DataFrame) -> str:
    """Ranked causes of one pair of backends."""
    measured = bool(rows["seeds"].max())
    columns = [
        text("model", "model"),
        number("rank", "rank", count),
        text("cause", "title"),
        text("native in", "native_in"),
        text("which has", "native"),
        text("matched models have", "matched"),
        number("mean difference", "mean", scientific),
        number("largest", "max", scientific),
        number("after step", "steps", count),
    ]
    if measured:
        columns += [
            number("accuracy, points", "difference", percent),
            Column("95 % interval", ("low", "high"), interval(percent)),
            number("seeds", "seeds", count),
        ]
    return table(rows, columns)


def other_factors(findings: Findings) -> str:
    """Factors that are native in neither of the backends, or in all."""
    columns = [
        text("model", "model"),
        text("factor", "title"),
        text("switched to", "values"),
        Column("native in", ("native_in",), lambda names: escape(", ".join(names)) or "none", right=False),
        number("mean difference", "mean", scientific),
        number("largest", "max", scientific),
        number("after step", "steps", count),
    ]
    return table(others(findings.why.effects, findings.why.causes), columns)


def accuracy_effects(findings: Findings) -> str:
    """Effect of each factor on accuracy, by backend."""
    columns = [
        text("model", "model"),
        text("backend", "backend"),
        text("factor", "title"),
        number("accuracy, points", "difference", percent),
        Column("95 % interval", ("low", "high"), interval(percent)),
        number("seeds", "seeds", count),
    ]
    return (
        table(findings.why.accuracy, columns)
        + "\n\n"
        + note(
            "Test accuracy of matched runs with this one factor switched, minus that of the matched runs of the same "
            "seeds; mean over seeds, with the paired 95 % interval (Student's t), which needs at least two."
        )
    )


def splits(findings: Findings) -> str:
    """Show the splits of the dataset."""
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
    return (
        table(findings.splits, columns)
        + "\n\n"
        + note(
            "Lengths in tokens, with the start token and before anything is cut. Truncated: examples longer than "
            "the models' input. Oov: tokens out of vocabulary among those kept."
        )
    )


def layers(findings: Findings) -> str:
    """Layers of every model in every backend."""
    rows = findings.layers
    totals = (
        rows.groupby(["model", "backend", "divisions"], sort=False)[["parameters", "trainable"]].sum().reset_index()
    )
    parts = []
    for total in totals.to_dict("records"):
        same = (
            (rows["model"] == total["model"])
            & (rows["backend"] == total["backend"])
            & (rows["divisions"] == total["divisions"])
        )
        parts += [rows[same], pd.DataFrame([{**total, "layer": "total", "output_shape": None}])]
    columns = [
        text("model", "model"),
        text("backend", "backend"),
        text("division", "divisions"),
        text("layer", "layer"),
        Column("output shape", ("output_shape",), _shape),
        number("parameters", "parameters", count),
        number("trainable", "trainable", count),
    ]
    return table(pd.concat(parts, ignore_index=True), columns)


def _shape(shape: Any) -> str:  # noqa: ANN401 - a tuple or nothing, out of a DataFrame
    return f"({', '.join(map(str, shape))})" if isinstance(shape, tuple) else ""


def runs(findings: Findings) -> str:
    """Every run asked for."""
    columns = [
        Column("run", ("run_id",), escape, right=False),
        text("status", "status"),
        number("accuracy, %", "accuracy", percent),
        Column("95 % interval", ("low", "high"), interval(percent)),
        number("loss", "loss", _THREE),
        number("train loss", "train_loss", _THREE),
        number("valid loss", "valid_loss", _THREE),
        number("epochs", "epochs", count),
        number("train, s", "train_s", significant),
        number("peak, MB", "peak_bytes", megabytes),
    ]
    return (
        table(findings.runs.rename_axis("run_id").reset_index(), columns)
        + "\n\n"
        + note(
            "One row a run asked for. The interval (Wilson) is over examples: what this one trained model could "
            "score on other examples. Losses of the last epoch; training loss is taken while the weights move."
        )
    )


def environment(findings: Findings) -> str:
    """Versions, devices and threads of every backend."""
    frame = findings.environment
    columns = [text("", "fact"), *(text(name, name) for name in frame.columns if name != "fact")]
    return table(frame, columns)


def facts(rows: dict[str, str]) -> str:
    """Two columns: what, and its value."""
    frame = pd.DataFrame({"what": list(rows), "value": list(rows.values())})
    return table(frame, [text("what", "what"), text("value", "value")])


def terminal(findings: Findings) -> list[tuple[str, str]]:
    """Short tables for the end of a terminal session: title and text."""
    shown = []
    if len(findings.accuracy):
        columns = [
            text("backend", "backend"),
            text("model", "model"),
            text("division", "division"),
            number("accuracy, %", "mean", percent),
            Column("95 % interval", ("low", "high"), interval(percent)),
            number("n", "seeds", count),
        ]
        shown.append(("accuracy", plain_table(findings.accuracy, columns)))
    return shown
