"""Keras' Adam for arrays of any library: the same in NumPy as a number at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rnn_crosscheck.harness.adam import Adam, clip, rates
from rnn_crosscheck.harness.protocol import Factors, TrainingSpec


def gradients() -> dict[str, np.ndarray]:
    return {"kernel": np.array([[3.0, -4.0]]), "bias": np.array([12.0])}


@pytest.mark.parametrize(("limit", "scale"), [(0.0, 1.0), (26.0, 1.0), (6.5, 0.5)])
def test_gradients_are_scaled_together(limit: float, scale: float) -> None:
    found = clip(gradients(), TrainingSpec(clipnorm=limit), one_for_two=True)
    assert found.norm == pytest.approx(13)
    for name, values in gradients().items():
        np.testing.assert_allclose(found.gradients[name], values * scale)


def test_one_bias_that_stands_for_two_counts_twice() -> None:
    two = TrainingSpec(factors=Factors(biases="two"))
    assert clip(gradients(), two, one_for_two=True).norm == pytest.approx(math.sqrt(25 + 2 * 144))
    assert clip(gradients(), two, one_for_two=False).norm == pytest.approx(13)
    moves = [Adam(two, one_for_two=stands).step(gradients())[0] for stands in (True, False)]
    np.testing.assert_allclose(moves[0]["bias"], 2 * moves[1]["bias"])
    np.testing.assert_allclose(moves[0]["kernel"], moves[1]["kernel"])


def test_three_steps_are_those_of_the_formula() -> None:
    spec = TrainingSpec(learning_rate=0.1, beta_1=0.8, beta_2=0.9, epsilon=1e-2)
    adam, m, v = Adam(spec, one_for_two=True), 0.0, 0.0
    for step, gradient in enumerate((1.0, -2.0, 0.5), start=1):
        m, v = m + 0.2 * (gradient - m), v + 0.1 * (gradient**2 - v)
        alpha = 0.1 * math.sqrt(1 - 0.9**step) / (1 - 0.8**step)
        moves, norm = adam.step({"kernel": np.array([gradient])})
        assert moves["kernel"][0] == pytest.approx(alpha * m / (math.sqrt(v) + 1e-2), rel=1e-6)
        assert norm == pytest.approx(abs(gradient))


def test_squares_may_be_told_and_are_scaled_with_the_gradients() -> None:
    spec = TrainingSpec(learning_rate=1.0, beta_1=0, beta_2=0, epsilon=1e-12, clipnorm=1.0)
    moves, _ = Adam(spec, one_for_two=True).step({"kernel": np.array([4.0])}, {"kernel": np.array([1.0])})
    # 4 / sqrt(1), whatever the scale, and the corrections are 1.
    assert moves["kernel"][0] == pytest.approx(4.0)


def test_epsilon_after_the_correction_is_a_smaller_one_before() -> None:
    before, after = (TrainingSpec(epsilon=1e-3, factors=Factors(epsilon_place=place)) for place in ("before", "after"))
    assert rates(before, 1)[1] == 1e-3
    assert rates(after, 1)[1] == pytest.approx(1e-3 * math.sqrt(1e-3), rel=1e-4)
    assert rates(before, 1)[0] == rates(after, 1)[0]
