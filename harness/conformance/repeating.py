"""What repeats: a seed gives the same bits, and nothing beside a run changes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rnn_crosscheck.harness.conformance.trial import CELLS, SIZE, Batch, Examples, Trial, check, digest, hold
from rnn_crosscheck.harness.protocol import Cell, Division


def _run(trial: Trial, division: Division, cell: Cell, seed: int = 0) -> str:
    """Train two epochs and predict; the bits of it all."""
    examples = Examples(2 * SIZE + 2)
    model = trial.model(division, cell, seed=seed)
    for _ in range(2):
        model.fit_epoch(examples.epoch(division))
    return digest(model.get_weights(), model.predict(examples.tokens))


@check("trains")
def check_seed_is_idempotent(trial: Trial) -> None:
    """The same run twice in one process gives the same bits."""
    for division, cell in trial.every(("lstm",)):
        one, two = (_run(trial, division, cell) for _ in range(2))
        hold(one == two, f"{division} {cell}: a run with one seed gave other bits the second time.")


@check("trains", place="twice")
def check_a_seed_repeats_in_another_process(trial: Trial) -> str:
    """The same run in two processes gives the same bits."""
    return " ".join(f"{division}-{cell}:{_run(trial, division, cell)}" for division, cell in trial.every(("lstm",)))


@check("native")
def check_another_seed_is_another_model(trial: Trial) -> None:
    """Native models of two seeds start from other weights."""
    for cell in CELLS:
        one, two = (digest(trial.native(cell, seed=seed).get_weights()) for seed in (0, 1))
        hold(one != two, f"{cell}: the seeds 0 and 1 give the same native weights; pass the seed on.")


@check("trains")
def check_runs_are_independent(trial: Trial) -> None:
    """What ran before in the process changes nothing."""
    for division, cell in trial.every(("lstm",)):
        before = _run(trial, division, cell)
        for other in reversed(CELLS):
            if other != cell:
                trial.model(division, other, seed=3).train_step(*Examples(SIZE).batch())
        hold(before == _run(trial, division, cell), f"{division} {cell}: other runs in between changed its bits.")


@check("trains")
def check_predicting_leaves_training_alone(trial: Trial) -> None:
    """Predictions between steps change nothing."""
    examples = Examples(SIZE)
    for division, cell in trial.every():
        one, two = trial.model(division, cell), trial.model(division, cell)
        for _ in range(2):
            one.train_step(*examples.batch())
            two.train_step(*examples.batch())
            two.predict(examples.tokens.copy())
        same = digest(one.get_weights()) == digest(two.get_weights())
        hold(same, f"{division} {cell}: predicting between two steps changed the weights.")


@check()
def check_inputs_are_left_alone(trial: Trial) -> None:
    """Arrays that are passed in are never changed, and may be read-only."""
    for kind in trial.kinds:
        model = trial.model(kind, CELLS[0])
        tokens, labels = Examples(SIZE).batch()
        calls: list[tuple[str, Callable[[Batch], object]]] = [("predict", lambda batch, m=model: m.predict(batch[0]))]  # type: ignore[misc]
        if trial.divisions:
            calls.append(("train_step", lambda batch, m=model: m.train_step(*batch)))  # type: ignore[misc]
        for what, call in calls:
            before = tokens.copy(), labels.copy()
            call((tokens, labels))
            same = np.array_equal(tokens, before[0]) and np.array_equal(labels, before[1])
            hold(same, f"{kind if trial.divisions else 'given'}: {what} changed the arrays it was given.")
        tokens.flags.writeable = labels.flags.writeable = False
        for _, call in calls:
            call((tokens, labels))
