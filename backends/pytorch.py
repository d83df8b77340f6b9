"""PyTorch: ``nn.Embedding``, ``nn.RNN`` or ``nn.LSTM``, ``nn.Linear``, and a plain training loop."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.backend import (
    Backend,
    Capability,
    EpochStats,
    Forward,
    Layer,
    Model,
    Step,
    check_batch,
    check_device,
)
from harness.batches import Batches
from harness.errors import CrosscheckError
from harness.protocol import ModelSpec, Setting, TrainingSpec
from harness.weights import Weights, check_weights

#: what the untyped framework computes with
_Tensor = Any

#: rows predicted at once, to bound the memory
_CHUNK = 512


class PyTorch(Backend):
    """PyTorch, eager."""

    name: ClassVar[str] = "pytorch"
    distributions: ClassVar[tuple[str, ...]] = ("torch",)
    requirement: ClassVar[str] = "rnn-crosscheck[pytorch]"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"native", "matched", "parity", "factors"})
    #: what was seen to help; torch.compile doesn't, since it leaves recurrent layers as they are
    tuned: ClassVar[str] = "Adam in one fused kernel; an LSTM on all cores"

    @classmethod
    def native_values(cls, training: TrainingSpec) -> Mapping[str, object]:
        """Give the defaults of ``torch.optim.Adam`` and of the layers."""
        drawn = ("embedding_weights", "recurrent_weights", "recurrent_bias", "dense_weights")
        return {
            "epsilon": 1e-8,
            "factors.epsilon_place": "after",
            "factors.biases": "two",
            **{f"factors.{name}": "pytorch" for name in drawn},
            "factors.order": "another",
        }

    def __init__(self) -> None:
        self._device, self._tuned = "cpu", False
        self._kernels: dict[str, str] = {}

    @classmethod
    def tuned_threads(cls, model: ModelSpec, *, threads: int, cores: int) -> int:
        """Give an LSTM, whose kernel shares its work out, all cores; the steps of a simple RNN only get slower."""
        return cores if model.cell == "lstm" else threads

    @classmethod
    def worker_environment(cls, threads: int) -> Mapping[str, str]:
        """Pin OpenMP and MKL; cuBLAS needs its workspace pinned to be deterministic."""
        pinned = str(threads)
        # https://docs.nvidia.com/cuda/cublas/#results-reproducibility
        return {"OMP_NUM_THREADS": pinned, "MKL_NUM_THREADS": pinned, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        """Pin threads, seed every generator, ask for deterministic algorithms."""
        import torch

        self._tuned = setting == "tuned"
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        random.seed(seed)
        np.random.seed(seed)  # the global one, since third-party code may draw from it
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(deterministic)
        # Filling new memory with NaN finds reads of unset memory; here it would only cost time.
        torch.utils.deterministic.fill_uninitialized_memory = False

    def devices(self) -> tuple[str, ...]:
        """``cpu``, and ``cuda`` if a tensor can be computed there."""
        import torch

        if not torch.cuda.is_available():
            return ("cpu",)
        try:
            torch.ones(1, device="cuda").add_(1).item()
        except RuntimeError:
            return ("cpu",)
        return ("cpu", "cuda")

    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        """Build a model; see `harness.backend.Backend.create`."""
        import torch

        check_device(self, device)
        if weights is not None:
            # cuDNN computes with TF32 by default, ten bits of mantissa: too few for parity.
            torch.backends.cudnn.allow_tf32 = False
        self._device = device
        self._kernels[model.cell] = _kernel(model, device)
        torch.manual_seed(seed)
        return _PyTorchModel(self.name, model, training, weights, seed, device, self._tuned)

    def environment(self) -> dict[str, str]:
        """Versions, device, threads, kernels of the models created so far, determinism."""
        import torch

        cuda = self._device == "cuda"
        return {
            "torch": str(torch.__version__),
            "device": f"cuda ({torch.cuda.get_device_name()})" if cuda else "cpu",
            "threads": f"{torch.get_num_threads()} intra-op, {torch.get_num_interop_threads()} inter-op",
            **{f"kernel {cell}": kernel for cell, kernel in sorted(self._kernels.items())},
            "instruction set": str(torch.backends.cpu.get_cpu_capability()),
            "determinism": f"deterministic algorithms: {torch.are_deterministic_algorithms_enabled()}",
            "tf32": f"cuDNN: {torch.backends.cudnn.allow_tf32}",
        }


def _kernel(model: ModelSpec, device: str) -> str:
    """Name the kernel that `nn.LSTM` or `nn.RNN` dispatches to (aten/src/ATen/native/RNN.cpp)."""
    import torch

    if device == "cuda":
        return "cuDNN" if torch.backends.cudnn.is_available() else "step loop"
    if model.cell == "lstm" and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled:
        return "oneDNN"
    return "step loop"


class _KerasAdam:
    """Adam with Keras' arithmetic: epsilon is added to sqrt(v) before the bias correction, powers are float32.

    ``alpha = lr * sqrt(1 - beta_2**t) / (1 - beta_1**t)``, ``w -= alpha * m / (sqrt(v) + epsilon)``
    (keras/src/optimizers/adam.py, ``update_step``).
    """

    def __init__(self, parameters: Iterable[_Tensor], training: TrainingSpec) -> None:
        import torch

        self._parameters = list(parameters)
        self._training = training
        self._m = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._v = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._steps = 0

    def step(self, squares: Mapping[int, _Tensor]) -> None:
        """Update; `squares` holds, by position, what stands for the square of a gradient."""
        import torch

        self._steps += 1
        spec, one, t = self._training, np.float32(1), np.float32(self._steps)
        # In float32 as Keras has it: a float64 alpha flips relu masks within twenty steps.
        corrected_1 = one - np.float32(spec.beta_1) ** t
        corrected_2 = one - np.float32(spec.beta_2) ** t
        alpha = float(np.float32(spec.learning_rate) * np.sqrt(corrected_2) / corrected_1)
        after = spec.factors.epsilon_place == "after"
        epsilon = spec.epsilon * float(np.sqrt(corrected_2)) if after else spec.epsilon
        with torch.no_grad():
            for place, (parameter, m, v) in enumerate(zip(self._parameters, self._m, self._v, strict=True)):
                m.lerp_(parameter.grad, 1 - spec.beta_1)
                v.lerp_(squares.get(place, parameter.grad.square()), 1 - spec.beta_2)
                parameter.addcdiv_(m, v.sqrt().add_(epsilon), value=-alpha)


class _FusedKerasAdam:
    """The arithmetic of `_KerasAdam` in PyTorch's fused kernel.

    PyTorch adds epsilon after the bias correction, to ``sqrt(v / (1 - beta_2**t))``. Keras adds it before, which is the
    same as adding ``epsilon / sqrt(1 - beta_2**t)`` after it.
    """

    def __init__(self, parameters: Iterable[_Tensor], training: TrainingSpec) -> None:
        import torch

        betas = (training.beta_1, training.beta_2)
        self._adam = torch.optim.Adam(parameters, training.learning_rate, betas, training.epsilon, fused=True)
        self._training = training
        self._steps = 0

    def step(self, squares: Mapping[int, _Tensor]) -> None:
        """Update; the fused kernel squares the gradients itself, so `squares` must be empty."""
        if squares:
            raise CrosscheckError("PyTorch's fused Adam can't take squares of gradients that are summed elsewhere.")
        self._steps += 1
        if self._training.factors.epsilon_place == "before":
            corrected = 1 - self._training.beta_2**self._steps
            self._adam.param_groups[0]["eps"] = self._training.epsilon / corrected**0.5
        self._adam.step()


class _PyTorchModel(Model):
    def __init__(
        self,
        name: str,
        spec: ModelSpec,
        training: TrainingSpec,
        weights: Weights | None,
        seed: int,
        device: str,
        tuned: bool,
    ) -> None:
        import torch
        from torch import nn

        self._where, self._spec, self._device = f"Backend {name!r}: ", spec, device
        self._matched, self._training = weights is not None, training
        self._embedding = nn.Embedding(spec.vocabulary, spec.embedding)
        self._recurrent = (
            nn.LSTM(spec.embedding, spec.units, batch_first=True)
            if spec.cell == "lstm"
            else nn.RNN(spec.embedding, spec.units, nonlinearity=spec.activation, batch_first=True)
        )
        self._dense = nn.Linear(spec.units, 1)
        self._layers = nn.ModuleList([self._embedding, self._recurrent, self._dense]).to(device)
        self._loss = nn.BCEWithLogitsLoss()
        self._optimizer: Any
        if weights is not None:
            # Two trainable biases would move their sum at twice the rate.
            self._recurrent.bias_hh_l0.requires_grad_(training.factors.biases == "two")
            self.set_weights(weights)
        self._trainable = [parameter for parameter in self._layers.parameters() if parameter.requires_grad]
        if self._matched:
            self._optimizer = (_FusedKerasAdam if tuned else _KerasAdam)(self._trainable, training)
        else:
            self._optimizer = torch.optim.Adam(self._trainable, lr=training.learning_rate, fused=tuned or None)
        # Lives as long as the model, so that every epoch has an order of its own.
        self._shuffle = torch.Generator().manual_seed(seed)

    def fit_epoch(self, batches: Batches) -> EpochStats:
        losses, hits, sizes = [], [], []
        for tokens, labels in self._epoch(batches):
            loss, logits, _ = self._step(tokens, labels)
            # Kept on the device: reading them here would wait for it at every batch.
            losses.append(loss)
            hits.append(((logits >= 0) == (labels >= 0.5)).sum())
            sizes.append(len(labels))
            batches.batch_done()
        self._wait()
        total = float(sum(float(loss) * size for loss, size in zip(losses, sizes, strict=True)))
        return EpochStats(total / sum(sizes), sum(int(hit) for hit in hits) / sum(sizes))

    def train_step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> float:
        check_batch(self._where + "train_step", self._spec, tokens, labels)
        loss = self._step(self._tensor(tokens), self._tensor(labels))[0]
        self._wait()
        return float(loss)

    def observed_step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Step:
        check_batch(self._where + "observed_step", self._spec, tokens, labels)
        loss, logits, norm = self._step(self._tensor(tokens), self._tensor(labels), observed=True)
        right = ((logits >= 0).cpu().numpy() == (labels >= 0.5)).sum()
        return Step(float(loss), float(norm), int(right))

    def forward(self, tokens: NDArray[np.int32]) -> Forward:
        import torch

        check_batch(self._where + "forward", self._spec, tokens)
        with torch.inference_mode():
            states, _ = self._recurrent(self._embedding(self._tensor(tokens)))
            logits = self._dense(states[:, -1]).squeeze(-1)
        return Forward(states.cpu().numpy(), logits.cpu().numpy())

    def predict(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        import torch

        check_batch(self._where + "predict", self._spec, tokens)
        found = np.empty(len(tokens), np.float32)
        with torch.inference_mode():
            for start in range(0, len(tokens), _CHUNK):
                logits = self._logits(self._tensor(tokens[start : start + _CHUNK]))
                found[start : start + _CHUNK] = torch.sigmoid(logits).cpu().numpy()
        return found

    def gradients(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Weights:
        import torch

        check_batch(self._where + "gradients", self._spec, tokens, labels)
        loss = self._mean_loss(self._logits(self._tensor(tokens)), self._tensor(labels))
        # The bias' gradient is that of either of the two, since the loss sees their sum.
        found = torch.autograd.grad(loss, [parameter for _, parameter, _ in self._canonical()])
        return {
            name: np.ascontiguousarray((gradient.T if turned else gradient).cpu().numpy())
            for (name, _, turned), gradient in zip(self._canonical(), found, strict=True)
        }

    def get_weights(self) -> Weights:
        found = {
            name: np.array((parameter.T if turned else parameter).detach().cpu().numpy(), order="C")
            for name, parameter, turned in self._canonical()
        }
        found["bias"] += self._recurrent.bias_hh_l0.detach().cpu().numpy()
        return found

    def set_weights(self, weights: Weights) -> None:
        import torch

        check_weights(weights, self._spec, self._where + "set_weights")
        with torch.no_grad():
            for name, parameter, turned in self._canonical():
                parameter.copy_(torch.tensor(weights[name].T if turned else weights[name]))
            self._recurrent.bias_hh_l0.zero_()

    def layers(self) -> tuple[Layer, ...]:
        spec = self._spec
        shapes = {"embedding": (spec.length, spec.embedding), spec.cell: (spec.units,), "dense": (1,)}
        found = []
        for (name, shape), layer in zip(shapes.items(), self._layers, strict=True):
            sizes = [(parameter.numel(), parameter.requires_grad) for parameter in layer.parameters()]
            found.append(Layer(name, shape, sum(n for n, _ in sizes), sum(n for n, moves in sizes if moves)))
        return tuple(found)

    def _epoch(self, batches: Batches) -> Iterator[tuple[_Tensor, _Tensor]]:
        """Batches as tensors: as they come when matched, shuffled by a `DataLoader` when native."""
        from torch.utils.data import DataLoader, TensorDataset

        if self._matched:
            for tokens, labels in batches:
                yield self._tensor(tokens), self._tensor(labels)
            return
        import torch

        dataset = TensorDataset(*(torch.from_numpy(values) for values in batches.arrays()))
        for tokens, labels in DataLoader(dataset, batch_size=batches.batch_size, shuffle=True, generator=self._shuffle):
            yield tokens.to(self._device), labels.to(self._device)

    def _step(self, tokens: _Tensor, labels: _Tensor, *, observed: bool = False) -> tuple[_Tensor, _Tensor, _Tensor]:
        """One update; the loss, the logits and, if asked for, the norm of the gradients from before it."""
        embedded = self._embedding(tokens)
        apart = self._matched and self._training.factors.duplicates == "apart"
        if apart:
            embedded.retain_grad()
        logits = self._dense(self._states(embedded)).squeeze(-1)
        loss = self._mean_loss(logits, labels)
        for parameter in self._trainable:
            parameter.grad = None
        loss.backward()
        if self._matched and self._training.factors.pad_row == "frozen":
            self._embedding.weight.grad[0] = 0
        norm = self._clip() if observed or self._training.clipnorm else None
        if not self._matched:
            self._optimizer.step()
        else:
            squares = {0: self._squares(tokens, embedded.grad, norm)} if apart else {}
            self._optimizer.step(squares)
        return loss.detach(), logits.detach(), norm

    def _clip(self) -> _Tensor:
        """Scale the gradients to the largest norm allowed, if there is one; their norm from before."""
        import torch

        if self._matched or not self._training.clipnorm:
            # Not `clip_grad_norm_` for a matched model: it adds 1e-6 to the norm, which Keras doesn't.
            norm = torch.stack([torch.linalg.vector_norm(parameter.grad) for parameter in self._trainable]).norm()
            if self._training.clipnorm:
                scale = self._training.clipnorm / norm.clamp(min=self._training.clipnorm)
                for parameter in self._trainable:
                    parameter.grad.mul_(scale)
            return norm
        return torch.nn.utils.clip_grad_norm_(self._trainable, self._training.clipnorm)

    def _squares(self, tokens: _Tensor, gradient: _Tensor, norm: _Tensor | None) -> _Tensor:
        """Sum the squares of the embedding's gradients over the places where each token stands."""
        import torch

        if norm is not None and self._training.clipnorm:
            gradient = gradient * (self._training.clipnorm / norm.clamp(min=self._training.clipnorm))
        found = torch.zeros_like(self._embedding.weight)
        found.index_add_(0, tokens.reshape(-1), gradient.reshape(-1, gradient.shape[-1]).square())
        if self._training.factors.pad_row == "frozen":
            found[0] = 0
        return found

    def _states(self, embedded: _Tensor) -> _Tensor:
        states, _ = self._recurrent(embedded)
        return states[:, -1]

    def _logits(self, tokens: _Tensor) -> _Tensor:
        return self._dense(self._states(self._embedding(tokens))).squeeze(-1)

    def _mean_loss(self, logits: _Tensor, labels: _Tensor) -> _Tensor:
        import torch

        if self._matched and self._training.factors.loss_form == "probabilities":
            probabilities = torch.sigmoid(logits).clamp(1e-7, 1 - 1e-7)
            return torch.nn.functional.binary_cross_entropy(probabilities, labels)
        return self._loss(logits, labels)

    def _canonical(self) -> tuple[tuple[str, _Tensor, bool], ...]:
        """Canonical name, parameter, and whether it is transposed; gates have the same order, i, f, g, o."""
        recurrent, dense = self._recurrent, self._dense
        return (
            ("embedding", self._embedding.weight, False),
            ("kernel", recurrent.weight_ih_l0, True),
            ("recurrent_kernel", recurrent.weight_hh_l0, True),
            ("bias", recurrent.bias_ih_l0, False),
            ("dense_kernel", dense.weight, True),
            ("dense_bias", dense.bias, False),
        )

    def _tensor(self, values: NDArray[Any]) -> _Tensor:
        """Copy an array to the device; a view would complain about arrays that can't be written to."""
        import torch

        return torch.tensor(values, device=self._device)

    def _wait(self) -> None:
        import torch

        if self._device == "cuda":
            torch.cuda.synchronize()
