"""A backend with a planted fault, for `benchmarks/a_against_a.py`: PyTorch that sleeps."""

from __future__ import annotations

import time
from collections import deque
from statistics import median
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.pytorch import PyTorch
from harness.backend import Model
from harness.protocol import ModelSpec, TrainingSpec
from harness.weights import Weights

#: share of a step that is slept after it
SLOWDOWN = 0.05


class Slower(PyTorch):
    """PyTorch that sleeps for 5 % of what its last steps took, after every step."""

    name: ClassVar[str] = "planted:Slower"
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
            time.sleep(SLOWDOWN * median(taken))
            return loss

        created.train_step = slower  # type: ignore[method-assign]
        return created
