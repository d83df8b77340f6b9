"""The training of one `RunSpec`, from its first weights to its result on disk."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from rnn_crosscheck.harness import results
from rnn_crosscheck.harness.backend import EpochStats, Model
from rnn_crosscheck.harness.batches import Batches, epoch_order
from rnn_crosscheck.harness.datasets.selection import Block, Selection, hash_inputs
from rnn_crosscheck.harness.errors import ContractError, CrosscheckError
from rnn_crosscheck.harness.machine import machine, memory_facts
from rnn_crosscheck.harness.parity.reference import ReferenceModel
from rnn_crosscheck.harness.parity.trace import CALIBRATION_STEPS, Noise, Trace, calibrate
from rnn_crosscheck.harness.protocol import RunSpec
from rnn_crosscheck.harness.registry import installed
from rnn_crosscheck.harness.weights import check_weights, initial_weights
from rnn_crosscheck.harness.worker.job import Job
from rnn_crosscheck.harness.worker.measure import peak_memory

_PROGRESS_SECONDS = 0.25


@dataclass(frozen=True)
class _Run:
    """A run under way, and what it is made of."""

    job: Job
    spec: RunSpec
    selection: Selection
    model: Model


def train(job: Job) -> None:
    """Carry out one run, and write its result."""
    spec, _, selection = job.open()
    job.setup(spec)
    started = perf_counter()
    job.tell("build")
    run = _Run(job, spec, selection, job.create(spec))
    built = perf_counter()
    layers = _layers(run)
    scales = _calibrated(run) if spec.twin == "continuing" else {}
    trace = _trace(run, scales) if spec.probes else None
    epochs = [_epoch(run, epoch, trace) for epoch in range(1, spec.training.epochs + 1)]
    job.tell("test")
    predicting = perf_counter()
    probabilities = job.predict(run.model, selection.test, spec.data)
    predicted = perf_counter()
    weights = run.model.get_weights() if results.keeps_weights(spec) else None
    if weights is not None:
        check_weights(weights, spec.model, f"Backend {job.backend.name!r}: get_weights")

    ids, labels = selection.test.example_ids, selection.test.labels
    loss, accuracy = score(probabilities, labels)
    result = results.RunResult(
        run_id=spec.run_id,
        spec=spec,
        key=job.request["key"],
        status="ok",
        scores=results.Scores(accuracy=accuracy, loss=loss, examples=len(labels)),
        history=tuple(record for record, _ in epochs),
        layers=layers,
        durations=results.Durations(
            start=started - job.started,
            build=built - started,
            first_step=epochs[0][1],
            train=sum(record.seconds for record, _ in epochs),
            predict=predicted - predicting,
            total=perf_counter() - job.started,
        ),
        peak_memory_bytes=peak_memory(),
        environment={**installed(type(job.backend)), **job.backend.environment(), **memory_facts()},
        trace=results.TraceFacts(steps=trace.steps, noise=scales) if trace else None,
        inputs_hash=hash_inputs(ids, labels, selection.test.padded(spec.data.length, spec.data.vocabulary)),
        machine={**machine(), "node": platform.node()},
        jobs=int(job.request["jobs"]),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    results.write_run(
        job.place,
        result,
        example_ids=ids,
        labels=labels,
        probabilities=probabilities,
        weights=weights,
        beside=(lambda folder: trace.write(folder, ids[: spec.probes])) if trace else None,
    )


def _layers(run: _Run) -> tuple[results.LayerRecord, ...]:
    try:
        return tuple(results.LayerRecord.model_validate(layer, from_attributes=True) for layer in run.model.layers())
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ContractError(
            f"Backend {run.job.backend.name!r}: layers: {wrong['loc'][0]}: {wrong['msg']}, got {wrong['input']!r}."
        ) from None


def _batches(run: _Run, epoch: int, on_batch: Callable[[int], None] | None = None) -> Batches:
    """Give the training examples of one epoch, in the shared order when matched."""
    spec, data, train = run.spec, run.spec.data, run.selection.train
    another = spec.training.factors.order == "another"
    order = epoch_order(spec.seed, epoch, len(train), another=another) if spec.division == "matched" else None
    sizes = {"batch_size": spec.training.batch_size, "length": data.length, "vocabulary": data.vocabulary}
    return Batches(train.split, train.rows, order=order, on_batch=on_batch, **sizes)


def _calibrated(run: _Run) -> dict[str, float]:
    """Measure the backend's rounding with a model that is thrown away."""
    spec = run.spec
    drawn = initial_weights(spec.model, spec.seed, spec.training.factors)
    reference = ReferenceModel(spec.model, spec.training, drawn)
    return calibrate(run.job.create(spec), reference, islice(_batches(run, 1), CALIBRATION_STEPS))


def _trace(run: _Run, scales: Mapping[str, float]) -> Trace:
    spec, test = run.spec, run.selection.test
    probes = Block(test.split, test.rows[: spec.probes])
    total = spec.training.epochs * len(_batches(run, 1))
    disturb = Noise(run.model, scales, seed=spec.seed, number=spec.twin_number) if spec.twin == "continuing" else None
    return Trace(lambda: run.job.predict(run.model, probes, spec.data), total, disturb)


def _epoch(run: _Run, epoch: int, trace: Trace | None) -> tuple[results.EpochRecord, float]:
    """Train one epoch and validate; tells the record and returns it, and the seconds to the first finished batch."""
    job, valid = run.job, run.selection.valid
    begun = told = perf_counter()
    first = 0.0

    def on_batch(done: int) -> None:
        nonlocal told, first
        now = perf_counter()
        first = first or now - begun
        if now - told >= _PROGRESS_SECONDS:
            told = now
            job.emit("progress", stage="train", epoch=epoch, batch=done, batches=len(batches))

    batches = _batches(run, epoch, on_batch)
    begun = perf_counter()
    aside = trace.seconds if trace else 0.0
    stats = trace.epoch(run.model, batches) if trace else run.model.fit_epoch(batches)
    seconds = perf_counter() - begun - ((trace.seconds - aside) if trace else 0.0)
    if not isinstance(stats, EpochStats):
        raise ContractError(
            f"Backend {job.backend.name!r}: fit_epoch must return an EpochStats, got {type(stats).__name__}."
        )
    if not np.isfinite(stats.loss):
        raise CrosscheckError(f"Training diverged: the loss of epoch {epoch} is {stats.loss}.")
    if stats.loss < 0 or not 0 <= stats.accuracy <= 1:
        raise ContractError(
            f"Backend {job.backend.name!r}: fit_epoch must return a loss of at least 0 and an accuracy in [0, 1], got "
            f"{stats.loss} and {stats.accuracy}."
        )
    job.emit("progress", stage="validate", epoch=epoch)
    loss, accuracy = score(job.predict(run.model, valid, run.spec.data), valid.labels)
    record = results.EpochRecord(
        epoch=epoch,
        train_loss=float(stats.loss),
        train_accuracy=float(stats.accuracy),
        valid_loss=loss,
        valid_accuracy=accuracy,
        seconds=seconds,
    )
    job.emit("epoch", **record.model_dump())
    return record, first or seconds


def score(probabilities: NDArray[np.float32], labels: NDArray[np.int8]) -> tuple[float, float]:
    """Mean binary cross-entropy and accuracy; 0.5 or more is positive.

    Probabilities are clipped to [1e-7, 1 - 1e-7], so that one sure mistake doesn't make the mean infinite.
    """
    p = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    loss = -np.where(labels == 1, np.log(p), np.log1p(-p)).mean()
    return float(loss), float(((probabilities >= 0.5) == (labels == 1)).mean())
