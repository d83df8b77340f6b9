"""Results on disk: one folder a run, JSON beside Parquet, whole or absent.

Every record carries the digest of itself and of the tables that it describes (`harness.tables` has their columns); what
doesn't fit is as good as absent, and is made anew. Layout of a comparison's folder::

    comparison/
      manifest.json                  protocol, dataset, runs asked for, command
      dataset.json                   sizes, balance, lengths, truncation of the encoded dataset
      test.parquet                   the test examples with their texts
      runs/<run id>/result.json      RunResult
      runs/<run id>/predictions.parquet
      runs/<run id>/weights.npz      what the run was trained to, in the canonical layout; not of twins and variants
      runs/<run id>/trace.parquet, probes.parquet      of a traced run (TraceFacts)
      parity/<division>-<backend>-<model>.json         ParityRecord
      parity/effects-<model>.json                      EffectsRecord
      transplants/<backend>.json                       TransplantsRecord: trained weights of all, in this backend
      occlusions/<backend>.json                        OcclusionsRecord
      occlusions/<backend>.parquet, <backend>.words.parquet    what it describes
      parity/, transplants/, occlusions/<name>.lost.json       LostCheck: why a record isn't there
      timings.json                   TimingResults
      comparison.json  report.md  figures/     written by `reports`
      logs/<run id>.log              what the worker printed
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError, model_validator

from rnn_crosscheck.harness import tables
from rnn_crosscheck.harness.errors import DamageError
from rnn_crosscheck.harness.folder import new_folder, sha256_of, unsealed, write_json
from rnn_crosscheck.harness.protocol import Operation, Protocol, RunSpec, Setting
from rnn_crosscheck.harness.weights import Weights

Format = Literal[2]
FORMAT: Format = 2

#: the files of a run: its record, what it predicts, what it was trained to, and the course of its training
RESULT, PREDICTIONS, WEIGHTS = "result.json", "predictions.parquet", "weights.npz"
COURSE, PROBES = "trace.parquet", "probes.parquet"

Status = Literal["ok", "failed", "unavailable"]

Stage = Literal["encoding", "weights", "forward", "loss", "gradients", "update", "steps_5", "steps_20"]
STAGES: tuple[Stage, ...] = get_args(Stage)

#: largest difference in probability that the same weights may make in two backends. A trained LSTM amplifies rounding
#: on single examples: of 24,999 IMDB reviews of 500 tokens the worst differed by 2.3e-5.
TRANSPLANT_TOLERANCE = 1e-4

Record = TypeVar("Record", bound=BaseModel)


class _Record(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """Built when first used: whoever only lists the runs needs none of these."""


Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]
#: a part of a path that leads nowhere else
Name = Annotated[str, Field(pattern=r"^[^/\\\x00.][^/\\\x00]*$", max_length=250)]
#: name of a file -> its SHA-256, in hexadecimal
Files = dict[Name, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]


class EpochRecord(_Record):
    """One epoch: training figures over moving weights, validation figures after it."""

    epoch: Count
    train_loss: Amount
    train_accuracy: Share
    valid_loss: Amount
    valid_accuracy: Share
    seconds: Annotated[Amount, Field(description="training only, validation left out")]


class LayerRecord(_Record):
    """One row of the layer table."""

    name: str
    output_shape: tuple[Count, ...]
    parameters: Count
    trainable: Count
    note: Annotated[str, Field(description="what of the canonical layout it hasn't")] = ""


class Scores(_Record):
    """Figures on the test split, computed by the harness from the stored probabilities."""

    accuracy: Share
    loss: Amount
    examples: Count


class Durations(_Record):
    """Seconds of the parts of a run."""

    start: Annotated[Amount, Field(description="from process start to a framework that is imported and set up")]
    build: Annotated[Amount, Field(description="creating the model")]
    first_step: Annotated[Amount, Field(description="first batch of the first epoch, with padding, tracing, compiling")]
    train: Annotated[Amount, Field(description="sum of the epochs")]
    predict: Annotated[Amount, Field(description="the test split, once")]
    total: Annotated[Amount, Field(description="the whole process")]


class Failure(_Record):
    """Why there is no result."""

    reason: Annotated[str, Field(description="a sentence")]
    signal: str | None = None
    log_tail: str = ""


class TraceFacts(_Record):
    """What a traced run left beside its result.

    ``trace.parquet``: `harness.tables.COURSE`. ``probes.parquet``: `harness.tables.probes` of `steps`.
    """

    steps: tuple[Count, ...]
    noise: Annotated[
        dict[str, float],
        Field(description="continuing twin: standard deviation of what is added, by parameter and gate"),
    ] = {}


class RunResult(_Record):
    """What one run left behind; `status` says which of the optional parts are there."""

    format: Format = FORMAT
    run_id: Name
    spec: RunSpec
    key: str
    status: Status
    scores: Scores | None = None
    history: tuple[EpochRecord, ...] = ()
    layers: tuple[LayerRecord, ...] = ()
    durations: Durations | None = None
    peak_memory_bytes: Count | None = None
    environment: dict[str, str] = {}
    trace: TraceFacts | None = None
    inputs_hash: Annotated[str, Field(description="hash of ids, labels and encoded inputs of the test split")] = ""
    jobs: Annotated[int, Field(description="runs trained side by side at the time")] = 1
    machine: Annotated[dict[str, str], Field(description="where it was trained: processor, cores, system, node")] = {}
    finished: Annotated[str, Field(description="UTC, ISO 8601")] = ""
    failure: Failure | None = None
    files: Annotated[Files, Field(description="the files beside it")] = {}

    @property
    def described(self) -> set[str]:
        """Names of the files that such a run must have."""
        ok, traced = self.status == "ok", self.trace is not None
        return {*[PREDICTIONS] * ok, *[WEIGHTS] * (ok and keeps_weights(self.spec)), *[COURSE, PROBES] * traced}


class TimingRecord(_Record):
    """Rounds of one operation of one worker, measured in turn with the others of its group."""

    key: Annotated[str, Field(description="of the timed run and its baseline")] = ""
    backend: str
    model: str
    operation: Operation
    setting: Setting = "default"
    division: str = "native"
    batch_size: Annotated[int, Field(description="of a sweep; 0 for the protocol's")] = 0
    length: Annotated[int, Field(description="of a sweep; 0 for the protocol's")] = 0
    examples: Annotated[Count, Field(description="examples in one call")]
    rounds_ns: Annotated[tuple[Count, ...], Field(description="median time of a call in each round, start after start")]
    starts: Annotated[
        tuple[Count, ...], Field(description="rounds of each start of the workers, in order; empty for a single one")
    ] = ()
    again_ns: Annotated[
        tuple[Count, ...], Field(description="the A/A pair: the same measured in a second worker; baseline only")
    ] = ()
    calls_ns: Annotated[
        tuple[Count, ...], Field(description="every call of every round, in order; of single examples only")
    ] = ()
    build_ns: Annotated[Count, Field(description="creating the model; mean over starts")] = 0
    first_call_ns: Annotated[Count, Field(description="creating the model and the first call together, likewise")]
    baseline: bool
    stopped: Annotated[str, Field(description="why the rounds ended: 'target', 'limit' of rounds, or 'time'")]
    threads: Count
    load: Annotated[Amount, Field(description="of the machine over the last minute; 0 if not known")] = 0.0
    peak_memory_bytes: Count
    environment: dict[str, str] = {}

    @property
    def point(self) -> tuple[str, Operation, int, int]:
        """What was measured together: model, operation, batch size, length."""
        return self.model, self.operation, self.batch_size, self.length


class TimingResults(_Record):
    """Everything that was timed in one comparison."""

    format: Format = FORMAT
    records: tuple[TimingRecord, ...] = ()
    failures: dict[str, str] = {}


class StageRecord(_Record):
    """One parameter (or other quantity) at one stage: a backend's model against the float64 reference."""

    stage: Stage
    parameter: str
    max_error: Annotated[float, Field(description="largest absolute difference")]
    l2_error: Annotated[float, Field(description="norm of the difference over the norm of the reference")]
    measure: Annotated[Literal["max", "l2"], Field(description="which of the two the tolerance is for")]
    tolerance: float
    ok: bool
    note: str = ""

    @property
    def error(self) -> float:
        """The error that the tolerance is for."""
        return self.max_error if self.measure == "max" else self.l2_error


class Kinks(_Record):
    """Relu units that are on in the backend and off in the reference, or the other way round."""

    compared: Annotated[int, Field(description="units times examples times steps of time")]
    flipped: int
    largest: Annotated[float, Field(description="largest distance from 0, in the reference, of a unit that flipped")]


class Explanation(_Record):
    """Switches with which the reference reproduces what a backend does where it leaves the matched arithmetic."""

    values: Annotated[dict[str, str], Field(description="dotted key of the training spec -> value; none if not found")]
    error: Annotated[float, Field(description="largest error over tolerance with them; at most 1 explains it")]
    without: Annotated[float, Field(description="the same without them")]
    declared: Annotated[bool, Field(description="they are what the backend declares of its native models")] = False


class ParityRecord(_Record):
    """Stages of one backend, model and division."""

    key: str
    backend: str
    model: str
    division: str
    setting: Setting = "default"
    stages: tuple[StageRecord, ...]
    kinks: Kinks | None = None
    explanation: Explanation | None = None
    contradicted: Annotated[dict[str, str], Field(description="dotted key -> what is declared, and isn't so")] = {}
    seconds: Amount
    peak_memory_bytes: Count

    @property
    def first_failed(self) -> StageRecord | None:
        """The first stage that is out of its tolerance, in the order of the computation."""
        return next((record for record in self.stages if not record.ok), None)


class EffectRecord(_Record):
    """What one factor, switched alone from matched, does to the trajectory of the reference."""

    factor: str
    values: dict[str, str]
    native_in: Annotated[tuple[str, ...], Field(description="backends whose native models have these values")]
    other_in: Annotated[dict[str, dict[str, str]], Field(description="backends with others yet, and which")] = {}
    steps: tuple[int, ...]
    max_difference: Annotated[tuple[float, ...], Field(description="in probability, over the probes, after each step")]
    mean_difference: tuple[float, ...]


class EffectsRecord(_Record):
    """Effects of all factors on one model."""

    key: str
    model: str
    probes: int
    declared: Annotated[tuple[str, ...], Field(description="backends that say what their native models do")] = ()
    effects: tuple[EffectRecord, ...]
    seconds: Amount


class TransplantRecord(_Record):
    """Trained weights of one run, predicted with in another backend, against what the run itself predicted."""

    source: Annotated[str, Field(description="run id")]
    backend: Annotated[str, Field(description="of the source")]
    model: str
    division: str
    seed: Count
    examples: Count
    max_difference: Annotated[Share, Field(description="in probability")]
    mean_difference: Share
    changed: Annotated[Count, Field(description="predictions at threshold 0.5 that differ")]


class TransplantsRecord(_Record):
    """Trained weights of every backend, its own among them, in one backend."""

    format: Format = FORMAT
    key: str
    keys: Annotated[dict[Name, str], Field(description="run id -> key of the result that was looked at")]
    finished: Annotated[dict[str, str], Field(description="run id -> when the run whose weights were taken ended")] = {}
    backend: Annotated[str, Field(description="the target")]
    transplants: tuple[TransplantRecord, ...]
    left_out: Annotated[dict[str, str], Field(description="run id -> why its weights weren't taken")] = {}
    seconds: Amount


class OcclusionsRecord(_Record):
    """What one backend's runs say to their examples when tokens are left out.

    Beside it, ``<backend>.parquet`` and ``<backend>.words.parquet``: `harness.tables.OCCLUDED` and `WORDS`.
    """

    format: Format = FORMAT
    key: str
    keys: Annotated[dict[Name, str], Field(description="run id -> key of the result that was looked at")]
    finished: Annotated[dict[str, str], Field(description="run id -> when the run whose weights were taken ended")] = {}
    backend: str
    runs: Annotated[dict[Name, tuple[str, ...]], Field(description="run id -> ids of its examples")]
    left_out: Annotated[dict[str, str], Field(description="run id -> why it isn't among the runs")] = {}
    files: Annotated[Files, Field(description="the tables beside it")] = {}
    seconds: Amount


class LostCheck(_Record):
    """Why there is no record of a check: it lies where the record would, as ``<name>.lost.json``."""

    key: str
    keys: Annotated[dict[Name, str], Field(description="run id -> key, of the runs that it needed")] = {}
    reason: str


class SplitFacts(_Record):
    """Figures of one split as the protocol uses it."""

    examples: Count
    positive: Count
    length_min: Count
    length_mean: Amount
    length_median: Amount
    length_max: Count
    truncated_share: Share
    oov_share: Annotated[Share, Field(description="tokens out of vocabulary, among tokens kept")]


class ExampleFacts(_Record):
    """One example as the models see it."""

    example_id: str
    label: int
    ids: tuple[int, ...]
    words: tuple[str, ...]


class DatasetFacts(_Record):
    """What the report says about the dataset."""

    format: Format = FORMAT
    name: str
    source: str
    fingerprint: str
    distinct_words: int
    encode_seconds: Annotated[float, Field(description="reading and encoding, for the cache; 0 if not known")] = 0.0
    encoded_examples: int = 0
    splits: dict[str, SplitFacts]
    shown: ExampleFacts | None = None
    shortest: ExampleFacts | None = None
    longest: ExampleFacts | None = None
    longest_id: str = ""
    longest_length: Count = 0
    inputs_hash: str
    files: Annotated[Files, Field(description="test.parquet, which lies beside it")] = {}


class Manifest(_Record):
    """What was asked for: the runs of a comparison, in order."""

    format: Format = FORMAT
    protocol: Protocol
    command: str
    created: str
    device: Literal["cpu", "cuda"]
    backends: tuple[str, ...]
    inference: Annotated[tuple[str, ...], Field(description="those of the backends that train nothing")] = ()
    runs: tuple[Name, ...]
    keys: Annotated[
        dict[Name, str], Field(description="run id -> key; a result with another key belongs to another comparison")
    ] = {}
    variants: Annotated[
        tuple[Name, ...], Field(description="run ids of twins and of runs with a switched factor; not among `runs`")
    ] = ()
    parity_keys: Annotated[dict[Name, str], Field(description="name of the file in parity/ -> key")] = {}
    trained: Annotated[
        tuple[Name, ...], Field(description="what is asked of trained weights: transplants-pytorch, occlusions-pytorch")
    ] = ()
    timing_keys: Annotated[
        dict[str, str], Field(description="backend/model -> key; a timing with another key isn't of this comparison")
    ] = {}
    commit: str = ""
    machine: dict[str, str] = {}
    baseline: Annotated[str, Field(description="folder of the earlier comparison, from this one; empty for none")] = ""

    @model_validator(mode="after")
    def _distinct(self) -> Manifest:
        if len({*self.runs, *self.variants}) < len(self.runs) + len(self.variants):
            raise ValueError("a run is listed twice")
        return self


def read_record(path: Path, record: type[Record]) -> Record:
    """Read one JSON record, which must be what was written.

    Raises
    ------
    DamageError
        The file is missing, damaged or of another format.
    """
    content = unsealed(tables.bytes_of(path))
    if content is None:
        raise DamageError(
            f"{path} is damaged or was written by another version: it isn't what its digest was taken of."
        )
    try:
        return record.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DamageError(
            f"{path} is damaged or was written by another version: {where or 'file'}: {first['msg']}."
        ) from None


def write_run(
    folder: Path,
    result: RunResult,
    *,
    example_ids: list[str] | None = None,
    labels: NDArray[np.int8] | None = None,
    probabilities: NDArray[np.float32] | None = None,
    weights: Weights | None = None,
    beside: Callable[[Path], None] | None = None,
) -> None:
    """Write ``result.json`` and, for a run that went well, ``predictions.parquet`` into `folder`.

    `weights` are kept beside them, if given. `beside` writes what else there is into the folder that it is given.
    """
    with new_folder(folder) as scratch:
        if probabilities is not None:
            columns = {"example_id": example_ids, "label": labels, "probability": probabilities}
            tables.write(scratch / PREDICTIONS, tables.PREDICTIONS, columns)
        if weights is not None:
            np.savez(scratch / WEIGHTS, **weights)  # type: ignore[arg-type]  # names of parameters aren't its options
        if beside is not None:
            beside(scratch)
        files = {path.name: sha256_of(path) for path in sorted(scratch.iterdir())}
        write_json(scratch / RESULT, result.model_copy(update={"files": files}))


def keeps_weights(spec: RunSpec) -> bool:
    """Whether a run leaves its trained weights: one of the protocol's own does, a twin or a variant doesn't."""
    return not spec.twin and not spec.variant


def lost_check(record: Path) -> Path:
    """Where it lies why there is no such record."""
    return record.with_suffix(".lost.json")


def occlusion_tables(record: Path) -> tuple[Path, Path]:
    """Where the probabilities and the words lie that an `OcclusionsRecord` describes."""
    return record.with_suffix(".parquet"), record.with_suffix(".words.parquet")


def read_run(folder: Path) -> RunResult:
    """Read the record of a run that is whole on disk.

    Raises
    ------
    DamageError
        The record or a file that it describes is missing or isn't what was written.
    """
    result = read_record(folder / RESULT, RunResult)
    for name in result.described - result.files.keys():
        raise DamageError(f"{folder / RESULT} says nothing of {name}.")
    for name, digest in result.files.items():
        tables.verify(folder / name, digest)
    return result


def stored_key(folder: Path) -> str | None:
    """Key of a finished run that is whole on disk, else None."""
    try:
        result = read_run(folder)
    except DamageError:
        return None
    return result.key if result.status == "ok" else None
