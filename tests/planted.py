"""A backend that can be told to be wrong: PyTorch's, with one fault planted.

``python -m tests.planted FILE FAULT:CELL:SEED...`` writes one JSON file with what the stages show of each, for
`tests/harness/parity/test_stages.py` to judge; no framework is ever imported by pytest's own process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.backends import pytorch
from rnn_crosscheck.backends.jax import JAX
from rnn_crosscheck.backends.pytorch import PyTorch
from rnn_crosscheck.harness.adam import Adam
from rnn_crosscheck.harness.backend import EpochStats, Forward, Model
from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.parity import stages as parity
from rnn_crosscheck.harness.protocol import Cell, DataSpec, ModelSpec, RunSpec, TrainingSpec, switched
from rnn_crosscheck.harness.weights import Weights

VOCABULARY, LENGTH, BATCH = 120, 30, 8
_Tensor = Any


class _Model(pytorch._PyTorchModel):
    """The real model; a fault changes what goes in, what comes out, or the arithmetic."""

    #: exchange weights on the way in and out, so that reading them back shows nothing
    swap: Callable[[Weights, ModelSpec, bool], Weights] | None = None

    def set_weights(self, weights: Weights) -> None:
        super().set_weights(type(self).swap(weights, self.spec, True) if type(self).swap else weights)

    def get_weights(self) -> Weights:
        found = super().get_weights()
        return type(self).swap(found, self.spec, False) if type(self).swap else found

    def gradients(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Weights:
        found = super().gradients(tokens, labels)
        return type(self).swap(found, self.spec, False) if type(self).swap else found


def _with_swap(swap: Callable[[Weights, ModelSpec, bool], Weights]) -> type[_Model]:
    return type("_Swapped", (_Model,), {"swap": staticmethod(swap)})


def _transposed(weights: Weights, spec: ModelSpec, entering: bool) -> Weights:
    units = spec.units
    blocks = np.split(weights["recurrent_kernel"], weights["recurrent_kernel"].shape[1] // units, axis=1)
    turned = np.concatenate([block.T for block in blocks], axis=1)
    return {**weights, "recurrent_kernel": np.ascontiguousarray(turned)}


def _gates_swapped(weights: Weights, spec: ModelSpec, entering: bool) -> Weights:
    order = np.r_[spec.units : 2 * spec.units, : spec.units, 2 * spec.units : 4 * spec.units]
    names = ("kernel", "recurrent_kernel", "bias")
    return {**weights, **{name: np.ascontiguousarray(weights[name][..., order]) for name in names}}


class _MissingForgetBias(_Model):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        # In the second bias, which is zero and frozen, so that reading the weights back must hide it.
        with _no_grad():
            self._recurrent.bias_hh_l0[self.spec.units : 2 * self.spec.units] = -1

    def get_weights(self) -> Weights:
        found = super().get_weights()
        found["bias"][self.spec.units : 2 * self.spec.units] += 1
        return found


class _BiasesDoubled(_Model):
    def set_weights(self, weights: Weights) -> None:
        super().set_weights(weights)
        with _no_grad():
            self._recurrent.bias_hh_l0.copy_(self._recurrent.bias_ih_l0)

    def get_weights(self) -> Weights:
        found = super().get_weights()
        found["bias"] -= self._recurrent.bias_hh_l0.detach().numpy()
        return found


class _Optimizer(Adam):
    """Adam with one thing wrong."""

    def __init__(self, training: TrainingSpec, fault: str) -> None:
        super().__init__(training, one_for_two=False)
        self._fault = fault

    def step(self, gradients: Mapping[str, _Tensor], squares: Any = None) -> tuple[dict[str, _Tensor], _Tensor]:
        self._steps += 1
        spec, t = self._training, self._steps
        alpha = spec.learning_rate * np.sqrt(1 - spec.beta_2**t) / (1 - spec.beta_1**t)
        if self._fault == "no correction":
            alpha = spec.learning_rate
        if self._fault == "rate doubled":
            alpha *= 2
        found = {}
        for name, gradient in gradients.items():
            m, v = self._m.get(name, 0 * gradient), self._v.get(name, 0 * gradient)
            m, v = m.lerp(gradient, 1 - spec.beta_1), v.lerp(gradient.square(), 1 - spec.beta_2)
            root = (v + spec.epsilon).sqrt() if self._fault == "epsilon inside" else v.sqrt() + spec.epsilon
            found[name] = float(alpha) * m / root
            self._m, self._v = {**self._m, name: m}, {**self._v, name: v}
        return found, None


def _with_optimizer(fault: str) -> type[_Model]:
    class Faulty(_Model):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._adam = _Optimizer(self.training, fault)

    return Faulty


class _SummedLoss(_Model):
    def _loss(self, logits: _Tensor, labels: _Tensor) -> _Tensor:
        return super()._loss(logits, labels) * len(labels)


class _LabelsFlipped(_Model):
    def _loss(self, logits: _Tensor, labels: _Tensor) -> _Tensor:
        return super()._loss(logits, 1 - labels)


def _with_tokens(change: Callable[[_Tensor], _Tensor]) -> type[_Model]:
    class Faulty(_Model):
        def _tensor(self, values: NDArray[Any]) -> _Tensor:
            found = super()._tensor(values)
            return change(found) if found.ndim == 2 else found

    return Faulty


def _after_padding(tokens: _Tensor) -> _Tensor:
    import torch

    return torch.stack([torch.cat([row[row != 0], row[row == 0]]) for row in tokens])


class _TanhForRelu(_Model):
    def __init__(self, backend: PyTorch, spec: ModelSpec, *arguments: Any) -> None:
        super().__init__(backend, spec.model_copy(update={"activation": "tanh"}), *arguments)


class _LastBatchDropped(_Model):
    def fit_epoch(self, batches: Batches) -> EpochStats:
        kept = [pair for pair in batches if len(pair[1]) == batches.batch_size]
        losses = [self.train_step(*pair) for pair in kept]
        return EpochStats(float(np.mean(losses)), 0.5)


class _StaleOrder(_Model):
    def fit_epoch(self, batches: Batches) -> EpochStats:
        pairs = list(batches)
        losses = [self.train_step(*pair) for pair in [*pairs[1:], pairs[0]]]
        return EpochStats(float(np.mean(losses)), 0.5)


class _StateCarriedOver(_Model):
    last: _Tensor = None
    carried = 0

    def forward(self, tokens: NDArray[np.int32]) -> Forward:
        import torch

        if self.carried != len(tokens):  # a state of another batch size can't be carried
            self.last = None
        self.carried = len(tokens)
        with torch.inference_mode():
            states, self.last = self._recurrent(self._embedding(self._tensor(tokens)), self.last)
            logits = self._dense(states[:, -1]).squeeze(-1)
        return Forward(states.numpy(), logits.numpy())


class _HalfPrecision(_Model):
    def set_weights(self, weights: Weights) -> None:
        rounded = weights["dense_kernel"].astype(np.float16).astype(np.float32)
        super().set_weights({**weights, "dense_kernel": rounded})


class _BiasGradientLost(_Model):
    def gradients(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Weights:
        found = super().gradients(tokens, labels)
        return {**found, "bias": np.zeros_like(found["bias"])}


def _no_grad() -> Any:
    import torch

    return torch.no_grad()


def _with_factors(**values: str) -> type[_Model]:
    class Faulty(_Model):
        def __init__(self, backend: PyTorch, spec: ModelSpec, training: TrainingSpec, *arguments: Any) -> None:
            super().__init__(backend, spec, switched(training, values), *arguments)

    return Faulty


#: fault -> the model that has it
FAULTS: Mapping[str, type[_Model]] = {
    "none": _Model,
    "transposed recurrent kernel": _with_swap(_transposed),
    "swapped gates": _with_swap(_gates_swapped),
    "missing forget bias": _MissingForgetBias,
    "biases doubled": _BiasesDoubled,
    "epsilon inside the root": _with_optimizer("epsilon inside"),
    "no bias correction": _with_optimizer("no correction"),
    "learning rate doubled": _with_optimizer("rate doubled"),
    "sum instead of mean": _SummedLoss,
    "labels flipped": _LabelsFlipped,
    "off by one": _with_tokens(lambda tokens: tokens.roll(1, dims=1)),
    "padding behind": _with_tokens(_after_padding),
    "reads backwards": _with_tokens(lambda tokens: tokens.flip(1)),
    "tanh for relu": _TanhForRelu,
    "last batch dropped": _LastBatchDropped,
    "stale order": _StaleOrder,
    "state carried over": _StateCarriedOver,
    "half precision": _HalfPrecision,
    "gradient of a bias lost": _BiasGradientLost,
    "duplicates apart": _with_factors(**{"factors.duplicates": "apart"}),
    "two biases": _with_factors(**{"factors.biases": "two"}),
    "epsilon after": _with_factors(**{"factors.epsilon_place": "after", "epsilon": 1e-8}),
}


class Planted(PyTorch):
    """PyTorch with a fault."""

    fault: ClassVar[str] = "none"

    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        return FAULTS[self.fault](self, model, training, weights, seed)


class Unpinned(JAX):
    """JAX whose threads nobody pins."""

    name: ClassVar[str] = "unpinned"

    @classmethod
    def worker_environment(cls, threads: int) -> Mapping[str, str]:
        return {}


class _Examples:
    """Random reviews with frequent tokens, of different lengths."""

    def __init__(self, n: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._texts = [
            np.minimum(rng.zipf(1.3, length), VOCABULARY - 1).astype(np.int32)
            for length in rng.integers(5, 2 * LENGTH, n).tolist()
        ]
        self.labels = (rng.random(n) < 0.5).astype(np.int8)

    def tokens_of(self, row: int) -> NDArray[np.int32]:
        return self._texts[row]

    def padded(self, rows: NDArray[np.int64], length: int, vocabulary: int) -> NDArray[np.int32]:
        found = np.zeros((len(rows), length), np.int32)
        for place, row in enumerate(rows.tolist()):
            kept = self._texts[row][-length:]
            found[place, length - len(kept) :] = kept
        return found


def shown(fault: str, cell: Cell, seed: int) -> dict[str, Any]:
    """First failed stage and parameter, and what the explanation names."""
    units = 16 if cell == "rnn" else 12
    model = ModelSpec(
        name=cell, cell=cell, units=units, activation="relu" if cell == "rnn" else "tanh", embedding=8,
        vocabulary=VOCABULARY, length=LENGTH,
    )  # fmt: skip
    examples = _Examples(40 * BATCH, seed)
    block = SimpleNamespace(split=examples, rows=np.arange(40 * BATCH))
    spec = RunSpec(
        backend="pytorch", division="matched", model=model, training=TrainingSpec(batch_size=BATCH),
        data=DataSpec(vocabulary=VOCABULARY, length=LENGTH), dataset_fingerprint="", seed=seed, device="cpu", threads=1,
    )  # fmt: skip
    backend = type("_Told", (Planted,), {"fault": fault})()
    found = parity.compare(backend, spec, SimpleNamespace(train=block, test=block), lambda stage: None)
    failed = next((record for record in found.stages if not record.ok), None)
    return {
        "stage": failed.stage if failed else None,
        "parameter": failed.parameter if failed else None,
        "named": found.explanation.values if found.explanation else None,
        "margin": max(
            (record.max_error if record.measure == "max" else record.l2_error) / record.tolerance
            for record in found.stages
            if record.tolerance
        ),
    }


def main() -> None:
    target, *cases = sys.argv[1:]
    PyTorch().setup(threads=1, seed=0, setting="default", deterministic=True)
    answers = {}
    for case in cases:
        fault, cell, seed = case.split(":")
        answers[case] = shown(fault, cell, int(seed))  # type: ignore[arg-type]
    Path(target).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
