"""One process that runs one request and answers on a pipe.

``python -m rnn_crosscheck.harness.worker`` reads one JSON line from standard input and writes JSON lines to standard
output, one an event. Whatever a framework prints goes to standard error, which the parent keeps as the log. When the
parent goes away, standard input ends and so does the worker.

Requests have a ``mode``: ``train`` runs one `RunSpec` and writes its result, ``parity`` holds a backend's model against
the reference, ``effects`` switches the factors one by one in the reference, ``transplant`` predicts with the trained
weights of other backends, ``occlude`` predicts examples with tokens left out, ``time`` stays alive and measures what it
is told to, ``conform`` stays alive and carries out the checks it is told to, ``probe`` tells the devices that a backend
can use.
"""

from __future__ import annotations

import time

_STARTED = time.perf_counter()

import gc  # noqa: E402 - the clock above starts before everything else
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Callable, Iterable, Mapping, Sequence  # noqa: E402
from datetime import UTC, datetime  # noqa: E402
from itertools import islice  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, BinaryIO  # noqa: E402

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from rnn_crosscheck.harness.backend import Backend, EpochStats, Model, Registered  # noqa: E402
from rnn_crosscheck.harness.batches import Batches, epoch_order  # noqa: E402
from rnn_crosscheck.harness.datasets.dataset import Dataset  # noqa: E402
from rnn_crosscheck.harness.datasets.selection import Block, Selection, apply  # noqa: E402
from rnn_crosscheck.harness.errors import ContractError, CrosscheckError, DataError, ResultsError  # noqa: E402
from rnn_crosscheck.harness.machine import hand_back_memory, memory_facts  # noqa: E402
from rnn_crosscheck.harness.parity import occlusion  # noqa: E402
from rnn_crosscheck.harness.parity import stages as parity  # noqa: E402
from rnn_crosscheck.harness.parity.reference import ReferenceModel  # noqa: E402
from rnn_crosscheck.harness.parity.trace import CALIBRATION_STEPS, Noise, Trace, calibrate, starting_weights  # noqa: E402
from rnn_crosscheck.harness.protocol import RunSpec  # noqa: E402
from rnn_crosscheck.harness.results import (  # noqa: E402
    WEIGHTS,
    Durations,
    EffectsRecord,
    EpochRecord,
    LayerRecord,
    OcclusionsRecord,
    ParityRecord,
    RunResult,
    Scores,
    TraceFacts,
    TransplantRecord,
    TransplantsRecord,
    hash_inputs,
    keeps_weights,
    read_record,
    read_weights,
    write_json,
    write_run,
)
from rnn_crosscheck.harness.weights import Weights, check_weights, initial_weights  # noqa: E402

_CHUNK = 2048
_PROGRESS_SECONDS = 0.25

Emit = Callable[..., None]


def main() -> int:
    """Answer one request; the exit code says whether it went well."""
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    # Frameworks print to standard output from C++ as well; only events may go there.
    os.dup2(2, 1)
    emit = _emitter(channel)
    request = json.loads(sys.stdin.readline() or "{}")
    sys.path.extend(entry for entry in request.get("sys_path", ()) if entry not in sys.path)
    try:
        backend = Registered(**request["backend"]).load()()
        if request["mode"] in _LISTENING:
            _LISTENING[request["mode"]](request, backend, emit)
        else:
            threading.Thread(target=_leave_with_parent, daemon=True).start()
            _MODES[request["mode"]](request, backend, emit)
    except CrosscheckError as error:
        emit("failed", reason=str(error))
        return 1
    except Exception as error:  # noqa: BLE001 - whatever a framework raises is this run's failure, told to the parent
        traceback.print_exc()
        emit("failed", reason=f"{type(error).__name__}: {str(error).strip() or 'no message'}")
        return 1
    emit("done")
    return 0


def _emitter(channel: BinaryIO) -> Emit:
    def emit(event: str, **content: Any) -> None:  # noqa: ANN401 - plain JSON values
        channel.write(json.dumps({"event": event, **content}).encode() + b"\n")

    return emit


def _leave_with_parent() -> None:
    while sys.stdin.readline():
        pass
    os._exit(1)


def _setup(backend: Backend, spec: RunSpec) -> None:
    """Prepare the backend for a run: deterministic, but for tuned settings, which have no other kernels."""
    backend.setup(threads=spec.threads, seed=spec.seed, setting=spec.setting, deterministic=spec.setting == "default")


def _probe(request: Mapping[str, Any], backend: Backend, emit: Emit) -> None:
    backend.setup(threads=int(request["threads"]), seed=0, setting="default", deterministic=True)
    emit("devices", devices=list(backend.devices()))


# --- training -----------------------------------------------------------------------------------------------


def _open(request: Mapping[str, Any]) -> tuple[RunSpec, Selection]:
    """Read what the request is about, and open its data."""
    spec = RunSpec.model_validate_json(json.dumps(request["spec"]))
    dataset = Dataset.open(Path(request["dataset"]))
    if dataset.fingerprint != spec.dataset_fingerprint:
        raise DataError(
            f"{spec.run_id} asks for the dataset with fingerprint {spec.dataset_fingerprint}, "
            f"but {request['dataset']} holds {dataset.fingerprint}."
        )
    return spec, apply(dataset, spec.data)


def _train(request: Mapping[str, Any], backend: Backend, emit: Emit) -> None:
    spec, selection = _open(request)
    _setup(backend, spec)
    started = time.perf_counter()
    emit("progress", stage="build")
    model = create(backend, spec)
    built = time.perf_counter()
    scales = _calibrated(backend, spec, selection) if spec.twin == "continuing" else {}
    trace = _trace(backend, model, spec, selection, scales, emit) if spec.probes else None

    history: list[EpochRecord] = []
    first_step = 0.0
    for epoch in range(1, spec.training.epochs + 1):
        record, first = _epoch(backend, model, spec, selection, epoch, trace, emit)
        first_step = first_step or first
        history.append(record)
        emit("epoch", **record.model_dump())

    emit("progress", stage="test")
    predicting = time.perf_counter()
    probabilities = predict(backend, model, selection.test, spec.data.length, spec.data.vocabulary, emit)
    predicted = time.perf_counter()

    weights: Weights | None = None
    if keeps_weights(spec):
        weights = model.get_weights()
        check_weights(weights, spec.model, f"Backend {backend.name!r}: get_weights")
    labels = selection.test.labels
    ids = [str(example) for example in selection.test.example_ids]
    loss, accuracy = score(probabilities, labels)
    result = RunResult(
        run_id=spec.run_id,
        spec=spec,
        key=request["key"],
        status="ok",
        scores=Scores(accuracy=accuracy, loss=loss, examples=len(labels)),
        history=tuple(history),
        layers=tuple(
            LayerRecord(
                name=layer.name,
                output_shape=layer.output_shape,
                parameters=layer.parameters,
                trainable=layer.trainable,
            )
            for layer in model.layers()
        ),
        durations=Durations(
            start=started - _STARTED,
            build=built - started,
            first_step=first_step,
            train=sum(record.seconds for record in history),
            predict=predicted - predicting,
            total=time.perf_counter() - _STARTED,
        ),
        peak_memory_bytes=peak_memory(),
        environment={**backend.environment(), **memory_facts()},
        trace=TraceFacts(steps=trace.steps, noise=scales) if trace else None,
        inputs_hash=hash_inputs(ids, labels, selection.test.padded(spec.data.length, spec.data.vocabulary)),
        jobs=int(request["jobs"]),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_run(
        Path(request["result"]),
        result,
        example_ids=ids,
        labels=labels,
        probabilities=probabilities,
        weights=weights,
        beside=(lambda folder: trace.write(folder, ids[: spec.probes])) if trace else None,
    )


def create(backend: Backend, spec: RunSpec) -> Model:
    """Create the model of a run: with canonical weights when matched, with the framework's own when native."""
    weights = None
    if spec.division == "matched":
        weights = starting_weights(spec, initial_weights(spec.model, spec.seed, spec.training.factors))
    return _create_with(backend, spec, weights)


def _create_with(backend: Backend, spec: RunSpec, weights: Weights | None) -> Model:
    model = backend.create(spec.model, spec.training, weights=weights, seed=spec.seed, device=spec.device)
    if not isinstance(model, Model):
        raise ContractError(
            f"Backend {backend.name!r}: create must return a rnn_crosscheck.harness.backend.Model, got "
            f"{type(model).__name__}."
        )
    return model


def _epoch_batches(
    spec: RunSpec, selection: Selection, epoch: int, on_batch: Callable[[int], None] | None = None
) -> Batches:
    """Give the training examples of one epoch, in the shared order when matched."""
    rows = selection.train.rows
    another = spec.training.factors.order == "another"
    order = epoch_order(spec.seed, epoch, len(rows), another=another) if spec.division == "matched" else None
    return Batches(
        selection.train.split,
        rows,
        order=order,
        batch_size=spec.training.batch_size,
        length=spec.data.length,
        vocabulary=spec.data.vocabulary,
        on_batch=on_batch,
    )


def _calibrated(backend: Backend, spec: RunSpec, selection: Selection) -> dict[str, float]:
    """Measure the backend's rounding with a model that is thrown away."""
    weights = initial_weights(spec.model, spec.seed, spec.training.factors)
    reference = ReferenceModel(spec.model, spec.training, weights)
    batches = islice(_epoch_batches(spec, selection, 1), CALIBRATION_STEPS)
    return calibrate(create(backend, spec), reference, batches)


def _trace(
    backend: Backend, model: Model, spec: RunSpec, selection: Selection, scales: Mapping[str, float], emit: Emit
) -> Trace:
    probes = Block(selection.test.split, selection.test.rows[: spec.probes])
    total = spec.training.epochs * len(_epoch_batches(spec, selection, 1))
    disturb = Noise(model, scales, seed=spec.seed, number=spec.twin_number) if spec.twin == "continuing" else None
    return Trace(lambda: predict(backend, model, probes, spec.data.length, spec.data.vocabulary, emit), total, disturb)


def _epoch(
    backend: Backend, model: Model, spec: RunSpec, selection: Selection, epoch: int, trace: Trace | None, emit: Emit
) -> tuple[EpochRecord, float]:
    """Train one epoch and validate; returns the record and the seconds to the first finished batch."""
    begun = told = time.perf_counter()
    first = 0.0

    def on_batch(done: int) -> None:
        nonlocal told, first
        now = time.perf_counter()
        first = first or now - begun
        if now - told >= _PROGRESS_SECONDS:
            told = now
            emit("progress", stage="train", epoch=epoch, batch=done, batches=len(batches))

    batches = _epoch_batches(spec, selection, epoch, on_batch)
    begun = time.perf_counter()
    aside = trace.seconds if trace else 0.0
    stats = trace.epoch(model, batches) if trace else model.fit_epoch(batches)
    seconds = time.perf_counter() - begun - ((trace.seconds - aside) if trace else 0.0)
    if not isinstance(stats, EpochStats):
        raise ContractError(
            f"Backend {backend.name!r}: fit_epoch must return an EpochStats, got {type(stats).__name__}."
        )
    if not np.isfinite(stats.loss):
        raise CrosscheckError(f"Training diverged: the loss of epoch {epoch} is {stats.loss}.")
    emit("progress", stage="validate", epoch=epoch)
    probabilities = predict(backend, model, selection.valid, spec.data.length, spec.data.vocabulary, emit)
    loss, accuracy = score(probabilities, selection.valid.labels)
    record = EpochRecord(
        epoch=epoch,
        train_loss=float(stats.loss),
        train_accuracy=float(stats.accuracy),
        valid_loss=loss,
        valid_accuracy=accuracy,
        seconds=seconds,
    )
    return record, first or seconds


def predict(
    backend: Backend, model: Model, block: Block, length: int, vocabulary: int, emit: Emit
) -> NDArray[np.float32]:
    """Probabilities of a whole block, (n,), padded and predicted a chunk at a time.

    Raises
    ------
    ContractError
        The backend returned another shape or dtype, or something that isn't a probability.
    """
    starts = range(0, len(block.rows), _CHUNK)
    chunks = (block.split.padded(block.rows[start : start + _CHUNK], length, vocabulary) for start in starts)
    return _predict_chunks(backend, model, chunks, emit)


def _predict_chunks(
    backend: Backend, model: Model, chunks: Iterable[NDArray[np.int32]], emit: Emit
) -> NDArray[np.float32]:
    """Probabilities (n,) for tokens that come as chunks (m, length); raises as `predict` does."""
    parts = []
    for tokens in chunks:
        values = model.predict(tokens)
        where = f"Backend {backend.name!r}: predict"
        if not isinstance(values, np.ndarray) or values.shape != (len(tokens),) or values.dtype != np.float32:
            got = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            raise ContractError(f"{where} must return float32 ({len(tokens)},), got {got}.")
        if not (np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all()):
            raise ContractError(
                f"{where} must return probabilities in [0, 1], got values from {values.min()} to {values.max()}."
            )
        parts.append(values)
        emit("progress", stage="predict")
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def score(probabilities: NDArray[np.float32], labels: NDArray[np.int8]) -> tuple[float, float]:
    """Mean binary cross-entropy and accuracy; 0.5 or more is positive.

    Probabilities are clipped to [1e-7, 1 - 1e-7], so that one sure mistake doesn't make the mean infinite.
    """
    p = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    loss = -np.where(labels == 1, np.log(p), np.log1p(-p)).mean()
    return float(loss), float(((probabilities >= 0.5) == (labels == 1)).mean())


def peak_memory() -> int:
    """Peak resident memory of this process in bytes."""
    try:
        # getrusage would count what the parent held at the fork; this starts anew with the program.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak_memory() -> None:
    """Let the peak start anew from what is resident now, freed memory handed back, where the system can (Linux)."""
    hand_back_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


# --- parity -------------------------------------------------------------------------------------------------


def _parity(request: Mapping[str, Any], backend: Backend, emit: Emit) -> None:
    """Hold the backend's model against the reference, stage by stage."""
    spec, selection = _open(request)
    _setup(backend, spec)
    begun = time.perf_counter()
    found = parity.compare(backend, spec, selection, lambda stage: emit("progress", stage=stage))
    record = ParityRecord(
        key=request["key"],
        backend=spec.backend,
        model=spec.model.name,
        division=spec.division,
        setting=spec.setting,
        stages=found.stages,
        kinks=found.kinks,
        explanation=found.explanation,
        seconds=time.perf_counter() - begun,
        peak_memory_bytes=peak_memory(),
    )
    write_json(Path(request["result"]), record)


def _effects(request: Mapping[str, Any], backend: Backend, emit: Emit) -> None:
    """Switch the factors one by one; the backend is the reference, which needs no framework."""
    spec, selection = _open(request)
    begun = time.perf_counter()
    effects = parity.effects(spec, selection, request["native_values"], lambda stage: emit("progress", stage=stage))
    record = EffectsRecord(
        key=request["key"],
        model=spec.model.name,
        probes=min(parity.EFFECT_PROBES, len(selection.test)),
        declared=tuple(request["native_values"]),
        effects=effects,
        seconds=time.perf_counter() - begun,
    )
    write_json(Path(request["result"]), record)


# --- trained weights ----------------------------------------------------------------------------------------


def _trained(
    folder: Path, run_id: str, key: str, backend: Backend, dataset: Dataset
) -> tuple[RunSpec, Model, Selection]:
    """Load what a run was trained to into a fresh model of the backend, and open the run's data.

    The model is a matched one whatever the division of the run: to predict, it needs the weights alone.

    Raises
    ------
    ResultsError
        The run kept no weights, or they are damaged or another model's, or its result isn't the expected one.
    """
    place = folder / "runs" / run_id
    result = read_record(place / "result.json", RunResult)
    if result.key != key:
        raise ResultsError(f"{place} holds another result than when the comparison began.")
    weights = read_weights(place / WEIGHTS)
    try:
        check_weights(weights, result.spec.model, str(place / WEIGHTS))
    except ContractError as error:
        raise ResultsError(str(error)) from None
    return result.spec, _create_with(backend, result.spec, weights), apply(dataset, result.spec.data)


def _transplant(request: Mapping[str, Any], backend: Backend, emit: Emit) -> None:
    """Predict with the trained weights of other runs, and compare with what those runs predicted."""
    spec, _ = _open(request)
    _setup(backend, spec)
    begun = time.perf_counter()
    dataset, folder = Dataset.open(Path(request["dataset"])), Path(request["folder"])
    found: list[TransplantRecord] = []
    left_out: dict[str, str] = dict(request["left_out"])
    for run_id, key in request["sources"].items():
        emit("progress", stage="load")
        try:
            source, model, selection = _trained(folder, run_id, key, backend, dataset)
            stored = _stored_probabilities(folder / "runs" / run_id / "predictions.parquet", selection.test)
        except ResultsError as error:
            left_out[run_id] = str(error)
            continue
        ours = predict(backend, model, selection.test, source.data.length, source.data.vocabulary, emit)
        difference = np.abs(ours.astype(np.float64) - stored)
        found.append(
            TransplantRecord(
                source=run_id,
                backend=source.backend,
                model=source.model.name,
                division=source.division,
                seed=source.seed,
                examples=len(stored),
                max_difference=float(difference.max()),
                mean_difference=float(difference.mean()),
                changed=int(((ours >= 0.5) != (stored >= 0.5)).sum()),
            )
        )
    record = TransplantsRecord(
        key=request["key"],
        keys=request["keys"],
        finished=request["finished"],
        backend=backend.name,
        transplants=tuple(found),
        left_out=left_out,
        seconds=time.perf_counter() - begun,
    )
    write_json(Path(request["result"]), record)


def _stored_probabilities(path: Path, block: Block) -> NDArray[np.float32]:
    """Read what a run predicted for the examples of a block, (n,)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["example_id", "probability"])
    except (OSError, pa.ArrowInvalid) as error:
        raise ResultsError(f"{path} can't be read: {error}.") from None
    if table["example_id"].to_pylist() != block.example_ids:
        raise ResultsError(f"{path} isn't about the examples of the test split, in their order.")
    return np.asarray(table["probability"].to_numpy(), np.float32)


def _occlude(request: Mapping[str, Any], backend: Backend, emit: Emit) -> None:
    """Predict chosen examples of each run with words left out, all of a run's together."""
    import pyarrow as pa

    spec, selection = _open(request)
    _setup(backend, spec)
    begun = time.perf_counter()
    dataset, folder, test = Dataset.open(Path(request["dataset"])), Path(request["folder"]), selection.test
    chosen: Mapping[str, Sequence[str]] = request["examples"]
    places = _places(test, chosen)
    rows = {example: test.split.padded(at, spec.data.length, spec.data.vocabulary)[0] for example, at in places.items()}
    occluded = {example: occlusion.occlude(row) for example, row in rows.items()}
    schema = {
        "run_id": pa.string(),
        "example_id": pa.string(),
        "window": pa.int8(),
        "position": pa.int32(),
        "probability": pa.float32(),
    }
    tables = [pa.schema(schema).empty_table()]
    runs: dict[str, tuple[str, ...]] = {}
    left_out: dict[str, str] = dict(request["left_out"])
    for run_id, key in request["sources"].items():
        emit("progress", stage="load")
        try:
            _, model, _ = _trained(folder, run_id, key, backend, dataset)
        except ResultsError as error:
            left_out[run_id] = str(error)
            continue
        runs[run_id] = tuple(chosen[run_id])
        parts = [occluded[example] for example in runs[run_id]]
        tokens = np.concatenate([part.tokens for part in parts])
        chunks = (tokens[start : start + _CHUNK] for start in range(0, len(tokens), _CHUNK))
        columns = [
            [run_id] * len(tokens),
            np.repeat(np.array(runs[run_id], object), [len(part.tokens) for part in parts]),
            np.concatenate([part.windows for part in parts]),
            np.concatenate([part.positions for part in parts]),
            _predict_chunks(backend, model, chunks, emit),
        ]
        tables.append(pa.table(columns, schema=pa.schema(schema)))
    words = [
        {"example_id": example, "position": position, "word": word, "oov": bool(oov)}
        for example in dict.fromkeys(example for examples in runs.values() for example in examples)
        for position, (word, oov) in enumerate(
            zip(
                _spelled(dataset, test, places[example], spec.data.length),
                occlusion.unknown(rows[example]),
                strict=True,
            )
        )
    ]
    record = OcclusionsRecord(
        key=request["key"],
        keys=request["keys"],
        finished=request["finished"],
        backend=backend.name,
        runs=runs,
        left_out=left_out,
        seconds=time.perf_counter() - begun,
    )
    columns_of_words = {"example_id": pa.string(), "position": pa.int32(), "word": pa.string(), "oov": pa.bool_()}
    occlusion.write(
        Path(request["result"]),
        record,
        pa.concat_tables(tables),
        pa.Table.from_pylist(words, pa.schema(columns_of_words)),
    )


def _places(block: Block, chosen: Mapping[str, Sequence[str]]) -> dict[str, NDArray[np.int64]]:
    """Find the rows of chosen examples, one (1,) for each, in their split.

    Raises
    ------
    ResultsError
        An example isn't one of the block's.
    """
    rows = dict(zip(block.example_ids, block.rows, strict=True))
    places = {}
    for example in dict.fromkeys(example for examples in chosen.values() for example in examples):
        if example not in rows:
            raise ResultsError(f"The example {example!r} was chosen to be read, but the test split has no such id.")
        places[example] = np.array([rows[example]])
    return places


def _spelled(dataset: Dataset, block: Block, place: NDArray[np.int64], length: int) -> list[str]:
    (content,) = block.split.strings("text", place)
    return occlusion.spell(block.split.tokens_of(int(place[0])), content, length, dataset.decode)


# --- timing -------------------------------------------------------------------------------------------------


def _time(request: Mapping[str, Any], backend: Backend, emit: Emit) -> None:
    """Measure what the parent asks for, one call at a time; asleep on the pipe in between."""
    dataset = Dataset.open(Path(request["dataset"]))
    # What is timed is what the framework's users get, and they don't ask for the same bits again.
    backend.setup(threads=int(request["threads"]), seed=0, setting=request["setting"], deterministic=False)
    _pin(request["cores"])
    emit("ready")
    call: Callable[[], object] | None = None
    clock = time.perf_counter_ns
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "stop":
            return
        if command["do"] == "prepare":
            # One model at a time, and its own peak: what was timed before is not this row's memory.
            call = None
            gc.collect()
            forget_peak_memory()
            call, examples, ns = _prepare(command, backend, dataset)
            emit("built", ns=ns, examples=examples)
        elif command["do"] == "round":
            assert call is not None
            calls = []
            for _ in range(int(command["lead_in"])):
                call()
            for _ in range(int(command["loops"])):
                begun = clock()
                call()
                calls.append(clock() - begun)
            emit("round", calls=calls)
        else:
            facts = {**backend.environment(), **memory_facts()}
            emit("facts", peak_memory_bytes=peak_memory(), environment=facts)


def _pin(cores: Sequence[int]) -> None:
    """Keep every thread of this process to some cores, if any are given (Linux).

    Threads that are started later inherit it. Not sooner, since frameworks start quicker with all cores.
    """
    for thread in Path("/proc/self/task").iterdir() if cores else ():
        try:
            os.sched_setaffinity(int(thread.name), cores)
        except ProcessLookupError:  # a thread that has ended since
            pass


def _prepare(command: Mapping[str, Any], backend: Backend, dataset: Dataset) -> tuple[Callable[[], object], int, int]:
    """Build a native model and a call of the operation over real batches.

    Returns the call, the examples in a call, and the nanoseconds that building the model took.
    """
    spec = RunSpec.model_validate_json(json.dumps(command["spec"]))
    selection = apply(dataset, spec.data)
    operation = command["operation"]
    block = selection.train if operation == "train_step" else selection.test
    size = 1 if operation == "predict_one" else min(spec.training.batch_size, len(block.rows))
    # A handful of different batches in turn: repeating one would train on it until its gradients vanish.
    batches = []
    for start in range(0, min(len(block.rows) - size + 1, 8 * size), size):
        rows = block.rows[start : start + size]
        tokens = block.split.padded(rows, spec.data.length, spec.data.vocabulary)
        batches.append((tokens, block.split.labels[rows].astype(np.float32)))
    begun = time.perf_counter_ns()
    model = create(backend, spec)
    ns = time.perf_counter_ns() - begun
    turn = 0

    def call() -> object:
        nonlocal turn
        tokens, labels = batches[turn % len(batches)]
        turn += 1
        return model.train_step(tokens, labels) if operation == "train_step" else model.predict(tokens)

    return call, size, ns


def _conform(request: Mapping[str, Any], backend: Backend, emit: Emit) -> None:
    """Carry out checks of the conformance suite, one after the other."""
    from rnn_crosscheck.harness.conformance import checks as conformance

    trial = conformance.Trial(backend)
    emit("ready")
    for line in sys.stdin:
        verdict = conformance.carry_out(trial, json.loads(line)["check"])
        emit("checked", problem=verdict.problem, todo=verdict.todo, answer=verdict.answer)


#: these read more requests from standard input, and end with it
_LISTENING: Mapping[str, Callable[[Mapping[str, Any], Backend, Emit], None]] = {"time": _time, "conform": _conform}
_MODES: Mapping[str, Callable[[Mapping[str, Any], Backend, Emit], None]] = {
    "train": _train,
    "parity": _parity,
    "effects": _effects,
    "transplant": _transplant,
    "occlude": _occlude,
    "probe": _probe,
}


if __name__ == "__main__":
    sys.exit(main())
