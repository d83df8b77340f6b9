"""The contract between the harness and a framework.

A backend is one class in one file. It imports its framework inside its methods, never at module level, so
that listing backends costs nothing and two frameworks never share a process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.errors import ContractError, CrosscheckError
from rnn_crosscheck.harness.protocol import ModelSpec, Setting, TrainingSpec
from rnn_crosscheck.harness.weights import Weights, canonical_shapes, check_array

#: ``native``, ``matched``: trains in this division; ``inference``: trains nothing, predicts with weights of others;
#: ``parity``: `Model.forward` and `Model.gradients`; ``factors``: matched models honour every switch of `Factors`
Capability = Literal["native", "matched", "inference", "parity", "factors"]
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)

#: a value of `Backend.native_values` that no switch has: this, and what is so instead in a few words
OTHER = "other: "


@dataclass(frozen=True)
class EpochStats:
    """What one epoch of training saw, weighted by examples, while the weights were moving."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Step:
    """One update: mean loss, global norm of the gradients (not clipped) and right answers, all from before it."""

    loss: float
    gradient_norm: float
    right: int


@dataclass(frozen=True, eq=False)
class Forward:
    """What a model computes for a batch: recurrent states (n, length, units) and logits (n,), float32."""

    states: NDArray[np.float32]
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """One row of the layer table: output shape without the batch axis, numbers of parameters, all and trainable.

    `note` says in a few words what of the canonical layout it hasn't; empty if it has all.
    """

    name: str
    output_shape: tuple[int, ...]
    parameters: int
    trainable: int
    note: str = ""


class Model(ABC):
    """A model of the protocol in one framework, ready to be trained.

    Every call returns only when the device has finished. Arrays that are passed in are never changed.
    """

    @abstractmethod
    def fit_epoch(self, batches: Batches) -> EpochStats:
        """Train one epoch the way a user of the framework would.

        In the matched division the batches are taken as they come; in the native division the framework may
        take ``batches.arrays()`` and shuffle for itself.
        """

    @abstractmethod
    def train_step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> float:
        """Train on one batch: tokens (batch, length), labels (batch,); returns the mean loss before the update."""

    @abstractmethod
    def predict(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Probability of the positive class, (n,), for tokens (n, length); training is not touched."""

    @abstractmethod
    def get_weights(self) -> Weights:
        """Copy of the weights in the canonical layout, 0 for what the model hasn't."""

    @abstractmethod
    def set_weights(self, weights: Weights) -> None:
        """Take weights in the canonical layout."""

    @abstractmethod
    def layers(self) -> tuple[Layer, ...]:
        """Layers with their output shapes and numbers of parameters as the model has them, in order."""

    def forward(self, tokens: NDArray[np.int32]) -> Forward:
        """Compute states and logits of a batch, tokens (n, length) (capability ``parity``)."""
        raise ContractError(f"{type(self).__name__} has no capability 'parity'.")

    def gradients(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Weights:
        """Gradients of the mean loss in the canonical layout, not clipped (capability ``parity``)."""
        raise ContractError(f"{type(self).__name__} has no capability 'parity'.")

    def observed_step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Step:
        """Train on one batch as `train_step` does, and tell the norm of its gradients.

        A backend that has the norm at hand saves the second pass that this takes.
        """
        squares = [np.square(values, dtype=np.float64).sum() for values in self.gradients(tokens, labels).values()]
        right = int(((self.predict(tokens) >= 0.5) == (labels >= 0.5)).sum())
        return Step(self.train_step(tokens, labels), float(np.sqrt(sum(squares))), right)


class InferenceModel(Model):
    """A model of a backend that trains nothing (capability ``inference``)."""

    def fit_epoch(self, batches: Batches) -> EpochStats:
        """Refuse: there is nothing here that trains."""
        raise self._trains_nothing("fit_epoch")

    def train_step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> float:
        """Refuse: there is nothing here that trains."""
        raise self._trains_nothing("train_step")

    def _trains_nothing(self, method: str) -> ContractError:
        return ContractError(
            f"{type(self).__name__}.{method}: this backend predicts with given weights and trains nothing."
        )


class Backend(ABC):
    """One framework's implementation of the protocol's models."""

    name: ClassVar[str]
    #: distributions that must be installed, with their versions in the key of every result
    distributions: ClassVar[tuple[str, ...]]
    #: what to give to pip when they are missing
    requirement: ClassVar[str]
    #: declared, never sniffed
    capabilities: ClassVar[frozenset[Capability]]
    #: what `create` gives
    model: ClassVar[type[Model]]
    #: whether a comparison takes it when no backends are named
    by_default: ClassVar[bool] = True
    #: what `tuned` does, in a few words for the report; empty for a backend that has no such setting
    tuned: ClassVar[str] = ""

    @classmethod
    def native_values(cls, model: ModelSpec, training: TrainingSpec) -> Mapping[str, object]:
        """Values of the training spec, by dotted key, with which a matched model trains as a native one.

        For example ``{"epsilon": 1e-8, "factors.biases": "two"}``. A factor that is neither is told in words:
        ``{"factors.recurrent_bias": "other: uniform in ±1/√embedding"}``. What isn't named is as the protocol has it;
        nothing at all for a backend that doesn't say.
        """
        return {}

    @classmethod
    def worker_environment(cls, threads: int) -> Mapping[str, str]:
        """Environment variables that must stand before the framework is imported."""
        return {}

    @classmethod
    def tuned_threads(cls, model: ModelSpec, *, threads: int, cores: int) -> int:
        """Threads that the tuned setting computes a model with.

        Parameters
        ----------
        model
            What is computed.
        threads
            What the protocol gives to a worker.
        cores
            What this machine has.
        """
        return threads

    @abstractmethod
    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        """Prepare a fresh process; called once, first.

        Parameters
        ----------
        threads
            To be pinned.
        seed
            Of every generator there is.
        setting
            ``tuned`` only for a backend that says what it is.
        deterministic
            Whether the same run must give the same numbers again. What is timed need not: it gets the kernels that
            the framework's users get.
        """

    @abstractmethod
    def devices(self) -> tuple[str, ...]:
        """Devices that this framework can use here: ``cpu``, and ``cuda`` if it really can."""

    @abstractmethod
    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        """Build a model.

        Parameters
        ----------
        model, training
            What the protocol asks for.
        weights
            None for the framework's own initialisation and defaults (native); weights in the canonical layout
            for the matched division, whose optimizer and loss arithmetic is Keras' Adam on logits.
        seed
            Seed of the run.
        device
            ``cpu`` or ``cuda``.
        """

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """Versions, device, kernel in use, thread counts: as plain text for the report."""


def check_batch(where: str, model: ModelSpec, tokens: object, labels: object = None) -> None:
    """Refuse a batch that isn't tokens int32 (n, length) and, where labels are given, labels float32 (n,), n > 0.

    Raises
    ------
    ContractError
        One sentence; `where` names the backend and the method.
    """
    rows = len(tokens) if isinstance(tokens, np.ndarray) and tokens.ndim else 0
    check_array(where, "tokens", tokens, "int32", (rows, model.length), f"(n, {model.length})")
    if labels is not None:
        check_array(where, "labels", labels, "float32", (rows,))
        if rows == 0:
            raise ContractError(f"{where}: expected a batch of at least one example, got none.")


def check_device(backend: Backend, device: str) -> None:
    """Refuse a device that the backend can't use here.

    Raises
    ------
    CrosscheckError
        One sentence that lists the devices there are.
    """
    devices = backend.devices()
    if device not in devices:
        raise CrosscheckError(
            f"Backend {backend.name!r} can't use the device {device!r} here; it can use: {', '.join(devices)}."
        )


def canonical_layers(model: ModelSpec) -> tuple[Layer, ...]:
    """Rows of the layer table of a model that keeps the canonical parameters, all of them trainable."""
    sizes = {name: int(np.prod(shape)) for name, shape in canonical_shapes(model).items()}
    parts: tuple[tuple[str, tuple[int, ...], tuple[str, ...]], ...] = (
        ("embedding", (model.length, model.embedding), ("embedding",)),
        (model.cell, (model.units,), ("kernel", "recurrent_kernel", "bias")),
        ("dense", (1,), ("dense_kernel", "dense_bias")),
    )
    counted = ((name, shape, sum(sizes[part] for part in names)) for name, shape, names in parts)
    return tuple(Layer(name, shape, size, size) for name, shape, size in counted)


def in_chunks(
    predict: Callable[[NDArray[np.int32]], Any], tokens: NDArray[np.int32], rows: int = 512
) -> NDArray[np.float32]:
    """Predict tokens (n, length) a chunk of rows at a time, to bound the memory; float32 (n,)."""
    found = np.empty(len(tokens), np.float32)
    for start in range(0, len(tokens), rows):
        found[start : start + rows] = predict(tokens[start : start + rows])
    return found


def is_other(value: object) -> bool:
    """Whether a value of `Backend.native_values` is told in words."""
    return isinstance(value, str) and value.startswith(OTHER) and bool(value.removeprefix(OTHER).strip())
