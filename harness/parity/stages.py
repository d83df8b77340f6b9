"""Stage by stage, a backend's model against the float64 reference; and what each known difference does.

On the same weights and batches, in the order of the computation: the encoded batch, the weights that the model took,
states and logits, the loss, the gradients, the weights after 1, 5 and 20 updates. The first stage that is out of its
tolerance is where the two part.

The tolerances (`TOLERANCES`) come from the arithmetic and from what correct backends were measured at; docs/parity.md
has both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.backend import Backend, Model
from rnn_crosscheck.harness.batches import Batches, epoch_order
from rnn_crosscheck.harness.datasets.selection import Selection
from rnn_crosscheck.harness.errors import ContractError
from rnn_crosscheck.harness.parity.declared import Mask, lacking, plainly, wrongly_drawn
from rnn_crosscheck.harness.parity.reference import ReferenceModel, sigmoid
from rnn_crosscheck.harness.parity.trace import relus_on
from rnn_crosscheck.harness.protocol import Factors, RunSpec, TrainingSpec, switched
from rnn_crosscheck.harness.results import EffectRecord, Explanation, Kinks, Stage, StageRecord
from rnn_crosscheck.harness.weights import PARAMETERS, Weights, check_weights, initial_weights

Batch = tuple[NDArray[np.int32], NDArray[np.float32]]
Values = Mapping[str, Any]

#: what is measured at each stage, and the most that it may be
TOLERANCES: Mapping[Stage, tuple[Literal["max", "l2"], float]] = {
    "encoding": ("max", 0.0),
    "weights": ("max", 0.0),
    "forward": ("l2", 1e-5),
    "loss": ("l2", 1e-5),
    "gradients": ("l2", 1e-4),
    "update": ("max", 1e-6),
    "steps_5": ("l2", 1e-3),
    "steps_20": ("l2", 1e-2),
}

#: test examples whose probabilities tell the effect of a factor, and updates after which they are looked at
EFFECT_PROBES = 64
EFFECT_STEPS = (1, 2, 5, 10, 20)

#: every factor: its name and the values of the training spec that switch it
FACTORS: Mapping[str, Values] = {
    "embedding_weights": {"factors.embedding_weights": "pytorch"},
    "recurrent_weights": {"factors.recurrent_weights": "pytorch"},
    "recurrent_bias": {"factors.recurrent_bias": "pytorch"},
    "dense_weights": {"factors.dense_weights": "pytorch"},
    "order": {"factors.order": "another"},
    "epsilon": {"epsilon": 1e-8, "factors.epsilon_place": "after"},
    "duplicates": {"factors.duplicates": "apart"},
    "biases": {"factors.biases": "two"},
    "loss_form": {"factors.loss_form": "probabilities"},
    "pad_row": {"factors.pad_row": "frozen"},
}
#: those that a model can be held to on given weights and batches
_ARITHMETIC = ("epsilon", "duplicates", "biases", "loss_form", "pad_row")

_FULL_BATCHES, _PARTIAL, _STEPS = 4, 5, (1, 5, 20)


@dataclass(frozen=True)
class Found:
    """What the stages showed; `explanation` only where a stage failed.

    `contradicted` has what the backend declares of its native models and isn't so, by dotted key.
    """

    stages: tuple[StageRecord, ...]
    kinks: Kinks | None
    explanation: Explanation | None
    contradicted: dict[str, str]


def compare(backend: Backend, spec: RunSpec, selection: Selection, tell: Callable[[str], None]) -> Found:
    """Go through the stages.

    A matched model starts from canonical weights; a second one takes the first five batches by `fit_epoch`, the last of
    them smaller, and goes on from there. A native one starts from its own weights; it would shuffle in `fit_epoch`, so
    it is given batches one by one. Native stages are held against the *matched* arithmetic: what they show is what the
    defaults change. What a native model lacks of the canonical layout, the reference hasn't either.

    `tell` is called with the name of each stage as it begins.

    Raises
    ------
    ContractError
        The backend answered something else than the contract asks for.
    """
    matched = spec.division == "matched"
    singles, block = _first_batches(spec, selection)
    first, second = singles[:2]
    given = initial_weights(spec.model, spec.seed, spec.training.factors) if matched else None

    def create() -> Model:
        return backend.create(spec.model, spec.training, weights=given, seed=spec.seed, device=spec.device)

    tell("encoding")
    stages = [_encoding(spec, selection, first)]
    model = create()
    taken = model.get_weights()
    start = taken if given is None else given
    stages += _weights("weights", taken, start, start)
    noted = not matched and any(layer.note for layer in model.layers())
    missing = lacking(create(), spec.model) if noted else {}
    reference = ReferenceModel(spec.model, _plain(spec.training), start, missing)

    tell("forward")
    stages += _forward(model, reference, [first, second])
    tell("gradients")
    kinked = spec.model.activation == "relu"
    on = relus_on(model, first[0]) if kinked else None
    gradients, expected = model.gradients(*first), reference.gradients64(*first, on)
    check_weights(gradients, spec.model, f"Backend {spec.backend!r}: gradients")
    whole = float(np.sqrt(sum(np.square(values).sum() for values in expected.values())))
    stages += [
        # The head's bias has the mean of errors of both signs, which may cancel to almost nothing.
        _record("gradients", name, gradients[name], expected[name], least=_CANCELLED * whole if name == _MEAN else 0)
        for name in PARAMETERS
    ]
    tell("update")
    kinks = _Kinks() if kinked else None
    before = reference.loss64(*first)
    loss, on = _step(model, reference, first, kinks)
    stages.insert(-len(PARAMETERS), _record("loss", "mean loss", np.array([loss]), np.array([before])))
    stages += _weights("update", model.get_weights(), reference.weights, start)

    for_five = singles[: _STEPS[1]]
    masks = [on]
    for batch in for_five[1:]:
        tell("steps")
        if kinked or not matched:
            # One by one: fit_epoch doesn't let anybody look at the relus in between, and a native one shuffles.
            masks.append(_step(model, reference, batch, kinks)[1])
        else:
            masks.append(None)
            reference.step64(*batch)
    if matched:
        model = create()
        model.fit_epoch(block)
    stages += _weights("steps_5", model.get_weights(), reference.weights, start)
    after_five = model.get_weights()
    for batch in singles[_STEPS[1] :]:
        tell("steps")
        _step(model, reference, batch, kinks)
    stages += _weights("steps_20", model.get_weights(), reference.weights, start)

    explanation: Explanation | None = None
    contradicted: dict[str, str] = {}
    declared = {} if matched else dict(type(backend).native_values(spec.model, spec.training))
    failed = {record.stage for record in stages if not record.ok}
    # Before the loss there is nothing that a switch could explain.
    if (declared or failed & {"loss", "gradients", "update", "steps_5"}) and not failed & {
        "encoding",
        "weights",
        "forward",
    }:
        tell("causes")
        course = _Course(spec, list(zip(for_five, masks, strict=True)), start, missing, after_five, tell)
        explanation, contradicted = _explain(course, declared)
    if declared:
        wrong = wrongly_drawn([start], spec.model, spec.training, declared)
        contradicted |= {
            f"factors.{name}": str(_declared(declared, spec.training, f"factors.{name}")) for name in wrong
        }
    return Found(tuple(stages), kinks.counted() if kinks else None, explanation, contradicted)


# --- stages -------------------------------------------------------------------------------------------------


def _first_batches(spec: RunSpec, selection: Selection) -> tuple[list[Batch], Batches]:
    """Give the first batches of a training in the shared order: as single ones, and the first five as an epoch."""
    size = spec.training.batch_size
    # The fifth batch is smaller, as the last of an epoch may be.
    cut = _FULL_BATCHES * size + min(_PARTIAL, max(1, size - 1))
    # A small dataset comes round again.
    rows = np.resize(_ordered(spec, selection), cut + (_STEPS[2] - _STEPS[1]) * size)
    block = _batches(spec, selection, rows[:cut])
    return [*block, *_batches(spec, selection, rows[cut:])], block


def _batches(spec: RunSpec, selection: Selection, rows: NDArray[np.int64]) -> Batches:
    """Cut rows of the training split into batches, in the order in which they are given."""
    return Batches(
        selection.train.split,
        rows,
        order=np.arange(len(rows)),
        batch_size=spec.training.batch_size,
        length=spec.data.length,
        vocabulary=spec.data.vocabulary,
    )


def _ordered(spec: RunSpec, selection: Selection) -> NDArray[np.int64]:
    """Rows of the training examples in the shared order of the first epoch."""
    rows = selection.train.rows
    return np.resize(rows[epoch_order(spec.seed, 1, len(rows))], max(len(rows), spec.training.batch_size))


def _plain(training: TrainingSpec) -> TrainingSpec:
    """Give what the stages hold a model to: the protocol's training without any switched factor."""
    return training.model_copy(update={"factors": Factors()})


def _record(
    stage: Stage,
    parameter: str,
    found: NDArray[Any],
    expected: NDArray[Any],
    *,
    scale: NDArray[Any] | None = None,
    least: float = 0.0,
) -> StageRecord:
    """Measure one quantity; the relative error is relative to `scale`, else to what was expected, at least `least`."""
    measure, tolerance = TOLERANCES[stage]
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.asarray(found, np.float64) - expected
        size = max(float(np.linalg.norm(np.asarray(expected if scale is None else scale, np.float64))), least)
        largest = float(np.abs(error).max())
        norm = float(np.linalg.norm(error))
    relative = norm / size if size else (0.0 if norm == 0 else np.inf)
    largest, relative = finite(largest), finite(relative)
    ok = (largest if measure == "max" else relative) <= tolerance
    return StageRecord(
        stage=stage,
        parameter=parameter,
        max_error=largest,
        l2_error=relative,
        measure=measure,
        tolerance=tolerance,
        ok=ok,
    )


#: parameter whose gradient is a mean, and the share of the whole gradient that it is held against at least
_MEAN, _CANCELLED = "dense_bias", 1e-2

_FAR = 1e30


def finite(value: float) -> float:
    """Give a value that JSON can hold: what isn't a number, or too large, is as far off as can be."""
    return float(min(np.nan_to_num(value, nan=_FAR), _FAR))


def _weights(stage: Stage, found: Weights, expected: Mapping[str, NDArray[Any]], start: Weights) -> list[StageRecord]:
    """Compare weights; after several updates the error is relative to how far the reference has moved."""
    moved = stage in ("steps_5", "steps_20")
    return [
        _record(stage, name, found[name], expected[name], scale=expected[name] - start[name] if moved else None)
        for name in PARAMETERS
    ]


def _encoding(spec: RunSpec, selection: Selection, batch: Batch) -> StageRecord:
    """Encode the first batch once more, one token at a time."""
    rows = _ordered(spec, selection)[: len(batch[0])]
    split = selection.train.split
    expected = np.zeros_like(batch[0])
    for place, row in enumerate(rows.tolist()):
        tokens = split.tokens_of(row).tolist()
        kept = [token if token < spec.data.vocabulary else 2 for token in tokens][-spec.data.length :]
        for back, token in enumerate(reversed(kept), start=1):
            expected[place, -back] = token
    labels = np.array([split.labels[row] for row in rows.tolist()], np.float32)
    found = np.concatenate([batch[0].ravel(), batch[1]])
    return _record("encoding", "tokens and labels", found, np.concatenate([expected.ravel(), labels]))


def _forward(model: Model, reference: ReferenceModel, batches: Sequence[Batch]) -> list[StageRecord]:
    """Compare states, logits and probabilities of two batches, and of the first once more.

    A model that carries something over from one batch to the next gives itself away at the second.
    """
    passes = [reference.forward64(tokens) for tokens, _ in batches]
    compared: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = {}
    for (tokens, _), expected in zip([*batches, batches[0]], [*passes, passes[0]], strict=True):
        found = model.forward(tokens)
        for name in ("states", "logits"):
            got, want = getattr(found, name), getattr(expected, name)
            if not isinstance(got, np.ndarray) or got.shape != want.shape:
                shape = got.shape if isinstance(got, np.ndarray) else type(got).__name__
                raise ContractError(
                    f"{type(model).__name__}.forward must return {name} of the shape {want.shape}, got {shape}."
                )
        compared.setdefault("recurrent states", []).append((found.states, expected.states))
        compared.setdefault("logits", []).append((found.logits, expected.logits))
        compared.setdefault("probabilities", []).append((model.predict(tokens), sigmoid(expected.logits)))
    return [
        _record("forward", name, *(np.concatenate([np.ravel(pair[side]) for pair in pairs]) for side in (0, 1)))
        for name, pairs in compared.items()
    ]


class _Kinks:
    """Counts relus that are on in one model and off in the other."""

    def __init__(self) -> None:
        self._compared = 0
        self._flipped: list[NDArray[np.float64]] = []

    def add(self, on: NDArray[np.bool_], preactivations: NDArray[np.float64]) -> None:
        self._compared += on.size
        self._flipped.append(np.abs(preactivations[on != (preactivations > 0)]))

    def counted(self) -> Kinks:
        flipped = np.concatenate(self._flipped)
        return Kinks(
            compared=self._compared, flipped=len(flipped), largest=finite(flipped.max()) if len(flipped) else 0.0
        )


def _step(
    model: Model, reference: ReferenceModel, batch: Batch, kinks: _Kinks | None
) -> tuple[float, NDArray[np.bool_] | None]:
    """Train both on a batch; the reference has the model's relus on, and the model's loss and those are returned.

    Where a relu is nearer to its kink than rounding reaches, either side is right, and Adam makes a whole step of the
    difference. So the two are held to the same side, and the flips are counted.
    """
    on = None
    if kinks is not None:
        on = relus_on(model, batch[0])
        preactivations = reference.forward64(batch[0]).preactivations
        assert preactivations is not None
        kinks.add(on, preactivations)
    loss = model.train_step(*batch)
    reference.step64(*batch, on)
    return loss, on


# --- causes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Course:
    """Five updates of a backend's model, to be done again by the reference."""

    spec: RunSpec
    batches: Sequence[tuple[Batch, NDArray[np.bool_] | None]]
    start: Weights
    missing: Mask
    found: Weights
    tell: Callable[[str], None]

    def error(self, values: Values) -> float:
        """Give the largest error over tolerance of the reference with some values switched."""
        self.tell("causes")
        training = switched(_plain(self.spec.training), values)
        model = ReferenceModel(self.spec.model, training, self.start, self.missing)
        for batch, on in self.batches:
            model.step64(*batch, on)
        records = _weights("steps_5", self.found, model.weights, self.start)
        return max(record.l2_error / record.tolerance for record in records)


def _explain(course: _Course, declared: Values) -> tuple[Explanation | None, dict[str, str]]:
    """Look for switches with which the reference moves the weights in five updates as the backend did.

    First what the backend declares of its native models; then the factors one by one and in pairs, and what is declared
    with one of them in another way. What is declared is contradicted where something else explains what it doesn't.
    """
    # Not what a model starts from, or in which order it takes its batches.
    of_steps = {key: value for key, value in declared.items() if key in arithmetic()}
    said = plainly(of_steps)
    best, least = {}, (without := course.error({}))
    as_said = course.error(said) if said else without
    if without > 1:  # else what failed, if anything did, did not move the weights
        for values in _candidates(said):
            with_them = as_said if values == said else course.error(values)
            if with_them < least:
                best, least = dict(values), with_them
            if with_them <= 1:
                break
    contradicted = {}
    if declared and as_said > 1 >= least:
        training = _plain(course.spec.training)
        told = {key: _declared(of_steps, training, key) for key in {**of_steps, **best}}
        contradicted = {key: str(v) for key, v in told.items() if v != _declared(best, training, key)}
    if without <= 1:
        return None, contradicted
    explained = least <= 1
    explanation = Explanation(
        values={key: str(value) for key, value in best.items()} if explained else {},
        error=least,
        without=without,
        declared=explained and bool(said) and best == said,
    )
    return explanation, contradicted


def _candidates(said: Values) -> Iterator[Values]:
    if said:
        yield said
    for size in (1, 2):
        yield from (_merged(names) for names in combinations(_ARITHMETIC, size))
    for values in (FACTORS[name] for name in _ARITHMETIC) if said else ():
        yield {**said, **values}
        yield {key: value for key, value in said.items() if key not in values}


def _declared(declared: Values, training: TrainingSpec, key: str) -> Any:  # noqa: ANN401 - a value of the training spec
    """Give a value that is declared; what isn't is as the protocol has it."""
    return declared[key] if key in declared else reduce(getattr, key.split("."), training)


def arithmetic() -> frozenset[str]:
    """Dotted keys of the training spec that a matched model has to honour itself."""
    return frozenset(key for name in _ARITHMETIC for key in FACTORS[name])


def _merged(names: Sequence[str]) -> dict[str, Any]:
    return {key: value for name in names for key, value in FACTORS[name].items()}


def native_in(factor: str, native_values: Mapping[str, Values]) -> tuple[str, ...]:
    """Backends whose native models have a factor switched, by what they declare."""
    wanted = FACTORS[factor]
    return tuple(name for name, values in native_values.items() if all(values.get(k) == v for k, v in wanted.items()))


def other_in(factor: str, native_values: Mapping[str, Values], training: TrainingSpec) -> dict[str, dict[str, str]]:
    """Backends whose native models have neither what a factor switches to nor what the protocol has, and what."""
    wanted = dict(FACTORS[factor])
    plain = {key: _declared({}, training, key) for key in wanted}
    owned = {name: {key: _declared(values, training, key) for key in wanted} for name, values in native_values.items()}
    return {
        name: {key: str(value) for key, value in own.items() if value != plain[key]}
        for name, own in owned.items()
        if own not in (wanted, plain)
    }


def effects(
    spec: RunSpec, selection: Selection, native_values: Mapping[str, Values], tell: Callable[[str], None]
) -> tuple[EffectRecord, ...]:
    """Train the reference with each factor switched alone, beside one without, for twenty updates.

    In float64 nothing is amplified in so few updates: the differences are those of the factor, to the last digit
    shown. `native_values` has what each backend declares of its native models, by name.
    """
    split = selection.test.split
    tokens = split.padded(selection.test.rows[:EFFECT_PROBES], spec.data.length, spec.data.vocabulary)

    def course(training: TrainingSpec) -> list[NDArray[np.float64]]:
        model = ReferenceModel(spec.model, training, initial_weights(spec.model, spec.seed, training.factors))
        rows = selection.train.rows
        order = epoch_order(spec.seed, 1, len(rows), another=training.factors.order == "another")
        seen = []
        batches = islice(_batches(spec, selection, rows[order]), EFFECT_STEPS[-1])
        for step, batch in enumerate(batches, start=1):
            tell("effects")
            model.step64(*batch)
            if step in EFFECT_STEPS:
                seen.append(sigmoid(model.logits64(tokens)))
        return seen

    plain = course(spec.training)
    found = []
    for name, values in FACTORS.items():
        gaps = [np.abs(a - b) for a, b in zip(course(switched(spec.training, values)), plain, strict=True)]
        found.append(
            EffectRecord(
                factor=name,
                values={key: str(value) for key, value in values.items()},
                native_in=native_in(name, native_values),
                other_in=other_in(name, native_values, spec.training),
                steps=EFFECT_STEPS[: len(gaps)],
                max_difference=tuple(finite(gap.max()) for gap in gaps),
                mean_difference=tuple(finite(gap.mean()) for gap in gaps),
            )
        )
    return tuple(found)
