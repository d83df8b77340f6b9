"""The course of one training, step by step, and twins: the same training with rounding of another kind.

A *traced* run keeps loss and gradient norm of every update, and the probabilities of some test examples after a few
of them. An *initial twin* has one weight moved by one unit in the last place before training. A *continuing twin* has
noise added after every update, of the size of the backend's own rounding in that parameter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import EllipsisType

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness import tables
from rnn_crosscheck.harness.backend import EpochStats, Model, Step
from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.errors import CrosscheckError
from rnn_crosscheck.harness.parity.reference import ReferenceModel
from rnn_crosscheck.harness.protocol import RunSpec
from rnn_crosscheck.harness.results import COURSE, PROBES
from rnn_crosscheck.harness.weights import Weights

#: updates whose error against the reference gives the size of a continuing twin's noise
CALIBRATION_STEPS = 5


def probe_steps(total: int) -> tuple[int, ...]:
    """Numbers of updates after which the probes are predicted: 1, 2, 3, 5, 7, 10, 20, 30, ... and the last."""
    steps = {leading * 10**power for power in range(len(str(total))) for leading in (1, 2, 3, 5, 7)}
    return tuple(sorted({step for step in steps if step < total} | {total}))


def initial_twin(weights: Weights, number: int) -> dict[str, NDArray[np.float32]]:
    """Move one weight up by one unit in the last place: entry ``number - 1`` of the first row of the kernel.

    Every token of every example meets that weight, whatever the data.
    """
    moved = {name: values.copy() for name, values in weights.items()}
    row = moved["kernel"][0]
    place = (number - 1) % len(row)
    row[place] = np.nextafter(row[place], np.float32(np.inf))
    return moved


def calibrate(
    model: Model, reference: ReferenceModel, batches: Iterable[tuple[NDArray[np.int32], NDArray[np.float32]]]
) -> dict[str, float]:
    """Measure how far a backend's rounding takes each parameter in one update.

    Both train on the same few batches from equal weights. The root mean square of what they differ in, over the
    entries that moved, is divided by the root of the number of updates: errors of different updates are taken for
    independent. `model` and `reference` are used up.

    Returns the standard deviation by parameter, and of an LSTM by gate: the forget gate's bias begins at 1, where
    float32 is a hundred times coarser than at the other biases.
    """
    before = model.get_weights()
    steps = 0
    for tokens, labels in batches:
        # A relu nearer to its kink than rounding reaches would make a whole step of Adam of it.
        on = relus_on(model, tokens) if reference.spec.activation == "relu" else None
        model.train_step(tokens, labels)
        reference.step64(tokens, labels, on)
        steps += 1
    found = {}
    weights = model.get_weights()
    for key, name, part in _parts(weights):
        moved = weights[name][part] != before[name][part]
        errors = (weights[name][part].astype(np.float64) - reference.weights[name][part])[moved]
        found[key] = float(np.sqrt(np.square(errors).mean() / steps)) if errors.size else 0.0
        if not np.isfinite(found[key]):
            raise CrosscheckError(f"Training diverged within its first {steps} updates, so no noise can be measured.")
    return found


def relus_on(model: Model, tokens: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which units of a relu RNN are on, (n, length, units)."""
    return model.forward(tokens).states > 0


def _parts(weights: Weights) -> Iterator[tuple[str, str, tuple[EllipsisType, slice]]]:
    """Name every parameter, or every gate of it, with the part of the array that it is."""
    units = len(weights["recurrent_kernel"])
    for name, values in weights.items():
        gates = values.shape[-1] // units if name in ("kernel", "recurrent_kernel", "bias") else 1
        wide = values.shape[-1] // gates
        for gate in range(gates):
            key = f"{name}.{gate}" if gates > 1 else name
            yield key, name, (..., slice(gate * wide, (gate + 1) * wide))


class Noise:
    """What makes a continuing twin: after each update, noise in every weight that the update moved.

    `scales` are standard deviations, as `calibrate` gives them; `seed` and `number` say which twin this is.
    """

    def __init__(self, model: Model, scales: Mapping[str, float], *, seed: int, number: int) -> None:
        self._model = model
        self._scales = scales
        self._rng = np.random.default_rng([seed, 0x7A1B, number])
        self._last = model.get_weights()

    def __call__(self) -> None:
        """Disturb the weights once."""
        disturbed = {name: values.copy() for name, values in self._model.get_weights().items()}
        for key, name, part in _parts(disturbed):
            values = disturbed[name][part]  # a view
            moved = values != self._last[name][part]
            noisy = values[moved] + self._rng.normal(0, self._scales[key], int(moved.sum()))
            values[moved] = self._rounded(noisy)
        self._model.set_weights(disturbed)
        self._last = disturbed

    def _rounded(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Round to float32 up or down at random, so that noise below half a unit in the last place isn't lost."""
        nearest = values.astype(np.float32)
        towards = np.where(values > nearest, np.float32(np.inf), np.float32(-np.inf)).astype(np.float32)
        other = np.nextafter(nearest, towards)
        gap = np.abs(other.astype(np.float64) - nearest)
        chance = np.abs(values - nearest) / gap
        return np.where(self._rng.random(len(values)) < chance, other, nearest)


class Trace:
    """Records a training of `total` updates.

    `predict` gives the probabilities of the probes, (probes,). `disturb` is called after each update, and is what makes
    a continuing twin.
    """

    def __init__(
        self, predict: Callable[[], NDArray[np.float32]], total: int, disturb: Callable[[], None] | None
    ) -> None:
        self._predict = predict
        self._disturb = disturb
        self.steps = probe_steps(total)
        self._seen: list[Step] = []
        self._probes: dict[int, NDArray[np.float32]] = {}
        #: time that a training without a trace would not have taken
        self.seconds = 0.0

    def epoch(self, model: Model, batches: Batches) -> EpochStats:
        """Train one epoch, a batch at a time, in the order of `batches`."""
        first = len(self._seen)
        sizes = []
        for tokens, labels in batches:
            step = model.observed_step(tokens, labels)
            if not np.isfinite(step.loss):
                raise CrosscheckError(f"Training diverged: the loss of step {len(self._seen) + 1} is {step.loss}.")
            self._seen.append(step)
            sizes.append(len(labels))
            batches.batch_done()
            begun = time.perf_counter()
            if self._disturb is not None:
                self._disturb()
            if len(self._seen) in self.steps:
                self._probes[len(self._seen)] = self._predict()
            self.seconds += time.perf_counter() - begun
        seen = self._seen[first:]
        losses = sum(step.loss * size for step, size in zip(seen, sizes, strict=True))
        return EpochStats(losses / sum(sizes), sum(step.right for step in seen) / sum(sizes))

    def write(self, folder: Path, example_ids: list[str]) -> None:
        """Write ``trace.parquet`` and ``probes.parquet`` (see `harness.results.TraceFacts`)."""
        course = {
            "step": range(1, len(self._seen) + 1),
            "loss": [step.loss for step in self._seen],
            "gradient_norm": [step.gradient_norm for step in self._seen],
        }
        tables.write(folder / COURSE, tables.COURSE, course)
        probes = {"example_id": example_ids, **{f"step_{step}": values for step, values in self._probes.items()}}
        tables.write(folder / PROBES, tables.probes(self._probes), probes)


def starting_weights(spec: RunSpec, drawn: Weights) -> Weights:
    """Give the weights that a matched run starts from: those drawn, but for an initial twin."""
    return initial_twin(drawn, spec.twin_number) if spec.twin == "initial" else drawn
