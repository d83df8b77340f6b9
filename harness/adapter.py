"""What most adapters have in common: a framework that is imported late, checks of what comes in, the loop over batches.

The contract is `harness.backend`; nobody has to use this.
"""

from __future__ import annotations

import importlib
import sys
from abc import abstractmethod
from collections.abc import Collection, Iterable
from importlib.machinery import ModuleSpec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.backend import EpochStats, Layer, Model, Step, canonical_layers, check_batch, in_chunks
from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.protocol import ModelSpec, TrainingSpec


class Late:
    """A module that is imported when something of it is first used, in whichever process that is.

    A backend's file holds its framework this way, so that looking at the backend doesn't import the framework:
    ``torch = Late("torch")``.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:  # noqa: ANN401 - whatever the framework has
        if attribute.startswith("__") and attribute != "__version__":
            # Whoever looks for these (inspect, pickle, pytest) looks at the name, not at the framework.
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)


class _Without:
    """A finder that finds all that another one does, but for some modules."""

    def __init__(self, finder: Any, names: Collection[str]) -> None:  # noqa: ANN401 - classes and objects of all kinds
        self._finder = finder
        self._names = frozenset(names)

    def __getattr__(self, name: str) -> object:
        return getattr(self._finder, name)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:  # noqa: ANN401
        # Not an error: who looks whether a module is there is to be told that it isn't, as PyTorch 2.4 does.
        return None if name in self._names else self._finder.find_spec(name, path, target)


def keep_out(names: Collection[str]) -> None:
    """Let some modules be as if they weren't installed, for as long as the process lives.

    For a framework that imports others where it finds them.
    """
    sys.meta_path[:] = [_Without(finder, names) for finder in sys.meta_path]


class Update(NamedTuple):
    """One update of the weights: mean loss, right answers and norm of the gradients from before it.

    Numbers, or arrays without axes that stay on the device. The norm is None where it isn't at hand.
    """

    loss: Any
    right: Any
    norm: Any = None


class SteppingModel(Model):
    """A model that is trained by one update after the other.

    Parameters
    ----------
    backend
        Name of the backend, for errors.
    spec, training, matched
        What was asked for.
    """

    def __init__(self, backend: str, spec: ModelSpec, training: TrainingSpec, *, matched: bool) -> None:
        self.where, self.spec, self.training, self.matched = f"Backend {backend!r}: ", spec, training, matched

    @abstractmethod
    def update(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Update:
        """Train on one batch: tokens (n, length), labels (n,), or what `epoch` makes of them."""

    @abstractmethod
    def probabilities(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Predict some rows of tokens (n, length)."""

    def epoch(self, batches: Batches) -> Iterable[tuple[Any, Any]]:
        """Give the batches of an epoch: as they come when matched; shuffled by the framework when native."""
        return batches

    def wait(self) -> None:
        """Return when the device has finished."""

    def check(self, method: str, tokens: object, labels: object = None) -> None:
        """Refuse what isn't a batch, in the name of a method."""
        check_batch(self.where + method, self.spec, tokens, labels)

    def fit_epoch(self, batches: Batches) -> EpochStats:
        """Train on each batch once."""
        done = []
        for tokens, labels in self.epoch(batches):
            # Kept on the device: reading them here would wait for it at every batch.
            done.append((self.update(tokens, labels), len(labels)))
            batches.batch_done()
        self.wait()
        examples = sum(size for _, size in done)
        loss = sum(float(update.loss) * size for update, size in done)
        return EpochStats(loss / examples, sum(int(update.right) for update, _ in done) / examples)

    def train_step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> float:
        """Train on one batch."""
        self.check("train_step", tokens, labels)
        update = self.update(tokens, labels)
        self.wait()
        return float(update.loss)

    def observed_step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Step:
        """Train on one batch, with the norm of its gradients if the update tells it."""
        self.check("observed_step", tokens, labels)
        if not self.matched:
            return super().observed_step(tokens, labels)
        update = self.update(tokens, labels)
        return Step(float(update.loss), float(update.norm), int(update.right))

    def predict(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Predict tokens (n, length), a chunk at a time."""
        self.check("predict", tokens)
        return in_chunks(self.probabilities, tokens)

    def layers(self) -> tuple[Layer, ...]:
        """Rows for the canonical parameters."""
        return canonical_layers(self.spec)
