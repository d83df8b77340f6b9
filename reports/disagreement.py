"""Which examples two runs disagree on, how much, and how much that means beside two equal runs.

Pairs are derived from the runs at hand, never listed by hand.
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.frames import grouped
from reports.load import THRESHOLD, Comparison
from reports.statistics import (
    disagreement,
    double_fault,
    holm,
    kappa,
    mcnemar_midp,
    oracle,
    paired_counts,
    paired_difference,
)

Kind = Literal["backends", "models", "seeds"]

#: what the two runs of a pair share; they differ in the one thing that is left
SHARED: dict[Kind, tuple[str, ...]] = {
    "backends": ("division", "model", "seed"),
    "models": ("division", "backend", "seed"),
    "seeds": ("division", "model", "backend"),
}

_SIDES = ["division", "model_a", "model_b", "backend_a", "backend_b"]

#: characters of a snippet
SNIPPET = 160


def pairs(comparison: Comparison) -> pd.DataFrame:
    """Give one row a pair of runs that differ in the backend, in the model or in the seed alone.

    Columns: kind, division, model_a, model_b, backend_a, backend_b, seed_a, seed_b, run_a, run_b; both_right,
    only_a, only_b, both_wrong; disagreement, oracle, double_fault; kappa (of predictions), error_kappa (of right
    and wrong); difference (accuracy A minus B) with low and high over examples; p (McNemar mid-p) and p_holm
    (over all rows).
    """
    runs = comparison.ok
    listed = [
        (kind, first, second)
        for kind, shared in SHARED.items()
        for _, group in grouped(runs, *shared)
        for first, second in combinations(group.index, 2)
    ]
    table = pd.DataFrame(listed, columns=["kind", "run_a", "run_b"])
    for side in ("a", "b"):
        known = runs.loc[table[f"run_{side}"]]
        for column in ("model", "backend", "seed"):
            table[f"{column}_{side}"] = known[column].to_numpy()
        table["division"] = known["division"].to_numpy()
    place = comparison.probabilities.columns.get_indexer
    first, second = place(pd.Index(table["run_a"])), place(pd.Index(table["run_b"]))
    counts = paired_counts(comparison.right(), first, second)
    positive = paired_counts(comparison.probabilities.to_numpy() >= THRESHOLD, first, second)
    low, high = paired_difference(counts.b, counts.c, counts.n)
    p = mcnemar_midp(counts.b, counts.c)
    figures = {
        "both_right": counts.a,
        "only_a": counts.b,
        "only_b": counts.c,
        "both_wrong": counts.d,
        "disagreement": disagreement(counts),
        "oracle": oracle(counts),
        "double_fault": double_fault(counts),
        "kappa": kappa(positive),
        "error_kappa": kappa(counts),
        "difference": (counts.b - counts.c) / np.maximum(counts.n, 1),
        "low": low,
        "high": high,
        "p": p,
        "p_holm": holm(p),
    }
    order = ["kind", *_SIDES, "seed_a", "seed_b", "run_a", "run_b"]
    return table[order].assign(**figures)


def groups(pairs: pd.DataFrame) -> pd.DataFrame:
    """Give one row a kind of pair, as means over its pairs of seeds, beside the reseeded floor.

    The floor is what runs that share backend and model, and differ in the seed alone, disagree: the mean of A's
    own and B's own. Pairs across seeds have none beside them, since they are it.

    Columns: kind, division, model_a, model_b, backend_a, backend_b, pairs, disagreement, least, most, floor,
    both_right, only_a, only_b, both_wrong (shares), kappa.
    """
    parts = ["both_right", "only_a", "only_b", "both_wrong"]
    examples = pairs[parts].sum(axis=1)
    shares = pairs.assign(**{part: pairs[part] / examples for part in parts})
    table = (
        shares.groupby(["kind", *_SIDES], sort=False)
        .agg(
            pairs=("disagreement", "size"),
            disagreement=("disagreement", "mean"),
            least=("disagreement", "min"),
            most=("disagreement", "max"),
            **{part: (part, "mean") for part in parts},
            kappa=("kappa", "mean"),
        )
        .reset_index()
    )
    own = table[table["kind"] == "seeds"].set_index(["division", "model_a", "backend_a"])["disagreement"]
    floors = [
        own.reindex(
            list(zip(table["division"], table[f"model_{side}"], table[f"backend_{side}"], strict=True))
        ).to_numpy()
        for side in ("a", "b")
    ]
    floor = np.where(table["kind"] == "seeds", np.nan, np.add(*floors) / 2)
    table.insert(list(table.columns).index("most") + 1, "floor", floor)
    return table


def example_pairs(pairs: pd.DataFrame, limit: int = 8) -> pd.DataFrame:
    """Choose the pairs whose examples are listed: the first seeds of each group across backends, then across models."""
    wanted = pairs[pairs["kind"] != "seeds"]
    return wanted.groupby(["kind", *_SIDES], sort=False).head(1).head(limit)


def split_examples(comparison: Comparison, pair: pd.Series, limit: int = 10) -> pd.DataFrame:
    """List the examples on which the two runs of a pair disagree: stable ones first, then the largest gap.

    A split is stable when every seed of A says one thing and every seed of B the other; that can be told from two
    seeds a side on, else ``stable`` is None. The text is the example's own, found by its id.

    Columns: example_id, label, probability_a, probability_b, gap, stable, length, truncated, snippet.
    """
    a, b = (comparison.probabilities[pair[f"run_{side}"]] for side in ("a", "b"))
    positive_a, positive_b = a >= THRESHOLD, b >= THRESHOLD
    table = pd.DataFrame({"probability_a": a, "probability_b": b, "gap": (a - b).abs()})
    settled_a, settled_b = (_unanimous(comparison, pair, side) for side in ("a", "b"))
    if settled_a is None or settled_b is None:
        stable = pd.Series(False, index=table.index)
        table["stable"] = pd.Series([None] * len(table), index=table.index, dtype=object)
    else:
        stable = pd.Series(settled_a & settled_b, index=table.index)
        table["stable"] = stable.astype(object)
    table = table.assign(rank=~stable)[positive_a != positive_b]
    table = table.sort_values(["rank", "gap"], ascending=[True, False], kind="stable").head(limit)
    return _described(comparison, table.drop(columns="rank"))


def sure_mistakes(comparison: Comparison, limit: int = 10) -> pd.DataFrame:
    """List the examples that every run gets wrong, the surest first.

    Columns: example_id, label, least, most (probabilities over all runs), length, truncated, snippet.
    """
    if comparison.probabilities.empty:
        return pd.DataFrame(columns=["example_id", "label", "least", "most", "length", "truncated", "snippet"])
    table = pd.DataFrame({"least": comparison.probabilities.min(axis=1), "most": comparison.probabilities.max(axis=1)})
    label = comparison.test["label"]
    # How sure the least sure of the runs is: its distance from the right answer.
    mistake = table["least"].where(label == 0, 1 - table["most"])
    wrong = pd.Series(~comparison.right().any(axis=1), index=table.index)
    chosen = mistake[wrong].sort_values(ascending=False, kind="stable").head(limit).index
    return _described(comparison, table.loc[chosen])


def snippet(text: str, truncated: bool) -> str:
    """Cut a text to what fits a table row: its end where the models saw only the end, else its beginning."""
    text = " ".join(text.split())
    if len(text) <= SNIPPET:
        return text
    if not truncated:
        whole_words, _, _ = text[:SNIPPET].rpartition(" ")
        return f"{whole_words or text[:SNIPPET]} …"
    _, _, whole_words = text[-SNIPPET:].partition(" ")
    return f"… {whole_words or text[-SNIPPET:]}"


def _described(comparison: Comparison, table: pd.DataFrame) -> pd.DataFrame:
    """Put label, length and snippet beside rows that are indexed by example id."""
    facts = comparison.test.loc[table.index]
    table = table.assign(length=facts["length"], truncated=facts["truncated"].astype(bool))
    texts = [snippet(text, cut) for text, cut in zip(facts["text"], table["truncated"], strict=True)]
    table.insert(0, "label", facts["label"])
    return table.assign(snippet=pd.Series(texts, index=table.index, dtype=object)).reset_index(names="example_id")


def _unanimous(comparison: Comparison, pair: pd.Series, side: str) -> NDArray[np.bool_] | None:
    """Tell on which examples all seeds of one side of a pair say one thing; None for a single seed."""
    runs = comparison.ok
    same = (
        (runs["division"] == pair["division"])
        & (runs["backend"] == pair[f"backend_{side}"])
        & (runs["model"] == pair[f"model_{side}"])
    )
    if same.sum() < 2:
        return None
    positive = comparison.probabilities[list(runs.index[same])].to_numpy() >= THRESHOLD
    return np.asarray(positive.all(axis=1) | ~positive.any(axis=1))
