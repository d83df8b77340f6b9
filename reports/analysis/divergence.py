"""How two trainings part, step by step, and whether rounding alone takes them as far.

The *matched pair* is two backends' traced runs of one model and seed. A *twin* is a traced run again, with rounding of
another kind: an *initial* twin has one weight moved by one unit in the last place before training, a *continuing* twin
is disturbed after every update by noise of the size of that backend's own rounding. The *horizon* is the first
recorded step after which a continuing twin differs from its own run by more than `HORIZON` in probability.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnn_crosscheck.harness.protocol import RunSpec
from rnn_crosscheck.harness.results import STAGES, ParityRecord
from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.read.comparison import THRESHOLD, Comparison

#: a twin that differs by more than this in probability is past the horizon
HORIZON = 1e-3

#: a matched pair may stand this many times as far apart as twins do
SLACK = 3.0

#: smaller differences never count: that is float32's rounding of a probability
ROUNDING = 1e-6

#: once twins stand this far apart, how far anything stands apart says nothing
SATURATED = 1e-2

#: continuing twins that a verdict takes
ENOUGH_TWINS = 3

#: recorded steps before twins are saturated that a verdict takes
ENOUGH_STEPS = 3

#: points of a course that are drawn
_BINS = 150

_CURVES = ["model", "kind", "a", "b", "number", "run_a", "run_b", "step", "max", "mean"]
_VERDICTS = ["model", "a", "b", "verdict", "twins", "horizon", "backend", "stage", "parameter", "error", "tolerance",
             "staged", "parts_at", "parts_difference", "parts_twins", "calm", "calm_difference", "calm_twins", "last",
             "difference", "difference_twins"]  # fmt: skip

Floats = NDArray[np.float64]


def curves(comparison: Comparison) -> pd.DataFrame:
    """Give how far two traced runs stand apart after each recorded step.

    Columns: model, kind (``matched``, ``continuing`` or ``initial``), a, b (the backends; a twin has its own twice),
    number (of the twin, else 0), run_a, run_b, step, max, mean (absolute difference in probability over the probes).
    """
    own = _own_runs(comparison)
    rows: list[tuple[Any, ...]] = []
    for model in dict.fromkeys(spec.model.name for spec in own.values()):
        mine = {run_id: spec for run_id, spec in own.items() if spec.model.name == model}
        for (run_a, spec_a), (run_b, spec_b) in combinations(mine.items(), 2):
            name = (model, "matched", spec_a.backend, spec_b.backend, 0, run_a, run_b)
            rows += [(*name, *point) for point in _apart(comparison, run_a, run_b)]
        for run_id, spec in mine.items():
            for twin, (kind, number) in _twins(comparison, spec).items():
                name = (model, kind, spec.backend, spec.backend, number, run_id, twin)
                rows += [(*name, *point) for point in _apart(comparison, run_id, twin)]
    return pd.DataFrame(rows, columns=_CURVES)


def courses(comparison: Comparison) -> pd.DataFrame:
    """Give loss and gradient norm of the traced runs along the training, without their twins.

    Steps are taken together in bins that grow with the step; each gives its largest value, so that no spike is lost.

    Columns: model, backend, step (first of the bin), gradient_norm, loss.
    """
    parts = []
    for run_id, spec in _own_runs(comparison).items():
        course = comparison.traces[run_id].course.replace([np.inf, -np.inf], np.nan)
        edges = np.unique(np.geomspace(1, course["step"].max() + 1, _BINS).astype(int))
        place = np.searchsorted(edges, course["step"], side="right") - 1
        highest = course.groupby(edges[place])[["gradient_norm", "loss"]].max().reset_index(names="step")
        parts.append(highest.assign(model=spec.model.name, backend=spec.backend))
    columns = ["model", "backend", "step", "gradient_norm", "loss"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def horizons(curves: pd.DataFrame) -> pd.DataFrame:
    """Give the first recorded step at which any twin of a kind passes `HORIZON`, NaN where none does.

    Columns: model, backend, kind, twins, horizon, last (recorded step).
    """
    twins = curves[curves["kind"] != "matched"]
    rows = []
    for (model, backend, kind), group in grouped(twins, "model", "a", "kind"):
        past = group.loc[group["max"] > HORIZON, "step"]
        rows.append((model, backend, kind, group["run_b"].nunique(), past.min(), group["step"].max()))
    frame = pd.DataFrame(rows, columns=["model", "backend", "kind", "twins", "horizon", "last"])
    return frame.astype({"horizon": float})


def first_out(steps: Sequence[int], matched: Floats, twins: Floats) -> int | None:
    """Find the first recorded step at which a matched pair has left the twins' band.

    The band is the running maximum over all twins, and so is the pair's own curve taken. The pair may stand `SLACK`
    times as far apart as twins do at the *next* recorded step: where differences grow exponentially, a small shift in
    time is a large ratio. Differences up to `ROUNDING` never count, and none does once the band is past `SATURATED`.

    Parameters
    ----------
    steps : (steps,)
        Recorded steps, rising.
    matched : float (steps,)
        Largest difference in probability of the pair.
    twins : float (twins, steps)
        The same of each continuing twin and its own run; at least one twin.
    """
    band = np.maximum.accumulate(twins.max(axis=0))
    reached = np.maximum.accumulate(matched)
    allowed = SLACK * np.append(band[1:], band[-1:])
    out = (reached > allowed) & (reached > ROUNDING) & (band <= SATURATED)
    return int(steps[int(out.argmax())]) if out.any() else None


def verdicts(comparison: Comparison, curves: pd.DataFrame, horizons: pd.DataFrame) -> pd.DataFrame:
    """Judge each matched pair of backends that was traced, or of which a stage was recorded.

    A stage of either backend that is out of its tolerance makes the pair ``different``. Else fewer than
    `ENOUGH_TWINS` continuing twins of the two (or no trace of both, or twins that are saturated before `ENOUGH_STEPS`
    recorded steps) leave it ``undecided``. Else it is ``equivalent``
    if it never leaves the band of those twins (`first_out`), and ``different`` if it does.

    Columns: model, a, b, verdict, twins (continuing, of both), horizon (the earlier of the two; NaN if none); backend,
    stage, parameter, error and tolerance of the first stage that failed; staged (backends whose stages were recorded);
    parts_at, parts_difference, parts_twins (where the pair leaves the band, how far it stands apart and how far twins
    do by the next recorded step); calm, calm_difference, calm_twins (the last recorded step before the horizon, and
    the largest differences up to it); last, difference, difference_twins (the last recorded step, and the largest
    differences up to it). What there is none of is NaN or empty.
    """
    rows = []
    staged = {
        (record.model, record.backend): record
        for record in comparison.stages
        if record.division == "matched" and record.setting == "default"
    }
    traced = {(spec.model.name, spec.backend) for spec in _own_runs(comparison).values()}
    for model in [model.name for model in comparison.manifest.protocol.models]:
        known = [name for name in comparison.manifest.backends if (model, name) in traced or (model, name) in staged]
        for a, b in combinations(known, 2):
            mine = curves[(curves["model"] == model) & curves["a"].isin([a, b]) & curves["b"].isin([a, b])]
            records = [staged[model, name] for name in (a, b) if (model, name) in staged]
            ends = horizons[(horizons["model"] == model) & (horizons["kind"] == "continuing")]
            horizon = ends.loc[ends["backend"].isin([a, b]), "horizon"].min()
            row = {"model": model, "a": a, "b": b, "horizon": horizon, "staged": len(records), "twins": 0}
            rows.append(row | _judged(records, _seen(mine), horizon))
    return pd.DataFrame(rows, columns=_VERDICTS)


def _judged(records: Sequence[ParityRecord], seen: tuple[list[int], Floats, Floats], horizon: float) -> dict[str, Any]:
    """Give the verdict on a pair and what it rests on."""
    steps, matched, twins = seen
    found: dict[str, Any] = {"verdict": "undecided", "twins": len(twins)}
    if steps:
        found |= {"last": steps[-1], "difference": matched.max()}
    if steps and len(twins):
        found["difference_twins"] = twins.max()
        calm = sum(step < horizon for step in steps) if not np.isnan(horizon) else 0
        if calm:
            found |= {"calm": steps[calm - 1], "calm_difference": matched[:calm].max(),
                      "calm_twins": twins[:, :calm].max()}  # fmt: skip
    failed = [
        (STAGES.index(stage.stage), record.backend, stage) for record in records if (stage := record.first_failed)
    ]
    if failed:
        _, backend, stage = min(failed, key=itemgetter(0))
        return found | {
            "verdict": "different", "backend": backend, "stage": stage.stage, "parameter": stage.parameter,
            "error": stage.error, "tolerance": stage.tolerance,
        }  # fmt: skip
    if not steps or len(twins) < ENOUGH_TWINS:
        return found
    # Recorded steps at which something could still be told from the twins.
    if (np.maximum.accumulate(twins.max(axis=0)) <= SATURATED).sum() < ENOUGH_STEPS:
        return found
    out = first_out(steps, matched, twins)
    if out is None:
        return found | {"verdict": "equivalent"}
    place = steps.index(out)
    return found | {"verdict": "different", "parts_at": out, "parts_difference": matched[: place + 1].max(),
                    "parts_twins": twins[:, : place + 2].max()}  # fmt: skip


def _seen(curves: pd.DataFrame) -> tuple[list[int], Floats, Floats]:
    """Give recorded steps, the matched pair's curve (steps,) and those of its continuing twins (twins, steps)."""
    matched = curves[curves["kind"] == "matched"].set_index("step")["max"].sort_index()
    twins = (
        curves[curves["kind"] == "continuing"].pivot_table(index="run_b", columns="step", values="max").dropna(axis=1)
    )
    steps = sorted(set(matched.index) & set(twins.columns)) if len(twins) else list(matched.index)
    return steps, matched[steps].to_numpy(float), twins.reindex(columns=steps).to_numpy(float)


def ends(comparison: Comparison, curves: pd.DataFrame) -> pd.DataFrame:
    """Give what became of each matched pair and of each twin at the end of training, on all test examples.

    Columns: model, kind, a, b, number, run_a, run_b, accuracy_a, accuracy_b, disagreement (share of the examples on
    which the two predict differently), noise_least, noise_most (standard deviations by parameter of what was added
    after an update; NaN but for continuing twins).
    """
    rows = []
    known = {**comparison.probabilities, **comparison.variants.probabilities}
    positive = comparison.test["label"] == 1
    for row in each(curves[_CURVES[:7]].drop_duplicates(["run_a", "run_b"])):
        said_a, said_b = (known[run_id] >= THRESHOLD for run_id in (row.run_a, row.run_b))
        twin = comparison.variants.results.get(row.run_b)
        noise = list(twin.trace.noise.values()) if twin and twin.trace else []
        shares = ((said_a == positive).mean(), (said_b == positive).mean(), (said_a != said_b).mean())
        rows.append((*row, *map(float, shares), min(noise, default=np.nan), max(noise, default=np.nan)))
    columns = [*_CURVES[:7], "accuracy_a", "accuracy_b", "disagreement", "noise_least", "noise_most"]
    return pd.DataFrame(rows, columns=columns)


def _own_runs(comparison: Comparison) -> dict[str, RunSpec]:
    """Give the traced matched runs that are no twins: of each model those with its first traced seed."""
    specs = {
        run_id: comparison.results[run_id].spec
        for run_id in comparison.traces
        if run_id in comparison.results and comparison.results[run_id].spec.division == "matched"
    }
    first: dict[str, int] = {}
    for spec in specs.values():
        first.setdefault(spec.model.name, spec.seed)
    places = {name: place for place, name in enumerate(comparison.manifest.backends)}
    chosen = {run_id: spec for run_id, spec in specs.items() if spec.seed == first[spec.model.name]}
    return dict(sorted(chosen.items(), key=lambda item: places.get(item[1].backend, len(places))))


def _twins(comparison: Comparison, own: RunSpec) -> dict[str, tuple[str, int]]:
    """Give the traced twins of a run: run id to kind and number, continuing ones first."""
    found = {}
    for run_id, result in comparison.variants.results.items():
        spec = result.spec
        same = (spec.division, spec.backend, spec.model.name, spec.seed) == (
            own.division, own.backend, own.model.name, own.seed)  # fmt: skip
        if same and spec.twin and not spec.variant and run_id in comparison.traces:
            found[run_id] = (spec.twin, spec.twin_number)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _apart(comparison: Comparison, run_a: str, run_b: str) -> Iterator[tuple[int, float, float]]:
    """Give step, largest and mean difference in probability over the probes that both have."""
    a, b = comparison.traces[run_a].probes, comparison.traces[run_b].probes
    shared, steps = a.index.intersection(b.index), a.columns.intersection(b.columns)
    gaps = (a.loc[shared, steps] - b.loc[shared, steps]).abs()
    return zip(map(int, steps), gaps.max(), gaps.mean(), strict=True)
