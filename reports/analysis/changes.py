"""What changed since an earlier comparison: accuracy, predictions and times of the same cell, now and before.

A cell is a backend x model x division. The two comparisons were made at two times, maybe with other versions, so little
may be paired: equal seed numbers need not start the same training, and no round of one belongs to a round of the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from rnn_crosscheck.harness.results import TimingRecord
from rnn_crosscheck.harness.timing.ratios import against_baseline, typical
from rnn_crosscheck.reports.analysis.accuracy import run_accuracy
from rnn_crosscheck.reports.analysis.dataset import dotted, environment
from rnn_crosscheck.reports.analysis.excess import paired
from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.analysis.statistics import independent_ratio, welch, wilson
from rnn_crosscheck.reports.analysis.timing import again, own_sizes
from rnn_crosscheck.reports.read.comparison import THRESHOLD, Comparison, hash_of

CELL = ("division", "model", "backend")
TIMED = ("model", "operation", "division", "setting", "backend")

_CONDITIONS = ("of", "what", "before", "now")
_ACCURACY = (*CELL, "seeds", "seeds_before", "now", "before", "difference", "low", "high", "shared", "alike")
_DISAGREEMENT = (*CELL, "seeds", "alike", "disagreement", "low", "high", "over")
_TIMINGS = (*TIMED, "base", "ms", "ms_before", "ratio", "low", "high", "relative", "relative_before", "change",
            "change_low", "change_high", "noise", "unlike")  # fmt: skip

#: characters of a hash that are shown
_HASH = 16

#: keys of the protocol that say how much is measured, not what is trained
_HOW_MUCH = ("seeds.", "divisions", "timing.", "parity.", "workers.jobs", "workers.stall_seconds")

#: what the description of a machine holds that isn't the machine
_NO_MACHINE = ("python",)


def _no_rows(columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(columns=list(columns))


@dataclass(frozen=True)
class Changes:
    """The tables of "what changed since"; each is described where it is computed.

    Attributes
    ----------
    place
        Folder of the earlier comparison, as its reader finds it from the report.
    problem
        Why there is nothing to compare with, as a sentence; then everything below is empty.
    created, commit
        When the earlier comparison was made, and of which commit.
    refused
        Why predictions aren't held against each other, as a sentence; empty if they are.
    same_examples
        Whether accuracy is over the same test examples: equal ids with equal labels.
    same_machine
        Whether both were made on what describes itself as the same machine.
    """

    place: str
    problem: str = ""
    created: str = ""
    commit: str = ""
    refused: str = ""
    same_examples: bool = True
    same_machine: bool = True
    conditions: pd.DataFrame = field(default_factory=lambda: _no_rows(_CONDITIONS))
    accuracy: pd.DataFrame = field(default_factory=lambda: _no_rows(_ACCURACY))
    disagreement: pd.DataFrame = field(default_factory=lambda: _no_rows(_DISAGREEMENT))
    timings: pd.DataFrame = field(default_factory=lambda: _no_rows(_TIMINGS))

    @property
    def protocol(self) -> pd.DataFrame:
        """Values of the protocol that differ, as in `conditions`."""
        return self.conditions[self.conditions["of"] == "protocol"]

    @property
    def other_protocol(self) -> bool:
        """Whether the protocols differ in more than how much is measured, so that results may differ for that."""
        return any(not key.startswith(_HOW_MUCH) for key in self.protocol["what"])

    @property
    def nothing(self) -> bool:
        """Whether no cell and no timing is in both."""
        return bool(self.accuracy["difference"].isna().all() and self.timings["ratio"].isna().all())


def changes(now: Comparison, before: Comparison, place: str) -> Changes:
    """Compare a comparison with an earlier one; `place` says where that one lies."""
    refused = refusal(now, before)
    return Changes(
        place=place,
        created=before.manifest.created,
        commit=before.manifest.commit,
        refused=refused,
        same_examples=_same_examples(now, before),
        same_machine=_machine(now) == _machine(before) != {},
        conditions=conditions(now, before),
        accuracy=accuracy(now, before),
        disagreement=_no_rows(_DISAGREEMENT) if refused else disagreement(now, before),
        timings=timings(now, before),
    )


def refusal(now: Comparison, before: Comparison) -> str:
    """Say why the predictions of the two can't be held against each other; nothing if they can."""
    one, two = now.facts.inputs_hash, before.facts.inputs_hash
    if one != two:
        return (
            f"The test inputs are others: hash {one[:_HASH]} now, {two[:_HASH]} before. "
            "Predictions are held against each other on the same examples only."
        )
    if not _same_examples(now, before):
        ids = [sorted(f"{name} {label}" for name, label in side.test["label"].items()) for side in (now, before)]
        return (
            f"The test examples are others: hash of ids and labels {hash_of(ids[0])} now, {hash_of(ids[1])} before. "
            "Predictions are held against each other on the same examples only."
        )
    return ""


def conditions(now: Comparison, before: Comparison) -> pd.DataFrame:
    """Give one row a condition that differs: a value of the protocol, of the machine, or of a backend's surroundings.

    Columns: of (``protocol``, ``data``, ``machine`` or a backend), what (of the protocol: the dotted key), before, now;
    nothing stands for what one of the two doesn't have.
    """
    known_now, known_before = ({model.name for model in side.manifest.protocol.models} for side in (now, before))
    shared = known_now & known_before
    sides = []
    for side in (now, before):
        surroundings = environment(side).set_index("fact")
        known = {
            ("protocol", key): value
            for key, value in dotted(side.manifest.protocol).items()
            if key != "name" and not (key.startswith("models.") and key.split(".")[1] not in shared)
        }
        known["data", "fingerprint"] = side.facts.fingerprint
        known |= {("machine", key): value for key, value in side.manifest.machine.items()}
        known["machine", "device"] = side.manifest.device
        known |= {
            (str(backend), str(fact)): str(value)
            for backend in surroundings
            for fact, value in surroundings[backend].items()
            if value
        }
        sides.append(known)
    # A backend or a model that one of them lacks has not changed.
    both = {of for of, _ in sides[0]} & {of for of, _ in sides[1]}
    rows = [
        (*key, sides[1].get(key, ""), sides[0].get(key, ""))
        for key in dict.fromkeys([*sides[0], *sides[1]])
        if key[0] in both and sides[0].get(key) != sides[1].get(key)
    ]
    return pd.DataFrame(rows, columns=list(_CONDITIONS))


def accuracy(now: Comparison, before: Comparison) -> pd.DataFrame:
    """Give one row a cell asked for now that has a result in either: mean accuracy now minus mean accuracy before.

    The interval is Welch's over seeds. Runs of one seed aren't taken for pairs: under other versions they need not be,
    and where they are, an interval for independent runs is too wide rather than too narrow. With one seed on a side
    there is none.

    Columns: `CELL`, seeds, seeds_before, now, before, difference, low, high, shared (seeds that both have), alike
    (those of them whose run has an equal key: the same run conditions).
    """
    sides = [_by_cell(side) for side in (now, before)]
    rows = []
    for cell in dict.fromkeys(now.runs[list(CELL)].itertuples(index=False, name=None)):
        one, two = (side.get(cell, _NO_RUNS) for side in sides)
        if one.empty and two.empty:
            continue
        shared, a, b = _shared(one, two), one["accuracy"], two["accuracy"]
        means = (a.mean(), b.mean(), a.mean() - b.mean())
        rows.append((*cell, len(a), len(b), *means, *welch(a, b), len(shared), _alike(one, two, shared)))
    return pd.DataFrame(rows, columns=list(_ACCURACY))


def disagreement(now: Comparison, before: Comparison) -> pd.DataFrame:
    """Give one row a cell that has results in both: how many predictions are others than those of the same seed before.

    Joined by example id. The figure is a mean over the seeds that both have, with an interval over runs and examples;
    where there is none (one seed, or every example is split alike), Wilson's over the examples, which says nothing
    about other seeds.

    Columns: `CELL`, seeds, alike (as in `accuracy`), disagreement, low, high, over (``runs and examples`` or
    ``examples``; empty without a seed that both have).
    """
    sides = [_by_cell(side) for side in (now, before)]
    rows = []
    for cell in dict.fromkeys(now.ok[list(CELL)].itertuples(index=False, name=None)):
        if cell not in sides[1]:
            continue
        one, two = (side[cell] for side in sides)
        shared = _shared(one, two)
        if not shared:
            rows.append((*cell, 0, 0, np.nan, np.nan, np.nan, ""))
            continue
        a = now.probabilities[one.loc[shared, "run_id"].tolist()]
        b = before.probabilities[two.loc[shared, "run_id"].tolist()].reindex(a.index)
        parts = paired(a.to_numpy() >= THRESHOLD, b.to_numpy() >= THRESHOLD)
        value, low, high = parts.estimate((0, 1))
        over = "runs and examples"
        if np.isnan(low):
            n = len(parts.values)
            low, high = (float(edge) for edge in wilson(value * n, n))
            over = "examples"
        rows.append((*cell, len(shared), _alike(one, two, shared), value, low, high, over))
    return pd.DataFrame(rows, columns=list(_DISAGREEMENT))


def timings(now: Comparison, before: Comparison) -> pd.DataFrame:
    """Give one row an operation of a model in a backend that was timed in either: its time now over its time before.

    The two were not measured in turn, so ``ratio`` holds whatever the machine did at the two times; its interval is for
    independent rounds. ``change`` is the ratio to the baseline backend now over the same before: each of these was
    taken round by round, so that the machine cancels. The baseline has none, and neither has what was held against
    another baseline.

    Columns: `TIMED`, base (backend that ``change`` is relative to; empty without one), ms, ms_before (what a round
    usually takes), ratio, low, high, relative, relative_before (ratios to the baseline backend), change, change_low,
    change_high, noise (how far from 1 a change is still within the A/A pairs of the two, as a factor; 1 without any),
    unlike (what makes the timed calls different work; empty if nothing does).
    """
    asked = set(now.runs["model"])
    current, earlier = (
        {
            tuple(getattr(record, name) for name in TIMED): record
            for record in own_sizes(side)
            if record.backend in now.manifest.backends and record.model in asked
        }
        for side in (now, before)
    )
    noise = [_noise(side) for side in (now, before)]
    rows = []
    for key in dict.fromkeys([*current, *earlier]):
        one, two = current.get(key), earlier.get(key)
        row: dict[str, object] = {**dict(zip(TIMED, key, strict=True)), "base": "", "unlike": ""}
        row["ms"] = typical(one.rounds_ns) / 1e6 if one else np.nan
        row["ms_before"] = typical(two.rounds_ns) / 1e6 if two else np.nan
        if one and two:
            row["ratio"] = typical(one.rounds_ns) / typical(two.rounds_ns)
            row["low"], row["high"] = independent_ratio(one.rounds_ns, two.rounds_ns)
            row |= _relative(now, one, before, two)
            row["noise"] = math.exp(math.hypot(*(side.get(key[:3], 0.0) for side in noise)))
            work, earlier_work = _work(now, one), _work(before, two)
            row["unlike"] = ", ".join(
                f"{what} {work[what]}, before {earlier_work[what]}" for what in work if work[what] != earlier_work[what]
            )
        rows.append(row)
    return pd.DataFrame(rows, columns=list(_TIMINGS))


# --- parts ----------------------------------------------------------------------------------------------------

_NO_RUNS = pd.DataFrame({"accuracy": pd.Series(dtype=float), "key": pd.Series(dtype=object)})


def _by_cell(comparison: Comparison) -> dict[tuple[str, str, str], pd.DataFrame]:
    """Give the runs with a result of each cell, indexed by seed: accuracy, run_id, key."""
    runs = run_accuracy(comparison)
    runs = runs[runs["status"] == "ok"].rename_axis("run_id").reset_index()
    runs = runs.assign(key=[comparison.results[run_id].key for run_id in runs["run_id"]])
    return {cell: group.set_index("seed") for cell, group in grouped(runs, *CELL)}


def _shared(now: pd.DataFrame, before: pd.DataFrame) -> list[int]:
    return [int(seed) for seed in now.index if seed in before.index]


def _alike(now: pd.DataFrame, before: pd.DataFrame, shared: list[int]) -> int:
    return int((now.loc[shared, "key"] == before.loc[shared, "key"]).sum())


def _same_examples(now: Comparison, before: Comparison) -> bool:
    return bool(now.test["label"].to_dict() == before.test["label"].to_dict())


def _machine(comparison: Comparison) -> dict[str, str]:
    return {what: value for what, value in comparison.manifest.machine.items() if what not in _NO_MACHINE}


def _relative(now: Comparison, one: TimingRecord, before: Comparison, two: TimingRecord) -> dict[str, object]:
    """Compare two ratios to the baseline; nothing for the baseline itself, or where the two had different ones."""
    bases = {record.backend for side in (now, before) for record in own_sizes(side) if record.baseline}
    current, earlier = (against_baseline(side.timings.records, record) for side, record in ((now, one), (before, two)))
    if one.baseline or two.baseline or len(bases) != 1 or current is None or earlier is None:
        return {}
    change = current.value / earlier.value
    # Independent of one another, so their variances add up.
    reach = math.exp(math.hypot(math.log1p(current.reach), math.log1p(earlier.reach)))
    return {
        "base": bases.pop(),
        "relative": current.value,
        "relative_before": earlier.value,
        "change": change,
        "change_low": change / reach,
        "change_high": change * reach,
    }


def _noise(comparison: Comparison) -> dict[tuple[str, ...], float]:
    """Logarithm of how far the A/A pair of each operation stood from 1."""
    return {(row.model, row.operation, row.division): float(np.log(row.band_high)) for row in each(again(comparison))}


def _work(comparison: Comparison, record: TimingRecord) -> dict[str, object]:
    """Say what one timed call had to do, and with what."""
    protocol = comparison.manifest.protocol
    return {
        "device": comparison.manifest.device,
        "threads": record.threads,
        "examples a call": record.examples,
        "clipnorm": protocol.training.clipnorm if record.operation == "train_step" else None,
        **protocol.model(record.model).model_dump(exclude={"name"}),
    }
