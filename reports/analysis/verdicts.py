"""What can be said of each question in one word: better, same, undecided, or nothing.

``better``: the 95 % interval excludes 0 and doesn't lie inside the margin. ``same``: it lies inside the margin.
``undecided``: else. ``not measured``: the interval of a ratio spans more than a factor of 2. ``?``: there is no
interval over seeds. Of more than two backends the best is held against the second; better then takes a p value below
0.05 after Holm's correction for all pairs. `benchmarks/margins.py` simulates how often the words are wrong.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from rnn_crosscheck.harness.protocol import MarginSpec
from rnn_crosscheck.harness.results import TimingRecord
from rnn_crosscheck.harness.timing.ratios import Ratio, against_baseline
from rnn_crosscheck.reports.analysis.frames import grouped
from rnn_crosscheck.reports.analysis.statistics import CONFIDENCE, UNDECIDED, UNKNOWN, holm, values_needed
from rnn_crosscheck.reports.analysis.timing import is_wide
from rnn_crosscheck.reports.read.comparison import Comparison

BETTER, SAME, UNMEASURED = "better", "same", "not measured"

#: the operation by which one backend is called faster
TIMED = "train_step"

#: more seeds than this are no advice
MOST_SEEDS = 200

_COLUMNS = ["question", "division", "model", "verdict", "best", "second", "value", "low", "high", "p", "pairs", "seeds",
            "needed"]  # fmt: skip


def word(low: float, high: float, p: float, margin: tuple[float, float], zero: float = 0.0) -> str:
    """Judge one interval.

    Parameters
    ----------
    low, high
        Of the 95 % interval; NaN if there is none.
    p
        Corrected for all pairs that it was chosen from.
    margin
        Least and most of what nobody would act on.
    zero
        What no difference is: 0, or 1 for ratios.
    """
    if np.isnan(low) or np.isnan(high):
        return UNKNOWN
    if margin[0] <= low and high <= margin[1]:
        return SAME
    excluded = low > zero or high < zero
    return BETTER if excluded and p < 1 - CONFIDENCE else UNDECIDED


def of_accuracy(differences: pd.DataFrame, summaries: pd.DataFrame, margin: MarginSpec) -> pd.DataFrame:
    """Judge, for each division and model, whether the most accurate backend is more accurate than the second.

    Parameters
    ----------
    differences, summaries
        As `accuracy.differences` and `accuracy.summary` give them.

    Columns: question ("accuracy"), division, model, verdict, best, second, value (best minus second) with low and high,
    p (Holm's, over all pairs), pairs, seeds (the fewer of the two), needed (seeds a side that would probably decide it;
    NaN unless undecided).
    """
    rows = []
    reach = margin.accuracy / 100
    for (division, model), pairs in grouped(differences, "division", "model"):
        mine = summaries[(summaries["division"] == division) & (summaries["model"] == model)]
        best, second = mine.sort_values("mean", ascending=False, kind="stable")["backend"].iloc[:2]
        known = pairs["p"].notna().to_numpy()
        corrected = np.full(len(pairs), np.nan)
        corrected[known] = holm(pairs["p"].to_numpy()[known])
        asked = {best, second}
        place = next(n for n, (a, b) in enumerate(zip(pairs["a"], pairs["b"], strict=True)) if {a, b} == asked)
        row = pairs.iloc[place]
        # By the runs of this row: of those that are paired, the better may be another than by all means.
        best, second = (row["a"], row["b"]) if row["difference"] >= 0 else (row["b"], row["a"])
        low, high = (row["low"], row["high"]) if row["a"] == best else (-row["high"], -row["low"])
        if row["over"] == "examples":
            low = high = np.nan
        value, seeds = abs(row["difference"]), min(row["seeds_a"], row["seeds_b"])
        said = word(low, high, corrected[place], (-reach, reach))
        needed = np.nan
        if said == UNDECIDED:
            # Clear of 0, or inside the margin: whichever takes less.
            alpha = (1 - CONFIDENCE) / len(pairs)
            enough = values_needed(max(value, reach - value), row["spread"], alpha, paired="paired" in row["over"])
            needed = max(enough, seeds + 1)
        rows.append(
            ("accuracy", division, model, said, best, second, value, low, high, corrected[place], len(pairs), seeds,
             needed)
        )  # fmt: skip
    return pd.DataFrame(rows, columns=_COLUMNS)


def of_speed(comparison: Comparison, timings: pd.DataFrame, again: pd.DataFrame, margin: MarginSpec) -> pd.DataFrame:
    """Judge, for each model, whether the fastest backend's training step is faster than the second's, by default.

    Columns: as of `of_accuracy`, with question "speed" and value the ratio of the two times (at most about 1). A ratio
    inside the A/A band, which is how far two workers of one backend stand apart, is never better.
    """
    rows = []
    shown = timings[(timings["operation"] == TIMED) & (timings["setting"] == "default")]
    edges = (1 / (1 + margin.time / 100), 1 + margin.time / 100)
    for model, mine in grouped(shown, "model"):
        names = list(dict.fromkeys(mine.sort_values("ms", kind="stable")["backend"]))
        ratios = {
            pair: found
            for pair in combinations(names, 2)
            if (found := _between(comparison.timings.records, str(model), *pair)) and not np.isnan(found.low)
        }
        if len(names) < 2 or tuple(names[:2]) not in ratios:
            continue
        best, second = names[:2]
        corrected = dict(zip(ratios, holm([ratio.p for ratio in ratios.values()]), strict=True))
        value, low, high, _ = ratios[best, second]
        band = again[(again["model"] == model) & (again["operation"] == TIMED)]
        said = word(low, high, corrected[best, second], edges, zero=1.0)
        if is_wide(low, high):
            said = UNMEASURED
        elif said == BETTER and len(band) and high >= band["band_low"].iloc[0]:
            said = UNDECIDED
        p = corrected[best, second]
        starts = int(mine["starts"].min())
        rows.append(("speed", "", model, said, best, second, value, low, high, p, len(ratios), starts, np.nan))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _between(records: tuple[TimingRecord, ...], model: str, backend: str, base: str) -> Ratio | None:
    """Give one backend's training step in times of another's, whichever of all was the baseline."""
    mine = [
        record.model_copy(update={"baseline": record.backend == base and record.setting == "default"})
        for record in records
        if record.model == model
    ]
    wanted = (backend, TIMED, "default", 0, 0)
    for record in mine:
        if (record.backend, record.operation, record.setting, record.batch_size, record.length) == wanted:
            return against_baseline(mine, record)
    return None


def missing_seeds(verdicts: pd.DataFrame, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Say for each division how many seeds would probably decide what is undecided, and how long they would take.

    Returns
    -------
    division, models, seeds (in all), seconds (of the runs that are missing, trained side by side as the others were).
    """
    found = []
    open_ones = verdicts[(verdicts["question"] == "accuracy") & (verdicts["needed"] <= MOST_SEEDS)]
    for division, rows in grouped(open_ones, "division"):
        seeds = int(rows["needed"].max())
        good = runs[(runs["status"] == "ok") & (runs["division"] == division)]
        each_run = good.groupby(["backend", "model"])["total_s"].agg(["mean", "size"])
        jobs = max(1, int(good["jobs"].max()))
        seconds = float((each_run["mean"] * (seeds - each_run["size"]).clip(lower=0)).sum()) / jobs
        found.append({"division": division, "models": list(rows["model"]), "seeds": seeds, "seconds": seconds})
    return found
