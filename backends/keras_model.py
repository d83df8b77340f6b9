"""A Keras model, the same on each of Keras' own backends.

``Embedding``, ``SimpleRNN``, ``LSTM`` or ``GRU``, ``Dense``; trained by ``fit`` when native, by ``train_on_batch`` with
the loss and the Adam of the matched division otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.adapter import Late, SteppingModel, Update
from rnn_crosscheck.harness.backend import EpochStats, Forward
from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.protocol import ModelSpec, TrainingSpec
from rnn_crosscheck.harness.weights import PARAMETERS, Weights, check_weights

keras: Any = Late("keras")
#: a tensor, an optimizer, a callback: whatever the untyped framework hands around
_Untyped = Any
#: place of the recurrent bias among the variables
_BIAS = PARAMETERS.index("bias")


class KerasModel(SteppingModel):
    """A model of the protocol in Keras.

    Parameters
    ----------
    backend
        Name of the backend.
    spec, training, weights, seed
        As for `harness.backend.Backend.create`.
    tuned
        Whether Keras is to compile it whatever it would do by default.
    feed
        Makes of tokens, labels and the size of a batch what `fit` is to be called with.
    wait
        Returns when the device has finished.
    """

    def __init__(
        self,
        backend: str,
        spec: ModelSpec,
        training: TrainingSpec,
        *,
        weights: Weights | None,
        seed: int,
        tuned: bool,
        feed: Callable[[NDArray[np.int32], NDArray[np.float32], int], Mapping[str, _Untyped]],
        wait: Callable[[], None],
    ) -> None:
        super().__init__(backend, spec, training, matched=weights is not None)
        layers, self._feed, self._wait = keras.layers, feed, wait
        self._rng = np.random.default_rng(seed)
        self._gradients: Any = None
        self._states: Any = None
        keras.utils.set_random_seed(seed)
        kinds = {"rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}
        options = {"activation": spec.activation} if spec.cell == "rnn" else {}
        self._layers = [
            layers.Embedding(spec.vocabulary, spec.embedding, name="embedding"),
            kinds[spec.cell](spec.units, name=spec.cell, **options),
            layers.Dense(1, activation=None if self.matched else "sigmoid", name="dense"),
        ]
        self._net = keras.Sequential([keras.Input((spec.length,), dtype="int32"), *self._layers])
        if weights is not None:
            self.set_weights(weights)
            optimizer, self._loss = _matched_adam()(training, spec.biases == 1), _matched_loss(training)
            optimizer.build(self._net.trainable_variables)
        else:
            optimizer = keras.optimizers.Adam(training.learning_rate, global_clipnorm=training.clipnorm or None)
            self._loss = "binary_crossentropy"
        metrics = [_right] if self.matched else ["accuracy"]
        self._net.compile(optimizer=optimizer, loss=self._loss, metrics=metrics, jit_compile=tuned or "auto")
        if self.matched:
            # What a first step has to create makes TensorFlow trace it twice. Native models are as users have them.
            self._net.compute_metrics(None, *[keras.ops.zeros((1, 1))] * 2)
            self._net.reset_metrics()
        self.compiled = bool(self._net.jit_compile)

    def wait(self) -> None:
        self._wait()

    def fit_epoch(self, batches: Batches) -> EpochStats:
        if self.matched:
            return super().fit_epoch(batches)
        # In another order each epoch: given a dataset, fit shuffles nothing, and given arrays it repeats one order for
        # ever once TensorFlow is seeded (docs/findings.md).
        order = self._rng.permutation(batches.examples)
        x, y = batches.arrays()
        fed = self._feed(x[order], y[order], batches.batch_size)
        history = self._net.fit(**fed, epochs=1, verbose=0, callbacks=[_progress(batches)]).history
        self.wait()
        return EpochStats(float(history["loss"][0]), float(history["accuracy"][0]))

    def update(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Update:
        # Metrics are means since the last reset; not every release of Keras resets them for us.
        self._net.reset_metrics()
        found = self._net.train_on_batch(tokens, labels, return_dict=True)
        if not self.matched:
            return Update(found["loss"], 0)
        return Update(found["loss"], round(float(found["_right"]) * len(labels)), _numpy(self._net.optimizer.norm))

    def probabilities(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        # `Model.predict` builds a pipeline for each call, at many times the cost of a small batch.
        outputs = self._net.predict_on_batch(tokens)[:, 0]
        return _numpy(keras.ops.sigmoid(outputs)) if self.matched else outputs

    def forward(self, tokens: NDArray[np.int32]) -> Forward:
        self.check("forward", tokens)
        *_, recurrent, dense = self._layers
        # The layer reads this attribute whenever it is traced.
        recurrent.return_sequences = True
        if self._states is None:
            self._states = keras.Sequential([keras.Input((self.spec.length,), dtype="int32"), *self._layers[:2]])
            self._states.compile(jit_compile=self.compiled)
        states = self._states.predict_on_batch(tokens)
        recurrent.return_sequences = False
        logits = keras.ops.add(keras.ops.matmul(states[:, -1], dense.kernel), dense.bias)[:, 0]
        return Forward(_numpy(states), _numpy(logits))

    def gradients(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Weights:
        self.check("gradients", tokens, labels)
        if self._gradients is None:
            # The same layers, under another optimizer.
            self._gradients = keras.Sequential([keras.Input((self.spec.length,), dtype="int32"), *self._layers])
            self._gradients.compile(optimizer=_keeper()(1.0), loss=self._loss)
            self._gradients.optimizer.build(self._gradients.trainable_variables)
        self._gradients.train_on_batch(tokens, labels)
        kept = self._gradients.optimizer.kept
        return {name: _numpy(values) for name, values in zip(PARAMETERS, kept, strict=True)}

    def get_weights(self) -> Weights:
        return {name: _numpy(values) for name, values in zip(PARAMETERS, self._net.weights, strict=True)}

    def set_weights(self, weights: Weights) -> None:
        check_weights(weights, self.spec, self.where + "set_weights")
        # Copies: JAX takes over the memory of arrays.
        self._net.set_weights([weights[name].copy() for name in PARAMETERS])


def _numpy(values: _Untyped) -> NDArray[np.float32]:
    return np.array(keras.ops.convert_to_numpy(values), np.float32, order="C")


def _right(labels: _Untyped, logits: _Untyped) -> _Untyped:
    """Metric of a matched model: the share of right answers."""
    labels = keras.ops.reshape(labels, keras.ops.shape(logits))
    return keras.ops.cast(keras.ops.equal(logits >= 0, labels >= 0.5), "float32")


def _matched_loss(training: TrainingSpec) -> _Untyped:
    def of_probabilities(labels: _Untyped, logits: _Untyped) -> _Untyped:
        # Not `ops.binary_crossentropy`: on TensorFlow that finds the logits behind a sigmoid and takes them.
        p = keras.ops.clip(keras.ops.sigmoid(logits), 1e-7, 1 - 1e-7)
        return -(labels * keras.ops.log(p) + (1 - labels) * keras.ops.log(1 - p))

    logits = keras.losses.BinaryCrossentropy(from_logits=True)
    return of_probabilities if training.factors.loss_form == "probabilities" else logits


def _dense(gradient: _Untyped, variable: _Untyped) -> _Untyped:
    """Sum what belongs to the same row.

    TensorFlow gives the gradient of an embedding as slices, one a token. Keras would square them before those of
    the same row are summed, so that Adam's second moment is wrong (keras/src/backend/tensorflow/sparse.py).
    """
    if not hasattr(gradient, "dense_shape"):
        return gradient
    return keras.ops.scatter(gradient.indices[:, None], gradient.values, tuple(variable.shape))


@cache
def _matched_adam() -> _Untyped:
    """Make the class of Keras' Adam with what the factors switch; ``norm`` keeps the norm of the last gradients.

    Once for all models: TensorFlow never forgets a class whose methods it has traced, nor what they close over.
    """
    ops = keras.ops

    class MatchedAdam(keras.optimizers.Adam):
        def __init__(self, training: TrainingSpec, one_bias: bool) -> None:
            super().__init__(training.learning_rate, training.beta_1, training.beta_2, training.epsilon)
            self._training, self._two = training, one_bias and training.factors.biases == "two"

        def build(self, variables: _Untyped) -> None:
            super().build(variables)
            self.norm = self.add_variable((), name="norm")

        def apply(self, grads: _Untyped, trainable_variables: _Untyped = None) -> None:
            clipnorm, factors = self._training.clipnorm, self._training.factors
            slices, found = grads[0], [_dense(*pair) for pair in zip(grads, self._trainable_variables, strict=True)]
            frozen = factors.pad_row == "frozen"
            if frozen:
                found[0] = found[0] * ops.cast(ops.arange(found[0].shape[0]) > 0, "float32")[:, None]
            # A second bias has the gradient of the first.
            norm = ops.sqrt(sum(ops.sum(ops.square(g)) for g in [*found, *[found[_BIAS]] * self._two]))
            self.norm.assign(norm)
            scale = clipnorm / ops.maximum(norm, clipnorm) if clipnorm else 1.0
            if factors.duplicates == "apart":
                kept = ops.cast((slices.indices > 0) | (not frozen), "float32")[:, None]
                apart = type(slices)(slices.values * kept * scale, slices.indices, slices.dense_shape)
                found = [apart, *(gradient * scale for gradient in found[1:])]
            elif clipnorm:
                found = [gradient * scale for gradient in found]
            super().apply(found, trainable_variables)

        def update_step(self, gradient: _Untyped, variable: _Untyped, learning_rate: _Untyped) -> None:
            if self._training.factors.epsilon_place == "after":
                beta, step = (ops.cast(value, variable.dtype) for value in (self.beta_2, self.iterations + 1))
                self.epsilon = self._training.epsilon * ops.sqrt(1 - ops.power(beta, step))
            # Two biases with equal gradients and equal moments: their sum moves by twice the update.
            twice = self._two and self._get_variable_index(variable) == _BIAS
            super().update_step(gradient, variable, learning_rate * 2 if twice else learning_rate)

    return MatchedAdam


@cache
def _keeper() -> _Untyped:
    """Make the class of an optimizer that keeps the gradients, in ``kept``, and moves nothing."""

    class Keeper(keras.optimizers.Optimizer):
        def build(self, variables: _Untyped) -> None:
            super().build(variables)
            self.kept = self.add_optimizer_variables(variables, "gradient")

        def update_step(self, gradient: _Untyped, variable: _Untyped, learning_rate: _Untyped) -> None:
            self.assign(self.kept[self._get_variable_index(variable)], _dense(gradient, variable))

    return Keeper


def _progress(batches: Batches) -> _Untyped:
    """Make a callback that counts a batch when the next one begins.

    With a hook at its end Keras would read the metrics, and so wait for the device, at every batch
    (``CallbackList._configure_async_dispatch``).
    """
    return keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: batches.batch_done() if batch else None,
        on_epoch_end=lambda epoch, logs: batches.batch_done(),
    )
