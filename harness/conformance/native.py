"""What native models are: their weights in the canonical layout, their parameters, and what is declared of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.backend import Model, is_other
from rnn_crosscheck.harness.conformance.trial import (
    CELLS,
    SIZE,
    VOCABULARY,
    Examples,
    NotConforming,
    Trial,
    check,
    digest,
    given_weights,
    hold,
    near,
    spec_of,
)
from rnn_crosscheck.harness.parity.declared import drawn_as, lacking, plainly, wrongly_drawn
from rnn_crosscheck.harness.parity.reference import ReferenceModel, sigmoid
from rnn_crosscheck.harness.parity.stages import TOLERANCES, arithmetic
from rnn_crosscheck.harness.protocol import Cell, Factors, ModelSpec, TrainingSpec, switched
from rnn_crosscheck.harness.weights import Weights, canonical_shapes, check_weights

#: what native models take of it; the rest is what frameworks mostly have, so that it is told where they haven't
_TRAINING = TrainingSpec(batch_size=SIZE, learning_rate=5e-3)
#: untrained models that are looked at, and their units: enough of both to tell one distribution from another
_SEEDS, _UNITS = 12, 64


@check("native")
def check_native_weights_come_out_as_they_went_in(trial: Trial) -> None:
    """`get_weights` gives back what a native model was set to and computes with; `layers` notes what it hasn't."""
    tokens = Examples(20).tokens
    for cell in CELLS:
        spec, model, given = spec_of(cell), trial.native(cell), given_weights(cell, lively=True)
        missing = lacking(model, spec)
        model.set_weights(given)
        found = model.get_weights()
        check_weights(found, spec, f"native {cell}: get_weights")
        notes = "; ".join(row.note for row in model.layers() if row.note)
        lost = {name: int(mask.sum()) for name, mask in missing.items() if mask.any()}
        hold(
            not lost or notes,
            f"native {cell}: of its weights {_listed(lost)} values are lost between set_weights and get_weights; have "
            "`layers` note what the model hasn't (harness.backend.Layer.note).",
        )
        hold(lost or not notes, f"native {cell}: layers: the note says {notes!r}, but no weight is lost.")
        for name, values in given.items():
            near(found[name], np.where(missing[name], 0, values), 1e-6, f"native {cell}: {name} that was set and read")
        expected = sigmoid(ReferenceModel(spec, _TRAINING, found).logits64(tokens))
        near(model.predict(tokens), expected, 1e-5, f"native {cell}: predict, with the weights that get_weights gives")


@check("native")
def check_layers_count_what_moves(trial: Trial) -> None:
    """`layers` of a native model counts as trainable what moves when it is trained, twice for a bias that is two."""
    for cell in CELLS:
        spec = _smooth(cell)
        model = trial.create(spec, None, training=_TRAINING)
        before, after = model.get_weights(), _trained(model, _every_token())
        moved = {name: int((after[name] != before[name]).sum()) for name in after}
        values = trial.native_values(spec, _TRAINING)
        bias, row = canonical_shapes(spec)["bias"], spec.embedding
        twice = int(np.prod(bias)) if spec.biases == 1 else 0
        expected = sum(moved.values())
        allowed = {expected + twice} if values.get("factors.biases") == "two" else {expected}
        if not values:
            allowed |= {expected + twice}
        if values.get("factors.pad_row") == "frozen":
            allowed |= {count + row for count in allowed}
        trainable = sum(layer.trainable for layer in model.layers())
        still = {
            name: size - moved[name]
            for name, size in ((name, int(np.prod(shape))) for name, shape in canonical_shapes(spec).items())
            if size > moved[name]
        }
        hold(
            trainable in allowed,
            f"native {cell}: layers: expected {' or '.join(map(str, sorted(allowed)))} trainable parameters, "
            f"as many as move in training, got {trainable}"
            + (f"; of the canonical ones {_listed(still)} stay." if still else "."),
        )


@check("native", "declares")
def check_native_weights_are_drawn_as_declared(trial: Trial) -> None:
    """Initial weights of native models have the distributions that `native_values` declares."""
    for cell in CELLS:
        spec = spec_of(cell, units=_UNITS)
        values = trial.native_values(spec, _TRAINING)
        models = (trial.create(spec, None, training=_TRAINING, seed=seed).get_weights() for seed in range(_SEEDS))
        # Each once: whether seeds are heeded is another check's question.
        drawn = list({digest(weights): weights for weights in models}.values())
        for name in wrongly_drawn(drawn, spec, _TRAINING, values):
            said = values.get(f"factors.{name}")
            told = f"native_values declares {said!r}" if said else f"undeclared, it is {getattr(Factors(), name)!r}"
            fits = next((kind for kind in ("keras", "pytorch") if _drawn(name, drawn, spec, kind)), "")
            raise NotConforming(
                f"native {cell}: factors.{name}: {told}, which is not how its weights are drawn; declare "
                + (f"{fits!r}." if fits else "in words what is: 'other: ...'.")
            )


def _drawn(name: str, drawn: list[Weights], spec: ModelSpec, kind: str) -> bool:
    return drawn_as(name, drawn, spec, Factors.model_validate({name: kind}))


@check("native", "declares")
def check_native_steps_are_as_declared(trial: Trial) -> None:
    """Native steps move the weights as the reference's do with what `native_values` declares."""
    for cell in CELLS:
        spec = _smooth(cell)
        values = trial.native_values(spec, _TRAINING)
        if any(is_other(values.get(key)) for key in arithmetic()):
            continue
        # Where gradients are small, epsilon shows.
        for scale, what in ((1.0, ""), (1e-4, " of small gradients")):
            model = trial.create(spec, None, training=_TRAINING)
            expected = _beside(model, spec, values, _TRAINING, scale=scale)
            start = {name: array.copy() for name, array in expected.weights.items()}
            examples = Examples(5 * SIZE)
            # Not half and half: the gradient of the head's bias would cancel, and rounding be all that is left.
            examples.labels[:] = np.arange(len(examples.labels)) % 3 > 0
            for batch in examples.batches():
                expected.step64(*batch)
                model.train_step(*batch)
            found = model.get_weights()
            for name, wanted in expected.weights.items():
                gap = float(np.linalg.norm(found[name] - wanted) / np.linalg.norm(wanted - start[name]))
                hold(
                    gap <= _STEPS,
                    f"native {cell}: {name} after five steps{what}: expected at most {_STEPS:g} of how far it moved "
                    f"from the reference with {_told(values)}, got {gap:.2g}; native_values declares what isn't so, or "
                    "leaves out what is.",
                )


_STEPS = 10 * TOLERANCES["steps_5"][1]


@check("native")
def check_native_gradients_are_clipped(trial: Trial) -> None:
    """Native models clip their gradients to `clipnorm`, all together."""
    # Far below epsilon Adam's step is as long as the gradient, so that clipping shows in a single one.
    free = TrainingSpec(batch_size=SIZE, learning_rate=1.0)
    clipped = free.model_copy(update={"clipnorm": 1e-11})
    for cell in CELLS:
        spec = spec_of(cell)
        far, near_by = (_step(trial.create(spec, None, training=training)) for training in (free, clipped))
        hold(
            _length(near_by) < 1e-2 * _length(far),
            f"native {cell}: a step with clipnorm={clipped.clipnorm:g} is {_length(near_by):.2g} long, one without "
            f"{_length(far):.2g}: clipnorm is ignored.",
        )
        model = trial.create(spec, None, training=clipped)
        expected = _beside(model, spec, trial.native_values(spec, clipped), clipped)
        start = {name: array.copy() for name, array in expected.weights.items()}
        expected.step64(*Examples(SIZE).batch())
        wanted = {name: array - start[name] for name, array in expected.weights.items()}
        alike = sum(float((near_by[name] * wanted[name]).sum()) for name in wanted) / _length(near_by) / _length(wanted)
        hold(
            alike > 0.99,
            f"native {cell}: a step with clipnorm={clipped.clipnorm:g} doesn't go down the gradient (cosine "
            f"{alike:.2f}): expected all gradients to be scaled by their common norm.",
        )


def _smooth(cell: Cell) -> ModelSpec:
    """Give a model without relus, which may be off for good, or on by rounding alone."""
    return spec_of(cell).model_copy(update={"activation": "tanh"})


def _beside(
    model: Model, spec: ModelSpec, values: Mapping[str, Any], training: TrainingSpec, *, scale: float = 1.0
) -> ReferenceModel:
    """Give the reference that trains as is declared, from the weights of a native model; `scale` makes both smaller."""
    start = dict(model.get_weights())
    missing = lacking(model, spec) if any(row.note for row in model.layers()) else {}
    start["dense_kernel"] = start["dense_kernel"] * np.float32(scale)
    model.set_weights(start)
    told = {key: value for key, value in plainly(values).items() if key in arithmetic()}
    return ReferenceModel(spec, switched(training, told), start, missing)


def _every_token() -> Examples:
    """Give examples in which every token stands."""
    examples = Examples(5 * SIZE)
    examples.tokens[:] = np.resize(np.random.default_rng(3).permutation(VOCABULARY), examples.tokens.shape)
    return examples


def _trained(model: Model, examples: Examples) -> Weights:
    for batch in examples.batches():
        model.train_step(*batch)
    return model.get_weights()


def _step(model: Model) -> dict[str, NDArray[np.float64]]:
    """How far one step moves each parameter."""
    before = model.get_weights()
    model.train_step(*Examples(SIZE).batch())
    return {name: after.astype(np.float64) - before[name] for name, after in model.get_weights().items()}


def _length(moves: Mapping[str, NDArray[Any]]) -> float:
    return float(np.sqrt(sum(np.square(values).sum() for values in moves.values())))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} of {name}" for name, count in counts.items())


def _told(values: Mapping[str, Any]) -> str:
    told = [f"{key}={value}" for key, value in values.items() if key in arithmetic()]
    return ", ".join(told) or "the protocol's values"
