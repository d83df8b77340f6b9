"""Adam as the matched division has it, for arrays of any library that do arithmetic: NumPy, PyTorch, JAX.

It is Keras' Adam: ``alpha = lr * sqrt(1 - beta_2**t) / (1 - beta_1**t)``, ``w -= alpha * m / (sqrt(v) + epsilon)``
(keras/src/optimizers/adam.py, ``update_step``), with what `harness.protocol.Factors` switches. Nothing is changed where
it stands: everything returns new arrays, so that it can be traced and compiled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rnn_crosscheck.harness.protocol import TrainingSpec

#: name of a parameter -> array of some library
Arrays = Mapping[str, Any]

#: the parameter that two equal ones stand for when a model keeps one recurrent bias (`Factors.biases` is ``two``)
_BIAS = "bias"


class Clipped(NamedTuple):
    """Gradients scaled to the largest norm allowed, their global norm from before, and the scale."""

    gradients: dict[str, Any]
    norm: Any
    scale: Any


class Moves(NamedTuple):
    """What is to be subtracted from each parameter, and the new moments."""

    moves: dict[str, Any]
    m: dict[str, Any]
    v: dict[str, Any]


def clip(gradients: Arrays, training: TrainingSpec, *, one_for_two: bool) -> Clipped:
    """Scale gradients so that their global norm is at most ``training.clipnorm``; 0 leaves them as they are.

    Parameters
    ----------
    gradients
        By name of the parameter.
    one_for_two
        Whether the parameter ``bias`` stands for both of two biases where the factors ask for two; one whose
        parameters are two themselves says False.
    """
    squares = {name: (gradient * gradient).sum() for name, gradient in gradients.items()}
    twin = squares[_BIAS] if one_for_two and training.factors.biases == "two" else 0.0
    norm = (sum(squares.values()) + twin) ** 0.5
    if not training.clipnorm:
        return Clipped(dict(gradients), norm, 1.0)
    scale = training.clipnorm / norm.clip(training.clipnorm)
    return Clipped({name: gradient * scale for name, gradient in gradients.items()}, norm, scale)


def rates(training: TrainingSpec, step: int) -> tuple[float, float]:
    """Give alpha and epsilon of a step, counted from 1.

    In float32 as Keras has it: a float64 alpha flips relu masks within twenty steps.
    """
    one, t = np.float32(1), np.float32(step)
    corrected_1, corrected_2 = one - np.float32(training.beta_1) ** t, one - np.float32(training.beta_2) ** t
    alpha = float(np.float32(training.learning_rate) * np.sqrt(corrected_2) / corrected_1)
    after = training.factors.epsilon_place == "after"
    return alpha, training.epsilon * float(np.sqrt(corrected_2)) if after else training.epsilon


def moves(
    gradients: Arrays,
    squares: Arrays,
    m: Arrays,
    v: Arrays,
    *,
    alpha: Any,  # noqa: ANN401 - a number, or an array of the library without axes
    epsilon: Any,  # noqa: ANN401
    training: TrainingSpec,
    one_for_two: bool,
) -> Moves:
    """Compute one update.

    Parameters
    ----------
    gradients
        Clipped, by name of the parameter.
    squares
        What stands for the square of a gradient, by name; the gradient's own where there is none.
    m, v
        Moments by name; what isn't there is 0.
    alpha, epsilon
        Of `rates`.
    one_for_two
        As for `clip`.
    """
    new_m = {name: m.get(name, 0.0) + (1 - training.beta_1) * (g - m.get(name, 0.0)) for name, g in gradients.items()}
    new_v = {
        name: v.get(name, 0.0) + (1 - training.beta_2) * (squares.get(name, g * g) - v.get(name, 0.0))
        for name, g in gradients.items()
    }
    # Two biases have equal gradients and moments; the model sees their sum.
    twice = _BIAS if one_for_two and training.factors.biases == "two" else ""
    found = {
        name: (2 * alpha if name == twice else alpha) * new_m[name] / (new_v[name] ** 0.5 + epsilon)
        for name in gradients
    }
    return Moves(found, new_m, new_v)


class Adam:
    """Adam with its state, for models that change their parameters where they stand.

    Parameters
    ----------
    training
        What the protocol asks for.
    one_for_two
        As for `clip`.
    """

    def __init__(self, training: TrainingSpec, *, one_for_two: bool) -> None:
        self._training, self._one_for_two = training, one_for_two
        self._m: Arrays = {}
        self._v: Arrays = {}
        self._steps = 0

    def step(self, gradients: Arrays, squares: Arrays | None = None) -> tuple[dict[str, Any], Any]:
        """Give what is to be subtracted from each parameter, and the norm of the gradients before they are clipped.

        Parameters
        ----------
        gradients
            Of the mean loss, by name of the parameter.
        squares
            What stands for the square of a gradient, by name, from before gradients are clipped.
        """
        clipped = clip(gradients, self._training, one_for_two=self._one_for_two)
        self._steps += 1
        alpha, epsilon = rates(self._training, self._steps)
        found, self._m, self._v = moves(
            clipped.gradients,
            {name: values * clipped.scale**2 for name, values in (squares or {}).items()},
            self._m,
            self._v,
            alpha=alpha,
            epsilon=epsilon,
            training=self._training,
            one_for_two=self._one_for_two,
        )
        return found, clipped.norm
