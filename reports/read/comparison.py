"""A comparison's folder, read and checked: the only input of every table and figure."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd

from rnn_crosscheck.harness import tables
from rnn_crosscheck.harness.errors import DamageError, ResultsError
from rnn_crosscheck.harness.machine import available_cores
from rnn_crosscheck.harness.protocol import DIVISIONS
from rnn_crosscheck.harness.results import (
    COURSE,
    PREDICTIONS,
    PROBES,
    RESULT,
    DatasetFacts,
    EffectsRecord,
    LostCheck,
    Manifest,
    OcclusionsRecord,
    ParityRecord,
    RunResult,
    TimingResults,
    TransplantsRecord,
    lost_check,
    occlusion_tables,
    read_record,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

Stored = TypeVar("Stored", ParityRecord, EffectsRecord)
Trained = TypeVar("Trained", TransplantsRecord, OcclusionsRecord)
Record = TypeVar("Record", ParityRecord, EffectsRecord, TransplantsRecord, OcclusionsRecord)

#: columns that say which run a row is about
IDENTITY = ("backend", "model", "division", "seed")

#: a probability of this or more is the positive class
THRESHOLD = 0.5


@dataclass(frozen=True)
class Predicted:
    """Runs and what they predict for the same examples, wherever they were trained.

    Attributes
    ----------
    test
        One row an example of the test split, indexed by example id: label, text, length, oov, truncated.
    runs
        One row a run asked for, indexed by run id, in the manifest's order: `IDENTITY` and ``status`` (``ok``,
        ``failed``, ``unavailable``, ``damaged`` or ``not run``).
    probabilities
        Probability of the positive class: a row an example (as in `test`), a column a run that went well.
    """

    test: pd.DataFrame
    runs: pd.DataFrame
    probabilities: pd.DataFrame

    @property
    def ok(self) -> pd.DataFrame:
        """Runs that went well, as in `runs`."""
        return self.runs[self.runs["status"] == "ok"]

    def right(self) -> NDArray[np.bool_]:
        """Whether each run (column) is right on each example (row)."""
        positive = self.probabilities.to_numpy() >= THRESHOLD
        return np.asarray(positive == (self.test["label"].to_numpy() == 1)[:, None])


@dataclass(frozen=True)
class Trace:
    """The course of one training.

    Attributes
    ----------
    probes
        Probability of the positive class after so many updates: a row an example (by id), a column a recorded step.
    course
        One row an update: step (from 1), loss, gradient_norm.
    """

    probes: pd.DataFrame
    course: pd.DataFrame


@dataclass(frozen=True)
class Variants:
    """Twins and runs with a switched factor: held against the protocol's own runs, never counted among them.

    Attributes
    ----------
    results
        Run id to result, for those that went well.
    probabilities
        As in `Predicted`: a row a test example, a column a variant.
    lost
        Run id to the reason, for those that failed.
    """

    results: Mapping[str, RunResult]
    probabilities: pd.DataFrame
    lost: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Occlusions:
    """What runs say to examples of which tokens are left out.

    Attributes
    ----------
    probabilities
        One row a prediction: run_id, example_id, window (tokens left out; 0 for none), position (the first of them
        among the words that the models see), probability.
    words
        One row a word that the models see: example_id, position, word, oov.
    backends
        Whose runs were asked, whether or not there was anything to ask.
    """

    probabilities: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["run_id", "example_id", "window", "position", "probability"])
    )
    words: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["example_id", "position", "word", "oov"]))
    backends: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison(Predicted):
    """What one comparison left on disk, checked to belong together.

    Attributes
    ----------
    manifest, facts
        What was asked for, and on which data.
    results
        Run id to result, for the runs that left one.
    timings
        What was timed, if anything.
    variants, traces
        Twins and switched runs, and the course of every traced run or twin, by run id.
    stages, effects
        Backends against the reference, stage by stage, and what each factor does to it.
    transplants
        Trained weights of all backends, predicted with in each.
    occlusions
        What the listed examples' words do to the runs.
    damaged, lost_checks
        What can't be shown, and why: what is on disk isn't what was written, or a check failed.
    """

    manifest: Manifest
    facts: DatasetFacts
    results: Mapping[str, RunResult]
    timings: TimingResults
    variants: Variants = field(default_factory=lambda: Variants({}, pd.DataFrame()))
    traces: Mapping[str, Trace] = field(default_factory=dict)
    stages: tuple[ParityRecord, ...] = ()
    effects: tuple[EffectsRecord, ...] = ()
    transplants: tuple[TransplantsRecord, ...] = ()
    occlusions: Occlusions = field(default_factory=Occlusions)
    damaged: Mapping[str, str] = field(default_factory=dict)
    lost_checks: Mapping[str, str] = field(default_factory=dict)

    @property
    def left_out(self) -> Mapping[str, str]:
        """Name what was asked for and can't be shown, and say why."""
        return {**self.damaged, **self.lost_checks}


def load(results_dir: Path) -> Comparison:
    """Read a comparison's folder; what is damaged is left out by name, since the next run makes it anew.

    Raises
    ------
    ResultsError
        The manifest or the test examples are missing or damaged, or runs that saw different examples lie side by side:
        other inputs, other ids, another order of ids, other labels. Nothing is ever joined by position.
    """
    manifest = read_record(results_dir / "manifest.json", Manifest)
    facts = read_record(results_dir / "dataset.json", DatasetFacts)
    test = _test_table(results_dir / "test.parquet", facts)
    reader = _Reader(results_dir, manifest, test)
    results, predicted = reader.runs(manifest.runs, facts)
    asked, of_variants = reader.runs(manifest.variants, facts)
    good, variants = (
        {run_id: result for run_id, result in found.items() if result.status == "ok"} for found in (results, asked)
    )
    lost = {
        run_id: found.failure.reason for run_id, found in asked.items() if found.status == "failed" and found.failure
    }
    return Comparison(
        manifest=manifest,
        facts=facts,
        test=test,
        runs=_runs(manifest, results, reader.damaged),
        results=results,
        probabilities=predicted,
        timings=reader.timings(),
        variants=Variants(variants, of_variants, lost),
        traces=reader.traces(good | variants),
        stages=tuple(reader.checks(ParityRecord)),
        effects=tuple(reader.checks(EffectsRecord)),
        transplants=tuple(record for _, record in reader.trained("transplants", good, TransplantsRecord)),
        occlusions=reader.occlusions(good),
        damaged=reader.damaged,
        lost_checks=reader.lost_checks,
    )


def load_whole(results_dir: Path) -> Comparison:
    """Read a comparison that others are held against: raises `ResultsError` for whatever is damaged in it."""
    comparison = load(results_dir)
    for why in comparison.damaged.values():
        raise ResultsError(f"The earlier comparison {results_dir} is damaged: {why}")
    return comparison


class _Reader:
    """Reads what a comparison's folder holds, and keeps what of it can't be shown in `damaged` and `lost_checks`."""

    def __init__(self, folder: Path, manifest: Manifest, test: pd.DataFrame) -> None:
        import pyarrow as pa

        self._folder = folder
        self._manifest = manifest
        self._test = test
        self._ids = pa.array(test.index.to_numpy(), pa.string())
        self.damaged: dict[str, str] = {}
        self.lost_checks: dict[str, str] = {}

    @contextmanager
    def _leaving_out(self, name: str) -> Iterator[None]:
        """Go on without what is damaged."""
        try:
            yield
        except DamageError as error:
            inside = re.escape(f"{self._folder}{os.sep}")
            self.damaged[name] = re.sub(f"{inside}(runs{os.sep}[^{os.sep}]+{os.sep})?", "", str(error))

    def runs(self, run_ids: Sequence[str], facts: DatasetFacts) -> tuple[dict[str, RunResult], pd.DataFrame]:
        """Read results by run id, and what those that went well predict, a column each."""
        results, predicted = {}, {}
        # The disk, digests and tables don't hold Python's lock.
        readers = ThreadPoolExecutor(available_cores())
        try:
            reading = {run_id: readers.submit(self._run, run_id, facts) for run_id in run_ids}
            for run_id, read in reading.items():
                with self._leaving_out(run_id):
                    result, probabilities = read.result()
                    if result is not None:
                        results[run_id] = result
                    if probabilities is not None:
                        predicted[run_id] = probabilities
        finally:
            readers.shutdown(cancel_futures=True)  # what can't be shown, or Ctrl-C, waits for no other run
        return results, pd.DataFrame(predicted, index=self._test.index)

    def _run(self, run_id: str, facts: DatasetFacts) -> tuple[RunResult | None, NDArray[np.float32] | None]:
        path = self._folder / "runs" / run_id / RESULT
        if not os.path.lexists(path):
            return None, None
        result = read_record(path, RunResult)
        if self._manifest.keys.get(run_id, result.key) != result.key:
            # Left over from another comparison: this run was not run.
            return None, None
        if result.run_id != run_id:
            raise DamageError(f"{path} is of the run {result.run_id}.")
        if result.status != "ok":
            return result, None
        _same_inputs(result, facts)
        return result, _probabilities(path.parent, result, self._test, self._ids)

    def timings(self) -> TimingResults:
        """Read what was timed; a record under another key, or without one, is left over from another comparison."""
        path = self._folder / "timings.json"
        keys = self._manifest.timing_keys
        with self._leaving_out("the times"):
            if os.path.lexists(path):
                found = read_record(path, TimingResults)
                kept = tuple(each for each in found.records if keys.get(f"{each.backend}/{each.model}") == each.key)
                return found.model_copy(update={"records": kept})
        return TimingResults()

    def traces(self, results: Mapping[str, RunResult]) -> dict[str, Trace]:
        """Read the course of every traced run."""
        found = {}
        for run_id, result in results.items():
            if result.trace is not None:
                with self._leaving_out(f"the course of {run_id}"):
                    found[run_id] = _trace(self._folder / "runs" / run_id, result, self._test)
        return found

    def checks(self, kind: type[Stored]) -> Iterable[Stored]:
        """Read the records in parity/ that are of this comparison, effects or stages."""
        for name, key in self._manifest.parity_keys.items():
            if name.startswith("effects-") == (kind is EffectsRecord):
                record = self._record(name, self._folder / "parity" / f"{name}.json", kind)
                if record is not None and record.key == key:
                    yield record

    def trained(self, room: str, good: Mapping[str, RunResult], kind: type[Trained]) -> Iterable[tuple[Path, Trained]]:
        """Read what was made from trained weights; what is of other runs is as good as absent.

        A run that was deleted and trained again has its old key, so the time when it ended counts as well.
        """
        for backend in self._manifest.backends:
            name = backend.replace(":", ".")
            path = self._folder / room / f"{name}.json"
            record = self._record(f"{room}-{name}", path, kind)
            if record is None or not self._of_these(record.keys):
                continue
            if all(run_id in good and good[run_id].finished == ended for run_id, ended in record.finished.items()):
                yield path, record

    def _of_these(self, keys: Mapping[str, str]) -> bool:
        """Whether runs with these keys are this comparison's."""
        return all(self._manifest.keys.get(run_id) == key for run_id, key in keys.items())

    def _record(self, name: str, path: Path, kind: type[Record]) -> Record | None:
        """Read a record, or why there is none."""
        with self._leaving_out(name):
            if os.path.lexists(path):
                return read_record(path, kind)
            if os.path.lexists(lost := lost_check(path)):
                why = read_record(lost, LostCheck)
                if self._of_these(why.keys) and why.key == self._manifest.parity_keys.get(name, why.key):
                    self.lost_checks[name] = why.reason
        return None

    def occlusions(self, good: Mapping[str, RunResult]) -> Occlusions:
        """Read what words that are left out do."""
        probabilities, words, backends = [], [], []
        for path, record in self.trained("occlusions", good, OcclusionsRecord):
            of_runs, of_words = occlusion_tables(path)
            with self._leaving_out(f"occlusions-{path.stem}"):
                found = _table(of_runs, tables.OCCLUDED, record.files)
                seen = _table(of_words, tables.WORDS, record.files)
                if not set(found["example_id"]) | set(seen["example_id"]) <= set(self._test.index):
                    raise ResultsError(
                        f"{of_runs} is about examples that test.parquet doesn't hold; words are never shown with "
                        "another text. Delete the stale file and run the comparison again."
                    )
                probabilities.append(found)
                words.append(seen)
                backends.append(record.backend)
        if not probabilities:
            return Occlusions()
        return Occlusions(
            pd.concat(probabilities, ignore_index=True),
            pd.concat(words, ignore_index=True).drop_duplicates(["example_id", "position"], ignore_index=True),
            tuple(backends),
        )


def _runs(manifest: Manifest, results: Mapping[str, RunResult], left_out: Mapping[str, str]) -> pd.DataFrame:
    """Name the runs asked for; those without a result are known by their id alone."""
    rows: list[tuple[object, ...]] = []
    for run_id in manifest.runs:
        if result := results.get(run_id):
            spec = result.spec
            rows.append((spec.backend, spec.model.name, spec.division, spec.seed, result.status))
        else:
            rows.append((*_identity_from(run_id, manifest), "damaged" if run_id in left_out else "not run"))
    index = pd.Index(list(manifest.runs), name="run_id", dtype=object)
    frame = pd.DataFrame(rows, columns=[*IDENTITY, "status"], index=index)
    return frame.astype({"seed": int})


def _identity_from(run_id: str, manifest: Manifest) -> tuple[str, str, str, int]:
    models = [model.name for model in manifest.protocol.models]
    for division, backend, model in product(DIVISIONS, manifest.backends, models):
        start = f"{division}-{backend.replace(':', '.')}-{model}-seed"
        if run_id.startswith(start) and run_id.removeprefix(start).isdigit():
            return backend, model, division, int(run_id.removeprefix(start))
    raise ResultsError(
        f"The manifest asks for the run {run_id!r}, whose name fits none of its backends and models: "
        f"{', '.join(manifest.backends)}; {', '.join(models)}."
    )


def _same_inputs(result: RunResult, facts: DatasetFacts) -> None:
    if result.inputs_hash != facts.inputs_hash:
        raise ResultsError(
            f"The run {result.run_id} saw other test examples than the dataset's description (dataset.json): hash "
            f"{result.inputs_hash} against {facts.inputs_hash}; runs are compared on the same examples only. "
            "Delete the stale folder and run the comparison again."
        )


def _rows(path: Path, columns: tables.Columns, files: Mapping[str, str]) -> pa.Table:
    """Read one of the `files` that a record describes; raises `DamageError`."""
    if path.name not in files:
        raise DamageError(f"The record beside {path} says nothing of it.")
    return tables.read(path, columns, files[path.name])


def _table(path: Path, columns: tables.Columns, files: Mapping[str, str]) -> pd.DataFrame:
    """Read one of the `files` as pandas has it, with text as Python's."""
    frame: pd.DataFrame = _rows(path, columns, files).to_pandas()
    return frame.astype({name: object for name, column in columns.items() if column.type == "string"})


def _test_table(path: Path, facts: DatasetFacts) -> pd.DataFrame:
    frame = _table(path, tables.TEST, facts.files)
    repeated = frame["example_id"][frame["example_id"].duplicated()]
    if len(repeated):
        raise ResultsError(f"{path} holds the example {repeated.iloc[0]!r} more than once.")
    return frame.set_index("example_id")


def _probabilities(folder: Path, result: RunResult, test: pd.DataFrame, ids: pa.Array) -> NDArray[np.float32]:
    """Read a run's probabilities, after checking that its rows are the test examples one by one.

    `ids` are those of `test`. Of thousands of runs, they are compared without making text of Python's of each.
    """
    path = folder / PREDICTIONS
    rows = _rows(path, tables.PREDICTIONS, result.files)
    if not rows["example_id"].combine_chunks().equals(ids):
        got = rows["example_id"].to_pylist()
        _same_ids(got, test.index.tolist(), f"{path} does not hold the test examples", "Predictions")
    labels = rows["label"].to_numpy()
    wrong = labels != test["label"].to_numpy()
    if wrong.any():
        raise ResultsError(
            f"{path} has another label than test.parquet for {int(wrong.sum())} of {len(wrong)} examples, first "
            f"{test.index[int(wrong.argmax())]!r}; hash of the labels {hash_of(labels.tolist())} against "
            f"{hash_of(test['label'].tolist())}."
        )
    values: NDArray[np.float32] = rows["probability"].to_numpy()
    if result.scores is not None:
        accuracy = float(np.mean((values >= THRESHOLD) == (test["label"].to_numpy() == 1)))
        if abs(accuracy - result.scores.accuracy) > 1e-6:
            raise ResultsError(
                f"{path} gives an accuracy of {accuracy:.6f}, but result.json beside it says "
                f"{result.scores.accuracy:.6f}; the two don't belong together."
            )
    return values


def _same_ids(got: list[str], expected: list[str], problem: str, what: str) -> None:
    if got != expected:
        raise ResultsError(
            f"{problem}: {_difference(got, expected)}; hash of the ids {hash_of(got)} against {hash_of(expected)}. "
            f"{what} are never joined by position."
        )


def _difference(got: list[str], expected: list[str]) -> str:
    """Say in a few words what is wrong with a list of example ids."""
    have, want = set(got), set(expected)
    if len(have) < len(got):
        repeated = pd.Series(got, dtype=object)
        return f"ids are duplicated, such as {repeated[repeated.duplicated()].iloc[0]!r}"
    if have - want:
        return f"{len(have - want)} ids are foreign, such as {min(have - want)!r}"
    if want - have:
        return f"{len(want - have)} ids are missing, such as {min(want - have)!r}"
    return "the ids are shuffled"


def hash_of(values: Iterable[object]) -> str:
    """Hash values in their order, so that two lists of ids can be told apart in a sentence."""
    return hashlib.sha256("\n".join(map(str, values)).encode()).hexdigest()[:16]


def _trace(folder: Path, result: RunResult, test: pd.DataFrame) -> Trace:
    """Read the course of a training, after checking that its probes are the first test examples one by one."""
    assert result.trace is not None
    names = {f"step_{step}": step for step in result.trace.steps}
    path = folder / PROBES
    probes = _table(path, tables.probes(result.trace.steps), result.files).set_index("example_id")
    expected = test.index[: len(probes)].tolist()
    _same_ids(probes.index.tolist(), expected, f"{path} does not hold the first test examples", "Probes")
    course = _table(folder / COURSE, tables.COURSE, result.files)
    return Trace(
        probes.rename(columns=names).astype(np.float64), course.astype({"loss": float, "gradient_norm": float})
    )
