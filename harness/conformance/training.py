"""How a model trains: steps and epochs, what they return, and that a matched step is the reference's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rnn_crosscheck.harness.backend import EpochStats
from rnn_crosscheck.harness.conformance.trial import (
    CELLS,
    SIZE,
    TRAINING,
    Examples,
    Trial,
    check,
    follow,
    hold,
    near,
    reference,
    spec_of,
)
from rnn_crosscheck.harness.protocol import switched
from rnn_crosscheck.harness.weights import check_weights


@check("trains")
def check_the_loss_falls(trial: Trial) -> None:
    """Steps on one batch make its loss smaller."""
    batch = Examples(SIZE).batch()
    for division, cell in trial.every(CELLS):
        model = trial.model(division, cell)
        losses = [model.train_step(*batch) for _ in range(30)]
        hold(
            np.isfinite(losses).all() and losses[-1] < losses[0],
            f"{division} {cell}: after 29 steps on one batch its loss is {losses[-1]:.4g}, expected less than the "
            f"{losses[0]:.4g} from before.",
        )


@check("trains")
def check_the_loss_is_from_before_the_update(trial: Trial) -> None:
    """`train_step` returns the mean loss of its batch before the weights move, as a float."""
    examples = Examples(3 * SIZE)
    for division, cell in trial.every():
        model = trial.model(division, cell)
        for tokens, labels in examples.batches():
            p = model.predict(tokens).astype(np.float64)
            expected = float(-np.where(labels == 1, np.log(p), np.log1p(-p)).mean())
            loss = model.train_step(tokens, labels)
            hold(
                isinstance(loss, float), f"{division} {cell}: train_step: expected a float, got {type(loss).__name__}."
            )
            hold(
                abs(loss - expected) <= 1e-5 + 1e-4 * expected,
                f"{division} {cell}: train_step returned {loss:.6g}; the mean loss before the step is {expected:.6g}.",
            )


@check("matched")
def check_the_matched_step_is_the_reference_s(trial: Trial) -> None:
    """Five matched steps move the weights as Keras' Adam does in float64, with every value of the training spec."""
    for cell in CELLS:
        follow(trial, cell, 5, f"{cell}: weights after five matched steps")


@check("matched")
def check_gradients_are_clipped(trial: Trial) -> None:
    """With `clipnorm` the gradients are scaled to that global norm, all together."""
    training = TRAINING.model_copy(update={"clipnorm": 0.02, "epsilon": 1e-2})
    for cell in CELLS:
        follow(trial, cell, 3, f"{cell}: weights after clipped steps", training=training)


@check("parity")
def check_gradients_are_the_reference_s(trial: Trial) -> None:
    """`gradients` gives those of the mean loss in the canonical layout, dense, not clipped."""
    batch = Examples(SIZE).batch()
    training = TRAINING.model_copy(update={"clipnorm": 1e-3})
    for cell in CELLS:
        found, expected = trial.given(cell, training=training).gradients(*batch), reference(cell).gradients64(*batch)
        check_weights(found, spec_of(cell), f"{cell}: gradients")
        whole = max(float(np.abs(values).max()) for values in expected.values())
        for name, values in expected.items():
            # The head's bias has the mean of errors of both signs, which may cancel to almost nothing.
            scale = max(float(np.abs(values).max()), 1e-2 * whole)
            near(found[name], values, 1e-4 * scale + 1e-8, f"{cell}: gradients: {name}")


@check("matched", "factors")
def check_factors_are_honoured(trial: Trial) -> None:
    """Every switch of the training spec's factors does what it does in the reference."""
    switches: Mapping[str, str] = {
        "factors.epsilon_place": "after",
        "factors.duplicates": "apart",
        "factors.biases": "two",
        "factors.loss_form": "probabilities",
        "factors.pad_row": "frozen",
    }
    plain = TRAINING.model_copy(update={"epsilon": 1e-2})
    for key, value in switches.items():
        training = switched(plain, {key: value})
        for cell in ("rnn", "gru") if key == "factors.biases" else ("lstm",):
            follow(trial, cell, 3, f"{cell}, {key}={value}: weights after three steps", training=training)


@check("trains")
def check_the_last_batch_may_be_smaller(trial: Trial) -> None:
    """An epoch whose last batch is smaller trains on every example, and its figures weigh examples alike."""
    examples = Examples(2 * SIZE + 2)
    n = len(examples.labels)
    # The weights hardly move, so that what is right before is right in the end.
    still = TRAINING.model_copy(update={"learning_rate": 1e-12})
    for division, cell in trial.every():
        model = trial.model(division, cell, training=still)
        right = int(((model.predict(examples.tokens) >= 0.5) == (examples.labels == 1)).sum())
        stats = model.fit_epoch(examples.epoch(division))
        hold(
            abs(stats.accuracy - right / n) < 1e-6,
            f"{division} {cell}: fit_epoch: the accuracy is {stats.accuracy:.4f}; {right} of {n} answers are right.",
        )
        stats = trial.model(division, cell).fit_epoch(examples.epoch(division))
        hold(isinstance(stats, EpochStats), f"fit_epoch: expected an EpochStats, got {type(stats).__name__}.")
        if division == "native":
            continue  # its order is its own
        model = trial.given(cell)
        weighted = sum(model.train_step(tokens, labels) * len(labels) for tokens, labels in examples.batches())
        hold(
            abs(stats.loss - weighted / n) <= 1e-5,
            f"{cell}: fit_epoch: the loss is {stats.loss:.6g}; weighted by examples it is {weighted / n:.6g}.",
        )


@check("trains")
def check_batches_are_counted(trial: Trial) -> None:
    """`fit_epoch` calls `batches.batch_done` after each batch: it is the progress, and the sign of life."""
    examples = Examples(2 * SIZE + 2)
    for division, cell in trial.every():
        done: list[int] = []
        trial.model(division, cell).fit_epoch(examples.epoch(division, done=done.append))
        hold(done == [1, 2, 3], f"{division} {cell}: of three batches, batch_done was told {done}.")


@check("native")
def check_epochs_are_shuffled(trial: Trial) -> None:
    """A native model sees its examples in another order every epoch."""
    examples = Examples(8 * SIZE)
    model = trial.native(CELLS[0])
    model.fit_epoch(examples.epoch("native"))
    in_order = trial.native(CELLS[0])
    for batch in examples.batches():
        in_order.train_step(*batch)
    # Not to the bit: an epoch and single steps may be rounded differently.
    same = np.allclose(model.predict(examples.tokens), in_order.predict(examples.tokens), rtol=0, atol=1e-6)
    hold(not same, "a native epoch takes the examples in the order of the dataset; shuffle them.")
