"""Flax (nnx) with Optax, every step compiled; written from docs/adding-a-backend.md alone."""

import os
import random
from functools import cache
from types import SimpleNamespace

import numpy as np

from rnn_crosscheck.harness import adam
from rnn_crosscheck.harness.adapter import Late, SteppingModel, Update
from rnn_crosscheck.harness.backend import Backend, Forward, Layer, check_device
from rnn_crosscheck.harness.weights import check_weights

jax = Late("jax")
jnp = Late("jax.numpy")
nnx = Late("flax.nnx")
optax = Late("optax")

#: canonical parameter -> where it lies in the module
PLACES = {
    "embedding": "embedding.embedding",
    "kernel": "rnn.cell.dense_i.kernel",
    "recurrent_kernel": "rnn.cell.dense_h.kernel",
    "dense_kernel": "dense.kernel",
    "dense_bias": "dense.bias",
}
OF_INPUTS, OF_STATES = "rnn.cell.dense_i.bias", "rnn.cell.dense_h.bias"


@cache
def classes():
    class TwoBiases(nnx.GRUCell):
        def __init__(self, inputs, units, *, rngs):
            super().__init__(inputs, units, rngs=rngs)
            self.dense_h = nnx.Linear(units, 3 * units, rngs=rngs)  # Flax' own has no bias

    class Net(nnx.Module):
        def __init__(self, spec, matched, rngs):
            gru = TwoBiases if matched else nnx.GRUCell
            kind = {"rnn": nnx.SimpleCell, "lstm": nnx.OptimizedLSTMCell, "gru": gru}[spec.cell]
            options = {"activation_fn": getattr(jax.nn, spec.activation)} if spec.cell == "rnn" else {}
            self.embedding = nnx.Embed(spec.vocabulary, spec.embedding, rngs=rngs)
            self.rnn = nnx.RNN(kind(spec.embedding, spec.units, rngs=rngs, **options))
            self.dense = nnx.Linear(spec.units, 1, rngs=rngs)

        def __call__(self, tokens):
            states = self.rnn(self.embedding(tokens))
            return states, self.dense(states[:, -1])[:, 0]

    return Net


def parts(net):
    """Split a module: what it is made of, its parameters by name, and the rest."""
    graph, parameters, rest = nnx.split(net, nnx.Param, ...)
    leaves, tree = jax.tree_util.tree_flatten_with_path(parameters)
    names = (jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves)
    return graph, tree, {name.removesuffix(".value"): leaf for name, (_, leaf) in zip(names, leaves, strict=True)}, rest


def turned(values, spec):
    """Exchange a GRU's gates: reset, update, candidate here, and update, reset, candidate in the canonical layout."""
    if spec.cell != "gru":
        return values
    reset, update, candidate = jnp.split(values, 3, axis=-1)
    return jnp.concatenate([update, reset, candidate], axis=-1)


def to_canonical(parameters, spec):
    found = {name: parameters[place] for name, place in PLACES.items()}
    found |= {name: turned(found[name], spec) for name in ("kernel", "recurrent_kernel")}
    if spec.cell == "gru":
        first = turned(parameters[OF_INPUTS], spec)
        second = turned(parameters[OF_STATES], spec) if OF_STATES in parameters else jnp.zeros_like(first)
        return found | {"bias": jnp.stack([first, second])}
    return found | {"bias": parameters[OF_STATES if spec.cell == "lstm" else OF_INPUTS]}


def from_canonical(weights, spec, names):
    found = {place: jnp.asarray(weights[name]) for name, place in PLACES.items()}
    found |= {PLACES[name]: turned(found[PLACES[name]], spec) for name in ("kernel", "recurrent_kernel")}
    # One of an LSTM and of a SimpleRNN, each in its own place, and both of a GRU.
    bias = turned(jnp.asarray(weights["bias"]), spec)
    found[OF_INPUTS], found[OF_STATES] = bias if spec.cell == "gru" else (bias, bias)
    return {name: found[name] for name in names}


def optimizer(training):
    clip = [optax.clip_by_global_norm(training.clipnorm)] if training.clipnorm else []
    return optax.chain(*clip, optax.adam(training.learning_rate))


@cache
def compiled(spec, training, matched):
    graph, tree, known, rest = parts(classes()(spec, matched, nnx.Rngs(0)))

    def run(parameters, tokens):
        return nnx.merge(graph, jax.tree.unflatten(tree, [parameters[n] for n in known]), rest, copy=True)(tokens)

    def loss_of(parameters, tokens, labels):
        logits = run(parameters, tokens)[1]
        loss = optax.sigmoid_binary_cross_entropy(logits, labels).mean()
        return loss, ((logits >= 0) == (labels >= 0.5)).sum()

    differentiate = jax.value_and_grad(loss_of, has_aux=True)

    def native(parameters, state, tokens, labels):
        (loss, right), gradients = differentiate(parameters, tokens, labels)
        moves, state = optimizer(training).update(gradients, state, parameters)
        return optax.apply_updates(parameters, moves), state, Update(loss, right)

    def matching(parameters, state, tokens, labels, alpha, epsilon):
        one = spec.biases == 1
        (loss, right), gradients = differentiate(parameters, tokens, labels)
        clipped = adam.clip(to_canonical(gradients, spec), training, one_for_two=one)
        options = {"alpha": alpha, "epsilon": epsilon, "training": training, "one_for_two": one}
        moves, m, v = adam.moves(clipped.gradients, {}, *state, **options)
        moved = jax.tree.map(jnp.subtract, parameters, from_canonical(moves, spec, known))
        return moved, (m, v), Update(loss, right, clipped.norm)

    return SimpleNamespace(
        names=tuple(known),
        step=jax.jit(matching if matched else native),
        run=jax.jit(run),
        predict=jax.jit(lambda *given: jax.nn.sigmoid(run(*given)[1])),
        gradients=jax.jit(lambda *given: to_canonical(differentiate(*given)[1], spec)),
    )


class FlaxModel(SteppingModel):
    def __init__(self, spec, training, weights, seed):
        super().__init__("flax-nnx", spec, training, matched=weights is not None)
        self.order, self.steps = np.random.default_rng(seed), 0
        self.made = compiled(spec, training, self.matched)
        if self.matched:
            self.set_weights(weights)
            self.state = tuple({name: jnp.zeros(values.shape) for name, values in weights.items()} for _ in "mv")
        else:
            self.parameters = parts(classes()(spec, False, nnx.Rngs(seed)))[2]
            self.state = optimizer(training).init(self.parameters)

    def epoch(self, batches):
        if self.matched:
            yield from batches
            return
        tokens, labels = batches.arrays()
        cuts = range(batches.batch_size, len(labels), batches.batch_size)
        for rows in np.array_split(self.order.permutation(len(labels)), cuts):
            yield tokens[rows], labels[rows]

    def update(self, tokens, labels):
        self.steps += 1
        rates = adam.rates(self.training, self.steps) if self.matched else ()
        self.parameters, self.state, said = self.made.step(self.parameters, self.state, tokens, labels, *rates)
        return said

    def wait(self):
        jax.block_until_ready(self.parameters)

    def probabilities(self, tokens):
        return np.asarray(self.made.predict(self.parameters, tokens))

    def forward(self, tokens):
        self.check("forward", tokens)
        return Forward(*(np.array(values) for values in self.made.run(self.parameters, tokens)))

    def gradients(self, tokens, labels):
        self.check("gradients", tokens, labels)
        return {name: np.array(values) for name, values in self.made.gradients(self.parameters, tokens, labels).items()}

    def get_weights(self):
        return {name: np.array(values) for name, values in to_canonical(self.parameters, self.spec).items()}

    def set_weights(self, weights):
        check_weights(weights, self.spec, self.where + "set_weights")
        copies = {name: values.copy() for name, values in weights.items()}
        self.parameters = from_canonical(copies, self.spec, self.made.names)

    def layers(self):
        embedding, cell, dense = super().layers()
        if not self.matched and self.spec.cell == "gru":
            size = cell.parameters - 3 * self.spec.units
            cell = Layer("gru", cell.output_shape, size, size, "no bias of the states")
        return embedding, cell, dense


class FlaxNNX(Backend):
    name = "flax-nnx"
    distributions = ("flax", "jax", "jaxlib", "optax")
    requirement = "flax optax"
    capabilities = frozenset({"native", "matched", "parity"})
    model = FlaxModel

    @classmethod
    def native_values(cls, model, training):
        others = {"embedding_weights": "normal, sd 1/√embedding", "dense_weights": "LeCun normal, bias 0"}
        others["recurrent_weights"] = "kernel LeCun normal, recurrent kernel orthogonal"
        if model.cell == "lstm":
            others["recurrent_bias"] = "0, the forget gate too"
        told = {f"factors.{name}": f"other: {words}" for name, words in others.items()}
        return {"epsilon": 1e-8, "factors.epsilon_place": "after", "factors.order": "another", **told}

    @classmethod
    def worker_environment(cls, threads):
        return {"NPROC": str(threads), "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false" if threads == 1 else ""}

    def setup(self, *, threads, seed, setting, deterministic):
        random.seed(seed)
        np.random.seed(seed)

    def devices(self):
        return ("cpu",)

    def create(self, model, training, *, weights, seed, device):
        check_device(self, device)
        return FlaxModel(model, training, weights, seed)

    def environment(self):
        return {"jax": jax.__version__, "device": "cpu", "threads": f"NPROC={os.environ.get('NPROC', 'not set')}"}
