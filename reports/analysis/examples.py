"""Examples on which two groups of runs differ for real, or by chance, or are wrong together.

=================  =====================================================================================
stable split       every seed of A says one thing and every seed of B the other
split              the same where a side has a single seed, so that nobody can tell whether it is stable
coin flip          the prediction changes with the seed, within A or within B
both wrong, sure   every run of both is wrong, the surest first
gap                no stable split and not listed above, with the largest distance between the mean
                   probabilities of A and B
=================  =====================================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnn_crosscheck.harness.errors import ResultsError
from rnn_crosscheck.reports.analysis.disagreement import example_pairs, pairs, runs_of, snippet
from rnn_crosscheck.reports.read.comparison import THRESHOLD, Comparison, Predicted, load

STABLE, SPLIT, FLIP, WRONG, GAP = "stable split", "split", "coin flip", "both wrong, sure", "gap"

#: kinds in the order in which they are shown
KINDS = (STABLE, SPLIT, GAP, FLIP, WRONG)

#: examples that are listed of the first pair, by kind, and of each further one
FIRST = {STABLE: 5, GAP: 3, FLIP: 2, WRONG: 2}
OTHERS = {STABLE: 3, GAP: 1, FLIP: 1, WRONG: 1}

_SIDES = ("a", "b")


def kinds(predicted: Predicted, pair: pd.Series) -> pd.Series:
    """Tell of every example what the runs of a pair's two sides make of it, all seeds taken together.

    Returns
    -------
    Series of str, by example id: ``stable split``, ``coin flip``, ``both right`` or ``both wrong``; ``split`` where
    the two disagree and one of them has a single seed, so that nobody can tell whether it is stable.
    """
    sides = [predicted.probabilities[runs_of(predicted, pair, side)].to_numpy() >= THRESHOLD for side in _SIDES]
    all_a, all_b = (positive.all(axis=1) for positive in sides)
    none_a, none_b = (~positive.any(axis=1) for positive in sides)
    flips = ~(all_a | none_a) | ~(all_b | none_b)
    label = predicted.test["label"].to_numpy() == 1
    several = min(positive.shape[1] for positive in sides) > 1
    named = np.select(
        [flips, (all_a & none_b) | (none_a & all_b), np.where(label, all_a, none_a)],
        [FLIP, STABLE if several else SPLIT, "both right"],
        "both wrong",
    )
    return pd.Series(named, index=predicted.test.index, dtype=object)


def counts(predicted: Predicted, pair: pd.Series) -> dict[str, int]:
    """Count the examples of each kind of `kinds`."""
    return {str(kind): int(size) for kind, size in kinds(predicted, pair).value_counts().items()}


def listed(predicted: Predicted, pair: pd.Series, limits: dict[str, int]) -> pd.DataFrame:
    """List examples of each kind for a pair of backends, or of models.

    Stable splits and gaps come by the distance of the mean probabilities, coin flips by how far the seeds spread, and
    what both get wrong by how sure the least sure run is.

    Columns: kind, example_id, label, mean_a, least_a, most_a, positive_a (seeds that say positive), seeds_a and the
    same for b, gap, length (None if unknown), oov, truncated, snippet.
    """
    facts = predicted.test
    kind = kinds(predicted, pair).to_numpy()
    columns: dict[str, NDArray[Any]] = {}
    for side in _SIDES:
        values = predicted.probabilities[runs_of(predicted, pair, side)].to_numpy(np.float64)
        columns[f"mean_{side}"] = values.mean(axis=1)
        columns[f"least_{side}"], columns[f"most_{side}"] = values.min(axis=1), values.max(axis=1)
        columns[f"positive_{side}"] = (values >= THRESHOLD).sum(axis=1)
        columns[f"seeds_{side}"] = np.full(len(values), values.shape[1])
    columns["gap"] = np.abs(columns["mean_a"] - columns["mean_b"])
    spread = np.maximum(columns["most_a"] - columns["least_a"], columns["most_b"] - columns["least_b"])
    least = np.minimum(columns["least_a"], columns["least_b"])
    most = np.maximum(columns["most_a"], columns["most_b"])
    mistake = np.where(facts["label"].to_numpy() == 0, least, 1 - most)
    # One seed a side makes a split that nobody can call stable.
    split = STABLE if min(columns[f"seeds_{side}"][:1].sum() for side in _SIDES) > 1 else SPLIT
    chosen: dict[str, list[int]] = {}
    taken: list[int] = []
    # Places in the test split are enough until the few rows are known.
    for name, wanted, order in (
        (split, kind == split, columns["gap"]),
        (FLIP, kind == FLIP, spread),
        (WRONG, kind == "both wrong", mistake),
        (GAP, ~np.isin(kind, [STABLE, SPLIT]), columns["gap"]),
    ):
        open_ones = np.flatnonzero(wanted & ~np.isin(np.arange(len(kind)), taken))
        best = open_ones[np.argsort(-order[open_ones], kind="stable")[: limits[STABLE if name == SPLIT else name]]]
        chosen[name] = best.tolist()
        taken += chosen[name]
    rows = [row for name in KINDS for row in chosen.get(name, ())]
    known = facts.iloc[rows]
    cut = known["truncated"].astype(bool)
    return pd.DataFrame(
        {
            "example_id": known.index,
            "kind": [name for name in KINDS for _ in chosen.get(name, ())],
            **{name: values[rows] for name, values in columns.items()},
            "label": known["label"].to_numpy(),
            "length": known["length"].to_numpy(),
            "oov": known["oov"].to_numpy(),
            "truncated": cut.to_numpy(),
            "snippet": [snippet(text, end) for text, end in zip(known["text"], cut, strict=True)],
        }
    )


def to_list(found: pd.DataFrame) -> list[tuple[pd.Series, dict[str, int]]]:
    """Choose the pairs whose examples are listed, and how many of each kind."""
    chosen = example_pairs(found)
    return [(pair, OTHERS if number else FIRST) for number, (_, pair) in enumerate(chosen.iterrows())]


def to_read(results_dir: Path) -> dict[str, list[str]]:
    """Choose the examples that are listed of a finished comparison, for each run that they are shown of.

    Returns
    -------
    Run id to example ids; empty where there is nothing to compare.

    Raises
    ------
    ResultsError
        The folder is damaged, or holds runs that don't belong together.
    """
    comparison = load(results_dir)
    wanted: dict[str, list[str]] = {}
    for pair, limits in to_list(pairs(comparison)):
        names = listed(comparison, pair, limits)["example_id"].tolist()
        for side in _SIDES:
            mine = wanted.setdefault(str(pair[f"run_{side}"]), [])
            mine += [name for name in names if name not in mine]
    return wanted


def every_example(comparison: Comparison, found: pd.DataFrame) -> pd.DataFrame:
    """Put everything that is known of every example into one table: one row an example.

    Columns: example_id, label, text, length, oov, truncated; ``<division>-<model>-<A>-<B>_split`` for each pair of
    backends (see `kinds`); ``<run id>_prob`` and ``<run id>_pred`` for each run that went well.

    Raises
    ------
    ResultsError
        Two pairs of backends would have one column.
    """
    parts: dict[str, object] = {}
    across = found[found["kind"] == "backends"].drop_duplicates(["division", "model_a", "backend_a", "backend_b"])
    for _, pair in across.iterrows():
        name = f"{pair['division']}-{pair['model_a']}-{pair['backend_a']}-{pair['backend_b']}_split"
        if name in parts:
            raise ResultsError(f"Two pairs of backends have one name, {name!r}: call one of the backends otherwise.")
        parts[name] = kinds(comparison, pair).astype("category")
    for run_id in comparison.probabilities:
        values = comparison.probabilities[run_id]
        parts[f"{run_id}_prob"] = values
        parts[f"{run_id}_pred"] = (values >= THRESHOLD).astype(np.int8)
    facts = comparison.test[["label", "text", "length", "oov", "truncated"]]
    return pd.concat([facts, pd.DataFrame(parts, index=facts.index)], axis=1).reset_index(names="example_id")
