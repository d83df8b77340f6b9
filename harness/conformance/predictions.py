"""What a model predicts, beside the reference with the same weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.backend import Forward
from rnn_crosscheck.harness.conformance.trial import (
    CELLS,
    LENGTH,
    SIZE,
    Examples,
    Trial,
    check,
    given_weights,
    hold,
    near,
    reference,
)
from rnn_crosscheck.harness.parity.reference import sigmoid

#: what may lie between probabilities in float32 and in float64
_PROBABILITY = 1e-5


@check("given")
def check_probabilities_are_between_0_and_1(trial: Trial) -> None:
    """`predict` gives float32 (n,) in [0, 1], also of a model that is very sure, and of no rows at all."""
    examples = Examples(SIZE)
    for cell in CELLS:
        model = trial.given(cell, lively=True)
        for bias in (0.0, 60.0, -60.0):
            weights = given_weights(cell, lively=True)
            weights["dense_bias"][:] = bias
            model.set_weights(weights)
            for tokens in (examples.tokens, examples.tokens[:0]):
                found = model.predict(tokens)
                kind = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
                hold(
                    isinstance(found, np.ndarray) and found.dtype == np.float32 and found.shape == (len(tokens),),
                    f"{cell}: predict: expected float32 ({len(tokens)},), got {kind}.",
                )
                hold(
                    np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all(),
                    f"{cell}: predict: expected probabilities in [0, 1], got {found.tolist()[:3]}.",
                )


@check("given")
def check_predictions_are_the_reference_s(trial: Trial) -> None:
    """Given weights mean what they mean in the reference: gates, biases and orders are as in the canonical layout."""
    _predicted(trial, Examples(40).tokens, "predict")


def _predicted(trial: Trial, tokens: NDArray[np.int32], what: str) -> None:
    """Hold predictions of every cell against the reference's."""
    for cell in CELLS:
        expected = sigmoid(reference(cell, lively=True).logits64(tokens))
        near(trial.lively(cell).predict(tokens), expected, _PROBABILITY, f"{cell}: {what}")


@check("given")
def check_a_batch_of_one(trial: Trial) -> None:
    """A single row is predicted as it is among others."""
    tokens = Examples(8).tokens
    for cell in CELLS:
        model = trial.lively(cell)
        together = model.predict(tokens)
        alone = np.concatenate([np.atleast_1d(model.predict(tokens[row : row + 1])) for row in range(len(tokens))])
        near(alone, together.astype(np.float64), _PROBABILITY, f"{cell}: predict, a row at a time beside all at once")


@check("given")
def check_a_row_of_padding(trial: Trial) -> None:
    """A row that is nothing but padding is a row of the token 0; nothing is masked."""
    _predicted(trial, np.zeros((3, LENGTH), np.int32), "predict, only padding")


@check("given")
def check_the_longest_row(trial: Trial) -> None:
    """A row without padding is read from its first token to its last."""
    _predicted(trial, Examples(20, pads=0).tokens, "predict, no padding")


@check("parity")
def check_states_and_logits(trial: Trial) -> None:
    """`forward` gives the recurrent states (n, length, units) and logits (n,) of the reference."""
    tokens = Examples(9).tokens
    for cell in CELLS:
        found, expected = trial.lively(cell).forward(tokens), reference(cell, lively=True).forward64(tokens)
        hold(isinstance(found, Forward), f"{cell}: forward: expected a Forward, got {type(found).__name__}.")
        near(found.states, expected.states, 1e-5, f"{cell}: forward, states")
        near(found.logits, expected.logits, 1e-4, f"{cell}: forward, logits")
