"""What a check is, and what it has at hand: a backend on trial, small models and examples, the reference beside them.

A check is a function of a `Trial`. It returns when the backend does right and raises `NotConforming` with a sentence
otherwise. Each looks at one thing and takes the others for granted as far as it can, so that a fault shows once and
says which it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.backend import Backend, Model
from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.errors import CrosscheckError
from rnn_crosscheck.harness.parity.reference import ReferenceModel
from rnn_crosscheck.harness.protocol import Cell, Division, ModelSpec, Setting, TrainingSpec
from rnn_crosscheck.harness.weights import Weights, initial_weights

Batch = tuple[NDArray[np.int32], NDArray[np.float32]]

#: in which process a check runs: one that it shares with others, one of its own, or two of its own whose answers agree
Place = Literal["shared", "fresh", "twice"]

VOCABULARY, LENGTH, EMBEDDING, UNITS, SIZE = 60, 12, 8, 5, 6
CELLS: tuple[Cell, ...] = get_args(Cell)

#: not the default values, so that a backend that ignores them is found
TRAINING = TrainingSpec(batch_size=SIZE, learning_rate=5e-3, beta_1=0.8, beta_2=0.99, epsilon=1e-4)


class NotConforming(CrosscheckError):
    """A backend doesn't do what the contract asks for; the message says what was expected and what came."""


@dataclass(frozen=True)
class Check:
    """One check: what it needs of a backend, and where it runs."""

    name: str
    needs: frozenset[str]
    place: Place
    function: Callable[[Trial], str | None]

    @property
    def question(self) -> str:
        """What is asked, in a sentence."""
        return (self.function.__doc__ or "").strip().splitlines()[0]

    def applies(self, backend: type[Backend]) -> bool:
        """Whether a backend claims what is checked."""
        has = {*backend.capabilities, *(["tuned"] if backend.tuned else [])}
        if any(backend.native_values(spec_of(cell), TRAINING) for cell in CELLS):
            has.add("declares")
        if {"native", "matched"} & has:
            has.add("trains")
        if {"matched", "inference"} & has:
            has.add("given")
        return self.needs <= has


def check(*needs: str, place: Place = "shared") -> Callable[[Callable[[Trial], str | None]], Check]:
    """Make a check of a function; `needs` are capabilities, or else.

    Else: ``trains``, ``given`` (takes weights), ``declares`` (says what native models are) or ``tuned``.
    """
    return lambda function: Check(function.__name__, frozenset(needs), place, function)


class Examples:
    """Random token ids: a row begins with padding, but for those that are asked for otherwise."""

    def __init__(self, n: int, *, seed: int = 0, pads: int = 2) -> None:
        rng = np.random.default_rng([seed, 0xC0F0])
        # A few tokens are frequent, as in real texts.
        self.tokens = np.clip(rng.zipf(1.5, (n, LENGTH)), 1, VOCABULARY - 1).astype(np.int32)
        self.tokens[:, :pads] = 0
        self.labels = (np.arange(n) % 2).astype(np.int8)

    def padded(self, rows: NDArray[np.int64], length: int, vocabulary: int) -> NDArray[np.int32]:
        """Token ids of `rows`, as `harness.batches.Examples` asks for."""
        return self.tokens[rows]

    def batch(self, start: int = 0, size: int = SIZE) -> Batch:
        """Some rows, and their labels."""
        return self.tokens[start : start + size].copy(), self.labels[start : start + size].astype(np.float32)

    def batches(self) -> Iterator[Batch]:
        """All rows once, in their order."""
        return (self.batch(start) for start in range(0, len(self.labels), SIZE))

    def epoch(self, division: Division, *, done: Callable[[int], None] | None = None) -> Batches:
        """All rows once; in their order when matched."""
        rows = np.arange(len(self.labels))
        return Batches(
            self,
            rows,
            order=rows if division == "matched" else None,
            batch_size=SIZE,
            length=LENGTH,
            vocabulary=VOCABULARY,
            on_batch=done,
        )


def spec_of(cell: Cell, *, units: int = UNITS, vocabulary: int = VOCABULARY) -> ModelSpec:
    """Give a small model of a cell."""
    return ModelSpec(
        name=cell,
        cell=cell,
        units=units,
        activation="relu" if cell == "rnn" else "tanh",
        embedding=EMBEDDING,
        vocabulary=vocabulary,
        length=LENGTH,
    )


@dataclass(eq=False)
class Trial:
    """A backend in a process where its framework may be used."""

    backend: Backend
    device: Literal["cpu", "cuda"] = "cpu"
    setting: Setting = "default"
    _lively: dict[Cell, Model] = field(default_factory=dict)

    @cached_property
    def ready(self) -> Backend:
        """The backend, set up."""
        self.backend.setup(threads=1, seed=0, setting=self.setting, deterministic=True)
        return self.backend

    @property
    def divisions(self) -> tuple[Division, ...]:
        """Divisions that the backend trains in."""
        both: tuple[Division, ...] = get_args(Division)
        return tuple(division for division in both if division in self.backend.capabilities)

    @property
    def kinds(self) -> tuple[Division, ...]:
        """Divisions whose models can be created: what trains nothing takes weights of ours, as matched models do."""
        return self.divisions or ("matched",)

    def every(self, cells: Sequence[Cell] = ("rnn",)) -> Iterable[tuple[Division, Cell]]:
        """Each division that trains, with some cells; one is enough for what has nothing to do with the arithmetic."""
        return ((division, cell) for division in self.divisions for cell in cells)

    def native_values(self, spec: ModelSpec, training: TrainingSpec) -> Mapping[str, object]:
        """What the backend declares of its native models."""
        return type(self.backend).native_values(spec, training)

    def create(
        self, spec: ModelSpec, weights: Weights | None, *, training: TrainingSpec = TRAINING, seed: int = 0
    ) -> Model:
        """Create a model, with the framework's own weights for None."""
        return self.ready.create(spec, training, weights=weights, seed=seed, device=self.device)

    def native(self, cell: Cell, *, seed: int = 0, training: TrainingSpec = TRAINING) -> Model:
        """Create a model with the framework's own weights."""
        return self.create(spec_of(cell), None, training=training, seed=seed)

    def given(self, cell: Cell, *, training: TrainingSpec = TRAINING, lively: bool = False) -> Model:
        """Create a model with weights of ours."""
        return self.create(spec_of(cell), given_weights(cell, training, lively=lively), training=training)

    def lively(self, cell: Cell) -> Model:
        """Give a model with lively weights that is only asked for predictions; the same one each time."""
        if cell not in self._lively:
            self._lively[cell] = self.given(cell, lively=True)
        return self._lively[cell]

    def model(self, kind: Division, cell: Cell, *, seed: int = 0, training: TrainingSpec = TRAINING) -> Model:
        """Create a model of a division."""
        if kind == "native":
            return self.native(cell, seed=seed, training=training)
        return self.given(cell, training=training)


def given_weights(
    cell: Cell, training: TrainingSpec = TRAINING, *, lively: bool = False
) -> dict[str, NDArray[np.float32]]:
    """Give weights for a model; lively ones make probabilities that lie well apart, and no bias is 0."""
    weights = initial_weights(spec_of(cell), 7, training.factors)
    if lively:
        rng = np.random.default_rng(11)
        weights = {
            name: (values * (20 if name == "embedding" else 1)).astype(np.float32)
            + (rng.uniform(-0.5, 0.5, values.shape).astype(np.float32) if "bias" in name else np.float32(0))
            for name, values in weights.items()
        }
    return weights


def reference(cell: Cell, training: TrainingSpec = TRAINING, *, lively: bool = False) -> ReferenceModel:
    """Give the float64 model with the same weights as `Trial.given`."""
    return ReferenceModel(spec_of(cell), training, given_weights(cell, training, lively=lively))


def hold(condition: object, problem: str) -> None:
    """Raise `NotConforming` with a sentence unless the condition is true."""
    if not condition:
        raise NotConforming(problem)


def near(found: object, expected: NDArray[Any], tolerance: float, what: str) -> None:
    """Hold an array against what was expected, absolutely."""
    got = np.asarray(found, np.float64)
    hold(got.shape == expected.shape, f"{what}: expected the shape {expected.shape}, got {got.shape}.")
    gap = float(np.abs(got - expected).max()) if got.size else 0.0
    hold(gap <= tolerance, f"{what}: expected at most {tolerance:g} from the reference, got {gap:.2g}.")


def follow(trial: Trial, cell: Cell, steps: int, what: str, *, training: TrainingSpec = TRAINING) -> None:
    """Hold the weights after some matched steps against those of the reference."""
    model, expected = trial.given(cell, training=training), reference(cell, training)
    for batch in Examples(steps * SIZE).batches():
        expected.step64(*batch)  # first, in case the model changes its inputs, which is another check's question
        model.train_step(*batch)
    found = model.get_weights()
    for name, values in expected.weights.items():
        near(found[name], values, 1e-5, f"{what}: {name}")


def digest(weights: Weights, *more: NDArray[Any]) -> str:
    """Name the bits of some arrays."""
    found = hashlib.sha256()
    for values in (*(weights[name] for name in sorted(weights)), *more):
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def modules_of(distributions: Iterable[str]) -> list[str]:
    """Names under which distributions are imported."""
    wanted = {name.lower().replace("_", "-") for name in distributions} - {"numpy"}
    return sorted(
        module
        for module, owners in metadata.packages_distributions().items()
        if not module.startswith("_") and any(owner.lower().replace("_", "-") in wanted for owner in owners)
    )
