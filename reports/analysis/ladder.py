"""The noise ladder: how much two runs disagree by what they still share, from everything to only the backend.

========= ==================== ============================= ==========================
rung      name                 the two runs share            what is left to differ
========= ==================== ============================= ==========================
0         transplanted         trained weights               inference arithmetic
1         twin                 everything but rounding       chaos of the training
2         matched              weights, batches, arithmetic  rounding, amplified
3         native pair          the seed number only          the frameworks' defaults
4         reseeded             backend and model             the seed
5         architecture         backend                       the model
========= ==================== ============================= ==========================
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from rnn_crosscheck.reports.analysis.excess import Estimate, between, excess, paired, within
from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.read.comparison import THRESHOLD, Comparison, Predicted

#: names of the rungs, by their number
RUNGS = ("transplanted", "twin", "matched", "native pair", "reseeded", "architecture")

_GROUP = ["rung", "division", "model_a", "model_b", "backend_a", "backend_b"]

#: rung of a pair by its kind, or across backends by its division
_PLACES = {"matched": 2, "native": 3, "seeds": 4, "models": 5}

#: Fewest seeds a side for an excess: each side has to be held against itself.
FEWEST = 2


class Sides(NamedTuple):
    """Two groups of runs that differ in the backend alone: columns of the probabilities, and seeds, of each."""

    division: str
    model: str
    backend_a: str
    backend_b: str
    columns_a: list[int]
    columns_b: list[int]
    shared: bool


def dots(comparison: Comparison, pairs: pd.DataFrame) -> pd.DataFrame:
    """Give one row a pair of runs on a rung.

    Columns: rung, division, model_a, model_b, backend_a, backend_b, run_a, run_b, disagreement (share of the
    examples). Transplants have the source in A and the backend that predicted in B.
    """
    columns = [*_GROUP, "run_a", "run_b", "disagreement"]
    first = pd.DataFrame([*_transplants(comparison), *_twins(comparison)], columns=columns)
    rest = pairs.assign(rung=pairs["division"].where(pairs["kind"] == "backends", pairs["kind"]).map(_PLACES))
    found = pd.concat([first, rest[columns]], ignore_index=True) if len(first) else rest[columns]
    return found.astype({"rung": int}).sort_values("rung", kind="stable").reset_index(drop=True)


def rungs(comparison: Predicted, dots: pd.DataFrame) -> pd.DataFrame:
    """Give one row a group of pairs on a rung, the mean of its dots with an interval over runs and examples.

    Columns: rung, name, division, model_a, model_b, backend_a, backend_b, pairs, disagreement, least, most, low,
    high. Transplants and twins come of one run each, so they have no interval: NaN.
    """
    positive = comparison.probabilities.to_numpy() >= THRESHOLD
    place = {str(run_id): number for number, run_id in enumerate(comparison.probabilities.columns)}
    rows = []
    for (rung, *group_of), group in grouped(dots, *_GROUP):
        apart = group["disagreement"]
        estimate = Estimate(float(apart.mean()), np.nan, np.nan)
        if rung >= RUNGS.index("matched"):
            a, b = ([place[name] for name in group[f"run_{side}"]] for side in ("a", "b"))
            if rung == RUNGS.index("reseeded"):
                parts = within(positive[:, list(dict.fromkeys([*a, *b]))])
            else:
                parts = paired(positive[:, a], positive[:, b])
            estimate = parts.estimate((0.0, 1.0))
        value, low, high = estimate
        rows.append((rung, RUNGS[rung], *group_of, len(group), value, apart.min(), apart.max(), low, high))
    columns = [_GROUP[0], "name", *_GROUP[1:], "pairs", "disagreement", "least", "most", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def sides(predicted: Predicted) -> list[Sides]:
    """List the pairs of backends, for each division and model that both have runs of.

    Matched runs start from their seed, so equal seeds are pairs there; seeds that only one side has are left out.
    """
    runs = predicted.ok
    place = predicted.probabilities.columns.get_indexer
    found = []
    for (division, model), group in grouped(runs, "division", "model"):
        shared = division == "matched"
        for (a, of_a), (b, of_b) in combinations(grouped(group, "backend"), 2):
            if shared:
                common = sorted(set(of_a["seed"]) & set(of_b["seed"]))
                of_a, of_b = (
                    rows[rows["seed"].isin(common)].sort_values("seed", kind="stable") for rows in (of_a, of_b)
                )
            columns_a, columns_b = place(of_a.index).tolist(), place(of_b.index).tolist()
            found.append(Sides(division, model, a, b, columns_a, columns_b, shared))
    return found


def excesses(comparison: Comparison, dots: pd.DataFrame) -> pd.DataFrame:
    """Give one row a pair of backends, division and model: where its disagreement comes from.

    Columns: division, model, backend_a, backend_b, seeds_a, seeds_b, between (mean disagreement of A's runs with B's;
    in the matched division of those with different seeds), same_seed (of those with equal seeds there; NaN for
    native runs, where an equal number means nothing), own_a, own_b (what the seeds of each disagree on), floor (mean
    of the two), excess with low and high, twins_a, twins_b (what rounding alone changes in a matched run of each: mean
    over continuing twins; NaN for native runs, which have none).
    """
    positive = comparison.probabilities.to_numpy() >= THRESHOLD
    twins = dots[dots["rung"] == RUNGS.index("twin")]
    rows = []
    for side in sides(comparison):
        a, b = positive[:, side.columns_a], positive[:, side.columns_b]
        if min(a.shape[1], b.shape[1]) < FEWEST:
            continue
        estimate = excess(a, b, seeds_shared=side.shared).estimate()
        apart = between(a, b, seeds_shared=side.shared)
        same_seed = float((a != b).mean()) if side.shared else np.nan
        own = [float(within(mine).values.mean()) for mine in (a, b)]
        of_model = twins[(twins["model_a"] == side.model) & (twins["division"] == side.division)]
        chaos = [
            of_model.loc[of_model["backend_a"] == name, "disagreement"].mean()
            for name in (side.backend_a, side.backend_b)
        ]
        seeds = (a.shape[1], b.shape[1])
        rows.append((*side[:4], *seeds, apart, same_seed, *own, apart - estimate.value, *estimate, *chaos))
    columns = ["division", "model", "backend_a", "backend_b", "seeds_a", "seeds_b", "between", "same_seed", "own_a",
               "own_b", "floor", "excess", "low", "high", "twins_a", "twins_b"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def transplants(comparison: Comparison) -> pd.DataFrame:
    """Give one row a transplant: trained weights of one backend, predicted with by another (or by itself).

    Columns: model, division, seed, source (backend), target, run_id (of the source), examples, max_difference,
    mean_difference (in probability), changed (predictions).
    """
    rows = [
        {**one.model_dump(), "target": record.backend}
        for record in comparison.transplants
        for one in record.transplants
    ]
    columns = ["model", "division", "seed", "backend", "target", "source", "examples", "max_difference",
               "mean_difference", "changed"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns).rename(columns={"backend": "source", "source": "run_id"})


def _transplants(comparison: Comparison) -> Iterator[tuple[object, ...]]:
    """Give the rows of `dots` that are transplants into another backend."""
    for one in each(transplants(comparison)):
        if one.source != one.target:
            names = (one.model, one.model, one.source, one.target, one.run_id, f"{one.run_id} in {one.target}")
            yield (0, one.division, *names, one.changed / one.examples if one.examples else np.nan)


def _twins(comparison: Comparison) -> Iterator[tuple[object, ...]]:
    """Hold continuing twins against their own runs; initial ones show how little is enough, and are no band."""
    for run_id, result in comparison.variants.results.items():
        spec = result.spec
        own = spec.model_copy(update={"twin": "", "twin_number": 0}).run_id
        if spec.twin != "continuing" or spec.variant or own not in comparison.probabilities:
            continue
        said = comparison.variants.probabilities[run_id] >= THRESHOLD
        apart = float((said != (comparison.probabilities[own] >= THRESHOLD)).mean())
        yield (1, spec.division, spec.model.name, spec.model.name, spec.backend, spec.backend, own, run_id, apart)
