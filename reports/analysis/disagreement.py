"""Which examples two runs disagree on, how much, and how much that means beside two equal runs.

Pairs are derived from the runs at hand, never listed by hand.
"""

from __future__ import annotations

import hashlib
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from rnn_crosscheck.reports.analysis.frames import grouped
from rnn_crosscheck.reports.analysis.statistics import (
    disagreement,
    double_fault,
    holm,
    kappa,
    mcnemar_midp,
    oracle,
    paired_counts,
    paired_difference,
    yules_q,
)
from rnn_crosscheck.reports.read.comparison import THRESHOLD, Predicted

Kind = Literal["backends", "models", "seeds"]

#: what the two runs of a pair share; they differ in the one thing that is left
SHARED: dict[Kind, tuple[str, ...]] = {
    "backends": ("division", "model", "seed"),
    "models": ("division", "backend", "seed"),
    "seeds": ("division", "model", "backend"),
}

_SIDES = ["division", "model_a", "model_b", "backend_a", "backend_b"]
_COUNTS = ["both_right", "only_a", "only_b", "both_wrong"]

#: characters of a snippet, and of a text that is shown in full
SNIPPET, FULL_TEXT = 160, 3000

#: who of a pair is right, in the order of the counts
OUTCOMES = ("both right", "only A right", "only B right", "both wrong")


def pairs(predicted: Predicted) -> pd.DataFrame:
    """Give one row a pair of runs that differ in the backend, in the model or in the seed alone.

    Columns: kind, division, model_a, model_b, backend_a, backend_b, seed_a, seed_b, run_a, run_b; both_right,
    only_a, only_b, both_wrong; disagreement, oracle, double_fault; kappa (of predictions), error_kappa (of right
    and wrong); yules_q; difference (accuracy A minus B) with low and high over examples; p (McNemar mid-p) and p_holm
    (over all rows).
    """
    runs = predicted.ok
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
    place = predicted.probabilities.columns.get_indexer
    first, second = place(pd.Index(table["run_a"])), place(pd.Index(table["run_b"]))
    counts = paired_counts(predicted.right(), first, second)
    positive = paired_counts(predicted.probabilities.to_numpy() >= THRESHOLD, first, second)
    low, high = paired_difference(counts.b, counts.c, counts.n)
    p = mcnemar_midp(counts.b, counts.c)
    figures = {
        **dict(zip(_COUNTS, counts, strict=True)),
        "disagreement": disagreement(counts),
        "oracle": oracle(counts),
        "double_fault": double_fault(counts),
        "kappa": kappa(positive),
        "error_kappa": kappa(counts),
        "yules_q": yules_q(counts),
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
    examples = pairs[_COUNTS].sum(axis=1)
    shares = pairs.assign(**{part: pairs[part] / examples for part in _COUNTS})
    table = (
        shares.groupby(["kind", *_SIDES], sort=False)
        .agg(
            pairs=("disagreement", "size"),
            disagreement=("disagreement", "mean"),
            least=("disagreement", "min"),
            most=("disagreement", "max"),
            **{part: (part, "mean") for part in _COUNTS},
            kappa=("kappa", "mean"),
        )
        .reset_index()
    )
    own = table[table["kind"] == "seeds"].set_index(["division", "model_a", "backend_a"])["disagreement"]
    floors = [
        own.reindex(pd.MultiIndex.from_frame(table[["division", f"model_{side}", f"backend_{side}"]])).to_numpy()
        for side in ("a", "b")
    ]
    floor = np.where(table["kind"] == "seeds", np.nan, np.add(*floors) / 2)
    table.insert(list(table.columns).index("most") + 1, "floor", floor)
    return table


def example_pairs(pairs: pd.DataFrame, limit: int = 8) -> pd.DataFrame:
    """Choose the pairs whose examples are listed: the first seeds of each group across backends, then across models."""
    wanted = pairs[pairs["kind"] != "seeds"]
    return wanted.groupby(["kind", *_SIDES], sort=False).head(1).head(limit)


def pairs_to_read(pairs: pd.DataFrame, limit: int = 4) -> pd.DataFrame:
    """Choose the pairs of models whose examples are read whole: the first of each backend, under one division."""
    wanted = pairs[pairs["kind"] == "models"]
    wanted = wanted[wanted["division"] == wanted["division"].iloc[0]] if len(wanted) else wanted
    return wanted.groupby("backend_a", sort=False).head(1).head(limit)


def split_examples(predicted: Predicted, pair: pd.Series, limit: int = 10) -> pd.DataFrame:
    """List the examples on which the two runs of a pair disagree, the largest gap first.

    Columns: example_id, label, probability_a, probability_b, gap, length, truncated, snippet.
    """
    a, b = (predicted.probabilities[pair[f"run_{side}"]] for side in ("a", "b"))
    table = pd.DataFrame({"probability_a": a, "probability_b": b, "gap": (a - b).abs()})
    table = table[(a >= THRESHOLD) != (b >= THRESHOLD)]
    return _described(predicted, table.sort_values("gap", ascending=False, kind="stable").head(limit))


def read_in_full(predicted: Predicted, pair: pd.Series, each: int = 2) -> pd.DataFrame:
    """Choose examples of each of the four outcomes of a pair, to be read whole.

    Of each outcome the first `each` are taken in the order of the SHA-256 of their ids: a draw that everybody can
    repeat, and that nobody's eye for a good story had a part in.

    Columns: outcome, of (how many have this outcome), example_id, label, probability_a, probability_b, right_a,
    seeds_a, right_b, seeds_b (how many of each side's seeds are right on it), length (None if unknown), truncated,
    text, left_out (how many characters are not shown).
    """
    a, b = (predicted.probabilities[pair[f"run_{side}"]] for side in ("a", "b"))
    positive = predicted.test["label"] == 1
    right_a, right_b = (a >= THRESHOLD) == positive, (b >= THRESHOLD) == positive
    right = pd.DataFrame(predicted.right(), index=predicted.test.index, columns=predicted.probabilities.columns)
    seeds_a, seeds_b = (runs_of(predicted, pair, side) for side in ("a", "b"))
    outcomes = np.select([right_a & right_b, right_a, right_b], OUTCOMES[:3], OUTCOMES[3])
    rows = []
    for outcome in OUTCOMES:
        ids = predicted.test.index[outcomes == outcome]
        for example_id in sorted(ids, key=lambda name: hashlib.sha256(str(name).encode()).digest())[:each]:
            facts = predicted.test.loc[example_id]
            text, left_out = _whole(str(facts["text"]), bool(facts["truncated"]))
            rows.append(
                {
                    "outcome": outcome,
                    "of": len(ids),
                    "example_id": example_id,
                    "label": int(facts["label"]),
                    "probability_a": float(a[example_id]),
                    "probability_b": float(b[example_id]),
                    "right_a": int(right.loc[example_id, seeds_a].sum()),
                    "seeds_a": len(seeds_a),
                    "right_b": int(right.loc[example_id, seeds_b].sum()),
                    "seeds_b": len(seeds_b),
                    "length": None if pd.isna(facts["length"]) else int(facts["length"]),
                    "truncated": bool(facts["truncated"]),
                    "text": text,
                    "left_out": left_out,
                }
            )
    return pd.DataFrame(rows)


def _whole(text: str, truncated: bool) -> tuple[str, int]:
    """Cut a very long text, at the end that the models saw less of, and say how many characters are missing."""
    text = " ".join(text.split())
    left_out = max(0, len(text) - FULL_TEXT)
    if not left_out:
        return text, 0
    return (f"… {text[-FULL_TEXT:]}" if truncated else f"{text[:FULL_TEXT]} …"), left_out


def sure_mistakes(predicted: Predicted, limit: int = 10) -> pd.DataFrame:
    """List the examples that every run gets wrong, the surest first.

    Columns: example_id, label, least, most (probabilities over all runs), length, truncated, snippet.
    """
    if predicted.probabilities.empty:
        return pd.DataFrame(columns=["example_id", "label", "least", "most", "length", "truncated", "snippet"])
    table = pd.DataFrame({"least": predicted.probabilities.min(axis=1), "most": predicted.probabilities.max(axis=1)})
    label = predicted.test["label"]
    # How sure the least sure of the runs is: its distance from the right answer.
    mistake = table["least"].where(label == 0, 1 - table["most"])
    wrong = pd.Series(~predicted.right().any(axis=1), index=table.index)
    chosen = mistake[wrong].sort_values(ascending=False, kind="stable").head(limit).index
    return _described(predicted, table.loc[chosen])


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


def _described(predicted: Predicted, table: pd.DataFrame) -> pd.DataFrame:
    """Put label, length and snippet beside rows that are indexed by example id."""
    facts = predicted.test.loc[table.index]
    table = table.assign(length=facts["length"], truncated=facts["truncated"].astype(bool))
    texts = [snippet(text, cut) for text, cut in zip(facts["text"], table["truncated"], strict=True)]
    table.insert(0, "label", facts["label"])
    return table.assign(snippet=pd.Series(texts, index=table.index, dtype=object)).reset_index(names="example_id")


def runs_of(predicted: Predicted, pair: pd.Series, side: str) -> list[str]:
    """Name the runs, of those that went well, that differ from one side of a pair in the seed at most."""
    runs = predicted.ok
    same = (
        (runs["division"] == pair["division"])
        & (runs["backend"] == pair[f"backend_{side}"])
        & (runs["model"] == pair[f"model_{side}"])
    )
    return [str(run_id) for run_id in runs.index[same]]
