"""Keras on TensorFlow, on JAX and on PyTorch: what each of them needs around `backends.keras_model`.

Keras chooses one when it is imported, by ``KERAS_BACKEND``, so each runs in processes of its own.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.backends.jax import JAX
from rnn_crosscheck.backends.keras_model import KerasModel
from rnn_crosscheck.backends.precision import multiply_in_full
from rnn_crosscheck.backends.pytorch import PyTorch
from rnn_crosscheck.harness.adapter import Late, keep_out
from rnn_crosscheck.harness.backend import Backend, Capability, Model, check_device
from rnn_crosscheck.harness.errors import CrosscheckError
from rnn_crosscheck.harness.protocol import ModelSpec, Setting, TrainingSpec
from rnn_crosscheck.harness.weights import Weights

keras: Any = Late("keras")
tf: Any = Late("tensorflow")


class KerasBackend(Backend):
    """Keras on one of its backends, chosen by ``KERAS_BACKEND`` before Keras is imported."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({"native", "matched", "parity"})
    model: ClassVar[type[Model]] = KerasModel
    #: what KERAS_BACKEND must say
    below: ClassVar[str]

    def __init__(self) -> None:
        self.device, self.tune = "cpu", False
        self._kernels: dict[str, str] = {}

    @classmethod
    def native_values(cls, model: ModelSpec, training: TrainingSpec) -> Mapping[str, object]:
        return {"epsilon": 1e-7, "factors.order": "another"}

    @classmethod
    def worker_environment(cls, threads: int) -> Mapping[str, str]:
        return {"KERAS_BACKEND": cls.below, "OMP_NUM_THREADS": str(threads)}

    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        # Keras imports other frameworks where it finds them (its data adapters do), and TensorFlow imports JAX
        # (tensorflow/lite/python/util.py); two frameworks never share a process. The rest is for plots and wrappers,
        # and a third of the time that a process takes to start.
        keep_out({"tensorflow", "jax", "torch", "matplotlib", "pandas", "sklearn"} - {self.below})
        if (found := keras.backend.backend()) != self.below:
            raise CrosscheckError(
                f"Backend {self.name!r} needs Keras on {self.below}, but it runs on {found}; set "
                f"KERAS_BACKEND={self.below} before Keras is imported."
            )
        self.tune = setting == "tuned"
        keras.utils.set_random_seed(seed)

    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        check_device(self, device)
        if weights is not None:
            multiply_in_full(self.below)
        self.device = device
        created = KerasModel(
            self.name, model, training, weights=weights, seed=seed, tuned=self.tune, feed=self.feed, wait=self.wait
        )
        self._kernels[f"kernel {model.cell}"] = self.kernel(model, compiled=created.compiled)
        return created

    def feed(self, tokens: NDArray[np.int32], labels: NDArray[np.float32], batch_size: int) -> Mapping[str, Any]:
        """Say what `fit` is called with."""
        return {"x": tokens, "y": labels, "batch_size": batch_size, "shuffle": True}

    @abstractmethod
    def kernel(self, model: ModelSpec, *, compiled: bool) -> str:
        """Name what computes the recurrence."""

    @abstractmethod
    def wait(self) -> None:
        """Return when the device has finished."""

    def environment(self) -> dict[str, str]:
        return {"keras": str(keras.__version__), "device": self.device, **self._kernels}


class KerasTensorFlow(KerasBackend):
    """Keras on TensorFlow."""

    name: ClassVar[str] = "keras-tensorflow"
    distributions: ClassVar[tuple[str, ...]] = ("tensorflow", "keras")
    requirement: ClassVar[str] = "rnn-crosscheck[keras]"
    capabilities: ClassVar[frozenset[Capability]] = KerasBackend.capabilities | {"factors"}
    below: ClassVar[str] = "tensorflow"
    #: the while loop of a SimpleRNN becomes 4 times faster, that of an LSTM 1.2 times (benchmarks/tuning.py); all
    #: cores without XLA make the LSTM faster only while they are idle: no setting for a busy machine
    tuned: ClassVar[str] = "compiled by XLA (jit_compile=True)"

    @classmethod
    def native_values(cls, model: ModelSpec, training: TrainingSpec) -> Mapping[str, object]:
        # Clipping multiplies the slices by a tensor, which sums the duplicates; but its norm is that of the parts,
        # which no switch has (docs/findings/keras_duplicates.md).
        duplicates = {} if training.clipnorm else {"factors.duplicates": "apart"}
        return {**duplicates, **super().native_values(model, training)}

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
        super().setup(threads=threads, seed=seed, setting=setting, deterministic=deterministic)
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        # One thread on a CPU adds in one order anyway, with faster kernels.
        if deterministic and (threads > 1 or tf.config.list_physical_devices("GPU")):
            tf.config.experimental.enable_op_determinism()

    def devices(self) -> tuple[str, ...]:
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
        if device == "cpu":
            try:
                tf.config.set_visible_devices([], "GPU")
            except RuntimeError:
                raise CrosscheckError(
                    f"Backend {self.name!r} can't use the CPU in a process that has used the GPU; start a fresh one."
                ) from None
        return super().create(model, training, weights=weights, seed=seed, device=device)

    def feed(self, tokens: NDArray[np.int32], labels: NDArray[np.float32], batch_size: int) -> Mapping[str, Any]:
        # With arrays `fit` would make a dataset that tunes itself. The thread that does so can miss that it is to end,
        # and fit returns when it next wakes, up to a minute later (docs/findings.md). The rows are shuffled already.
        options = tf.data.Options()
        options.autotune.enabled = False
        return {"x": tf.data.Dataset.from_tensor_slices((tokens, labels)).batch(batch_size).with_options(options)}

    def kernel(self, model: ModelSpec, *, compiled: bool) -> str:
        # keras/src/backend/tensorflow/rnn.py
        loop = "while loop, XLA" if compiled else "while loop"
        return "cuDNN" if self.device == "cuda" and model.cell != "rnn" else loop

    def wait(self) -> None:
        if self.device == "cuda":
            tf.test.experimental.sync_devices()

    def environment(self) -> dict[str, str]:
        # Imported here: it is no part of the public interface.
        from tensorflow.python.framework.config import is_op_determinism_enabled

        threads = tf.config.threading
        return {
            **super().environment(),
            "tensorflow": str(tf.__version__),
            "threads": f"{threads.get_intra_op_parallelism_threads()} intra-op, "
            f"{threads.get_inter_op_parallelism_threads()} inter-op",
            "oneDNN": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
            "determinism": f"op determinism {'on' if is_op_determinism_enabled() else 'off'}",
        }


class _KerasOn(KerasBackend):
    """Keras on a framework that has an adapter of its own, which knows what that needs of a process."""

    by_default: ClassVar[bool] = False
    plain: ClassVar[type[JAX] | type[PyTorch]]

    def __init__(self) -> None:
        super().__init__()
        self._plain = self.plain()

    @classmethod
    def native_values(cls, model: ModelSpec, training: TrainingSpec) -> Mapping[str, object]:
        # On TensorFlow alone Keras finds the logits behind the sigmoid (keras/src/backend/tensorflow/nn.py).
        return {**super().native_values(model, training), "factors.loss_form": "probabilities"}

    @classmethod
    def worker_environment(cls, threads: int) -> Mapping[str, str]:
        return {**cls.plain.worker_environment(threads), **super().worker_environment(threads)}

    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        self._plain.setup(threads=threads, seed=seed, setting=setting, deterministic=deterministic)
        super().setup(threads=threads, seed=seed, setting=setting, deterministic=deterministic)

    def devices(self) -> tuple[str, ...]:
        return self._plain.devices()

    def environment(self) -> dict[str, str]:
        return {**self._plain.environment(), **super().environment()}


class KerasJAX(_KerasOn):
    """Keras on JAX, which compiles every step."""

    name: ClassVar[str] = "keras-jax"
    distributions: ClassVar[tuple[str, ...]] = ("keras", "jax", "jaxlib")
    requirement: ClassVar[str] = "rnn-crosscheck[keras-jax]"
    below: ClassVar[str] = "jax"
    plain = JAX

    def kernel(self, model: ModelSpec, *, compiled: bool) -> str:
        return "lax.scan, XLA" if compiled else "lax.scan"

    def wait(self) -> None:
        """Nothing: `train_on_batch` and `fit` read the loss, which comes out of the same computation as the weights."""


class KerasTorch(_KerasOn):
    """Keras on PyTorch, eager."""

    name: ClassVar[str] = "keras-torch"
    distributions: ClassVar[tuple[str, ...]] = ("keras", "torch")
    requirement: ClassVar[str] = "rnn-crosscheck[keras-torch]"
    below: ClassVar[str] = "torch"
    plain = PyTorch

    def kernel(self, model: ModelSpec, *, compiled: bool) -> str:
        # keras/src/backend/torch/rnn.py
        return "cuDNN" if self.device == "cuda" and model.cell != "rnn" else "loop in Python"

    def wait(self) -> None:
        PyTorch.wait(self.device)
