"""What a backend must do, one small check each; which of them apply follows from the declared capabilities.

A check is a function of a `Trial`. It returns when the backend does right and raises `NotConforming` with a sentence
otherwise. Checks run in a worker process, since they use the framework; ``pytest --benchmark --crosscheck-conformance
NAME`` leads them (`harness.session.conformance`).

Each check looks at one thing and takes the others for granted as far as it can, so that a fault shows once and says
which it is.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import inspect
import os
import pickle
import sys
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.backend import Backend, EpochStats, Forward, Model, registered
from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.errors import ContractError, CrosscheckError
from rnn_crosscheck.harness.machine import hand_back_memory
from rnn_crosscheck.harness.parity.reference import ReferenceModel, sigmoid
from rnn_crosscheck.harness.protocol import Cell, DataSpec, Division, ModelSpec, RunSpec, TrainingSpec, switched
from rnn_crosscheck.harness.weights import canonical_shapes, check_weights, initial_weights

Batch = tuple[NDArray[np.int32], NDArray[np.float32]]

#: in which process a check runs: one that it shares with others, one of its own, or two of its own whose answers agree
Place = Literal["shared", "fresh", "twice"]

VOCABULARY, LENGTH, EMBEDDING, UNITS, SIZE = 60, 12, 8, 5, 6
CELLS: tuple[Cell, ...] = get_args(Cell)

#: not the default values, so that a backend that ignores them is found
TRAINING = TrainingSpec(batch_size=SIZE, learning_rate=5e-3, beta_1=0.8, beta_2=0.99, epsilon=1e-4)

#: what may lie between a backend and the float64 reference, by what is compared
_PROBABILITY, _WEIGHT, _RELATIVE = 1e-5, 2e-6, 1e-4


class NotConforming(CrosscheckError):
    """A backend doesn't do what the contract asks for; the message says what was expected and what came."""


@dataclass(frozen=True)
class Check:
    """One check: what it needs of a backend, and where it runs."""

    name: str
    needs: frozenset[str]
    place: Place
    function: Callable[[Trial], str | None]

    @property
    def question(self) -> str:
        """What is asked, in a sentence."""
        return (self.function.__doc__ or "").strip().splitlines()[0]

    def applies(self, backend: type[Backend]) -> bool:
        """Whether a backend claims what is checked."""
        has = {*backend.capabilities, *(["tuned"] if backend.tuned else [])}
        if {"native", "matched"} & has:
            has.add("trains")
        if {"matched", "inference"} & has:
            has.add("given")
        return self.needs <= has


CHECKS: dict[str, Check] = {}


def check(
    *needs: str, place: Place = "shared"
) -> Callable[[Callable[[Trial], str | None]], Callable[[Trial], str | None]]:
    """Register a check; `needs` are capabilities, or ``trains``, ``given`` (takes weights) or ``tuned``."""

    def register(function: Callable[[Trial], str | None]) -> Callable[[Trial], str | None]:
        CHECKS[function.__name__] = Check(function.__name__, frozenset(needs), place, function)
        return function

    return register


def checks_of(backend: type[Backend]) -> tuple[Check, ...]:
    """List the checks that apply to a backend, in the order in which they are best mended."""
    return tuple(check for check in CHECKS.values() if check.applies(backend))


class Examples:
    """Random token ids: a row begins with padding, but for those that are asked for otherwise."""

    def __init__(self, n: int, *, seed: int = 0, pads: int = 2) -> None:
        rng = np.random.default_rng([seed, 0xC0F0])
        # A few tokens are frequent, as in real texts.
        self.tokens = np.clip(rng.zipf(1.5, (n, LENGTH)), 1, VOCABULARY - 1).astype(np.int32)
        self.tokens[:, :pads] = 0
        self.labels = (np.arange(n) % 2).astype(np.int8)

    def padded(self, rows: NDArray[np.int64], length: int, vocabulary: int) -> NDArray[np.int32]:
        """Token ids of `rows`, as `harness.batches.Examples` asks for."""
        return self.tokens[rows]

    def batch(self, start: int = 0, size: int = SIZE) -> Batch:
        """Some rows, and their labels."""
        return self.tokens[start : start + size].copy(), self.labels[start : start + size].astype(np.float32)

    def epoch(self, *, matched: bool, done: Callable[[int], None] | None = None) -> Batches:
        """All rows once; in their order when matched."""
        n = len(self.labels)
        return Batches(
            self,
            np.arange(n),
            order=np.arange(n) if matched else None,
            batch_size=SIZE,
            length=LENGTH,
            vocabulary=VOCABULARY,
            on_batch=done,
        )


def spec_of(cell: Cell, *, units: int = UNITS, vocabulary: int = VOCABULARY) -> ModelSpec:
    """Give a small model of a cell."""
    return ModelSpec(
        name=cell,
        cell=cell,
        units=units,
        activation="relu" if cell == "rnn" else "tanh",
        embedding=EMBEDDING,
        vocabulary=vocabulary,
        length=LENGTH,
    )


@dataclass(eq=False)
class Trial:
    """A backend in a process where its framework may be used."""

    backend: Backend
    setting: Literal["default", "tuned"] = "default"
    _lively: dict[Cell, Model] = field(default_factory=dict)

    @cached_property
    def ready(self) -> Backend:
        """The backend, set up."""
        self.backend.setup(threads=1, seed=0, setting=self.setting, deterministic=True)
        return self.backend

    @property
    def divisions(self) -> tuple[Division, ...]:
        """Divisions that the backend trains in."""
        both: tuple[Division, ...] = get_args(Division)
        return tuple(division for division in both if division in self.backend.capabilities)

    @property
    def takes_weights(self) -> bool:
        """Whether models can be created with weights of ours."""
        return bool({"matched", "inference"} & self.backend.capabilities)

    def every(self, cells: Sequence[Cell] = ("rnn",)) -> Iterable[tuple[Division, Cell]]:
        """Each division that trains, with some cells; one is enough for what has nothing to do with the arithmetic."""
        return ((division, cell) for division in self.divisions for cell in cells)

    def native(self, cell: Cell, *, seed: int = 0, training: TrainingSpec = TRAINING) -> Model:
        """Create a model with the framework's own weights."""
        return self.ready.create(spec_of(cell), training, weights=None, seed=seed, device="cpu")

    def given(self, cell: Cell, *, training: TrainingSpec = TRAINING, lively: bool = False) -> Model:
        """Create a model with weights of ours."""
        weights = given_weights(cell, training, lively=lively)
        return self.ready.create(spec_of(cell), training, weights=weights, seed=0, device="cpu")

    def lively(self, cell: Cell) -> Model:
        """Give a model with lively weights that is only asked for predictions; the same one each time."""
        if cell not in self._lively:
            self._lively[cell] = self.given(cell, lively=True)
        return self._lively[cell]

    def model(self, division: Division, cell: Cell, *, seed: int = 0) -> Model:
        """Create a model in a division."""
        return self.native(cell, seed=seed) if division == "native" else self.given(cell)


def given_weights(
    cell: Cell, training: TrainingSpec = TRAINING, *, lively: bool = False
) -> dict[str, NDArray[np.float32]]:
    """Give weights for a model; lively ones make probabilities that lie well apart, and no bias is 0."""
    weights = initial_weights(spec_of(cell), 7, training.factors)
    if lively:
        rng = np.random.default_rng(11)
        weights = {
            name: (values * (20 if name == "embedding" else 1)).astype(np.float32)
            + (rng.uniform(-0.5, 0.5, values.shape).astype(np.float32) if "bias" in name else np.float32(0))
            for name, values in weights.items()
        }
    return weights


def reference(cell: Cell, training: TrainingSpec = TRAINING, *, lively: bool = False) -> ReferenceModel:
    """Give the float64 model with the same weights as `Trial.given`."""
    return ReferenceModel(spec_of(cell), training, given_weights(cell, training, lively=lively))


@dataclass(frozen=True)
class Verdict:
    """What a check came to: nothing wrong, a problem in a sentence, or something that is still to be written."""

    problem: str = ""
    todo: str = ""
    answer: str = ""


def carry_out(trial: Trial, name: str) -> Verdict:
    """Run one check in this process; whatever a backend raises is its problem."""
    try:
        return Verdict(answer=CHECKS[name].function(trial) or "")
    except CrosscheckError as error:
        return Verdict(problem=str(error))
    except NotImplementedError as error:
        return Verdict(todo=str(error) or f"{_place(error)} raises NotImplementedError")
    except Exception as error:  # noqa: BLE001 - whatever a framework raises
        traceback.print_exc()
        return Verdict(problem=f"{type(error).__name__} in {_place(error)}: {str(error).strip() or 'no message'}")


def to_be_written(backend: type[Backend]) -> list[str]:
    """List what the file of a backend raises NotImplementedError for, in its order."""
    tree = ast.parse(Path(inspect.getfile(backend)).read_text(encoding="utf-8"))
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    found = [
        (call.lineno, argument.value)
        for call in raised
        if isinstance(call.func, ast.Name) and call.func.id == "NotImplementedError"
        for argument in call.args[:1]
        if isinstance(argument, ast.Constant)
    ]
    return [str(said) for _, said in sorted(found)]


def _place(error: BaseException) -> str:
    """Say where an error was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}, line {last.lineno} ({last.name})"


def hold(condition: object, problem: str) -> None:
    """Raise `NotConforming` with a sentence unless the condition is true."""
    if not condition:
        raise NotConforming(problem)


def near(found: object, expected: NDArray[Any], tolerance: float, what: str) -> None:
    """Hold an array against what was expected, absolutely."""
    got = np.asarray(found, np.float64)
    hold(got.shape == expected.shape, f"{what}: expected the shape {expected.shape}, got {got.shape}.")
    gap = float(np.abs(got - expected).max()) if got.size else 0.0
    hold(gap <= tolerance, f"{what}: expected at most {tolerance:g} from the reference, got {gap:.2g}.")


def digest(weights: Mapping[str, NDArray[np.float32]], *more: NDArray[Any]) -> str:
    """Name the bits of some arrays."""
    found = hashlib.sha256()
    for values in (*(weights[name] for name in sorted(weights)), *more):
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


# --- what a model is ----------------------------------------------------------------------------------------


@check(place="fresh")
def check_nothing_is_imported_before_use(trial: Trial) -> None:
    """Looking at the backend imports none of its distributions."""
    found = [name for name in _modules(type(trial.backend).distributions) if name in sys.modules]
    hold(
        not found,
        f"importing {type(trial.backend).__module__} imports {', '.join(found)}; import it inside of the methods, or "
        "with rnn_crosscheck.harness.adapter.Late.",
    )


@check()
def check_models_are_created(trial: Trial) -> None:
    """`create` gives a model of the declared class for every cell."""
    kinds: list[tuple[str, Callable[[Cell], Model]]] = []
    if "native" in trial.backend.capabilities:
        kinds.append(("native", trial.native))
    if trial.takes_weights:
        kinds.append(("with given weights", trial.given))
    for what, create in kinds:
        for cell in CELLS:
            model = create(cell)
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
        other = given_weights(cell, lively=True)
        for what, weights in (("create", given_weights(cell)), ("set_weights", other)):
            if what == "set_weights":
                model.set_weights(other)
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
    """`layers` gives embedding, cell and dense with their shapes; all trainable parameters are the canonical ones."""
    for cell in CELLS:
        spec = spec_of(cell)
        model = trial.given(cell) if trial.takes_weights else trial.native(cell)
        rows = model.layers()
        shapes = [(row.name, tuple(row.output_shape)) for row in rows]
        expected = [("embedding", (LENGTH, EMBEDDING)), (cell, (UNITS,)), ("dense", (1,))]
        hold(shapes == expected, f"{cell}: layers: expected {expected}, got {shapes}.")
        canonical = sum(int(np.prod(shape)) for shape in canonical_shapes(spec).values())
        trainable = sum(row.trainable for row in rows)
        # A native model may have a second recurrent bias.
        allowed = {canonical} if trial.takes_weights else {canonical, canonical + _bias(spec)}
        hold(trainable in allowed, f"{cell}: layers: expected {canonical} trainable parameters, got {trainable}.")


def _bias(spec: ModelSpec) -> int:
    return int(np.prod(canonical_shapes(spec)["bias"]))


# --- predictions --------------------------------------------------------------------------------------------


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


# --- training -----------------------------------------------------------------------------------------------


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
        for start in range(0, 3 * SIZE, SIZE):
            tokens, labels = examples.batch(start)
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
    examples = Examples(5 * SIZE)
    for cell in CELLS:
        _follow(trial.given(cell), reference(cell), examples, f"{cell}: weights after five matched steps")


def _follow(model: Model, expected: ReferenceModel, examples: Examples, what: str, tolerance: float = 1e-5) -> None:
    for start in range(0, len(examples.labels), SIZE):
        batch = examples.batch(start)
        expected.step64(*batch)  # first, in case the model changes its inputs, which is another check's question
        model.train_step(*batch)
    found = model.get_weights()
    for name, values in expected.weights.items():
        near(found[name], values, tolerance, f"{what}: {name}")


@check("matched")
def check_gradients_are_clipped(trial: Trial) -> None:
    """With `clipnorm` the gradients are scaled to that global norm, all together."""
    training = TRAINING.model_copy(update={"clipnorm": 0.02, "epsilon": 1e-2})
    for cell in CELLS:
        model, expected = trial.given(cell, training=training), reference(cell, training)
        _follow(model, expected, Examples(3 * SIZE), f"{cell}: weights after clipped steps")


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
            near(found[name], values, _RELATIVE * scale + 1e-8, f"{cell}: gradients: {name}")


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
            what = f"{cell}, {key}={value}: weights after three steps"
            _follow(trial.given(cell, training=training), reference(cell, training), Examples(3 * SIZE), what)


@check("trains")
def check_the_last_batch_may_be_smaller(trial: Trial) -> None:
    """An epoch whose last batch is smaller trains on every example, and its figures weigh examples alike."""
    examples = Examples(2 * SIZE + 2)
    n = len(examples.labels)
    for division, cell in trial.every():
        # The weights hardly move, so that what is right before is right in the end.
        still = TRAINING.model_copy(update={"learning_rate": 1e-12})
        model = trial.native(cell, training=still) if division == "native" else trial.given(cell, training=still)
        right = int(((model.predict(examples.tokens) >= 0.5) == (examples.labels == 1)).sum())
        stats = model.fit_epoch(examples.epoch(matched=division == "matched"))
        hold(
            abs(stats.accuracy - right / n) < 1e-6,
            f"{division} {cell}: fit_epoch: the accuracy is {stats.accuracy:.4f}; {right} of {n} answers are right.",
        )
        stats = trial.model(division, cell).fit_epoch(examples.epoch(matched=division == "matched"))
        hold(isinstance(stats, EpochStats), f"fit_epoch: expected an EpochStats, got {type(stats).__name__}.")
        if division == "native":
            continue  # its order is its own
        model, weighted = trial.given(cell), 0.0
        for start in range(0, n, SIZE):
            tokens, labels = examples.batch(start)
            weighted += model.train_step(tokens, labels) * len(labels)
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
        trial.model(division, cell).fit_epoch(examples.epoch(matched=division == "matched", done=done.append))
        hold(done == [1, 2, 3], f"{division} {cell}: of three batches, batch_done was told {done}.")


@check("native")
def check_epochs_are_shuffled(trial: Trial) -> None:
    """A native model sees its examples in another order every epoch."""
    examples = Examples(8 * SIZE)
    cell = CELLS[0]
    one, two = (_trained(trial, cell, examples, order) for order in (False, True))
    # Not to the bit: an epoch and single steps may be rounded differently.
    same = np.allclose(one, two, rtol=0, atol=1e-6)
    hold(not same, "a native epoch takes the examples in the order of the dataset; shuffle them.")


def _trained(trial: Trial, cell: Cell, examples: Examples, in_order: bool) -> NDArray[np.float32]:
    """Predictions of a native model after an epoch, or after the same batches in the order of the dataset."""
    model = trial.native(cell)
    if in_order:
        for start in range(0, len(examples.labels), SIZE):
            model.train_step(*examples.batch(start))
    else:
        model.fit_epoch(examples.epoch(matched=False))
    return model.predict(examples.tokens)


# --- repeatability ------------------------------------------------------------------------------------------


def _run(trial: Trial, division: Division, cell: Cell, seed: int = 0) -> str:
    """Train two epochs and predict; the bits of it all."""
    examples = Examples(2 * SIZE + 2)
    model = trial.model(division, cell, seed=seed)
    for _ in range(2):
        model.fit_epoch(examples.epoch(matched=division == "matched"))
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
    kinds: list[str] = list(trial.divisions) or ["given"]
    for kind in kinds:
        model = trial.native(CELLS[0]) if kind == "native" else trial.given(CELLS[0])
        tokens, labels = Examples(SIZE).batch()
        calls: list[tuple[str, Callable[[Batch], object]]] = [("predict", lambda batch, m=model: m.predict(batch[0]))]  # type: ignore[misc]
        if trial.divisions:
            calls.append(("train_step", lambda batch, m=model: m.train_step(*batch)))  # type: ignore[misc]
        for what, call in calls:
            before = tokens.copy(), labels.copy()
            call((tokens, labels))
            same = np.array_equal(tokens, before[0]) and np.array_equal(labels, before[1])
            hold(same, f"{kind}: {what} changed the arrays it was given.")
        tokens.flags.writeable = labels.flags.writeable = False
        for _, call in calls:
            call((tokens, labels))


# --- conduct ------------------------------------------------------------------------------------------------


@check("trains")
def check_the_device_is_waited_for(trial: Trial) -> None:
    """When `train_step` returns, the weights have moved: nothing of its work is left for the next call."""
    division = trial.divisions[0]
    spec = spec_of("rnn", units=160, vocabulary=2000)
    weights = None if division == "native" else initial_weights(spec, 0)
    model = trial.ready.create(spec, TRAINING, weights=weights, seed=0, device="cpu")
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, spec.vocabulary, (256, LENGTH)).astype(np.int32)
    labels = (np.arange(256) % 2).astype(np.float32)
    model.train_step(tokens, labels)
    steps, left, alone = [], [], []
    for _ in range(9):
        begun = time.perf_counter()
        model.train_step(tokens, labels)
        stepped = time.perf_counter()
        model.get_weights()
        read = time.perf_counter()
        model.get_weights()
        steps.append(stepped - begun)
        left.append(read - stepped)
        alone.append(time.perf_counter() - read)
    waiting = median(left) - median(alone)
    hold(
        waiting <= max(0.5 * median(steps), 2e-3),
        f"{division} rnn: a step returned after {median(steps) * 1e3:.1f} ms, but reading the weights then took "
        f"{waiting * 1e3:.1f} ms longer than reading them once more: train_step must return when the device has "
        "finished.",
    )


@check()
def check_specs_may_be_copies(trial: Trial) -> None:
    """A spec that was pickled and sent makes the same model as the one that it was made of."""
    run = RunSpec(
        backend=trial.backend.name,
        division=trial.divisions[0] if trial.divisions else "matched",
        model=spec_of(CELLS[0]),
        training=TRAINING,
        data=DataSpec(vocabulary=VOCABULARY, length=LENGTH),
        dataset_fingerprint="none",
        seed=0,
        device="cpu",
        threads=1,
    )
    sent = pickle.loads(pickle.dumps(run))
    kind = type(trial.backend)
    try:
        pickle.dumps(kind)
    except (pickle.PicklingError, AttributeError) as error:
        raise NotConforming(f"the class {kind.__name__} can't be pickled by its name: {error}.") from None
    found = []
    for spec in (run, sent):
        weights = None if spec.division == "native" else given_weights(CELLS[0])
        model = trial.ready.create(spec.model, spec.training, weights=weights, seed=0, device="cpu")
        found.append(digest(model.get_weights()))
    hold(found[0] == found[1], "a copy of a spec made another model.")


@check()
def check_the_environment_is_text(trial: Trial) -> None:
    """`environment` gives text for the report, and `devices` the CPU at least."""
    devices = trial.ready.devices()
    hold("cpu" in devices, f"devices: expected 'cpu' among them, got {devices!r}.")
    if trial.takes_weights:
        trial.given("lstm")
    environment = trial.ready.environment()
    wrong = [key for key, value in environment.items() if not (isinstance(key, str) and isinstance(value, str))]
    hold(
        not wrong,
        f"environment: expected text for {', '.join(map(str, wrong))}, got {[environment[k] for k in wrong]}.",
    )
    hold(environment, "environment: expected at least the version of the framework, got nothing.")


@check()
def check_wrong_shapes_are_refused(trial: Trial) -> None:
    """What isn't a batch is refused with a ContractError that names the backend, what was expected and what came."""
    model = trial.native("rnn") if trial.divisions[:1] == ("native",) else trial.given("rnn")
    tokens, labels = Examples(SIZE).batch()
    wrong: list[tuple[str, Callable[..., object], tuple[Any, ...]]] = [
        ("predict with rows that are too short", model.predict, (tokens[:, 1:],)),
        ("predict with int64 tokens", model.predict, (tokens.astype(np.int64),)),
        ("predict with a single row without its axis", model.predict, (tokens[0],)),
    ]
    if trial.divisions:
        wrong += [
            ("train_step with fewer labels than rows", model.train_step, (tokens, labels[1:])),
            ("train_step with integer labels", model.train_step, (tokens, labels.astype(np.int8))),
            ("train_step with no rows", model.train_step, (tokens[:0], labels[:0])),
        ]
    for what, method, arguments in wrong:
        try:
            method(*arguments)
        except ContractError as error:
            said = str(error)
            hold("expected" in said, f"{what} was refused without saying what was expected: {said!r}.")
            continue
        except Exception as error:  # noqa: BLE001 - a refusal of another kind
            raise NotConforming(
                f"{what} ended in {type(error).__name__}, expected a ContractError in one sentence; call "
                "rnn_crosscheck.harness.backend.check_batch first."
            ) from None
        raise NotConforming(f"{what} was accepted; call rnn_crosscheck.harness.backend.check_batch first.")


@check("inference")
def check_nothing_is_trained(trial: Trial) -> None:
    """A backend that trains nothing refuses to, with a ContractError."""
    model = trial.given("rnn")
    examples = Examples(SIZE)
    for what, call in (
        ("train_step", lambda: model.train_step(*examples.batch())),
        ("fit_epoch", lambda: model.fit_epoch(examples.epoch(matched=True))),
    ):
        try:
            call()
        except ContractError:
            continue
        raise NotConforming(f"{what} was carried out, but the backend claims 'inference'; inherit InferenceModel.")


@check("tuned", "matched", place="fresh")
def check_tuned_settings_keep_the_arithmetic(trial: Trial) -> None:
    """Matched steps in the tuned setting are those of the reference."""
    trial.setting = "tuned"
    for cell in CELLS:
        _follow(trial.given(cell), reference(cell), Examples(3 * SIZE), f"{cell}: weights after three tuned steps")


@check(place="fresh")
def check_no_other_framework_is_imported(trial: Trial) -> None:
    """Using the backend imports the framework of no other backend."""
    own = {"numpy", *_modules(type(trial.backend).distributions)}
    before = set(sys.modules)
    for division, cell in trial.every():
        model = trial.model(division, cell)
        model.train_step(*Examples(SIZE).batch())
        model.fit_epoch(Examples(SIZE).epoch(matched=division == "matched"))
        model.predict(Examples(SIZE).tokens)
    if not trial.divisions:
        trial.given("rnn").predict(Examples(SIZE).tokens)
    others = set()
    for backend in registered().values():
        try:
            others |= set(_modules(backend.load().distributions))
        except ContractError:
            continue
    found = sorted(name for name in others - own - before if name in sys.modules)
    hold(not found, f"using the backend imports {', '.join(found)}, which it doesn't declare among its distributions.")


@check("given")
def check_memory_is_released(trial: Trial) -> None:
    """Models that nobody holds any more give their memory back."""
    if trial.divisions:
        # Of a model that was trained only the object is asked for: TensorFlow itself keeps memory of the size of the
        # weights for each traced step with dense gradients, whoever makes it and however it is dropped.
        trained = trial.given("rnn")
        trained.train_step(*Examples(SIZE).batch())
        alive = weakref.ref(trained)
        del trained
        gc.collect()
        hold(alive() is None, "a model that was trained and dropped is still alive; something holds it.")
    if not Path("/proc/self/statm").exists() or not hand_back_memory():
        return  # not Linux, or not with glibc
    spec = spec_of("rnn", vocabulary=200_000)  # 6 MB of embedding
    weights = initial_weights(spec, 0)
    tokens = Examples(SIZE).tokens
    seen = []
    for _ in range(10):
        model = trial.ready.create(spec, TRAINING, weights=weights, seed=0, device="cpu")
        model.predict(tokens)
        del model
        gc.collect()
        # Without it, what the allocator keeps for later comes and goes by several models' worth.
        hand_back_memory()
        seen.append(_resident())
    # The first ones bring in what is made once.
    grown = (seen[-1] - seen[3]) / 6
    hold(
        grown < 2e6,
        f"each model that was made and dropped left {grown / 1e6:.1f} MB behind; something still holds it.",
    )


def _resident() -> int:
    """Resident memory of this process, in bytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _modules(distributions: Iterable[str]) -> list[str]:
    """Names under which distributions are imported."""
    wanted = {name.lower().replace("_", "-") for name in distributions} - {"numpy"}
    return sorted(
        module
        for module, owners in metadata.packages_distributions().items()
        if not module.startswith("_") and any(owner.lower().replace("_", "-") in wanted for owner in owners)
    )
