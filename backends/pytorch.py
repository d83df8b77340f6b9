"""PyTorch: ``nn.Embedding``, ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``, ``nn.Linear``, and a plain training loop."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.backends.precision import multiply_in_full
from rnn_crosscheck.harness.adam import Adam, clip
from rnn_crosscheck.harness.adapter import Late, SteppingModel, Update
from rnn_crosscheck.harness.backend import Backend, Capability, Forward, Layer, Model, check_device
from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.errors import CrosscheckError
from rnn_crosscheck.harness.protocol import ModelSpec, Setting, TrainingSpec
from rnn_crosscheck.harness.weights import GATES, PARAMETERS, Weights, check_weights

torch: Any = Late("torch")
_Tensor = Any
#: the parameters in PyTorch's order; a second bias has no name in the canonical layout
_NAMES = (*PARAMETERS[:4], "second bias", *PARAMETERS[4:])


class _PyTorchModel(SteppingModel):
    def __init__(
        self, backend: PyTorch, spec: ModelSpec, training: TrainingSpec, weights: Weights | None, seed: int
    ) -> None:
        super().__init__(backend.name, spec, training, matched=weights is not None)
        self._device = backend.device
        kind = getattr(torch.nn, spec.cell.upper())  # RNN, LSTM, GRU
        options: dict[str, Any] = {"nonlinearity": spec.activation} if spec.cell == "rnn" else {}
        self._embedding = torch.nn.Embedding(spec.vocabulary, spec.embedding)
        self._recurrent = kind(spec.embedding, spec.units, batch_first=True, **options)
        self._dense = torch.nn.Linear(spec.units, 1)
        layers = torch.nn.ModuleList([self._embedding, self._recurrent, self._dense]).to(self._device)
        self._parameters = dict(zip(_NAMES, layers.parameters(), strict=True))
        # Where Keras' gates lie: a GRU's are update, reset, candidate there, and reset, update, candidate here.
        gates = np.arange(GATES[spec.cell] * spec.units).reshape(-1, spec.units)
        self._gates = (gates[[1, 0, 2]] if spec.cell == "gru" else gates).ravel()
        if weights is not None:
            # Two trainable biases would move their sum at twice the rate; those of a GRU are no sum.
            self._parameters["second bias"].requires_grad_(spec.biases == 2 or training.factors.biases == "two")
            self.set_weights(weights)
        self._trained = {name: values for name, values in self._parameters.items() if values.requires_grad}
        self._tuned, self._steps, self._adam = backend.tune, 0, Adam(training, one_for_two=False)
        options = {"betas": (training.beta_1, training.beta_2)} if self.matched else {}
        rate, fused = training.learning_rate, backend.tune or None
        self._optimizer = torch.optim.Adam(self._trained.values(), lr=rate, fused=fused, **options)
        # Lives as long as the model, so that every epoch has an order of its own.
        self._shuffle = torch.Generator().manual_seed(seed)

    def epoch(self, batches: Batches) -> Iterable[tuple[Any, Any]]:
        if self.matched:
            return batches
        dataset = torch.utils.data.TensorDataset(*(torch.from_numpy(values) for values in batches.arrays()))
        return torch.utils.data.DataLoader(dataset, batches.batch_size, shuffle=True, generator=self._shuffle)

    def update(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Update:
        factors, x, y = self.training.factors, self._tensor(tokens), self._tensor(labels)
        embedded, _, logits = self._run(x)
        if apart := self.matched and factors.duplicates == "apart":
            embedded.retain_grad()
        loss = self._loss(logits, y)
        for parameter in self._trained.values():
            parameter.grad = None
        loss.backward()
        right = ((logits.detach() >= 0) == (y >= 0.5)).sum()
        if not self.matched:
            if self.training.clipnorm:
                torch.nn.utils.clip_grad_norm_(self._trained.values(), self.training.clipnorm)
            self._optimizer.step()
            return Update(loss.detach(), right)
        gradients = {name: parameter.grad for name, parameter in self._trained.items()}
        squares = {}
        if apart:
            # The squares of the embedding's gradients, summed over the places where each token stands.
            rows = embedded.grad.reshape(-1, embedded.shape[-1]).square()
            squares["embedding"] = torch.zeros_like(gradients["embedding"]).index_add_(0, x.reshape(-1), rows)
        if factors.pad_row == "frozen":
            for values in (gradients["embedding"], *squares.values()):
                values[0] = 0
        if self._tuned:
            return Update(loss.detach(), right, self._fused_step(gradients, squares))
        with torch.no_grad():
            moves, norm = self._adam.step(gradients, squares)
            for name, move in moves.items():
                self._trained[name].sub_(move)
        return Update(loss.detach(), right, norm)

    def _fused_step(self, gradients: Mapping[str, _Tensor], squares: Mapping[str, _Tensor]) -> _Tensor:
        """Do what `harness.adam` does in PyTorch's fused kernel; the norm of the gradients."""
        if squares:
            raise CrosscheckError("PyTorch's fused Adam squares the gradients itself, so duplicates can't stay apart.")
        clipped = clip(gradients, self.training, one_for_two=False)
        for name, gradient in clipped.gradients.items():
            self._trained[name].grad = gradient
        self._steps += 1
        # PyTorch adds epsilon to sqrt(v / (1 - beta_2**t)). Keras adds it to sqrt(v), which is the same as this:
        corrected = 1 - self.training.beta_2**self._steps if self.training.factors.epsilon_place == "before" else 1.0
        self._optimizer.param_groups[0]["eps"] = self.training.epsilon / corrected**0.5
        self._optimizer.step()
        return clipped.norm

    def probabilities(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return torch.sigmoid(self._run(self._tensor(tokens))[2]).cpu().numpy()

    def forward(self, tokens: NDArray[np.int32]) -> Forward:
        self.check("forward", tokens)
        with torch.inference_mode():
            return Forward(*(values.cpu().numpy() for values in self._run(self._tensor(tokens))[1:]))

    def gradients(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Weights:
        self.check("gradients", tokens, labels)
        loss = self._loss(self._run(self._tensor(tokens))[2], self._tensor(labels))
        found = torch.autograd.grad(loss, list(self._trained.values()))
        # The loss sees the sum of the two biases, so the gradient of either is that of the sum.
        return self._canonical(dict(zip(self._trained, found, strict=True)), summed=False)

    def get_weights(self) -> Weights:
        return self._canonical(self._parameters, summed=True)

    def set_weights(self, weights: Weights) -> None:
        check_weights(weights, self.spec, self.where + "set_weights")
        kernels = [weights[name].T[self._gates] for name in ("kernel", "recurrent_kernel")]
        bias = weights["bias"]
        biases = bias[:, self._gates] if bias.ndim == 2 else (bias, np.zeros_like(bias))
        values = (weights["embedding"], *kernels, *biases, weights["dense_kernel"].T, weights["dense_bias"])
        with torch.no_grad():
            for parameter, value in zip(self._parameters.values(), values, strict=True):
                parameter.copy_(torch.tensor(value))

    def layers(self) -> tuple[Layer, ...]:
        embedding, _, dense = super().layers()
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in self._recurrent.parameters()]
        trainable = sum(size for size, moves in sizes if moves)
        return embedding, Layer(self.spec.cell, (self.spec.units,), sum(n for n, _ in sizes), trainable), dense

    def wait(self) -> None:
        PyTorch.wait(self._device)

    def _run(self, tokens: _Tensor) -> tuple[_Tensor, _Tensor, _Tensor]:
        """Embedded tokens, recurrent states and logits."""
        embedded = self._embedding(tokens)
        states, _ = self._recurrent(embedded)
        return embedded, states, self._dense(states[:, -1]).squeeze(-1)

    def _loss(self, logits: _Tensor, labels: _Tensor) -> _Tensor:
        if self.matched and self.training.factors.loss_form == "probabilities":
            return torch.nn.functional.binary_cross_entropy(logits.sigmoid().clamp(1e-7, 1 - 1e-7), labels)
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)

    def _canonical(self, tensors: Mapping[str, _Tensor], *, summed: bool) -> Weights:
        """Bring values of all parameters to the canonical layout; of two equal biases the sum or the first."""
        found: dict[str, Any] = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        second = found.pop("second bias", None)
        if self.spec.cell == "gru":
            found["bias"] = np.stack([found["bias"], second])[:, self._gates]
        elif summed:
            found["bias"] = found["bias"] + second
        for name in ("kernel", "recurrent_kernel"):
            found[name] = found[name][self._gates].T
        found["dense_kernel"] = found["dense_kernel"].T
        return {name: np.array(found[name], order="C") for name in PARAMETERS}

    def _tensor(self, values: Any) -> _Tensor:  # noqa: ANN401 - an array, or a tensor of the DataLoader's
        return torch.tensor(np.asarray(values), device=self._device)  # a view would complain about read-only arrays


class PyTorch(Backend):
    """PyTorch, eager."""

    name: ClassVar[str] = "pytorch"
    distributions: ClassVar[tuple[str, ...]] = ("torch",)
    requirement: ClassVar[str] = "rnn-crosscheck[pytorch]"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"native", "matched", "parity", "factors"})
    model: ClassVar[type[Model]] = _PyTorchModel
    #: torch.compile doesn't help, since it leaves recurrent layers as they are
    tuned: ClassVar[str] = "Adam in one fused kernel; an LSTM on all cores"

    def __init__(self) -> None:
        self.device, self.tune = "cpu", False
        self._kernels: dict[str, str] = {}

    @classmethod
    def native_values(cls, model: ModelSpec, training: TrainingSpec) -> Mapping[str, object]:
        drawn = ("embedding_weights", "recurrent_weights", "recurrent_bias", "dense_weights")
        switches = {"epsilon_place": "after", "biases": "two", "order": "another", **dict.fromkeys(drawn, "pytorch")}
        return {"epsilon": 1e-8, **{f"factors.{name}": value for name, value in switches.items()}}

    @classmethod
    def tuned_threads(cls, model: ModelSpec, *, threads: int, cores: int) -> int:
        """Give an LSTM, whose kernel shares its work out, all cores; what is a loop of steps gets no faster."""
        return cores if model.cell == "lstm" else threads

    @classmethod
    def worker_environment(cls, threads: int) -> Mapping[str, str]:
        """Pin OpenMP, MKL and cuBLAS' workspace (https://docs.nvidia.com/cuda/cublas/#results-reproducibility)."""
        pools = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        return {**pools, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        self.tune = setting == "tuned"
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        random.seed(seed)
        np.random.seed(seed)  # the global one, since third-party code may draw from it
        torch.manual_seed(seed)
        torch.set_deterministic_debug_mode(2 * deterministic)  # 2: "error"; its shorthand imports the compiler first
        torch.utils.deterministic.fill_uninitialized_memory = False  # it finds bugs, and costs time

    def devices(self) -> tuple[str, ...]:
        try:
            torch.ones(1, device="cuda").add_(1).item()
        except (RuntimeError, AssertionError):
            return ("cpu",)
        return ("cpu", "cuda")

    @staticmethod
    def wait(device: str) -> None:
        """Return when the device has finished."""
        if device == "cuda":
            torch.cuda.synchronize()

    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        check_device(self, device)
        if weights is not None:
            multiply_in_full("torch")
        self.device = device
        mkldnn = torch.backends.mkldnn  # aten/src/ATen/native/RNN.cpp
        on_cpu = "oneDNN" if model.cell == "lstm" and mkldnn.is_available() and mkldnn.enabled else "step loop"
        self._kernels[model.cell] = "cuDNN" if device == "cuda" and torch.backends.cudnn.is_available() else on_cpu
        torch.manual_seed(seed)
        return _PyTorchModel(self, model, training, weights, seed)

    def environment(self) -> dict[str, str]:
        return {
            "torch": str(torch.__version__),
            "device": f"cuda ({torch.cuda.get_device_name()})" if self.device == "cuda" else "cpu",
            "threads": f"{torch.get_num_threads()} intra-op, {torch.get_num_interop_threads()} inter-op",
            **{f"kernel {cell}": kernel for cell, kernel in sorted(self._kernels.items())},
            "instruction set": str(torch.backends.cpu.get_cpu_capability()),
            "determinism": f"deterministic algorithms: {torch.are_deterministic_algorithms_enabled()}",
        }
