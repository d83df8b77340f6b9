"""ONNX Runtime: predicts with trained weights of any backend, as a graph with one ``RNN``, ``LSTM`` or ``GRU`` node.

It trains nothing. What it tells is whether weights mean the same outside of the framework that trained them, and what
predictions cost there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.adapter import Late
from rnn_crosscheck.harness.backend import (
    Backend,
    Capability,
    InferenceModel,
    Layer,
    Model,
    canonical_layers,
    check_batch,
    check_device,
    in_chunks,
)
from rnn_crosscheck.harness.errors import ContractError
from rnn_crosscheck.harness.protocol import ModelSpec, Setting, TrainingSpec
from rnn_crosscheck.harness.weights import GATES, Weights, check_weights

onnx: Any = Late("onnx")
onnxruntime: Any = Late("onnxruntime")

#: Keras' gates in ONNX' order: of an LSTM input, output, forget, cell; a GRU's are update, reset, candidate in both
_ORDER: Mapping[str, tuple[int, ...]] = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (0, 1, 2)}


class _ONNXModel(InferenceModel):
    def __init__(self, backend: str, spec: ModelSpec, weights: Weights, options: Any) -> None:  # noqa: ANN401
        self._where, self._spec, self._options = f"Backend {backend!r}: ", spec, options
        self.set_weights(weights)

    def predict(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        check_batch(self._where + "predict", self._spec, tokens)
        return in_chunks(lambda rows: self._session.run(["probabilities"], {"tokens": rows})[0], tokens)

    def get_weights(self) -> Weights:
        return {name: values.copy() for name, values in self._weights.items()}

    def set_weights(self, weights: Weights) -> None:
        check_weights(weights, self._spec, self._where + "set_weights")
        self._weights = {name: values.copy() for name, values in weights.items()}
        graph = _graph(self._spec, self._weights).SerializeToString()
        self._session = onnxruntime.InferenceSession(graph, self._options, providers=["CPUExecutionProvider"])

    def layers(self) -> tuple[Layer, ...]:
        return canonical_layers(self._spec)


def _graph(spec: ModelSpec, weights: Weights) -> Any:  # noqa: ANN401 - an onnx.ModelProto
    """Write the model as a graph: tokens int32 (n, length) to probabilities float32 (n,)."""
    helper, kinds = onnx.helper, onnx.TensorProto
    gates = np.arange(GATES[spec.cell] * spec.units).reshape(-1, spec.units)[list(_ORDER[spec.cell])].ravel()
    bias = np.atleast_2d(weights["bias"])[:, gates]
    both = bias if len(bias) == 2 else np.concatenate([bias, np.zeros_like(bias)])
    constants = {
        "embedding": weights["embedding"],
        # The axis in front is that of the directions, of which there is one.
        "W": weights["kernel"].T[None, gates],
        "R": weights["recurrent_kernel"].T[None, gates],
        "B": both.reshape(1, -1),
        "dense_kernel": weights["dense_kernel"],
        "dense_bias": weights["dense_bias"],
        "direction": np.array([0]),
        "unit": np.array([1]),
    }
    options: dict[str, Any] = {"hidden_size": spec.units}
    if spec.cell == "rnn":
        options["activations"] = [spec.activation.capitalize()]
    if spec.cell == "gru":
        options["linear_before_reset"] = 1
    nodes = [
        helper.make_node("Gather", ["embedding", "tokens"], ["embedded"]),
        # Time comes first.
        helper.make_node("Transpose", ["embedded"], ["inputs"], perm=[1, 0, 2]),
        helper.make_node(spec.cell.upper(), ["inputs", "W", "R", "B"], ["", "last"], **options),
        helper.make_node("Squeeze", ["last", "direction"], ["state"]),
        helper.make_node("Gemm", ["state", "dense_kernel", "dense_bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["column"]),
        helper.make_node("Squeeze", ["column", "unit"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        spec.name,
        [helper.make_tensor_value_info("tokens", kinds.INT32, ["n", spec.length])],
        [helper.make_tensor_value_info("probabilities", kinds.FLOAT, ["n"])],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in constants.items()],
    )
    # The oldest that has Squeeze with its axes as an input, so that older releases of ONNX Runtime read it too.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    return model


class ONNXRuntime(Backend):
    """ONNX Runtime on the CPU."""

    name: ClassVar[str] = "onnxruntime"
    distributions: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnx")
    requirement: ClassVar[str] = "rnn-crosscheck[onnxruntime]"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"inference"})
    model: ClassVar[type[Model]] = _ONNXModel
    by_default: ClassVar[bool] = False

    def __init__(self) -> None:
        self._threads = 1

    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        self._threads = threads

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        check_device(self, device)
        if weights is None:
            raise ContractError(
                f"Backend {self.name!r} trains nothing and has no weights of its own: expected weights, got None."
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        return _ONNXModel(self.name, model, weights, options)

    def environment(self) -> dict[str, str]:
        return {
            "onnxruntime": str(onnxruntime.__version__),
            "onnx": str(onnx.__version__),
            "device": "cpu",
            "threads": f"{self._threads} intra-op, 1 inter-op",
        }
