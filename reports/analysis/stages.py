"""Where a backend leaves the reference, stage by stage, and which known difference matters how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from rnn_crosscheck.harness.protocol import DIVISIONS
from rnn_crosscheck.harness.results import STAGES, ParityRecord, StageRecord
from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.analysis.statistics import CONFIDENCE, UNDECIDED, UNKNOWN, holm, mean_interval, p_of_means
from rnn_crosscheck.reports.read.comparison import Comparison
from rnn_crosscheck.reports.writing import listing, scientific

#: what is said of a cause that changes the accuracy for sure
SURE = "sure"

#: causes whose two orders are compared, at least
_FEWEST_RANKED = 3


@dataclass(frozen=True)
class Factor:
    """A known difference between frameworks, in a reader's words.

    Attributes
    ----------
    title
        What it is called.
    field
        Its field in `harness.protocol.Factors`.
    words
        What each value of that field means.
    """

    title: str
    field: str
    words: Mapping[str, str]


#: by the name that effects and switched runs have
FACTORS: Mapping[str, Factor] = {
    "embedding_weights": Factor(
        "embedding initialiser",
        "embedding_weights",
        {"keras": "embedding uniform in ±0.05", "pytorch": "embedding standard normal"},
    ),
    "recurrent_weights": Factor(
        "recurrent initialisers",
        "recurrent_weights",
        {"keras": "kernels Glorot uniform and orthogonal", "pytorch": "kernels uniform in ±1/√units"},
    ),
    "recurrent_bias": Factor(
        "recurrent bias initialiser",
        "recurrent_bias",
        {
            "keras": "recurrent bias 0, an LSTM's forget gate 1",
            "pytorch": "recurrent bias a sum of two uniforms in ±1/√units",
        },
    ),
    "dense_weights": Factor(
        "dense initialiser",
        "dense_weights",
        {"keras": "dense Glorot uniform, bias 0", "pytorch": "dense and bias uniform in ±1/√units"},
    ),
    "order": Factor(
        "order of examples",
        "order",
        {"shared": "examples in one shared order", "another": "examples in an order of its own"},
    ),
    "epsilon": Factor(
        "Adam's epsilon and its place",
        "epsilon_place",
        {"before": "epsilon before the bias correction", "after": "epsilon after the bias correction"},
    ),
    "duplicates": Factor(
        "duplicate tokens in embedding gradients",
        "duplicates",
        {
            "summed": "gradients of a repeated token squared once summed",
            "apart": "gradients of a repeated token squared before they are summed",
        },
    ),
    "biases": Factor("second bias", "biases", {"one": "one recurrent bias", "two": "two recurrent biases"}),
    "loss_form": Factor(
        "loss form",
        "loss_form",
        {"logits": "loss of logits", "probabilities": "loss of clipped probabilities"},
    ),
    "pad_row": Factor(
        "pad row",
        "pad_row",
        {"trained": "padding's embedding is trained", "frozen": "padding's embedding stays 0"},
    ),
}
#: as `harness.backend.OTHER`
_OTHER = "other: "
_BY_KEY = {f"factors.{factor.field}": factor for factor in FACTORS.values()}

#: as the stages of `harness.results`
STAGE_WORDS: Mapping[str, str] = {
    "encoding": "encoding",
    "weights": "initial weights",
    "forward": "forward pass",
    "loss": "loss",
    "gradients": "gradients",
    "update": "first update",
    "steps_5": "weights after 5 updates",
    "steps_20": "weights after 20 updates",
}

_PLACE = ["model", "backend", "division"]
_CAUSES = ["model", "a", "b", "rank", "factor", "title", "native_in", "native", "beside", "matched", "steps", "mean",
           "max", "difference", "low", "high", "p", "seeds", "verdict"]  # fmt: skip


def stages(comparison: Comparison) -> pd.DataFrame:
    """Give one row a parameter at a stage of a backend, model and division, in the order of the computation.

    Columns: model, backend, division, stage, parameter, max_error, l2_error, measure, tolerance, error (the one that
    the tolerance is for), ratio (error over tolerance; infinite for an error where none is allowed), ok, note.
    """
    rows = [
        {
            **{name: getattr(record, name) for name in _PLACE},
            **stage.model_dump(),
            "error": stage.error,
            "ratio": over_tolerance(stage),
        }
        for record in _in_order(comparison)
        for stage in sorted(record.stages, key=lambda stage: STAGES.index(stage.stage))
    ]
    columns = [*_PLACE, "stage", "parameter", "max_error", "l2_error", "measure", "tolerance", "error", "ratio", "ok",
               "note"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns).astype({"ok": bool})


def _in_order(comparison: Comparison) -> list[ParityRecord]:
    """Give matched records before native ones, in the order of the protocol's models and of the backends.

    Those of tuned settings are no part of it: `reports.timing.tuned` has them.
    """
    models = [model.name for model in comparison.manifest.protocol.models]
    orders = (DIVISIONS[::-1], models, comparison.manifest.backends)

    def place(record: ParityRecord) -> list[int]:
        names = (record.division, record.model, record.backend)
        return [
            list(order).index(name) if name in order else len(order) for order, name in zip(orders, names, strict=True)
        ]

    return sorted((record for record in comparison.stages if record.setting == "default"), key=place)


def over_tolerance(stage: StageRecord) -> float:
    """Give the error in times of its tolerance; infinite for an error where none is allowed."""
    if stage.tolerance == 0:
        return 0.0 if stage.error == 0 else np.inf
    return stage.error / stage.tolerance


def worst(stages: pd.DataFrame) -> pd.DataFrame:
    """Choose of each stage of a backend, model and division the parameter with the largest error over tolerance.

    One that is out of tolerance goes before all that aren't.
    """
    ranked = stages.sort_values(["ok", "ratio"], ascending=[True, False], kind="stable")
    return ranked.groupby([*_PLACE, "stage"], sort=False).head(1).sort_index()


def records(comparison: Comparison) -> pd.DataFrame:
    """Give one row a recorded backend, model and division.

    Columns: model, backend, division; compared, flipped, largest (relu units on one side of the kink in the backend
    and on the other in the reference); stage, parameter, error, tolerance (the first that is out of tolerance);
    values, explained, unexplained, declared (switches with which the reference does the same, as text; largest error
    over tolerance with and without them; whether the backend declares them); contradicted (what the backend declares of
    its native models and isn't so, as text); seconds, peak_memory_bytes.
    """
    rows = []
    for record in _in_order(comparison):
        row: list[Any] = [record.model, record.backend, record.division]
        kinks, failed, found = record.kinks, record.first_failed, record.explanation
        row += (kinks.compared, kinks.flipped, kinks.largest) if kinks else (np.nan,) * 3
        row += (failed.stage, failed.parameter, failed.error, failed.tolerance) if failed else ("", "", np.nan, np.nan)
        idle = "factors.biases" if _has_two_biases(comparison, record.model) else ""
        values, contradicted = (
            {key: value for key, value in each.items() if key != idle}
            for each in (found.values if found else {}, record.contradicted)
        )
        row += (in_words(values), found.error, found.without) if found else ("", np.nan, np.nan)
        false = in_words(contradicted)
        rows.append((*row, bool(found and found.declared), false, record.seconds, record.peak_memory_bytes))
    columns = [*_PLACE, "compared", "flipped", "largest", "stage", "parameter", "error", "tolerance", "values",
               "explained", "unexplained", "declared", "contradicted", "seconds", "peak_memory_bytes"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns).astype({"declared": bool})


def _has_two_biases(comparison: Comparison, model: str) -> bool:
    """Whether a model's two recurrent biases can't be added up, so that asking for two switches nothing."""
    protocol = comparison.manifest.protocol
    return any(known.name == model and protocol.model(model).biases > 1 for known in protocol.models)


def in_words(values: Mapping[str, str]) -> str:
    """Say values of the training spec, by dotted key, as a reader would."""
    return ", ".join(_value_in_words(key, value) for key, value in values.items())


def _value_in_words(key: str, value: str) -> str:
    if value.startswith(_OTHER):
        return value.removeprefix(_OTHER)
    if factor := _BY_KEY.get(key):
        return factor.words.get(value, value)
    try:
        return f"{key} {scientific(float(value))}"
    except ValueError:
        return f"{key} {value}"


def effects(comparison: Comparison) -> pd.DataFrame:
    """Give one row a factor and model: what it does to the reference when it alone is switched.

    Columns: model, factor, title, values (the switch, in words), native_in (backends), other_in (backends whose native
    models have neither that nor what matched models have, with what they have, in words), steps (the last recorded),
    mean, max (difference in probability over the probes after them), probes.
    """
    rows = [
        (
            *(record.model, one.factor, title_of(one.factor), in_words(one.values), one.native_in),
            {backend: in_words(values) for backend, values in one.other_in.items()},
            *(one.steps[-1], one.mean_difference[-1], one.max_difference[-1], record.probes),
        )
        for record in comparison.effects
        for one in record.effects
        if one.steps
    ]
    columns = ["model", "factor", "title", "values", "native_in", "other_in", "steps", "mean", "max", "probes"]
    return pd.DataFrame(rows, columns=columns)


def title_of(factor: str) -> str:
    """Name a factor as a reader would, or several that are switched together."""
    return " with ".join(FACTORS[name].title if name in FACTORS else name for name in factor.split("+"))


def switched(comparison: Comparison) -> pd.DataFrame:
    """Give one row a run with a factor switched whose base, the matched run of that seed, went well too.

    Columns: model, backend, factor, seed, difference (accuracy with the factor switched minus accuracy without).
    """
    base = {
        (run["backend"], run["model"], run["seed"]): comparison.results[str(run_id)]
        for run_id, run in comparison.ok.iterrows()
        if run["division"] == "matched"
    }
    rows = []
    for result in comparison.variants.results.values():
        spec = result.spec
        own = base.get((spec.backend, spec.model.name, spec.seed))
        counts = FACTORS.keys() >= {*spec.variant.split("+")} and not spec.twin and spec.division == "matched"
        if counts and own is not None and own.scores and result.scores:
            gain = result.scores.accuracy - own.scores.accuracy
            rows.append((spec.model.name, spec.backend, spec.variant, spec.seed, gain))
    return pd.DataFrame(rows, columns=["model", "backend", "factor", "seed", "difference"])


def accuracy_effects(switched: pd.DataFrame) -> pd.DataFrame:
    """Give the effect of each factor on the test accuracy of each backend, over seeds.

    A seed's two runs start equal, so they are pairs; the interval is Student's, over seeds.

    Columns: model, backend, factor, title, seeds, difference, low, high.
    """
    rows = []
    for (model, backend, factor), group in grouped(switched, "model", "backend", "factor"):
        gain = group["difference"]
        rows.append((model, backend, factor, title_of(factor), len(gain), gain.mean(), *mean_interval(gain, (-1, 1))))
    columns = ["model", "backend", "factor", "title", "seeds", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def causes(comparison: Comparison, effects: pd.DataFrame, switched: pd.DataFrame) -> pd.DataFrame:
    """Rank, for each pair of backends and each model, the factors in which their native models differ.

    Pairs are of backends that have native runs and declare what those do. What changes nothing is no cause.

    By their effect on accuracy where it was measured for all: those that surely have one first, then by its size.
    Else by the mean difference in probability that they alone bring to the reference's trajectory. Those whose effect
    isn't known, since no switch does what a backend does, are last. Accuracy is that of the pair: the mean over the
    two backends of each seed, and then over seeds.

    Columns: model, a, b, rank, factor, title, native_in (the one backend), native, matched (what is so there, and what
    in matched models), beside (what is so in the pair's other backend, if it isn't as in matched models), steps, mean,
    max (see `effects`; NaN if not known), difference, low, high, p (Student's, by Holm for all causes of the pair and
    model), seeds (accuracy; NaN and 0 where it wasn't measured), verdict (where they are ranked by accuracy: whether it
    is `SURE` that this one changes it, `UNDECIDED`, or `UNKNOWN` of too few seeds; else "").
    """
    rows: list[dict[str, Any]] = []
    native = set(comparison.ok.loc[comparison.ok["division"] == "native", "backend"])
    declared = {backend for record in comparison.effects for backend in record.declared}
    for a, b in combinations([name for name in comparison.manifest.backends if name in native & declared], 2):
        for _, mine in grouped(effects, "model"):
            differing = (row for row in each(mine) if _native(row, a) != _native(row, b))
            found = [_cause(row, a, b, switched, comparison) for row in differing]
            found = [row for row in found if row["max"] != 0 or row["seeds"]]
            asked = [row for row in found if not np.isnan(row["p"])]
            for row, p in zip(asked, holm([row["p"] for row in asked]), strict=True):
                row["p"] = p
            trained = by_accuracy(pd.DataFrame(found, columns=["mean", "seeds"]))
            for row in found:
                row["verdict"] = _judged(row["p"]) if trained and row["seeds"] else ""
            ranked = "difference" if trained else "mean"
            found.sort(key=lambda row: (np.isnan(row[ranked]), row["verdict"] != SURE, -abs(row[ranked])))
            rows += [{**row, "rank": rank} for rank, row in enumerate(found, 1)]
    return pd.DataFrame(rows, columns=_CAUSES)


def _judged(p: float) -> str:
    if np.isnan(p):
        return UNKNOWN
    return SURE if p < 1 - CONFIDENCE else UNDECIDED


def orders(causes: pd.DataFrame) -> pd.DataFrame:
    """Say how far the order of causes by the size of their effect on accuracy is that by their first updates.

    Columns: a, b, model, factors (those with both effects), correlation (Spearman's, of their ranks; 1 for the same
    order), apart (those whose two ranks differ most, in words). Of fewer than 3 factors, or equal effects, nothing is
    said.
    """
    rows = []
    for (a, b, model), mine in grouped(causes[(causes["seeds"] > 0) & causes["mean"].notna()], "a", "b", "model"):
        ranks = pd.DataFrame({"accuracy": mine["difference"].abs(), "early": mine["mean"]}).rank(ascending=False)
        if len(mine) < _FEWEST_RANKED or (ranks.nunique() == 1).any():
            continue
        gap = (ranks["accuracy"] - ranks["early"]).abs()
        apart = listing(mine.loc[(gap == gap.max()) & (gap > 0), "title"].to_list())
        rows.append((a, b, model, len(mine), ranks["accuracy"].corr(ranks["early"]), apart))
    return pd.DataFrame(rows, columns=["a", "b", "model", "factors", "correlation", "apart"])


def by_accuracy(causes: pd.DataFrame) -> bool:
    """Whether the causes of a pair and model are ranked by accuracy: all of known effect were trained with."""
    known = causes.loc[causes["mean"].notna(), "seeds"]
    return len(known) > 0 and bool((known > 0).all())


def _cause(effect: Any, a: str, b: str, switched: pd.DataFrame, comparison: Comparison) -> dict[str, Any]:  # noqa: ANN401
    known = not {a, b} & set(effect.other_in)  # else no run or reference was switched to what is so there
    mine = switched[(switched["model"] == effect.model) & (switched["factor"] == effect.factor) & known]
    gains = mine[mine["backend"].isin([a, b])].groupby("seed")["difference"].mean()
    low, high = mean_interval(gains, (-1, 1))
    first = a if (a in effect.native_in if known else a in effect.other_in) else b
    return {
        **{name: getattr(effect, name) for name in ("model", "factor", "title", "steps")},
        **{name: getattr(effect, name) if known else np.nan for name in ("mean", "max")},
        "a": a,
        "b": b,
        "native_in": first,
        "native": _native(effect, first),
        "beside": _native(effect, b if first == a else a),
        "matched": _matched_in_words(effect.factor, effect.model, comparison),
        "difference": gains.mean(),
        "low": low,
        "high": high,
        "p": p_of_means(gains, np.zeros(len(gains)), paired=True),
        "seeds": len(gains),
    }


def _native(effect: Any, backend: str) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Say what a backend's native models have of a factor; nothing if that is what matched models have."""
    return str(effect.other_in.get(backend, effect.values if backend in effect.native_in else ""))


def _matched_in_words(factor: str, model: str, comparison: Comparison) -> str:
    """Say what matched models do where a factor would switch them."""
    if factor not in FACTORS:
        return ""
    if factor == "biases" and _has_two_biases(comparison, model):
        return "a bias of inputs and one of states"
    known, training = FACTORS[factor], comparison.manifest.protocol.training
    value = getattr(training.factors, known.field)
    words = known.words.get(value, value)
    return f"epsilon {scientific(training.epsilon)}, {words}" if factor == "epsilon" else words


def others(effects: pd.DataFrame, causes: pd.DataFrame) -> pd.DataFrame:
    """Give the factors that are no cause in any pair; the largest effect first."""
    ranked = set(zip(causes["model"], causes["factor"], strict=True))
    names = zip(effects["model"], effects["factor"], strict=True)
    rest = effects[np.array([name not in ranked for name in names], bool)]
    parts = [rows.sort_values("mean", ascending=False, kind="stable") for _, rows in grouped(rest, "model")]
    return pd.concat(parts) if parts else rest
