"""Backends with a planted fault, for `benchmarks/a_against_a.py`: PyTorch that sleeps or spins after every step."""

from __future__ import annotations

import time
from collections import deque
from statistics import median
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.backends.pytorch import PyTorch
from rnn_crosscheck.harness.backend import Model
from rnn_crosscheck.harness.protocol import ModelSpec, TrainingSpec
from rnn_crosscheck.harness.weights import Weights

#: share of a step that is added to it
SLOWDOWN = 0.05


class Sleeping(PyTorch):
    """PyTorch that sleeps for 5 % of what its last steps took, after every step.

    A core that has slept is slower for a while, so that the whole comes to more than 5 %.
    """

    name: ClassVar[str] = "planted:Sleeping"
    tuned: ClassVar[str] = ""

    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        """Build PyTorch's model, with a train step that sleeps."""
        created = super().create(model, training, weights=weights, seed=seed, device=device)
        step, taken = created.train_step, deque[float](maxlen=21)

        def slower(tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> float:
            begun = time.perf_counter()
            loss = step(tokens, labels)
            taken.append(time.perf_counter() - begun)
            self._pass(SLOWDOWN * median(taken))
            return loss

        created.train_step = slower  # type: ignore[method-assign]
        return created

    def _pass(self, seconds: float) -> None:
        time.sleep(seconds)


class Spinning(Sleeping):
    """PyTorch that is busy for 5 % of what its last steps took, after every step: 5 % and no more."""

    name: ClassVar[str] = "planted:Spinning"

    def _pass(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
