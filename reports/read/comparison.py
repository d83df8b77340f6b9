"""A comparison's folder, read and checked: the only input of every table and figure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd

from rnn_crosscheck.harness.errors import ResultsError
from rnn_crosscheck.harness.protocol import DIVISIONS
from rnn_crosscheck.harness.results import (
    DatasetFacts,
    EffectsRecord,
    Manifest,
    OcclusionsRecord,
    ParityRecord,
    RunResult,
    TimingResults,
    TransplantsRecord,
    occlusion_tables,
    read_record,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

Stored = TypeVar("Stored", ParityRecord, EffectsRecord)
Trained = TypeVar("Trained", TransplantsRecord, OcclusionsRecord)

#: what `test.parquet` must hold for the report
TEST_COLUMNS = ("example_id", "label", "text", "length", "oov", "truncated")

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
        ``failed``, ``unavailable`` or ``not run``).
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
    """

    probabilities: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["run_id", "example_id", "window", "position", "probability"])
    )
    words: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["example_id", "position", "word", "oov"]))


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


def load(results_dir: Path) -> Comparison:
    """Read a comparison's folder.

    Raises
    ------
    ResultsError
        A file is missing or damaged, or runs that saw different examples lie side by side: other inputs, other
        ids, another order of ids, other labels. Nothing is ever joined by position.
    """
    manifest = read_record(results_dir / "manifest.json", Manifest)
    facts = read_record(results_dir / "dataset.json", DatasetFacts)
    test = _test_table(results_dir / "test.parquet")
    runs = results_dir / "runs"
    results = dict(_results(runs, manifest, manifest.runs))
    asked = dict(_results(runs, manifest, manifest.variants))
    good, variants = (
        {run_id: result for run_id, result in found.items() if result.status == "ok"} for found in (results, asked)
    )
    lost = {
        run_id: found.failure.reason for run_id, found in asked.items() if found.status == "failed" and found.failure
    }
    _same_inputs(good | variants, facts)
    traced = {run_id: result for run_id, result in (good | variants).items() if result.trace is not None}
    return Comparison(
        manifest=manifest,
        facts=facts,
        test=test,
        runs=_runs(manifest, results),
        results=results,
        probabilities=_all_probabilities(runs, good, test),
        timings=_timings(results_dir / "timings.json", manifest),
        variants=Variants(variants, _all_probabilities(runs, variants, test), lost),
        traces={run_id: _trace(runs / run_id, result, test) for run_id, result in traced.items()},
        stages=tuple(_parity(results_dir / "parity", manifest, ParityRecord)),
        effects=tuple(_parity(results_dir / "parity", manifest, EffectsRecord)),
        transplants=tuple(
            record for _, record in _trained(results_dir / "transplants", manifest, good, TransplantsRecord)
        ),
        occlusions=_occlusions(results_dir / "occlusions", manifest, good, test),
    )


def _results(folder: Path, manifest: Manifest, run_ids: Sequence[str]) -> Iterable[tuple[str, RunResult]]:
    for run_id in run_ids:
        path = folder / run_id / "result.json"
        if not path.is_file():
            continue
        result = read_record(path, RunResult)
        if manifest.keys.get(run_id, result.key) == result.key:
            # A result under another key is left over from another comparison: this run was not run.
            yield run_id, result


def _runs(manifest: Manifest, results: Mapping[str, RunResult]) -> pd.DataFrame:
    """Name the runs asked for; those without a result are known by their id alone."""
    rows: list[tuple[object, ...]] = []
    for run_id in manifest.runs:
        if result := results.get(run_id):
            spec = result.spec
            rows.append((spec.backend, spec.model.name, spec.division, spec.seed, result.status))
        else:
            rows.append((*_identity_from(run_id, manifest), "not run"))
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


def _same_inputs(good: Mapping[str, RunResult], facts: DatasetFacts) -> None:
    for run_id, result in good.items():
        if result.inputs_hash != facts.inputs_hash:
            raise ResultsError(
                f"The run {run_id} saw other test examples than the dataset's description (dataset.json): hash "
                f"{result.inputs_hash} against {facts.inputs_hash}; runs are compared on the same examples only. "
                "Delete the stale folder and run the comparison again."
            )


def _read_parquet(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except FileNotFoundError:
        raise ResultsError(f"There is no {path}; has the comparison been run?") from None
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise ResultsError(f"{path} is damaged: {str(error).splitlines()[0]}") from None
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ResultsError(f"{path} should hold the columns {', '.join(columns)}; missing: {', '.join(missing)}.")
    return frame.loc[:, list(columns)]


def _test_table(path: Path) -> pd.DataFrame:
    frame = _read_parquet(path, TEST_COLUMNS).astype({"example_id": object, "text": object})
    repeated = frame["example_id"][frame["example_id"].duplicated()]
    if len(repeated):
        raise ResultsError(f"{path} holds the example {repeated.iloc[0]!r} more than once.")
    return frame.set_index("example_id")


def _all_probabilities(folder: Path, good: Mapping[str, RunResult], test: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {run_id: _probabilities(folder / run_id, result, test) for run_id, result in good.items()}, index=test.index
    )


def _probabilities(folder: Path, result: RunResult, test: pd.DataFrame) -> NDArray[np.float32]:
    """Read a run's probabilities, after checking that its rows are the test examples one by one."""
    path = folder / "predictions.parquet"
    frame = _read_parquet(path, ("example_id", "label", "probability"))
    got = frame["example_id"].tolist()
    _same_ids(got, test.index.tolist(), f"{path} does not hold the test examples", "Predictions")
    wrong = frame["label"].to_numpy() != test["label"].to_numpy()
    if wrong.any():
        raise ResultsError(
            f"{path} has another label than test.parquet for {int(wrong.sum())} of {len(wrong)} examples, first "
            f"{got[int(wrong.argmax())]!r}; hash of the labels {hash_of(frame['label'].tolist())} against "
            f"{hash_of(test['label'].tolist())}."
        )
    values: NDArray[np.float32] = frame["probability"].to_numpy(np.float32)
    if not ((values >= 0) & (values <= 1)).all():
        raise ResultsError(f"{path} holds values that are no probabilities.")
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


def _timings(path: Path, manifest: Manifest) -> TimingResults:
    if not path.is_file():
        return TimingResults()
    timings = read_record(path, TimingResults)
    # A record under another key, or of a backend or model that has none, is left over from another comparison.
    kept = tuple(
        record
        for record in timings.records
        if manifest.timing_keys.get(f"{record.backend}/{record.model}") == record.key
    )
    return timings.model_copy(update={"records": kept})


def _trace(folder: Path, result: RunResult, test: pd.DataFrame) -> Trace:
    """Read the course of a training, after checking that its probes are the first test examples one by one."""
    assert result.trace is not None
    names = {f"step_{step}": step for step in result.trace.steps}
    path = folder / "probes.parquet"
    probes = _read_parquet(path, ("example_id", *names)).astype({"example_id": object}).set_index("example_id")
    expected = test.index[: len(probes)].tolist()
    _same_ids(probes.index.tolist(), expected, f"{path} does not hold the first test examples", "Probes")
    if not ((probes >= 0) & (probes <= 1)).all(axis=None):
        raise ResultsError(f"{path} holds values that are no probabilities.")
    course = _read_parquet(folder / "trace.parquet", ("step", "loss", "gradient_norm"))
    return Trace(
        probes.rename(columns=names).astype(np.float64), course.astype({"loss": float, "gradient_norm": float})
    )


def _parity(folder: Path, manifest: Manifest, kind: type[Stored]) -> Iterable[Stored]:
    """Read the records in parity/ that are of this comparison; effects and stages are told apart by their names.

    What is damaged or of another comparison is as good as absent: the next run makes it anew.
    """
    for name, key in manifest.parity_keys.items():
        if name.startswith("effects-") != (kind is EffectsRecord):
            continue
        try:
            record = read_record(folder / f"{name}.json", kind)
        except ResultsError:
            continue
        if record.key == key:
            yield record


def _trained(
    folder: Path, manifest: Manifest, good: Mapping[str, RunResult], kind: type[Trained]
) -> Iterable[tuple[Path, Trained]]:
    """Read what was made from trained weights; what is damaged or of other runs is as good as absent.

    A run that was deleted and trained again has its old key, so the time when it ended counts as well.
    """
    for backend in manifest.backends:
        path = folder / f"{backend.replace(':', '.')}.json"
        try:
            record = read_record(path, kind)
        except ResultsError:
            continue
        same = all(manifest.keys.get(run_id) == key for run_id, key in record.keys.items())
        if same and all(run_id in good and good[run_id].finished == ended for run_id, ended in record.finished.items()):
            yield path, record


def _occlusions(folder: Path, manifest: Manifest, good: Mapping[str, RunResult], test: pd.DataFrame) -> Occlusions:
    empty = Occlusions()
    probabilities, words = [], []
    for path, _ in _trained(folder, manifest, good, OcclusionsRecord):
        of_runs, of_words = occlusion_tables(path)
        try:
            found = _read_parquet(of_runs, tuple(empty.probabilities.columns))
            seen = _read_parquet(of_words, tuple(empty.words.columns))
        except ResultsError:
            continue
        if not set(found["example_id"]) | set(seen["example_id"]) <= set(test.index):
            raise ResultsError(
                f"{of_runs} is about examples that test.parquet doesn't hold; words are never shown with another text. "
                "Delete the stale file and run the comparison again."
            )
        probabilities.append(found)
        words.append(seen)
    if not probabilities:
        return empty
    return Occlusions(
        pd.concat(probabilities, ignore_index=True),
        pd.concat(words, ignore_index=True).drop_duplicates(["example_id", "position"], ignore_index=True),
    )
