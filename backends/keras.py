"""Keras: ``Embedding``, ``SimpleRNN`` or ``LSTM``, ``Dense``; trained by ``fit`` or, matched, step by step.

`KerasBackend` and `_KerasModel` hold whatever Keras does the same way on each of its own backends (TensorFlow, JAX,
PyTorch); what needs the framework below stands in a pair of subclasses.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
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
from harness.weights import PARAMETERS, Weights, check_weights

#: a tensor, a callback: whatever the untyped framework hands around
_Untyped = Any

#: rows predicted at once, to bound the memory
_CHUNK = 512
#: place of the recurrent bias among the variables
_BIAS = PARAMETERS.index("bias")


class _KerasModel(Model):
    """A Keras model on whichever backend Keras runs."""

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
        import keras
        from keras import layers

        self._where, self._spec, self._device = f"Backend {name!r}: ", spec, device
        self._matched, self._training, self._tuned = weights is not None, training, tuned
        self._rng = np.random.default_rng(seed)
        keras.utils.set_random_seed(seed)
        self._net = keras.Sequential(
            [
                keras.Input((spec.length,), dtype="int32"),
                layers.Embedding(spec.vocabulary, spec.embedding, name="embedding"),
                layers.LSTM(spec.units, name="lstm")
                if spec.cell == "lstm"
                else layers.SimpleRNN(spec.units, activation=spec.activation, name="rnn"),
                layers.Dense(1, activation=None if self._matched else "sigmoid", name="dense"),
            ]
        )
        if weights is not None:
            self.set_weights(weights)
            self._optimizer = _adam(training, self._net.trainable_variables[_BIAS])
            self._optimizer.build(self._net.trainable_variables)
        else:
            optimizer = keras.optimizers.Adam(training.learning_rate, global_clipnorm=training.clipnorm or None)
            jit = True if tuned else "auto"
            self._net.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy"], jit_compile=jit)

    @abstractmethod
    def _step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> tuple[_Untyped, _Untyped]:
        """One matched update; mean loss and number of right answers from before it, left on the device."""

    @abstractmethod
    def _observed(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> tuple[_Untyped, _Untyped, _Untyped]:
        """As `_step`; mean loss, norm of the gradients, number of right answers."""

    @abstractmethod
    def _gradients(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Sequence[_Untyped]:
        """Dense gradients of the mean loss, in the order of the trainable variables."""

    @abstractmethod
    def _wait(self) -> None:
        """Return when the device has finished."""

    def fit_epoch(self, batches: Batches) -> EpochStats:
        if self._matched:
            steps = []
            for tokens, labels in batches:
                # Kept on the device: reading them here would wait for it at every batch.
                steps.append((*self._step(tokens, labels), len(labels)))
                batches.batch_done()
            self._wait()
            losses, hits = sum(float(loss) * n for loss, _, n in steps), sum(int(hit) for _, hit, _ in steps)
            return EpochStats(losses / batches.examples, hits / batches.examples)
        # Once TensorFlow is seeded, the shuffle inside fit starts over at every epoch and would repeat one order for
        # ever; so it gets the rows in another order each time. (Seeding TensorFlow anew would throw away its
        # instantiated functions, a third of a second an epoch.)
        order = self._rng.permutation(batches.examples)
        x, y = batches.arrays()
        options = {"epochs": 1, "shuffle": True, "verbose": 0, "callbacks": [_progress(batches)]}
        history = self._net.fit(x[order], y[order], batch_size=batches.batch_size, **options).history
        self._wait()
        return EpochStats(float(history["loss"][0]), float(history["accuracy"][0]))

    def train_step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> float:
        check_batch(self._where + "train_step", self._spec, tokens, labels)
        if self._matched:
            loss = self._step(tokens, labels)[0]
        else:
            # Metrics are means since the last reset; not every release of Keras resets them for us.
            self._net.reset_metrics()
            loss = self._net.train_on_batch(tokens, labels, return_dict=True)["loss"]
        self._wait()
        return float(loss)

    def observed_step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Step:
        check_batch(self._where + "observed_step", self._spec, tokens, labels)
        if not self._matched:
            return super().observed_step(tokens, labels)
        loss, norm, right = self._observed(tokens, labels)
        return Step(float(loss), float(norm), int(right))

    def forward(self, tokens: NDArray[np.int32]) -> Forward:
        from keras import ops

        check_batch(self._where + "forward", self._spec, tokens)
        embedding, recurrent, dense = self._net.layers
        # The layer reads this attribute at each call.
        recurrent.return_sequences = True
        states = recurrent(embedding(ops.convert_to_tensor(tokens)))
        recurrent.return_sequences = False
        logits = ops.add(ops.matmul(states[:, -1], dense.kernel), dense.bias)[:, 0]
        return Forward(*(np.asarray(ops.convert_to_numpy(values), np.float32) for values in (states, logits)))

    def predict(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        import keras

        check_batch(self._where + "predict", self._spec, tokens)
        found = np.empty(len(tokens), np.float32)
        for start in range(0, len(tokens), _CHUNK):
            # `Model.predict` builds a pipeline for each call, at many times the cost of a small batch.
            outputs = self._net.predict_on_batch(tokens[start : start + _CHUNK])[:, 0]
            found[start : start + _CHUNK] = (
                keras.ops.convert_to_numpy(keras.ops.sigmoid(outputs)) if self._matched else outputs
            )
        return found

    def gradients(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Weights:
        import keras

        check_batch(self._where + "gradients", self._spec, tokens, labels)
        found = self._gradients(tokens, labels)
        return {
            name: np.array(keras.ops.convert_to_numpy(values), np.float32, order="C")
            for name, values in zip(PARAMETERS, found, strict=True)
        }

    def get_weights(self) -> Weights:
        found = self._net.get_weights()
        return {name: np.array(values, order="C") for name, values in zip(PARAMETERS, found, strict=True)}

    def set_weights(self, weights: Weights) -> None:
        check_weights(weights, self._spec, self._where + "set_weights")
        self._net.set_weights([weights[name] for name in PARAMETERS])

    def layers(self) -> tuple[Layer, ...]:
        def count(variables: Sequence[_Untyped]) -> int:
            return sum(int(np.prod(variable.shape)) for variable in variables)

        return tuple(
            Layer(layer.name, tuple(layer.output.shape[1:]), count(layer.weights), count(layer.trainable_weights))
            for layer in self._net.layers
        )

    def _loss(self, labels: _Untyped, outputs: _Untyped) -> _Untyped:
        """Mean binary cross-entropy of outputs (n, 1): logits when matched, probabilities when native."""
        from keras import ops

        targets = labels[:, None]
        if self._matched and self._training.factors.loss_form == "probabilities":
            # Not `ops.binary_crossentropy`: on TensorFlow that finds the logits behind a sigmoid and takes them.
            p = ops.clip(ops.sigmoid(outputs), 1e-7, 1 - 1e-7)
            return ops.mean(-(targets * ops.log(p) + (1 - targets) * ops.log(1 - p)))
        return ops.mean(ops.binary_crossentropy(targets, outputs, from_logits=self._matched))


def _adam(training: TrainingSpec, bias: _Untyped) -> _Untyped:
    """Make Keras' Adam, with what the factors switch; `bias` is that of the recurrent layer."""
    import keras
    from keras import ops

    factors = training.factors

    class Adam(keras.optimizers.Adam):
        def update_step(self, gradient: _Untyped, variable: _Untyped, learning_rate: _Untyped) -> None:
            if factors.epsilon_place == "after":
                step = ops.cast(self.iterations + 1, variable.dtype)
                self.epsilon = training.epsilon * ops.sqrt(1 - ops.power(ops.cast(self.beta_2, variable.dtype), step))
            # Two biases with equal gradients and equal moments: their sum moves by twice the update.
            # Keras hands over its own variable, or on TensorFlow the one inside.
            twice = factors.biases == "two" and (variable is bias or variable is bias.value)
            super().update_step(gradient, variable, learning_rate * 2 if twice else learning_rate)

    return Adam(training.learning_rate, training.beta_1, training.beta_2, training.epsilon)


def _progress(batches: Batches) -> _Untyped:
    """Make a callback that counts batches.

    It counts when the next one begins: with a hook at the end of a batch Keras would read the metrics, and so wait
    for the device, at every batch (``CallbackList._configure_async_dispatch``).
    """
    import keras

    class Progress(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
            if batch:
                batches.batch_done()

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            batches.batch_done()

    return Progress()


class KerasBackend(Backend):
    """Keras on one of its backends, chosen by ``KERAS_BACKEND`` before Keras is imported."""

    requirement: ClassVar[str] = "rnn-crosscheck[keras]"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"native", "matched", "parity", "factors"})
    #: what KERAS_BACKEND must say
    below: ClassVar[str]

    @classmethod
    def worker_environment(cls, threads: int) -> Mapping[str, str]:
        """Choose Keras' backend and pin OpenMP."""
        return {"KERAS_BACKEND": cls.below, "OMP_NUM_THREADS": str(threads)}

    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        """Seed Python, NumPy and the framework below; refuse Keras on another backend."""
        import keras

        if keras.backend.backend() != self.below:
            raise CrosscheckError(
                f"Backend {self.name!r} needs Keras on {self.below}, but it runs on {keras.backend.backend()}; set "
                f"KERAS_BACKEND={self.below} before Keras is imported."
            )
        keras.utils.set_random_seed(seed)


class KerasTensorFlow(KerasBackend):
    """Keras on TensorFlow."""

    name: ClassVar[str] = "keras-tensorflow"
    distributions: ClassVar[tuple[str, ...]] = ("tensorflow", "keras")
    below: ClassVar[str] = "tensorflow"
    #: the while loop of a SimpleRNN becomes four times faster, that of an LSTM 1.2 times; more threads make both slower
    tuned: ClassVar[str] = "compiled by XLA (jit_compile=True)"

    @classmethod
    def native_values(cls, training: TrainingSpec) -> Mapping[str, object]:
        """Give what Keras on TensorFlow does by default."""
        # Clipping multiplies the slices by a tensor, which sums the duplicates; but its norm is that of the parts,
        # which no switch has (docs/findings/keras_duplicates.md).
        duplicates = {} if training.clipnorm else {"factors.duplicates": "apart"}
        return {**duplicates, "factors.order": "another"}

    def __init__(self) -> None:
        self._device, self._tuned = "cpu", False
        self._kernels: dict[str, str] = {}

    @classmethod
    def worker_environment(cls, threads: int) -> Mapping[str, str]:
        """Pin TensorFlow's threads and rounding, keep it quiet and off memory that it doesn't need."""
        return {
            **super().worker_environment(threads),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_ENABLE_ONEDNN_OPTS": "1",  # the default on x86, said aloud because it changes rounding
            "TF_NUM_INTRAOP_THREADS": str(threads),
            "TF_NUM_INTEROP_THREADS": str(threads),
            # Workers that are timed side by side share the GPU; by default the first would take all of it.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        }

    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        """Pin threads and ask for deterministic ops where several may add up at once, then as for all of Keras."""
        import tensorflow as tf

        self._tuned = setting == "tuned"
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        super().setup(threads=threads, seed=seed, setting=setting, deterministic=deterministic)
        # One thread on a CPU adds in one order anyway, with faster kernels.
        if deterministic and (threads > 1 or tf.config.list_physical_devices("GPU")):
            tf.config.experimental.enable_op_determinism()

    def devices(self) -> tuple[str, ...]:
        """``cpu``, and ``cuda`` if a tensor can be computed there."""
        import tensorflow as tf

        if not (tf.test.is_built_with_cuda() and tf.config.list_physical_devices("GPU")):
            return ("cpu",)
        try:
            with tf.device("/GPU:0"):
                tf.add(tf.constant(1.0), 1.0).numpy()
        except (RuntimeError, tf.errors.OpError):
            return ("cpu",)
        return ("cpu", "cuda")

    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        """Build a model; see `harness.backend.Backend.create`."""
        import tensorflow as tf

        if device == "cpu":
            try:
                tf.config.set_visible_devices([], "GPU")
            except RuntimeError:
                raise CrosscheckError(
                    f"Backend {self.name!r} can't use the device 'cpu' in a process that has used the GPU; start a "
                    "fresh one."
                ) from None
        else:
            check_device(self, device)
        if weights is not None:
            # TF32 has ten bits of mantissa: too few for parity.
            tf.config.experimental.enable_tensor_float_32_execution(False)
        self._device = device
        created = _TensorFlowModel(self.name, model, training, weights, seed, device, self._tuned)
        self._kernels[model.cell] = created.kernel()
        return created

    def environment(self) -> dict[str, str]:
        """Versions, device, threads, kernels of the models created so far, determinism."""
        import os

        import keras
        import tensorflow as tf
        from tensorflow.python.framework.config import is_op_determinism_enabled

        threading = tf.config.threading
        cuda = self._device == "cuda"
        return {
            "keras": str(keras.__version__),
            "tensorflow": str(tf.__version__),
            "device": "cuda" if cuda else "cpu",
            "threads": f"{threading.get_intra_op_parallelism_threads()} intra-op, "
            f"{threading.get_inter_op_parallelism_threads()} inter-op",
            **{f"kernel {cell}": kernel for cell, kernel in sorted(self._kernels.items())},
            "oneDNN": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
            "determinism": f"op determinism {'on' if is_op_determinism_enabled() else 'off'}",
        }


class _TensorFlowModel(_KerasModel):
    def __init__(self, *arguments: _Untyped) -> None:
        super().__init__(*arguments)
        import tensorflow as tf

        net, variables = self._net, self._net.trainable_variables
        # One trace for every batch size: a retrace for the last, smaller batch would be paid in the epoch's time.
        signature = (tf.TensorSpec((None, self._spec.length), tf.int32), tf.TensorSpec((None,), tf.float32))

        factors, clipnorm = self._training.factors, self._training.clipnorm

        def differentiate(tokens: _Untyped, labels: _Untyped) -> tuple[_Untyped, _Untyped, list[_Untyped]]:
            with tf.GradientTape() as tape:
                outputs = net(tokens, training=True)
                loss = self._loss(labels, outputs)
            return loss, outputs, tape.gradient(loss, variables)

        def update(tokens: _Untyped, labels: _Untyped, observed: bool) -> tuple[_Untyped, _Untyped, _Untyped]:
            loss, logits, found = differentiate(tokens, labels)
            # Keras would square the embedding's IndexedSlices before duplicate rows are summed, so that Adam's
            # second moment is wrong (keras/src/backend/tensorflow/sparse.py); dense gradients are summed first.
            dense = [tf.convert_to_tensor(gradient) for gradient in found]
            if factors.pad_row == "frozen":
                dense[0] *= tf.cast(tf.range(self._spec.vocabulary) > 0, tf.float32)[:, None]
            # A second bias has the gradient of the first.
            counted = [*dense, dense[_BIAS]] if factors.biases == "two" else dense
            norm = tf.linalg.global_norm(counted) if observed or clipnorm else tf.constant(0.0)
            scale = clipnorm / tf.maximum(norm, clipnorm) if clipnorm else 1.0
            if factors.duplicates == "apart":
                rows = found[0]
                kept = tf.cast((rows.indices > 0) | (factors.pad_row != "frozen"), tf.float32)[:, None]
                applied = [tf.IndexedSlices(rows.values * kept, rows.indices, rows.dense_shape), *dense[1:]]
            else:
                applied = dense
            if clipnorm:
                applied = [
                    tf.IndexedSlices(gradient.values * scale, gradient.indices, gradient.dense_shape)
                    if isinstance(gradient, tf.IndexedSlices)
                    else gradient * scale
                    for gradient in applied
                ]
            self._optimizer.apply(applied, variables)
            right = tf.equal(logits[:, 0] >= 0, labels >= 0.5)
            return loss, tf.reduce_sum(tf.cast(right, tf.int32)), norm

        def step(tokens: _Untyped, labels: _Untyped) -> tuple[_Untyped, _Untyped]:
            loss, right, _ = update(tokens, labels, observed=False)
            return loss, right

        def observed(tokens: _Untyped, labels: _Untyped) -> tuple[_Untyped, _Untyped, _Untyped]:
            loss, right, norm = update(tokens, labels, observed=True)
            return loss, norm, right

        options = {"input_signature": signature, "autograph": False, "jit_compile": self._tuned or None}
        self._differentiate = tf.function(differentiate, **options)
        self._apply = tf.function(step, **options)
        self._observe = tf.function(observed, **options)

    def _observed(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> tuple[_Untyped, _Untyped, _Untyped]:
        return self._observe(tokens, labels)

    def _step(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> tuple[_Untyped, _Untyped]:
        return self._apply(tokens, labels)

    def _gradients(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Sequence[_Untyped]:
        import tensorflow as tf

        return [tf.convert_to_tensor(gradient) for gradient in self._differentiate(tokens, labels)[2]]

    def _wait(self) -> None:
        import tensorflow as tf

        if self._device == "cuda":
            tf.test.experimental.sync_devices()

    def kernel(self) -> str:
        """Name what computes the recurrence (keras/src/backend/tensorflow/rnn.py)."""
        if self._device == "cuda" and self._spec.cell == "lstm":
            return "cuDNN"
        return "while loop, XLA" if self._tuned or (not self._matched and self._net.jit_compile) else "while loop"
