"""JAX without a layer library: parameters in the canonical layout, `lax.scan` over time, every step compiled.

Native models have the initialisers that are flax' defaults, and Optax's Adam.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.backends.precision import multiply_in_full
from rnn_crosscheck.harness import adam
from rnn_crosscheck.harness.adapter import Late, SteppingModel, Update
from rnn_crosscheck.harness.backend import OTHER, Backend, Capability, Forward, Model, check_device
from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.protocol import ModelSpec, Setting, TrainingSpec
from rnn_crosscheck.harness.weights import Weights, canonical_shapes, check_weights

jax: Any = Late("jax")
jnp: Any = Late("jax.numpy")
optax: Any = Late("optax")
_Array = Any


class _Compiled(NamedTuple):
    step: Any
    run: Any
    predict: Any
    differentiate: Any


class _JAXModel(SteppingModel):
    def __init__(
        self, backend: str, spec: ModelSpec, training: TrainingSpec, weights: Weights | None, seed: int
    ) -> None:
        super().__init__(backend, spec, training, matched=weights is not None)
        self._rng, self._steps = np.random.default_rng(seed), 0
        self._weights: dict[str, _Array] = {}
        self.set_weights(_drawn(spec, seed) if weights is None else weights)
        zeros = [{name: jnp.zeros_like(values) for name, values in self._weights.items()} for _ in "mv"]
        self._state: Any = zeros if self.matched else _optimizer(training).init(self._weights)
        self._compiled = _compile(spec, training, self.matched)

    def epoch(self, batches: Batches) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        if self.matched:
            yield from batches
            return
        tokens, labels = batches.arrays()
        order = self._rng.permutation(batches.examples)
        for start in range(0, len(order), batches.batch_size):
            rows = order[start : start + batches.batch_size]
            yield tokens[rows], labels[rows]

    def update(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Update:
        self._steps += 1
        rates = adam.rates(self.training, self._steps) if self.matched else ()
        self._weights, self._state, update = self._compiled.step(self._weights, self._state, tokens, labels, *rates)
        return update

    def wait(self) -> None:
        jax.block_until_ready(self._weights)

    def probabilities(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        return np.asarray(self._compiled.predict(self._weights, tokens))

    def forward(self, tokens: NDArray[np.int32]) -> Forward:
        self.check("forward", tokens)
        return Forward(*(np.array(values) for values in self._compiled.run(self._weights, tokens)))

    def gradients(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Weights:
        self.check("gradients", tokens, labels)
        return _numpy(self._compiled.differentiate(self._weights, tokens, labels))

    def get_weights(self) -> Weights:
        return _numpy(self._weights)

    def set_weights(self, weights: Weights) -> None:
        check_weights(weights, self.spec, self.where + "set_weights")
        self._weights = {name: jnp.array(values) for name, values in weights.items()}


def _optimizer(training: TrainingSpec) -> Any:  # noqa: ANN401
    clip = [optax.clip_by_global_norm(training.clipnorm)] if training.clipnorm else []
    return optax.chain(*clip, optax.adam(training.learning_rate))


@cache
def _compile(spec: ModelSpec, training: TrainingSpec, matched: bool) -> _Compiled:
    """Compile once for all models of a kind, since that takes longer than a thousand steps of a small one."""
    factors, one_for_two = training.factors, spec.biases == 1

    def loss_of(weights: Mapping[str, _Array], tokens: _Array, labels: _Array, added: _Array = 0.0) -> Any:  # noqa: ANN401
        """Mean loss and logits; `added` goes to the embedded tokens."""
        _, logits = _run(weights, tokens, spec=spec, added=added)
        if matched and factors.loss_form == "probabilities":
            p = jnp.clip(jax.nn.sigmoid(logits), 1e-7, 1 - 1e-7)
            return -(labels * jnp.log(p) + (1 - labels) * jnp.log(1 - p)).mean(), logits
        return optax.sigmoid_binary_cross_entropy(logits, labels).mean(), logits

    def right(logits: _Array, labels: _Array) -> _Array:
        return ((logits >= 0) == (labels >= 0.5)).sum()

    def native(weights: _Array, state: _Array, tokens: _Array, labels: _Array) -> tuple[_Array, _Array, Update]:
        (loss, logits), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, tokens, labels)
        moves, state = _optimizer(training).update(gradients, state, weights)
        return optax.apply_updates(weights, moves), state, Update(loss, right(logits, labels))

    def matching(
        weights: _Array, state: _Array, tokens: _Array, labels: _Array, alpha: _Array, epsilon: _Array
    ) -> tuple[_Array, _Array, Update]:
        added = jnp.zeros((*tokens.shape, spec.embedding))
        # The derivative by what is added to an embedded token is the embedding's gradient at that one place.
        find = jax.value_and_grad(loss_of, argnums=(0, 3), has_aux=True)
        (loss, logits), (gradients, apart) = find(weights, tokens, labels, added)
        if factors.pad_row == "frozen":
            gradients["embedding"] = gradients["embedding"].at[0].set(0)
            apart = jnp.where(tokens[..., None] > 0, apart, 0)
        found = adam.clip(gradients, training, one_for_two=one_for_two)
        squares = {}
        if factors.duplicates == "apart":
            squares["embedding"] = jnp.zeros_like(gradients["embedding"]).at[tokens].add((apart * found.scale) ** 2)
        options = {"alpha": alpha, "epsilon": epsilon, "training": training, "one_for_two": one_for_two}
        moves, m, v = adam.moves(found.gradients, squares, *state, **options)
        moved = {name: values - moves[name] for name, values in weights.items()}
        return moved, [m, v], Update(loss, right(logits, labels), found.norm)

    # Weights and moments are given away: what comes out takes their memory.
    return _Compiled(
        jax.jit(matching if matched else native, donate_argnums=(0, 1)),
        jax.jit(partial(_run, spec=spec)),
        jax.jit(lambda weights, tokens: jax.nn.sigmoid(_run(weights, tokens, spec=spec)[1])),
        jax.jit(jax.grad(lambda *arguments: loss_of(*arguments)[0])),
    )


def _run(
    weights: Mapping[str, _Array], tokens: _Array, *, spec: ModelSpec, added: _Array = 0.0
) -> tuple[_Array, _Array]:
    """Recurrent states (n, length, units) and logits (n,)."""
    of_inputs, of_states = weights["bias"] if spec.biases == 2 else (weights["bias"], 0.0)
    inputs = jnp.swapaxes(weights["embedding"][tokens] + added, 0, 1)  # time comes first
    sigmoid, zeros = jax.nn.sigmoid, jnp.zeros((len(tokens), spec.units))

    def rnn(state: _Array, x: _Array) -> tuple[_Array, _Array]:
        state = {"relu": jax.nn.relu, "tanh": jnp.tanh}[spec.activation](x + state @ weights["recurrent_kernel"])
        return state, state

    def lstm(carry: tuple[_Array, _Array], x: _Array) -> tuple[tuple[_Array, _Array], _Array]:
        state, cell = carry
        i, f, g, o = jnp.split(x + state @ weights["recurrent_kernel"], 4, axis=-1)
        cell = sigmoid(f) * cell + sigmoid(i) * jnp.tanh(g)
        state = sigmoid(o) * jnp.tanh(cell)
        return (state, cell), state

    def gru(state: _Array, x: _Array) -> tuple[_Array, _Array]:
        recurrent = state @ weights["recurrent_kernel"] + of_states
        (xz, xr, xh), (hz, hr, hh) = jnp.split(x, 3, axis=-1), jnp.split(recurrent, 3, axis=-1)
        z, r = sigmoid(xz + hz), sigmoid(xr + hr)
        state = z * state + (1 - z) * jnp.tanh(xh + r * hh)
        return state, state

    step, start = {"rnn": (rnn, zeros), "lstm": (lstm, (zeros, zeros)), "gru": (gru, zeros)}[spec.cell]
    kernel, narrow = weights["kernel"], weights["kernel"].shape[1] <= spec.embedding
    # The narrower is kept for all steps, as it has to stay in the cache: the share of the inputs, or the inputs.
    if narrow:
        inputs = inputs @ kernel + of_inputs
    _, states = jax.lax.scan(lambda carry, x: step(carry, x if narrow else x @ kernel + of_inputs), start, inputs)
    return jnp.swapaxes(states, 0, 1), (states[-1] @ weights["dense_kernel"] + weights["dense_bias"])[:, 0]


def _numpy(values: Mapping[str, _Array]) -> Weights:
    return {name: np.array(array, order="C") for name, array in values.items()}


def _drawn(spec: ModelSpec, seed: int) -> Weights:
    """Draw as flax' Embed, SimpleCell, LSTMCell, GRUCell and Linear do by default."""
    kinds = jax.nn.initializers
    zeros, lecun = kinds.zeros, kinds.lecun_normal()
    embedding = kinds.variance_scaling(1.0, "fan_in", "normal", out_axis=0)
    drawing = (embedding, lecun, kinds.orthogonal(), zeros, lecun, zeros)  # in canonical order
    keys, shapes = jax.random.split(jax.random.key(seed), len(drawing)), canonical_shapes(spec).items()
    drawn = zip(drawing, keys, shapes, strict=True)
    return _numpy({name: draw(key, shape, "float32") for draw, key, (name, shape) in drawn})


class JAX(Backend):
    """JAX, compiled."""

    name: ClassVar[str] = "jax"
    distributions: ClassVar[tuple[str, ...]] = ("jax", "jaxlib", "optax")
    requirement: ClassVar[str] = "rnn-crosscheck[jax]"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"native", "matched", "parity", "factors"})
    model: ClassVar[type[Model]] = _JAXModel
    by_default: ClassVar[bool] = False

    def __init__(self) -> None:
        self._device = "cpu"

    @classmethod
    def native_values(cls, model: ModelSpec, training: TrainingSpec) -> Mapping[str, object]:
        drawn = {"embedding_weights": "normal, sd 1/√embedding", "dense_weights": "LeCun normal, bias 0"}
        drawn["recurrent_weights"] = "kernel LeCun normal, recurrent kernel orthogonal"
        if model.cell == "lstm":
            drawn["recurrent_bias"] = "0, the forget gate too"
        told = {f"factors.{name}": f"{OTHER}{words}" for name, words in drawn.items()}
        return {"epsilon": 1e-8, "factors.epsilon_place": "after", "factors.order": "another", **told}

    @classmethod
    def worker_environment(cls, threads: int) -> Mapping[str, str]:
        """Pin XLA's threads, keep it off GPU memory that it doesn't need."""
        flags = [os.environ.get("XLA_FLAGS", ""), "--xla_cpu_multi_thread_eigen=false" if threads == 1 else ""]
        return {
            "NPROC": str(threads),  # the size of XLA's thread pool (xla/pjrt/cpu)
            "XLA_FLAGS": " ".join(flag for flag in flags if flag),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }

    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        if deterministic:
            os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"
        random.seed(seed)
        np.random.seed(seed)

    def devices(self) -> tuple[str, ...]:
        return ("cpu", "cuda") if jax.default_backend() == "gpu" else ("cpu",)

    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        check_device(self, device)
        self._device = device
        if weights is not None:
            multiply_in_full("jax")
        return _JAXModel(self.name, model, training, weights, seed)

    def environment(self) -> dict[str, str]:
        return {
            "jax": str(jax.__version__),
            "device": self._device,
            "threads": f"NPROC={os.environ.get('NPROC', 'not set')}",
            "kernel": "lax.scan, XLA",
            "XLA flags": os.environ.get("XLA_FLAGS", ""),
        }
