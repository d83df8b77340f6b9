"""The protocol's models in NumPy, float64 throughout: the yardstick for parity.

Forward pass, loss, back-propagation through time and Keras' Adam are written out, so that every number of a framework
can be held against one that doesn't come from a framework. Padding is a token like any other; nothing is masked.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.adam import Adam
from rnn_crosscheck.harness.backend import (
    Backend,
    Capability,
    EpochStats,
    Forward,
    Layer,
    Model,
    Step,
    canonical_layers,
    check_batch,
    check_device,
)
from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.errors import ContractError
from rnn_crosscheck.harness.protocol import ModelSpec, Setting, TrainingSpec
from rnn_crosscheck.harness.weights import Weights, canonical_shapes, check_weights

Array = NDArray[np.float64]

#: rows computed at once when nothing is trained, to bound the memory
_CHUNK = 64

#: probabilities are kept this far from 0 and 1 when the loss is of probabilities
_CLIP = 1e-7
#: the upper bound is what float32 makes of it, 1.2e-7 from 1: a rounding of the frameworks that is followed, since the
#: loss there is 15.9 instead of 16.1
_CLIP_ABOVE = float(np.float32(1 - _CLIP))


@dataclass(frozen=True, eq=False)
class Pass:
    """What the reference computes for n examples.

    Recurrent states (n, length, units), logits (n,), and for a relu RNN what each relu is taken of, in the shape of
    the states.
    """

    states: Array
    logits: Array
    preactivations: Array | None


@dataclass(frozen=True, eq=False)
class _Tape:
    """What the backward pass needs of a forward pass; time comes first, so that a step of it is one block of memory."""

    tokens: NDArray[np.int32]  # (length, n)
    embedded: Array  # (length, n, embedding)
    gates: Array  # (length, n, gates * units): before the activation of an RNN, after those of the others
    states: Array  # (length + 1, n, units), from the zeros before the first token
    cells: Array  # the same of an LSTM's cells; of a GRU what the reset gate scales; empty for an RNN
    logits: Array  # (n,)


@dataclass(frozen=True, eq=False)
class _Backward:
    loss: float
    logits: Array  # (n,)
    gradients: dict[str, Array]
    apart: Array  # (length * n, embedding): the embedding's gradient before those of one token are summed

    def right(self, labels: NDArray[Any]) -> int:
        """Count the right answers."""
        return int(((self.logits >= 0) == (labels >= 0.5)).sum())


class ReferenceModel(Model):
    """A model of the protocol in float64, with every factor that a model carries out; Adam's state starts at zero.

    `weights` are in the canonical layout, float32 or float64, and copied. Values that are `lacking`, by parameter, have
    no gradient.
    """

    def __init__(
        self,
        spec: ModelSpec,
        training: TrainingSpec,
        weights: Mapping[str, NDArray[np.floating]],
        lacking: Mapping[str, NDArray[np.bool_]] = MappingProxyType({}),
    ) -> None:
        self.spec, self.training, self._lacking = spec, training, lacking
        self.weights: dict[str, Array] = {}
        self.set_weights(weights)
        self._adam = Adam(training, one_for_two=spec.biases == 1)

    # --- float64 ------------------------------------------------------------------------------------------------

    def forward64(self, tokens: NDArray[np.int32]) -> Pass:
        """States, logits and preactivations for tokens (n, length), all kept."""
        # Of each chunk's tape only what is asked for is kept.
        passes = [_kept(self._forward(chunk), relu=self.spec.activation == "relu") for chunk in _chunks(tokens)]
        kinks = [part.preactivations for part in passes if part.preactivations is not None]
        return Pass(
            np.concatenate([part.states for part in passes]),
            np.concatenate([part.logits for part in passes]),
            np.concatenate(kinks) if kinks else None,
        )

    def logits64(self, tokens: NDArray[np.int32]) -> Array:
        """Logits (n,) for tokens (n, length); takes the memory of one chunk, however many examples there are."""
        return np.concatenate([self._forward(chunk).logits for chunk in _chunks(tokens)])

    def loss64(self, tokens: NDArray[np.int32], labels: NDArray[Any]) -> float:
        """Mean loss of a batch: tokens (n, length), labels (n,)."""
        return _loss(self.logits64(tokens), np.asarray(labels, np.float64), self.training.factors.loss_form)[0]

    def gradients64(
        self, tokens: NDArray[np.int32], labels: NDArray[Any], on: NDArray[np.bool_] | None = None
    ) -> dict[str, Array]:
        """Gradients of the mean loss in the canonical layout: summed over duplicates, not clipped.

        `on` is as for `step64`.
        """
        return self._backward(tokens, labels, on).gradients

    def step64(
        self, tokens: NDArray[np.int32], labels: NDArray[Any], on: NDArray[np.bool_] | None = None
    ) -> tuple[float, float]:
        """Train on one batch; mean loss and global norm of the gradients (before clipping) from before the update.

        `on` says which relus are taken to be on, (n, length, units), as another model has them: where rounding alone
        decides on which side of its kink a relu is, both slopes are right. None for its own.
        """
        found, norm = self._update(tokens, labels, on)
        return found.loss, norm

    # --- the contract -------------------------------------------------------------------------------------------

    def fit_epoch(self, batches: Batches) -> EpochStats:
        """Train on the batches as they come."""
        losses, hits = 0.0, 0
        for tokens, labels in batches:
            found, _ = self._update(tokens, labels)
            losses += found.loss * len(labels)
            hits += found.right(labels)
            batches.batch_done()
        return EpochStats(losses / batches.examples, hits / batches.examples)

    def train_step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> float:
        """Train on one batch; see `harness.backend.Model.train_step`."""
        check_batch(_WHERE + "train_step", self.spec, tokens, labels)
        return self.step64(tokens, labels)[0]

    def observed_step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Step:
        """Train on one batch; see `harness.backend.Model.observed_step`."""
        check_batch(_WHERE + "observed_step", self.spec, tokens, labels)
        found, norm = self._update(tokens, labels)
        return Step(found.loss, norm, found.right(labels))

    def forward(self, tokens: NDArray[np.int32]) -> Forward:
        """States and logits, rounded to float32."""
        check_batch(_WHERE + "forward", self.spec, tokens)
        found = self.forward64(tokens)
        return Forward(found.states.astype(np.float32), found.logits.astype(np.float32))

    def predict(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Probability of the positive class, (n,), rounded to float32."""
        check_batch(_WHERE + "predict", self.spec, tokens)
        return sigmoid(self.logits64(tokens)).astype(np.float32)

    def gradients(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Weights:
        """Gradients of the mean loss, rounded to float32."""
        check_batch(_WHERE + "gradients", self.spec, tokens, labels)
        return {name: values.astype(np.float32) for name, values in self.gradients64(tokens, labels).items()}

    def get_weights(self) -> Weights:
        """Copy of the weights, rounded to float32."""
        return {name: values.astype(np.float32) for name, values in self.weights.items()}

    def set_weights(self, weights: Mapping[str, NDArray[np.floating]]) -> None:
        """Take weights in the canonical layout; unlike other backends, in float64 as well."""
        single = {
            name: values.astype(np.float32) if getattr(values, "dtype", None) == np.float64 else values
            for name, values in weights.items()
        }
        check_weights(single, self.spec, _WHERE + "set_weights")
        self.weights = {name: weights[name].astype(np.float64, order="C") for name in canonical_shapes(self.spec)}

    def layers(self) -> tuple[Layer, ...]:
        """One row each for the embedding, the recurrent layer and the head."""
        return canonical_layers(self.spec)

    # --- forward, backward, the optimizer -----------------------------------------------------------------------

    def _forward(self, tokens: NDArray[np.int32]) -> _Tape:
        """Run the model on tokens (n, length)."""
        w, (n, length) = self.weights, tokens.shape
        in_time = np.ascontiguousarray(tokens.T)
        embedded = w["embedding"][in_time]
        # The share of the inputs, for all steps at once; each step adds that of the state before it.
        gates = embedded.reshape(length * n, self.spec.embedding) @ w["kernel"]
        of_inputs, of_states = w["bias"] if self.spec.biases == 2 else (w["bias"], 0.0)
        gates += of_inputs
        gates = gates.reshape(length, n, w["bias"].shape[-1])
        states = np.zeros((length + 1, n, self.spec.units))
        cells = np.zeros(0) if self.spec.cell == "rnn" else np.zeros_like(states)
        for t in range(length):
            recurrent = states[t] @ w["recurrent_kernel"]
            if self.spec.cell == "gru":
                _gru_step(gates[t], recurrent + of_states, states[t], cells[t + 1], states[t + 1])
                continue
            gates[t] += recurrent
            if self.spec.cell == "lstm":
                _lstm_step(gates[t], cells[t], cells[t + 1], states[t + 1])
            elif self.spec.activation == "relu":
                np.maximum(gates[t], 0, out=states[t + 1])
            else:
                np.tanh(gates[t], out=states[t + 1])
        logits = states[-1] @ w["dense_kernel"][:, 0] + w["dense_bias"]
        return _Tape(in_time, embedded, gates, states, cells, logits)

    def _backward(
        self, tokens: NDArray[np.int32], labels: NDArray[Any], on: NDArray[np.bool_] | None = None
    ) -> _Backward:
        w, tape = self.weights, self._forward(tokens)
        loss, slope = _loss(tape.logits, np.asarray(labels, np.float64), self.training.factors.loss_form)
        errors, recurrent_errors = self._through_time(tape, np.outer(slope, w["dense_kernel"][:, 0]), on)
        # All steps at once: one product is quicker than one a step, and rounds less.
        flat, recurrent = (part.reshape(-1, part.shape[-1]) for part in (errors, recurrent_errors))
        apart = flat @ w["kernel"].T
        gradients = {
            "embedding": self._by_token(tape.tokens, apart),
            "kernel": tape.embedded.reshape(len(flat), -1).T @ flat,
            "recurrent_kernel": tape.states[:-1].reshape(len(flat), -1).T @ recurrent,
            "bias": np.stack([flat.sum(axis=0), recurrent.sum(axis=0)])
            if self.spec.cell == "gru"
            else flat.sum(axis=0),
            "dense_kernel": tape.states[-1].T @ slope[:, None],
            "dense_bias": slope.sum(keepdims=True),
        }
        for name, missing in self._lacking.items():
            gradients[name][missing] = 0
        return _Backward(loss, tape.logits, gradients, apart)

    def _through_time(self, tape: _Tape, state_error: Array, on: NDArray[np.bool_] | None) -> tuple[Array, Array]:
        """Carry the derivative by the last state, (n, units), back to what enters each gate, (length, n, wide).

        What enters from the inputs, and what enters from the state before; the same but for a GRU.
        """
        errors = np.empty_like(tape.gates)
        recurrent = np.empty_like(tape.gates) if self.spec.cell == "gru" else errors
        back = np.ascontiguousarray(self.weights["recurrent_kernel"].T)
        cell_error = np.zeros_like(state_error)
        for t in range(len(errors) - 1, -1, -1):
            if self.spec.cell == "lstm":
                _lstm_step_back(tape.gates[t], tape.cells[t], tape.cells[t + 1], state_error, cell_error, errors[t])
            elif self.spec.cell == "gru":
                through = _gru_step_back(
                    tape.gates[t], tape.cells[t + 1], tape.states[t], state_error, errors[t], recurrent[t]
                )
                state_error = recurrent[t] @ back + through
                continue
            elif self.spec.activation == "relu":
                np.multiply(state_error, tape.gates[t] > 0 if on is None else on[:, t], out=errors[t])
            else:
                np.multiply(state_error, 1 - np.square(tape.states[t + 1]), out=errors[t])
            state_error = errors[t] @ back
        return errors, recurrent

    def _by_token(self, tokens: NDArray[np.int32], rows: Array) -> Array:
        """Sum rows (length * n, embedding) over the places where each token stands, (vocabulary, embedding)."""
        order = np.argsort(tokens, axis=None, kind="stable")
        ordered = tokens.reshape(-1)[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        found = np.zeros_like(self.weights["embedding"])
        found[ordered[starts]] = np.add.reduceat(rows[order], starts, axis=0)
        if self.training.factors.pad_row == "frozen":
            found[0] = 0
        return found

    def _update(
        self, tokens: NDArray[np.int32], labels: NDArray[Any], on: NDArray[np.bool_] | None = None
    ) -> tuple[_Backward, float]:
        """One update; what it was made of, and the global norm of the gradients before they are clipped."""
        found = self._backward(tokens, labels, on)
        squares = {}
        if self.training.factors.duplicates == "apart":
            squares["embedding"] = self._by_token(tokens.T, np.square(found.apart))
        # The rates are float32, a rounding of the frameworks that is followed: in the first steps it moves
        # 1 - beta_2**t by 5e-5 of itself, and would hide how little else is rounded.
        moves, norm = self._adam.step(found.gradients, squares)
        for name, move in moves.items():
            self.weights[name] -= move
        return found, float(norm)


class Reference(Backend):
    """The reference as a backend: matched only, for it has no defaults of its own."""

    name: ClassVar[str] = "reference"
    distributions: ClassVar[tuple[str, ...]] = ()
    requirement: ClassVar[str] = "rnn-crosscheck"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"matched", "parity", "factors"})
    model: ClassVar[type[Model]] = ReferenceModel
    by_default: ClassVar[bool] = False

    @classmethod
    def worker_environment(cls, threads: int) -> Mapping[str, str]:
        """Pin whichever BLAS NumPy was built with."""
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
        return dict.fromkeys(names, str(threads))

    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        """Seed the global generators; threads are pinned by `worker_environment`."""
        random.seed(seed)
        np.random.seed(seed)

    def devices(self) -> tuple[str, ...]:
        """``cpu`` only."""
        return ("cpu",)

    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        """Build a model; see `harness.backend.Backend.create`.

        Raises
        ------
        ContractError
            No weights: there is no native division.
        """
        check_device(self, device)
        if weights is None:
            raise ContractError(
                f"Backend {self.name!r} has no native division, since it has no defaults of its own: expected weights, "
                "got None; run it with divisions=['matched']."
            )
        return ReferenceModel(model, training, weights)

    def environment(self) -> dict[str, str]:
        """Version of NumPy, device, arithmetic."""
        return {"numpy": np.__version__, "device": "cpu", "arithmetic": "float64"}


_WHERE = f"Backend {Reference.name!r}: "


def _chunks(tokens: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
    """Cut tokens (n, length) into chunks; no examples are one chunk, since they still have a shape."""
    for start in range(0, max(len(tokens), 1), _CHUNK):
        yield tokens[start : start + _CHUNK]


def _kept(tape: _Tape, *, relu: bool) -> Pass:
    preactivations = tape.gates.swapaxes(0, 1) if relu else None
    return Pass(tape.states[1:].swapaxes(0, 1), tape.logits, preactivations)


def _loss(logits: Array, labels: Array, form: str) -> tuple[float, Array]:
    """Mean loss, and its derivative by each logit, (n,)."""
    p = sigmoid(logits)
    slope = (p - labels) / len(labels)
    if form == "probabilities":
        kept = np.clip(p, _CLIP, _CLIP_ABOVE)
        losses = -(labels * np.log(kept) + (1 - labels) * np.log1p(-kept))
        return float(losses.mean()), np.where(kept == p, slope, 0.0)
    # Each label has its own softplus: their difference from one another would cancel where the model is sure.
    losses = labels * np.logaddexp(0, -logits) + (1 - labels) * np.logaddexp(0, logits)
    return float(losses.mean()), slope


def _lstm_step(gates: Array, before: Array, cell: Array, state: Array) -> None:
    """One step of time: activates gates (n, 4 * units) where they stand, writes cell and state (n, units)."""
    i, f, g, o = np.split(gates, 4, axis=1)
    for gate in (i, f, o):
        sigmoid(gate, out=gate)
    np.tanh(g, out=g)
    np.multiply(f, before, out=cell)
    cell += i * g
    np.multiply(o, np.tanh(cell), out=state)


def _lstm_step_back(
    gates: Array, before: Array, cell: Array, state_error: Array, cell_error: Array, errors: Array
) -> None:
    """Undo `_lstm_step`: writes errors (n, 4 * units), and into cell_error what the cell before it gets."""
    i, f, g, o = np.split(gates, 4, axis=1)
    to_i, to_f, to_g, to_o = np.split(errors, 4, axis=1)
    out = np.tanh(cell)
    cell_error += state_error * o * (1 - np.square(out))
    to_i[:] = cell_error * g * i * (1 - i)
    to_f[:] = cell_error * before * f * (1 - f)
    to_g[:] = cell_error * i * (1 - np.square(g))
    to_o[:] = state_error * out * o * (1 - o)
    cell_error *= f


def _gru_step(gates: Array, recurrent: Array, before: Array, inner: Array, state: Array) -> None:
    """One step of time: activates gates (n, 3 * units) where they stand, writes state and what is reset (n, units).

    `recurrent` is what comes from the state before, with its bias.
    """
    (z, r, h), (to_z, to_r, to_h) = np.split(gates, 3, axis=1), np.split(recurrent, 3, axis=1)
    for gate, share in ((z, to_z), (r, to_r)):
        gate += share
        sigmoid(gate, out=gate)
    inner[:] = to_h
    h += r * inner
    np.tanh(h, out=h)
    np.add(z * before, (1 - z) * h, out=state)


def _gru_step_back(
    gates: Array, inner: Array, before: Array, state_error: Array, errors: Array, recurrent: Array
) -> Array:
    """Undo `_gru_step`: writes both errors (n, 3 * units), returns what reaches the state before past the gates."""
    z, r, h = np.split(gates, 3, axis=1)
    to_h = state_error * (1 - z) * (1 - np.square(h))
    to_z = state_error * (before - h) * z * (1 - z)
    to_r = to_h * inner * r * (1 - r)
    np.concatenate([to_z, to_r, to_h], axis=1, out=errors)
    np.concatenate([to_z, to_r, to_h * r], axis=1, out=recurrent)
    return state_error * z


def sigmoid(values: Array, out: Array | None = None) -> Array:
    """1 / (1 + exp(-x)), exact to rounding at both ends: where exp overflows, the quotient is 0 as it should be."""
    with np.errstate(over="ignore"):
        found = np.exp(np.negative(values, out=out), out=out)
    found += 1
    return np.reciprocal(found, out=out)
