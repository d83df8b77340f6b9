"""The contract between the harness and a framework, and the register of backends.

A backend is one class in one file. It imports its framework inside its methods, never at module level, so
that listing backends costs nothing and two frameworks never share a process.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.errors import ContractError, CrosscheckError, UsageError
from rnn_crosscheck.harness.protocol import ModelSpec, Setting, TrainingSpec, switched
from rnn_crosscheck.harness.weights import Weights, canonical_shapes, check_array

ENTRY_POINTS = "rnn_crosscheck.backends"

#: ``native``, ``matched``: trains in this division; ``inference``: trains nothing, predicts with weights of others;
#: ``parity``: `Model.forward` and `Model.gradients`; ``factors``: matched models honour every switch of `Factors`
Capability = Literal["native", "matched", "inference", "parity", "factors"]
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)


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
    """One row of the layer table: output shape without the batch axis, numbers of parameters."""

    name: str
    output_shape: tuple[int, ...]
    parameters: int
    trainable: int


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
        """Copy of the weights in the canonical layout."""

    @abstractmethod
    def set_weights(self, weights: Weights) -> None:
        """Take weights in the canonical layout."""

    @abstractmethod
    def layers(self) -> tuple[Layer, ...]:
        """Layers with their output shapes and numbers of parameters, in order."""

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
    def native_values(cls, training: TrainingSpec) -> Mapping[str, object]:
        """Values of the training spec, by dotted key, with which a matched model trains as a native one.

        For example ``{"epsilon": 1e-8, "factors.biases": "two"}``; nothing for a backend that doesn't say.
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


@dataclass(frozen=True)
class Registered:
    """A backend that can be named, found without importing its framework."""

    name: str
    target: str

    def load(self) -> type[Backend]:
        """Import the class and hold it against the contract.

        Raises
        ------
        ContractError
            One sentence that names the backend, what was expected and what came.
        """
        module_name, _, attribute = self.target.partition(":")
        try:
            found = getattr(importlib.import_module(module_name), attribute)
        except (Exception, SystemExit) as error:
            raise ContractError(
                f"Backend {self.name!r} ({self.target}) can't be imported: {type(error).__name__}: "
                f"{error if str(error) else 'no message'}."
            ) from error
        check_contract(self.name, found)
        return found  # type: ignore[no-any-return]  # just checked


def registered() -> dict[str, Registered]:
    """Backends by name, from the entry points of every installed distribution.

    Raises
    ------
    ContractError
        Two distributions register different classes under one name.
    """
    found: dict[str, Registered] = {}
    for point in metadata.entry_points(group=ENTRY_POINTS):
        other = found.get(point.name)
        if other is not None and other.target != point.value:
            raise ContractError(
                f"Two backends are registered as {point.name!r}: {other.target} and {point.value}; "
                "uninstall one or rename it."
            )
        found[point.name] = Registered(point.name, point.value)
    return found


def find(name: str) -> Registered:
    """Find a backend by its registered name, or as ``module:Class`` for a local one.

    Raises
    ------
    UsageError
        There is none; the sentence lists those there are.
    """
    if ":" in name:
        return Registered(name, name)
    backends = registered()
    if name not in backends:
        raise UsageError(
            f"Unknown backend {name!r}; the valid ones are: {', '.join(sorted(backends))}, or module:Class for a "
            "local one."
        )
    return backends[name]


def check_contract(name: str, found: object) -> None:
    """Refuse a class that isn't a backend.

    It isn't a `Backend` or its model no `Model`, methods are missing, signatures differ, a capability is unknown or
    claimed and not there.
    """
    if not (inspect.isclass(found) and issubclass(found, Backend)):
        raise ContractError(
            f"Backend {name!r}: expected a subclass of rnn_crosscheck.harness.backend.Backend, got {found!r}."
        )
    for attribute in ("name", "distributions", "requirement", "capabilities", "model"):
        if not hasattr(found, attribute):
            raise ContractError(f"Backend {name!r}: {found.__name__} must declare {attribute!r}.")
    values = found.native_values(TrainingSpec())
    try:
        switched(TrainingSpec(), values)
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ContractError(
            f"Backend {name!r}: {found.__name__}.native_values must give values of the training spec by dotted key, "
            f"such as {{'factors.biases': 'two'}}, got {values!r}."
        ) from None
    if not (inspect.isclass(found.model) and issubclass(found.model, Model)):
        raise ContractError(
            f"Backend {name!r}: {found.__name__}.model must be a subclass of rnn_crosscheck.harness.backend.Model, got "
            f"{found.model!r}."
        )
    _check_methods(name, found, Backend)
    _check_methods(name, found.model, Model)
    _check_capabilities(name, found)


def _check_methods(name: str, found: type, contract: type) -> None:
    missing = sorted(found.__abstractmethods__)  # type: ignore[attr-defined]  # both are ABCs
    if missing:
        raise ContractError(f"Backend {name!r}: {found.__name__} does not implement {', '.join(missing)}.")
    for method in vars(contract):
        if method.startswith("_") or not inspect.isroutine(getattr(contract, method)):
            continue
        want, got = _parameters(getattr(contract, method)), _parameters(getattr(found, method))
        if want != got:
            raise ContractError(
                f"Backend {name!r}: {found.__name__}.{method} takes ({', '.join(got)}), "
                f"the contract asks for ({', '.join(want)})."
            )


def _check_capabilities(name: str, found: type[Backend]) -> None:
    """Hold what a backend claims against what it has."""
    claimed, model = found.capabilities, found.model
    where = f"Backend {name!r}: {found.__name__} claims"
    if unknown := sorted(set(claimed) - set(CAPABILITIES)):
        raise ContractError(f"{where} {unknown[0]!r}, which is no capability; there are {', '.join(CAPABILITIES)}.")
    trains = claimed & {"native", "matched"}
    if not trains and "inference" not in claimed:
        raise ContractError(f"{where} none of native, matched and inference, so nothing could be asked of it.")
    if trains and "inference" in claimed:
        raise ContractError(
            f"{where} 'inference' beside {', '.join(sorted(trains))}; it is for backends that train nothing."
        )
    if "factors" in claimed and "matched" not in claimed:
        raise ContractError(f"{where} 'factors', which are switches of matched models, but not 'matched'.")
    lacking = [method for method in ("forward", "gradients") if getattr(model, method) is getattr(Model, method)]
    if "parity" in claimed and lacking:
        raise ContractError(f"{where} 'parity', but {model.__name__} does not implement {' and '.join(lacking)}.")
    if trains and issubclass(model, InferenceModel):
        raise ContractError(
            f"{where} {' and '.join(sorted(trains))}, but {model.__name__} is an InferenceModel, which trains nothing."
        )


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
    return tuple(Layer(name, shape, *[sum(sizes[part] for part in names)] * 2) for name, shape, names in parts)


def in_chunks(
    predict: Callable[[NDArray[np.int32]], Any], tokens: NDArray[np.int32], rows: int = 512
) -> NDArray[np.float32]:
    """Predict tokens (n, length) a chunk of rows at a time, to bound the memory; float32 (n,)."""
    found = np.empty(len(tokens), np.float32)
    for start in range(0, len(tokens), rows):
        found[start : start + rows] = predict(tokens[start : start + rows])
    return found


def _parameters(method: Callable[..., object]) -> list[str]:
    return [name for name in inspect.signature(method).parameters if name not in ("self", "cls")]


def missing_distributions(backend: type[Backend]) -> tuple[str, ...]:
    """Distributions that the backend needs and that aren't installed."""
    return tuple(name for name in backend.distributions if _version(name) is None)


def versions(backend: type[Backend]) -> dict[str, str]:
    """Versions of the backend's distributions, and a digest of the source that computes its results.

    The source is that of the modules of the backend, of its model and of their base classes, and of what the harness
    itself adds to a result: weights, batches, selection, worker. Comments and layout don't count. Other modules that a
    backend imports are not seen.
    """
    found = {name: _version(name) or "not installed" for name in ("numpy", *backend.distributions)}
    # Neither the standard library's base classes nor the contract compute anything.
    bases = (*backend.__mro__, *backend.model.__mro__)
    files = {inspect.getfile(base) for base in bases if base.__module__.split(".")[0] not in sys.stdlib_module_names}
    files -= {__file__}
    files |= {str(Path(__file__).parent / name) for name in _COMPUTING}
    found["source"] = digest_of(sorted(map(Path, files), key=lambda path: (path.name, path)))
    return found


def digest_of(files: Iterable[Path]) -> str:
    """Digest of Python files, in their order; comments and layout don't count."""
    dumped = b"".join(ast.dump(ast.parse(file.read_bytes())).encode() for file in files)
    return hashlib.sha256(dumped).hexdigest()[:16]


#: files of the harness that a result depends on, whatever the backend
_COMPUTING = (
    "adam.py",
    "weights.py",
    "batches.py",
    "worker/job.py",
    "worker/train.py",
    "parity/trace.py",
    "datasets/selection.py",
    "datasets/text.py",
)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
