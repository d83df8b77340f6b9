"""Whether native models are what their backend says: how their weights are drawn, and what they lack.

What is said of their steps is held against them in `harness.parity.stages`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.backend import Model, is_other
from rnn_crosscheck.harness.protocol import Factors, ModelSpec, TrainingSpec, switched
from rnn_crosscheck.harness.weights import DRAWN_BY, GATES, Weights, canonical_shapes, initial_weights

Mask = Mapping[str, NDArray[np.bool_]]

#: values of one parameter that are looked at, at most
_VALUES = 20_000
#: two samples are apart if two of one distribution would be as far from each other less often than this
_SURE = 1e-5


def plainly(native_values: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a backend declares of its native models without what it tells in words."""
    return {key: value for key, value in native_values.items() if not is_other(value)}


def lacking(model: Model, spec: ModelSpec) -> dict[str, NDArray[np.bool_]]:
    """Tell which values of the canonical layout a model hasn't, by parameter: they read as 0 whatever is set.

    The model is given weights of no meaning.
    """
    rng = np.random.default_rng(0x1AC4)
    given = {name: rng.uniform(0.1, 0.5, shape).astype(np.float32) for name, shape in canonical_shapes(spec).items()}
    model.set_weights(given)
    return {name: values == 0 for name, values in model.get_weights().items()}


def wrongly_drawn(
    found: Sequence[Weights], spec: ModelSpec, training: TrainingSpec, native_values: Mapping[str, Any]
) -> tuple[str, ...]:
    """Name the factors whose initial weights native models don't draw as declared; what is told in words is left out.

    Parameters
    ----------
    found
        Weights of untrained native models, each of a seed of its own.
    spec, training
        What they were made for.
    native_values
        What their backend declares of them (`harness.backend.Backend.native_values`).
    """
    expected = _drawn(found, spec, switched(training, plainly(native_values)).factors)
    names = [name for name in DRAWN_BY if not is_other(native_values.get(f"factors.{name}"))]
    return tuple(name for name in names if not _fits(name, found, expected, spec))


def drawn_as(factor: str, found: Sequence[Weights], spec: ModelSpec, factors: Factors) -> bool:
    """Whether weights could have been drawn as one factor says: each kind of value has the right distribution."""
    return _fits(factor, found, _drawn(found, spec, factors), spec)


def _drawn(found: Sequence[Weights], spec: ModelSpec, factors: Factors) -> list[Weights]:
    """Draw a few times as many models, so that what is found adds most of the chance."""
    return [initial_weights(spec, seed, factors) for seed in range(4 * len(found) + 4)]


def _fits(factor: str, found: Sequence[Weights], expected: Sequence[Weights], spec: ModelSpec) -> bool:
    return not any(
        _apart(mine, theirs)
        for name in DRAWN_BY[factor]
        for mine, theirs in zip(_samples(found, name, spec), _samples(expected, name, spec), strict=True)
    )


def _samples(models: Sequence[Weights], name: str, spec: ModelSpec) -> Iterator[NDArray[Any]]:
    """Give what can be compared of a parameter: a bias gate by gate, else all values, of a kernel its scales too."""
    values = np.stack([weights[name] for weights in models])
    if name == "bias":
        gates = values.reshape(len(values), -1, spec.units).swapaxes(0, 1)
        assert len(gates) == GATES[spec.cell] * spec.biases
        yield from (gate.ravel() for gate in gates)
    yield values.ravel()[:_VALUES]
    if name in ("kernel", "recurrent_kernel"):
        yield np.linalg.svd(values, compute_uv=False).ravel()


def _apart(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Whether two samples surely come from different distributions (Kolmogorov and Smirnov's test of two samples)."""
    from scipy.stats import ks_2samp  # takes a second to import, and only native models are asked

    one, two = (np.round(np.asarray(values, np.float64), 5) for values in (found, expected))
    if (two == two[0]).all():
        return bool((one != two[0]).any())
    return bool(ks_2samp(one, two).pvalue < _SURE)
