"""A backend for rnn-crosscheck: Flax's nnx API (nnx.Embed, nnx.RNN with a cell, nnx.Linear), trained with optax."""

import os
from functools import cache
from typing import Any

import numpy as np

from rnn_crosscheck.harness import adam
from rnn_crosscheck.harness.adapter import Late, SteppingModel, Update
from rnn_crosscheck.harness.backend import Backend, Forward, Layer, check_device
from rnn_crosscheck.harness.weights import check_weights

jax: Any = Late("jax")  # these are imported when first used
jnp: Any = Late("jax.numpy")
nnx: Any = Late("flax.nnx")
optax: Any = Late("optax")


@cache
def _net_class():
    class Net(nnx.Module):
        def __init__(self, spec, *, all_biases, rngs):
            self.embed = nnx.Embed(spec.vocabulary, spec.embedding, rngs=rngs)
            if spec.cell == "rnn":
                f = nnx.relu if spec.activation == "relu" else nnx.tanh
                cell = nnx.SimpleCell(spec.embedding, spec.units, activation_fn=f, rngs=rngs)
            elif spec.cell == "lstm":
                cell = nnx.OptimizedLSTMCell(spec.embedding, spec.units, rngs=rngs)
            else:
                cell = nnx.GRUCell(spec.embedding, spec.units, rngs=rngs)
                if all_biases:  # Flax's GRU has no bias beside the recurrent kernel: give it one
                    cell.dense_h = nnx.Linear(spec.units, 3 * spec.units, rngs=rngs)
            self.rnn = nnx.RNN(cell)
            self.head = nnx.Linear(spec.units, 1, rngs=rngs)

        def __call__(self, tokens, nudge=None):
            states = self.rnn(self.embed(tokens) if nudge is None else self.embed(tokens) + nudge)
            return states, self.head(states[:, -1])[:, 0]

    return Net


@cache  # compiled once for all models of a kind
def _functions(spec, training, matched):
    factors, one = training.factors, spec.biases == 1
    apart = matched and factors.duplicates == "apart"

    def swap(values):  # a GRU of Flax has its gates as reset, update, candidate; this is its own inverse
        of = jnp.split(values, 3, axis=-1) if spec.cell == "gru" else ()
        return jnp.concatenate([of[1], of[0], of[2]], axis=-1) if of else values

    def canonical(state):
        tree = nnx.to_pure_dict(state)
        of_inputs, of_states = tree["rnn"]["cell"]["dense_i"], tree["rnn"]["cell"]["dense_h"]
        biases = [swap(layer["bias"]) for layer in (of_inputs, of_states) if "bias" in layer]
        biases += [jnp.zeros_like(biases[0])] * (spec.biases - len(biases))  # a native GRU's second
        return {
            "embedding": tree["embed"]["embedding"],
            "kernel": swap(of_inputs["kernel"]),
            "recurrent_kernel": swap(of_states["kernel"]),
            "bias": jnp.stack(biases) if spec.biases == 2 else biases[0],
            "dense_kernel": tree["head"]["kernel"],
            "dense_bias": tree["head"]["bias"],
        }

    def put(net, weights):
        cell, biases = net.rnn.cell, weights["bias"].reshape(spec.biases, -1)
        net.embed.embedding[...] = weights["embedding"]
        cell.dense_i.kernel[...] = swap(weights["kernel"])
        cell.dense_h.kernel[...] = swap(weights["recurrent_kernel"])
        for layer in filter(lambda layer: layer.use_bias, (cell.dense_i, cell.dense_h)):
            layer.bias[...], biases = swap(biases[0]), biases[1:]
        net.head.kernel[...] = weights["dense_kernel"]
        net.head.bias[...] = weights["dense_bias"]

    def differentiate(net, tokens, labels):
        def loss_of(net, nudge):
            logits = net(tokens, nudge)[1]
            right = ((logits >= 0) == (labels >= 0.5)).sum()
            if matched and factors.loss_form == "probabilities":  # as Keras computes it
                p = jnp.clip(jax.nn.sigmoid(logits), 1e-7, 1 - 1e-7)
                return -(labels * jnp.log(p) + (1 - labels) * jnp.log(1 - p)).mean(), right
            return optax.sigmoid_binary_cross_entropy(logits, labels).mean(), right

        nudge = jnp.zeros((*tokens.shape, spec.embedding)) if apart else None
        seen, found = nnx.value_and_grad(loss_of, argnums=(0, 1) if apart else 0, has_aux=True)(net, nudge)
        return *(found if apart else (found, None)), *seen  # of parameters, of each embedded token; loss, right answers

    def in_canonical_layout(tokens, found, each):
        gradients, squares = canonical(found), {}
        if apart:
            squares["embedding"] = jnp.zeros_like(gradients["embedding"]).at[tokens].add(each * each)
        for of in (gradients, squares) if matched and factors.pad_row == "frozen" else ():
            of.update({"embedding": of["embedding"].at[0].set(0.0)} if of else {})
        return gradients, squares

    def matched_step(net, m, v, tokens, labels, rates):
        found, each, *seen = differentiate(net, tokens, labels)
        gradients, squares = in_canonical_layout(tokens, found, each)
        clipped = adam.clip(gradients, training, one_for_two=one)
        squares = {name: values * clipped.scale**2 for name, values in squares.items()}
        moves, m, v = adam.moves(clipped.gradients, squares, m, v, **rates, training=training, one_for_two=one)
        put(net, {name: w - moves[name] for name, w in weights(net).items()})
        return m, v, *seen, clipped.norm

    def native_step(net, optimizer, tokens, labels):
        gradients, _, *seen = differentiate(net, tokens, labels)
        optimizer.update(net, gradients)
        return seen

    def gradients(net, tokens, labels):
        return in_canonical_layout(tokens, *differentiate(net, tokens, labels)[:2])[0]

    def weights(net):
        return canonical(nnx.state(net, nnx.Param))

    def predict(net, tokens):
        return jax.nn.sigmoid(net(tokens)[1])

    step, run = matched_step if matched else native_step, lambda net, tokens: net(tokens)
    found = {"put": put, "run": run, "predict": predict, "weights": weights, "gradients": gradients, "step": step}
    return {name: nnx.jit(function) for name, function in found.items()}


class FlaxNnxModel(SteppingModel):
    def __init__(self, spec, training, weights, seed):
        super().__init__("flax-nnx", spec, training, matched=weights is not None)
        self.order = np.random.default_rng(seed)
        self.compiled = _functions(spec, training, self.matched)
        self.net = _net_class()(spec, all_biases=self.matched, rngs=nnx.Rngs(seed))
        if self.matched:
            self.set_weights(weights)
            self.steps = 0
            self.m = self.v = {name: np.zeros_like(values) for name, values in weights.items()}
        else:
            clip = optax.clip_by_global_norm(training.clipnorm) if training.clipnorm else optax.identity()
            chain = optax.chain(clip, optax.adam(training.learning_rate))
            self.optimizer = nnx.Optimizer(self.net, chain, wrt=nnx.Param)

    def update(self, tokens, labels):
        if not self.matched:
            return Update(*self.compiled["step"](self.net, self.optimizer, tokens, labels))
        self.steps += 1
        rates = dict(zip(("alpha", "epsilon"), adam.rates(self.training, self.steps), strict=True))
        self.m, self.v, *seen = self.compiled["step"](self.net, self.m, self.v, tokens, labels, rates)
        return Update(*seen)

    def epoch(self, batches):
        if self.matched:
            yield from batches
            return
        tokens, labels = batches.arrays()
        ends = range(batches.batch_size, len(labels), batches.batch_size)
        for rows in np.split(self.order.permutation(len(labels)), ends):
            yield tokens[rows], labels[rows]

    def wait(self):
        jax.block_until_ready(nnx.state(self.net))

    def probabilities(self, tokens):
        return np.asarray(self.compiled["predict"](self.net, tokens))

    def forward(self, tokens):
        self.check("forward", tokens)
        return Forward(*map(np.asarray, self.compiled["run"](self.net, tokens)))

    def gradients(self, tokens, labels):
        self.check("gradients", tokens, labels)
        return {name: np.array(values) for name, values in self.compiled["gradients"](self.net, tokens, labels).items()}

    def get_weights(self):
        return {name: np.array(values) for name, values in self.compiled["weights"](self.net).items()}

    def set_weights(self, weights):
        check_weights(weights, self.spec, self.where + "set_weights")
        self.compiled["put"](self.net, {name: np.array(values) for name, values in weights.items()})

    def layers(self):
        embedding, recurrent, dense = super().layers()
        if self.spec.cell == "gru" and not self.matched:
            n = recurrent.parameters - 3 * self.spec.units
            recurrent = Layer(recurrent.name, recurrent.output_shape, n, n, "no bias beside the recurrent kernel")
        return embedding, recurrent, dense


class FlaxNnx(Backend):
    name = "flax-nnx"
    distributions = ("flax", "jax", "jaxlib", "optax")
    requirement = "flax optax"
    capabilities = frozenset({"native", "matched", "parity", "factors"})
    model = FlaxNnxModel

    @classmethod
    def native_values(cls, model, training):
        bias = {"lstm": {"recurrent_bias": "other: zeros"}}
        initial = {"embedding_weights": "other: normal with variance 1/features"}
        initial |= {"recurrent_weights": "other: kernel LeCun normal, recurrent kernel orthogonal"}
        factors = {"dense_weights": "other: LeCun normal", "epsilon_place": "after", "order": "another"}
        factors |= initial | bias.get(model.cell, {})
        return {"epsilon": 1e-8} | {f"factors.{name}": value for name, value in factors.items()}

    @classmethod
    def worker_environment(cls, threads):
        flags = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"} if threads == 1 else {}
        return {"NPROC": str(threads), "JAX_PLATFORMS": "cpu", **flags}

    def setup(self, *, threads, seed, setting, deterministic):
        np.random.seed(seed)  # what draws here has a generator of its own
        nnx.Rngs(seed)  # imports Flax and starts JAX: no part of building the first model

    def devices(self):
        return ("cpu",)

    def create(self, model, training, *, weights, seed, device):
        check_device(self, device)
        return FlaxNnxModel(model, training, weights, seed)

    def environment(self):
        return {"device": jax.default_backend(), "threads": os.environ.get("NPROC", "not set"), "kernel": "XLA scan"}
