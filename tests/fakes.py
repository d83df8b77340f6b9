"""Backends for tests of the harness: no framework, quick, and each broken in one way of its own.

They are named on the command line as ``tests.fakes:Steady`` and run in real worker processes.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.backend import Backend, Capability, EpochStats, Layer, Model
from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.parity.reference import Reference
from rnn_crosscheck.harness.protocol import ModelSpec, Setting, TrainingSpec
from rnn_crosscheck.harness.weights import Weights, initial_weights

_HOUR_NS = 3_600_000_000_000


class BagModel(Model):
    """Logistic regression on the mean embedding: learns a little, in milliseconds."""

    def __init__(self, model: ModelSpec, weights: Weights, rate: float, rng: np.random.Generator | None) -> None:
        self.model = model
        self.weights = {name: values.copy() for name, values in weights.items()}
        self.rate = rate
        self.rng = rng  # native: shuffles for itself
        self.vector = self.weights["kernel"][:, 0].astype(np.float64)

    def _probability(self, tokens: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        mean = self.weights["embedding"][tokens].mean(axis=1).astype(np.float64)
        return 1 / (1 + np.exp(-(mean @ self.vector))), mean

    def fit_epoch(self, batches: Batches) -> EpochStats:
        losses, right = 0.0, 0.0
        if self.rng is None:
            parts = list(batches)
        else:
            tokens, labels = batches.arrays()
            order = self.rng.permutation(len(labels))
            size = batches.batch_size
            parts = [(tokens[order[i : i + size]], labels[order[i : i + size]]) for i in range(0, len(order), size)]
        for tokens, labels in parts:
            p, _ = self._probability(tokens)
            right += float(((p >= 0.5) == (labels == 1)).sum())
            losses += self.train_step(tokens, labels) * len(labels)
            batches.batch_done()
        return EpochStats(losses / batches.examples, right / batches.examples)

    def train_step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> float:
        p, mean = self._probability(tokens)
        loss = -np.where(labels == 1, np.log(p), np.log1p(-p)).mean()
        self.vector -= self.rate * 3e5 * mean.T @ (p - labels) / len(labels)
        return float(loss)

    def predict(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        return self._probability(tokens)[0].astype(np.float32)

    def get_weights(self) -> Weights:
        weights = {name: values.copy() for name, values in self.weights.items()}
        weights["kernel"][:, 0] = self.vector  # what it learns has no place of its own in the canonical layout
        return weights

    def set_weights(self, weights: Weights) -> None:
        self.weights = {name: values.copy() for name, values in weights.items()}
        self.vector = self.weights["kernel"][:, 0].astype(np.float64)

    def layers(self) -> tuple[Layer, ...]:
        size = self.weights["embedding"].size
        return (
            Layer("embedding", (self.model.length, self.model.embedding), size, 0),
            Layer("mean", (self.model.embedding,), 0, 0),
            Layer("dense", (1,), self.model.embedding, self.model.embedding),
        )


class Steady(Backend):
    """Works."""

    name: ClassVar[str] = "tests.fakes:Steady"
    distributions: ClassVar[tuple[str, ...]] = ()
    requirement: ClassVar[str] = "nothing"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"native", "matched"})
    model: ClassVar[type[Model]] = BagModel

    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        print("fake backend: set up")

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        rng = np.random.default_rng(seed + 1000) if weights is None else None
        return self._made(model, weights or initial_weights(model, seed), training.learning_rate, rng)

    def _made(self, *arguments: Any) -> Model:
        made: Any = self.model
        return made(*arguments)

    def environment(self) -> dict[str, str]:
        return {"fake": "1.0", "threads": os.environ["OMP_NUM_THREADS"]}


class Other(Steady):
    """Works as well, and a little differently."""

    name = "tests.fakes:Other"
    distributions = ("iniconfig",)  # whatever is installed

    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        rng = np.random.default_rng(seed + 2000) if weights is None else None
        return self._made(model, weights or initial_weights(model, seed + 7), training.learning_rate * 0.9, rng)


class _Dying(BagModel):
    def fit_epoch(self, batches: Batches) -> EpochStats:
        if os.environ.get("CROSSCHECK_TEST_LIVE"):
            return super().fit_epoch(batches)
        print("about to die", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")


class Dying(Steady):
    """Is killed in the middle of the first epoch, unless CROSSCHECK_TEST_LIVE is set."""

    name = "tests.fakes:Dying"
    model = _Dying


class _Worse(BagModel):
    def predict(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        said = super().predict(tokens)
        return 1 - said if os.environ.get("CROSSCHECK_TEST_WORSE") else said


class Regressing(Steady):
    """Works, until CROSSCHECK_TEST_WORSE is set: then it says the opposite."""

    name = "tests.fakes:Regressing"
    model = _Worse


class _Raising(BagModel):
    def fit_epoch(self, batches: Batches) -> EpochStats:
        raise RuntimeError("the gradient exploded")


class Raising(Steady):
    """Raises what a framework would."""

    name = "tests.fakes:Raising"
    model = _Raising


class _Hanging(BagModel):
    def fit_epoch(self, batches: Batches) -> EpochStats:
        time.sleep(600)
        raise AssertionError("woke up")


class Hanging(Steady):
    """Says nothing any more."""

    name = "tests.fakes:Hanging"
    model = _Hanging


class _Slow(BagModel):
    def fit_epoch(self, batches: Batches) -> EpochStats:
        time.sleep(1.5)
        return super().fit_epoch(batches)


class Slow(Steady):
    """Takes its time, so that a test can interrupt it."""

    name = "tests.fakes:Slow"
    model = _Slow


class _Wide(BagModel):
    def predict(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        return super().predict(tokens)[:, None]


class Wide(Steady):
    """Predicts a column instead of a vector."""

    name = "tests.fakes:Wide"
    model = _Wide


class _Unsure(BagModel):
    def predict(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        return np.full(len(tokens), np.nan, np.float32)


class Unsure(Steady):
    """Predicts NaN."""

    name = "tests.fakes:Unsure"
    model = _Unsure


class _Biased(BagModel):
    def predict(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        return super().predict(tokens) + np.float32(1e-3)


class Biased(Steady):
    """Predicts a little more than its weights say."""

    name = "tests.fakes:Biased"
    model = _Biased


class Plain(Steady):
    """Has the framework's own models alone."""

    name = "tests.fakes:Plain"
    capabilities = frozenset({"native"})


class Absent(Steady):
    """Needs what nobody has."""

    name = "tests.fakes:Absent"
    distributions = ("a-framework-that-nobody-has",)
    requirement = "rnn-crosscheck[nobody]"


class Unusable(Steady):
    """Is installed, and can't be used."""

    name = "tests.fakes:Unusable"

    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        raise ImportError("libfake.so.1: cannot open shared object file")


class Unfinished(Backend):
    """Leaves methods out."""

    name = "tests.fakes:Unfinished"
    model = BagModel
    distributions = ()
    requirement = "nothing"
    capabilities = frozenset({"native"})


class OtherSignature(Steady):
    """Takes other parameters than the contract says."""

    name = "tests.fakes:OtherSignature"

    def setup(self, *, seed: int) -> None:  # type: ignore[override]
        del seed


class _Hungry(BagModel):
    def train_step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> float:
        pieces = [np.ones(200_000) for _ in tokens]
        assert pieces
        return super().train_step(tokens, labels)


class Tuned(Steady):
    """Has a tuned setting, which is as quick as the default; a step takes 1.6 MB for each example."""

    name = "tests.fakes:Tuned"
    model = _Hungry
    tuned = "told to hurry"

    def __init__(self) -> None:
        self._setup = ""

    @classmethod
    def tuned_threads(cls, model: ModelSpec, *, threads: int, cores: int) -> int:
        return threads + 1

    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        self._setup = f"{setting}, {threads} threads, deterministic: {deterministic}"

    def environment(self) -> dict[str, str]:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        return {"setup": self._setup, "variable": os.environ["OMP_NUM_THREADS"], "cores": str(cores)}


class _Stuck(BagModel):
    def train_step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> float:
        time.sleep(600)
        raise AssertionError("woke up")


class Stuck(Steady):
    """Never comes back from a step."""

    name = "tests.fakes:Stuck"
    model = _Stuck


class _Sleepy(BagModel):
    def train_step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> float:
        time.sleep(0.01)
        return super().train_step(tokens, labels)


class Sleepy(Steady):
    """Takes ten milliseconds more than it needs for a step."""

    name = "tests.fakes:Sleepy"
    model = _Sleepy


class Stopped(Steady):
    """Lives in a process whose clock stands still."""

    name = "tests.fakes:Stopped"

    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        readings, real = itertools.count(), time.perf_counter_ns
        time.perf_counter_ns = lambda: self.read(real(), next(readings))

    def read(self, now: int, readings: int) -> int:
        return 12345


class Jumping(Stopped):
    """Lives in a process whose clock jumps ahead by an hour at every second reading."""

    name = "tests.fakes:Jumping"

    def read(self, now: int, readings: int) -> int:
        return now + _HOUR_NS * ((readings + 1) // 2)


class Backwards(Stopped):
    """Lives in a process whose clock is set back by an hour at every second reading."""

    name = "tests.fakes:Backwards"

    def read(self, now: int, readings: int) -> int:
        return now - _HOUR_NS * ((readings + 1) // 2)


class Picky(Reference):
    """Computes the right thing, but is killed by a SimpleRNN."""

    name = "picky"

    def create(
        self,
        model: ModelSpec,
        training: TrainingSpec,
        *,
        weights: Weights | None,
        seed: int,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> Model:
        if model.cell == "rnn":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().create(model, training, weights=weights, seed=seed, device=device)


def stay() -> None:
    """Take a long time, beside a process that was started before."""
    subprocess.Popen(["sleep", "100"])
    time.sleep(100)


class Staying(Steady):
    """Takes a long time to be made."""

    name = "tests.fakes:Staying"

    def __init__(self) -> None:
        stay()


class Leaving(Steady):
    """Ends the process that makes it."""

    name = "tests.fakes:Leaving"

    def __init__(self) -> None:
        sys.exit(3)


class Second(Steady):
    """Is killed where it is the baseline's second worker, which the name of its log tells (Linux)."""

    name = "tests.fakes:Second"

    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        if os.readlink("/proc/self/fd/2").endswith("-again.log"):
            os.kill(os.getpid(), signal.SIGKILL)


class Named(Steady):
    """Has a name of its own, which is not where it is found."""

    name = "named"
