"""What a model is: how it is created, what goes into it and comes out of it."""

from __future__ import annotations

import sys

import numpy as np

from rnn_crosscheck.harness.conformance.trial import (
    CELLS,
    EMBEDDING,
    LENGTH,
    UNITS,
    Trial,
    check,
    given_weights,
    hold,
    modules_of,
    spec_of,
)
from rnn_crosscheck.harness.weights import check_weights, count_parameters


@check(place="fresh")
def check_nothing_is_imported_before_use(trial: Trial) -> None:
    """Looking at the backend imports none of its distributions."""
    found = [name for name in modules_of(type(trial.backend).distributions) if name in sys.modules]
    hold(
        not found,
        f"importing {type(trial.backend).__module__} imports {', '.join(found)}; import it inside of the methods, or "
        "with rnn_crosscheck.harness.adapter.Late.",
    )


@check()
def check_models_are_created(trial: Trial) -> None:
    """`create` gives a model of the declared class for every cell."""
    for kind in trial.kinds:
        what = "native" if kind == "native" else "with given weights"
        for cell in CELLS:
            model = trial.model(kind, cell)
            hold(
                isinstance(model, trial.backend.model),
                f"create ({what}, {cell}): expected a {trial.backend.model.__name__}, as `model` declares, got "
                f"{type(model).__name__}.",
            )


@check("given")
def check_weights_come_out_as_they_went_in(trial: Trial) -> None:
    """`create` and `set_weights` take canonical weights, `get_weights` gives the same bits back."""
    for cell in CELLS:
        model, spec = trial.given(cell), spec_of(cell)
        for what, weights in (("create", given_weights(cell)), ("set_weights", given_weights(cell, lively=True))):
            if what == "set_weights":
                model.set_weights(weights)
            found = model.get_weights()
            check_weights(found, spec, "get_weights")
            for name, values in weights.items():
                hold(
                    np.array_equal(found[name], values),
                    f"{cell}: {name} isn't what {what} was given; it differs by "
                    f"{np.abs(found[name] - values).max():.2g}, expected the same bits.",
                )


@check("given")
def check_weights_are_copies(trial: Trial) -> None:
    """Whoever changes the arrays that went in or came out doesn't change the model."""
    for cell in CELLS:
        model, given = trial.given(cell), given_weights(cell, lively=True)
        model.set_weights(given)
        found = model.get_weights()
        kept = {name: values.copy() for name, values in found.items()}
        for arrays in (given, found):
            for values in arrays.values():
                if values.flags.writeable:
                    values += 1
        again = model.get_weights()
        shared = [name for name in kept if not np.array_equal(again[name], kept[name])]
        hold(not shared, f"{cell}: the model shares the memory of {', '.join(shared)} with its caller; copy it.")


@check()
def check_layers_count_the_parameters(trial: Trial) -> None:
    """`layers` gives embedding, cell and dense with their shapes; a matched model has the canonical parameters."""
    for kind, cell in ((kind, cell) for kind in trial.kinds for cell in CELLS):
        rows = trial.model(kind, cell).layers()
        shapes = [(row.name, tuple(row.output_shape)) for row in rows]
        expected = [("embedding", (LENGTH, EMBEDDING)), (cell, (UNITS,)), ("dense", (1,))]
        hold(shapes == expected, f"{cell}: layers: expected {expected}, got {shapes}.")
        trainable, canonical = sum(row.trainable for row in rows), count_parameters(spec_of(cell))
        # What a native model has is its own: see check_layers_count_what_moves.
        hold(
            kind == "native" or trainable == canonical,
            f"{cell}: layers: expected {canonical} trainable parameters, got {trainable}.",
        )
