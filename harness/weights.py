"""The canonical layout of a model's parameters, and its initialisers, in NumPy.

Shapes and order are Keras'. Gates come side by side on the last axis, in the order of `GATE_NAMES`. A GRU has two
biases, one added to what comes from the inputs and one to what comes from the state before (Keras'
``reset_after=True``, PyTorch's only kind), since the reset gate scales the second alone. Of the second some frameworks
have the candidate's part, or nothing: what a native model hasn't is 0. All arrays are float32 and C-contiguous.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.errors import ContractError, ResultsError
from rnn_crosscheck.harness.protocol import Cell, Factors, ModelSpec

#: name of a parameter -> its values
Weights = Mapping[str, NDArray[np.float32]]

#: gates in their order
GATE_NAMES: Mapping[Cell, tuple[str, ...]] = {
    "rnn": ("state",),
    "lstm": ("input", "forget", "cell", "output"),
    "gru": ("update", "reset", "candidate"),
}
GATES: Mapping[Cell, int] = {cell: len(names) for cell, names in GATE_NAMES.items()}

PARAMETERS: tuple[str, ...] = ("embedding", "kernel", "recurrent_kernel", "bias", "dense_kernel", "dense_bias")


def canonical_shapes(model: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters by name, in canonical order."""
    embedding, units, wide = model.embedding, model.units, GATES[model.cell] * model.units
    return {
        "embedding": (model.vocabulary, embedding),
        "kernel": (embedding, wide),
        "recurrent_kernel": (units, wide),
        "bias": (2, wide) if model.biases == 2 else (wide,),
        "dense_kernel": (units, 1),
        "dense_bias": (1,),
    }


def count_parameters(model: ModelSpec) -> int:
    """Trainable parameters in the canonical layout."""
    return sum(int(np.prod(shape)) for shape in canonical_shapes(model).values())


def initial_weights(
    model: ModelSpec,
    seed: int,
    factors: Factors = Factors(),  # noqa: B008 - frozen
) -> dict[str, NDArray[np.float32]]:
    """Draw initial weights as Keras' default initialisers would, from NumPy's generator.

    Embedding uniform in +-0.05, kernels Glorot uniform, recurrent kernel orthogonal, biases 0 with the forget gate
    at 1 (https://keras.io/api/layers/initializers/ and the defaults of Embedding, SimpleRNN, LSTM, GRU and Dense).
    The same seed gives the same weights for every backend.

    Parameters
    ----------
    factors
        Which of the parameters are drawn as PyTorch's defaults are instead: embedding standard normal, everything
        else uniform in +-1/sqrt(units) (``torch.nn.Embedding``, ``LSTM``, ``GRU``, ``Linear``). The others are not
        touched by that. A frozen pad row is zero.
    """
    shapes = canonical_shapes(model)
    rng = np.random.default_rng([seed, 0x57E1])
    bias = np.zeros(shapes["bias"])
    if model.cell == "lstm":
        bias[model.units : 2 * model.units] = 1.0
    drawn = {
        "embedding": rng.uniform(-0.05, 0.05, shapes["embedding"]),
        "kernel": _glorot(rng, shapes["kernel"]),
        "recurrent_kernel": _orthogonal(rng, shapes["recurrent_kernel"]),
        "bias": bias,
        "dense_kernel": _glorot(rng, shapes["dense_kernel"]),
        "dense_bias": np.zeros(shapes["dense_bias"]),
    }
    for factor, names in DRAWN_BY.items():
        if getattr(factors, factor) == "pytorch":
            for name in names:
                # A generator of its own, so that switching one factor leaves what the others draw as it is.
                own = np.random.default_rng([seed, 0x70C4, PARAMETERS.index(name)])
                drawn[name] = _as_pytorch(own, name, shapes[name], model.units)
    if factors.pad_row == "frozen":
        drawn["embedding"][0] = 0
    return {name: np.ascontiguousarray(values, np.float32) for name, values in drawn.items()}


#: factor -> the parameters that it draws
DRAWN_BY: Mapping[str, tuple[str, ...]] = {
    "embedding_weights": ("embedding",),
    "recurrent_weights": ("kernel", "recurrent_kernel"),
    "recurrent_bias": ("bias",),
    "dense_weights": ("dense_kernel", "dense_bias"),
}


def _as_pytorch(rng: np.random.Generator, name: str, shape: tuple[int, ...], units: int) -> NDArray[np.float64]:
    if name == "embedding":
        return rng.standard_normal(shape)
    limit = 1 / np.sqrt(units)
    values = rng.uniform(-limit, limit, shape)
    # PyTorch has two recurrent biases, of which only the sum is seen, but for a GRU's.
    return values + rng.uniform(-limit, limit, shape) if name == "bias" and len(shape) == 1 else values


def check_weights(weights: Weights, model: ModelSpec, where: str) -> None:
    """Refuse weights that aren't in the canonical layout.

    Raises
    ------
    ContractError
        A name, shape or dtype differs; `where` names the backend and the method.
    """
    shapes = canonical_shapes(model)
    if set(weights) != set(shapes):
        raise ContractError(f"{where}: expected the parameters {sorted(shapes)}, got {sorted(weights)}.")
    for name, shape in shapes.items():
        check_array(where, name, weights[name], "float32", shape)


def check_array(where: str, name: str, values: object, dtype: str, shape: tuple[int, ...], shown: str = "") -> None:
    """Refuse what isn't an array of this dtype and shape, as `check_weights` does; `shown` stands for the shape."""
    if not isinstance(values, np.ndarray) or values.dtype != dtype or values.shape != shape:
        got = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise ContractError(f"{where}: expected {name} as {dtype} {shown or shape}, got {got}.")


def _glorot(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    limit = np.sqrt(6.0 / (shape[0] + shape[1]))
    return rng.uniform(-limit, limit, shape)


def _orthogonal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Orthonormal rows, uniformly distributed: the sign of R's diagonal is moved into Q (Mezzadri 2007)."""
    rows, columns = shape
    q, r = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))
    q *= np.sign(np.diag(r))
    return q.T if rows < columns else q


def read_weights(path: Path) -> Weights:
    """Read the trained weights of a run, in the canonical layout; shapes are the model's to check.

    Raises
    ------
    ResultsError
        The file is missing or damaged, or isn't one of weights.
    """
    try:
        # Not np.load, which takes a file of one array as well.
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
            if sorted(archive.files) != sorted(PARAMETERS):
                raise ResultsError(
                    f"{path} doesn't hold the weights of a run: expected {', '.join(PARAMETERS)}, got "
                    f"{', '.join(archive.files) or 'nothing'}."
                )
            weights = {name: np.ascontiguousarray(archive[name]) for name in PARAMETERS}
    except FileNotFoundError:
        raise ResultsError(f"There is no {path}; the run kept no weights.") from None
    # What is raised for a file that is no archive, was cut off or changed, or holds Python objects.
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ResultsError(f"{path} is damaged: {str(error) or type(error).__name__}.") from None
    for name, values in weights.items():
        if values.dtype != np.float32:
            raise ResultsError(f"{path} doesn't hold the weights of a run: {name} is {values.dtype}, expected float32.")
    return weights
