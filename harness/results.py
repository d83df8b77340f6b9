"""Results on disk: one folder a run, JSON beside Parquet, whole or absent.

Layout of a comparison's folder::

    comparison/
      manifest.json                  protocol, dataset, runs asked for, command
      dataset.json                   sizes, balance, lengths, truncation of the encoded dataset
      test.parquet                   example_id, label, text, length, oov (share), truncated
      runs/<run id>/result.json      RunResult
      runs/<run id>/predictions.parquet
      runs/<run id>/weights.npz      what the run was trained to, in the canonical layout; not of twins and variants
      runs/<run id>/trace.parquet, probes.parquet      of a traced run (TraceFacts)
      parity/<division>-<backend>-<model>.json         ParityRecord
      parity/effects-<model>.json                      EffectsRecord
      transplants/<backend>.json                       TransplantsRecord: trained weights of all, in this backend
      occlusions/<backend>.json                        OcclusionsRecord; whole when this file is there
      occlusions/<backend>.parquet, <backend>.words.parquet    what it describes
      timings.json                   TimingResults
      comparison.json  report.md  figures/     written by `reports`
      logs/<run id>.log              what the worker printed
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from rnn_crosscheck.harness.errors import ResultsError
from rnn_crosscheck.harness.folder import new_folder, write_json
from rnn_crosscheck.harness.protocol import Operation, Protocol, RunSpec, Setting
from rnn_crosscheck.harness.weights import PARAMETERS, Weights

FORMAT = 1

Status = Literal["ok", "failed", "unavailable"]

Stage = Literal["encoding", "weights", "forward", "loss", "gradients", "update", "steps_5", "steps_20"]
STAGES: tuple[Stage, ...] = get_args(Stage)

#: largest difference in probability that the same weights may make in two backends
TRANSPLANT_TOLERANCE = 1e-5

Record = TypeVar("Record", bound=BaseModel)


class _Record(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """Built when first used: whoever only lists the runs needs none of these."""


class EpochRecord(_Record):
    """One epoch: training figures over moving weights, validation figures after it."""

    epoch: int
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    seconds: Annotated[float, Field(description="training only, validation left out")]


class LayerRecord(_Record):
    """One row of the layer table."""

    name: str
    output_shape: tuple[int, ...]
    parameters: int
    trainable: int


class Scores(_Record):
    """Figures on the test split, computed by the harness from the stored probabilities."""

    accuracy: float
    loss: float
    examples: int


class Durations(_Record):
    """Seconds of the parts of a run."""

    start: Annotated[float, Field(description="from process start to a framework that is imported and set up")]
    build: Annotated[float, Field(description="creating the model")]
    first_step: Annotated[float, Field(description="first batch of the first epoch, with padding, tracing, compiling")]
    train: Annotated[float, Field(description="sum of the epochs")]
    predict: Annotated[float, Field(description="the test split, once")]
    total: Annotated[float, Field(description="the whole process")]


class Failure(_Record):
    """Why there is no result."""

    reason: Annotated[str, Field(description="a sentence")]
    signal: str | None = None
    log_tail: str = ""


class TraceFacts(_Record):
    """What a traced run left beside its result.

    ``trace.parquet``: step (from 1), loss, gradient_norm. ``probes.parquet``: example_id and, for each of `steps`, a
    column ``step_N`` with the probabilities after N updates.
    """

    steps: tuple[int, ...]
    noise: Annotated[
        dict[str, float],
        Field(description="continuing twin: standard deviation of what is added, by parameter and gate"),
    ] = {}


class RunResult(_Record):
    """What one run left behind; `status` says which of the optional parts are there."""

    format: int = FORMAT
    run_id: str
    spec: RunSpec
    key: str
    status: Status
    scores: Scores | None = None
    history: tuple[EpochRecord, ...] = ()
    layers: tuple[LayerRecord, ...] = ()
    durations: Durations | None = None
    peak_memory_bytes: int | None = None
    environment: dict[str, str] = {}
    trace: TraceFacts | None = None
    inputs_hash: Annotated[str, Field(description="hash of ids, labels and encoded inputs of the test split")] = ""
    jobs: Annotated[int, Field(description="runs trained side by side at the time")] = 1
    finished: Annotated[str, Field(description="UTC, ISO 8601")] = ""
    failure: Failure | None = None


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
    examples: Annotated[int, Field(description="examples in one call")]
    rounds_ns: Annotated[tuple[int, ...], Field(description="median time of a call in each round, start after start")]
    starts: Annotated[
        tuple[int, ...], Field(description="rounds of each start of the workers, in order; empty for a single one")
    ] = ()
    again_ns: Annotated[
        tuple[int, ...], Field(description="the A/A pair: the same measured in a second worker; baseline only")
    ] = ()
    calls_ns: Annotated[
        tuple[int, ...], Field(description="every call of every round, in order; of single examples only")
    ] = ()
    build_ns: Annotated[int, Field(description="creating the model; mean over starts")] = 0
    first_call_ns: Annotated[int, Field(description="creating the model and the first call together, likewise")]
    baseline: bool
    stopped: Annotated[str, Field(description="why the rounds ended: 'target', 'limit' of rounds, or 'time'")]
    threads: int
    peak_memory_bytes: int
    environment: dict[str, str] = {}

    @property
    def point(self) -> tuple[str, Operation, int, int]:
        """What was measured together: model, operation, batch size, length."""
        return self.model, self.operation, self.batch_size, self.length


class TimingResults(_Record):
    """Everything that was timed in one comparison."""

    format: int = FORMAT
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
    seconds: float
    peak_memory_bytes: int

    @property
    def first_failed(self) -> StageRecord | None:
        """The first stage that is out of its tolerance, in the order of the computation."""
        return next((record for record in self.stages if not record.ok), None)


class EffectRecord(_Record):
    """What one factor, switched alone from matched, does to the trajectory of the reference."""

    factor: str
    values: dict[str, str]
    native_in: Annotated[tuple[str, ...], Field(description="backends whose native models have these values")]
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
    seconds: float


class TransplantRecord(_Record):
    """Trained weights of one run, predicted with in another backend, against what the run itself predicted."""

    source: Annotated[str, Field(description="run id")]
    backend: Annotated[str, Field(description="of the source")]
    model: str
    division: str
    seed: int
    examples: int
    max_difference: Annotated[float, Field(description="in probability")]
    mean_difference: float
    changed: Annotated[int, Field(description="predictions at threshold 0.5 that differ")]


class TransplantsRecord(_Record):
    """Trained weights of every backend, its own among them, in one backend."""

    format: int = FORMAT
    key: str
    keys: Annotated[dict[str, str], Field(description="run id -> key of the result that was looked at")]
    finished: Annotated[dict[str, str], Field(description="run id -> when the run whose weights were taken ended")] = {}
    backend: Annotated[str, Field(description="the target")]
    transplants: tuple[TransplantRecord, ...]
    left_out: Annotated[dict[str, str], Field(description="run id -> why its weights weren't taken")] = {}
    seconds: float


class OcclusionsRecord(_Record):
    """What one backend's runs say to their examples when tokens are left out.

    Beside it, ``<backend>.parquet``: run_id, example_id, window (int8: tokens left out, 0 for none), position (int32:
    the first of them among the words that the models see, from 0; -1 for none), probability (float32). And
    ``<backend>.words.parquet``: example_id, position, word, oov (bool: the models don't know it).
    """

    format: int = FORMAT
    key: str
    keys: Annotated[dict[str, str], Field(description="run id -> key of the result that was looked at")]
    finished: Annotated[dict[str, str], Field(description="run id -> when the run whose weights were taken ended")] = {}
    backend: str
    runs: Annotated[dict[str, tuple[str, ...]], Field(description="run id -> ids of its examples")]
    left_out: Annotated[dict[str, str], Field(description="run id -> why it isn't among the runs")] = {}
    seconds: float


class SplitFacts(_Record):
    """Figures of one split as the protocol uses it."""

    examples: int
    positive: int
    length_min: int
    length_mean: float
    length_median: float
    length_max: int
    truncated_share: float
    oov_share: Annotated[float, Field(description="tokens out of vocabulary, among tokens kept")]


class ExampleFacts(_Record):
    """One example as the models see it."""

    example_id: str
    label: int
    ids: tuple[int, ...]
    words: tuple[str, ...]


class DatasetFacts(_Record):
    """What the report says about the dataset."""

    format: int = FORMAT
    name: str
    source: str
    fingerprint: str
    distinct_words: int
    encode_seconds: Annotated[
        float, Field(description="reading and encoding the source, when the cache was filled; 0 if not known")
    ] = 0.0
    encoded_examples: int = 0
    splits: dict[str, SplitFacts]
    shown: ExampleFacts | None = None
    shortest: ExampleFacts | None = None
    longest: ExampleFacts | None = None
    longest_id: str = ""
    longest_length: int = 0
    inputs_hash: str


class Manifest(_Record):
    """What was asked for: the runs of a comparison, in order."""

    format: int = FORMAT
    protocol: Protocol
    command: str
    created: str
    device: str
    backends: tuple[str, ...]
    inference: Annotated[tuple[str, ...], Field(description="those of the backends that train nothing")] = ()
    runs: tuple[str, ...]
    keys: Annotated[
        dict[str, str], Field(description="run id -> key; a result with another key belongs to another comparison")
    ] = {}
    variants: Annotated[
        tuple[str, ...], Field(description="run ids of twins and of runs with a switched factor; not among `runs`")
    ] = ()
    parity_keys: Annotated[dict[str, str], Field(description="name of the file in parity/ -> key")] = {}
    timing_keys: Annotated[
        dict[str, str], Field(description="backend/model -> key; a timing with another key isn't of this comparison")
    ] = {}
    commit: str = ""
    machine: dict[str, str] = {}
    baseline: Annotated[
        str, Field(description="folder of the earlier comparison to compare with, from this one; empty for none")
    ] = ""


# --- reading and writing ------------------------------------------------------------------------------------


def read_record(path: Path, record: type[Record]) -> Record:
    """Read one JSON record.

    Raises
    ------
    ResultsError
        The file is missing, damaged or of another format.
    """
    try:
        return record.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ResultsError(f"There is no {path}; has the comparison been run?") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ResultsError(
            f"{path} is damaged or was written by another version: {where or 'file'}: {first['msg']}."
        ) from None


def hash_inputs(example_ids: NDArray[np.str_] | list[str], labels: NDArray[np.int8], tokens: NDArray[np.int32]) -> str:
    """Hash ids, labels and encoded inputs (n, length) of a split, so that no two splits are ever mixed up."""
    digest = hashlib.sha256("\n".join(example_ids).encode())
    digest.update(np.ascontiguousarray(labels, np.int8).tobytes())
    digest.update(str(tokens.shape).encode())
    digest.update(np.ascontiguousarray(tokens, "<i4").tobytes())
    return digest.hexdigest()


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
    import pyarrow as pa
    import pyarrow.parquet as pq

    with new_folder(folder) as scratch:
        if probabilities is not None:
            schema = pa.schema({"example_id": pa.string(), "label": pa.int8(), "probability": pa.float32()})
            table = pa.table([example_ids, labels, probabilities], schema=schema)
            pq.write_table(table, scratch / "predictions.parquet")
        if weights is not None:
            np.savez(scratch / WEIGHTS, **weights)  # type: ignore[arg-type]  # names of parameters aren't its options
        if beside is not None:
            beside(scratch)
        write_json(scratch / "result.json", result)


#: the file of a run that holds what it was trained to
WEIGHTS = "weights.npz"


def keeps_weights(spec: RunSpec) -> bool:
    """Whether a run leaves its trained weights: one of the protocol's own does, a twin or a variant doesn't."""
    return not spec.twin and not spec.variant


def read_weights(path: Path) -> Weights:
    """Read the trained weights of a run, in the canonical layout; shapes are the model's to check.

    Raises
    ------
    ResultsError
        The file is missing or damaged, or isn't one of weights.
    """
    try:
        # Not np.load, which takes a file of one array as well.
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
            if sorted(archive.files) != sorted(PARAMETERS):
                raise ResultsError(
                    f"{path} doesn't hold the weights of a run: expected {', '.join(PARAMETERS)}, got "
                    f"{', '.join(archive.files) or 'nothing'}."
                )
            weights = {name: np.ascontiguousarray(archive[name]) for name in PARAMETERS}
    except FileNotFoundError:
        raise ResultsError(f"There is no {path}; the run kept no weights.") from None
    # What is raised for a file that is no archive, was cut off or changed, or holds Python objects.
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ResultsError(f"{path} is damaged: {str(error) or type(error).__name__}.") from None
    for name, values in weights.items():
        if values.dtype != np.float32:
            raise ResultsError(f"{path} doesn't hold the weights of a run: {name} is {values.dtype}, expected float32.")
    return weights


def occlusion_tables(record: Path) -> tuple[Path, Path]:
    """Where the probabilities and the words lie that an `OcclusionsRecord` describes."""
    return record.with_suffix(".parquet"), record.with_suffix(".words.parquet")


def stored_key(folder: Path) -> str | None:
    """Key of a finished run that is whole on disk, else None."""
    try:
        content = json.loads((folder / "result.json").read_bytes())
    except (OSError, ValueError):
        return None
    files = ["predictions.parquet", *(("trace.parquet", "probes.parquet") if content.get("trace") else ())]
    whole = content.get("status") == "ok" and all((folder / name).is_file() for name in files)
    return content["key"] if whole and content.get("format") == FORMAT else None
