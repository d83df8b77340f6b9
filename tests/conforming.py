"""A backend in NumPy that conforms, and for each check of the suite one that breaks it and nothing else."""

from __future__ import annotations

import os
import sys
import threading
import types
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.backend import (
    Backend,
    Capability,
    EpochStats,
    Forward,
    InferenceModel,
    Layer,
    Model,
    check_batch,
)
from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.parity.reference import ReferenceModel
from rnn_crosscheck.harness.protocol import ModelSpec, Setting, TrainingSpec
from rnn_crosscheck.harness.weights import Weights, initial_weights

Tokens = NDArray[np.int32]
Labels = NDArray[np.float32]


class GoodModel(ReferenceModel):
    def __init__(
        self, spec: ModelSpec, training: TrainingSpec, weights: Weights, rng: np.random.Generator | None
    ) -> None:
        super().__init__(spec, training, weights)
        self.rng = rng  # native: shuffles for itself

    def parts(self, batches: Batches) -> list[tuple[Tokens, Labels]]:
        if self.rng is None:
            return list(batches)
        tokens, labels = batches.arrays()
        order, size = self.order(len(labels)), batches.batch_size
        return [(tokens[order[i : i + size]], labels[order[i : i + size]]) for i in range(0, len(order), size)]

    def order(self, n: int) -> NDArray[np.int64]:
        assert self.rng is not None
        return self.rng.permutation(n)

    def fit_epoch(self, batches: Batches) -> EpochStats:
        losses, right = 0.0, 0
        for tokens, labels in self.parts(batches):
            right += int(((self.predict(tokens) >= 0.5) == (labels >= 0.5)).sum())
            losses += self.train_step(tokens, labels) * len(labels)
            self.done(batches)
        return EpochStats(losses / batches.examples, right / batches.examples)

    def done(self, batches: Batches) -> None:
        batches.batch_done()


class Good(Backend):
    """Conforms."""

    name: ClassVar[str] = "good"
    distributions: ClassVar[tuple[str, ...]] = ()
    requirement: ClassVar[str] = "nothing"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"native", "matched", "parity", "factors"})
    model: ClassVar[type[Model]] = GoodModel
    tuned: ClassVar[str] = "nothing is any faster"

    @classmethod
    def native_values(cls, model: ModelSpec, training: TrainingSpec) -> Mapping[str, object]:
        return {"factors.order": "another"}

    def __init__(self) -> None:
        self.setting: Setting = "default"

    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        self.setting = setting

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        if weights is not None:
            return self.made(model, training, weights, None)
        return self.made(model, training, initial_weights(model, self.drawn_by(seed)), self.shuffled_by(model, seed))

    def made(self, model: ModelSpec, training: TrainingSpec, weights: Weights, rng: Any) -> Model:
        made: Any = self.model
        return made(model, training, weights, rng)

    def drawn_by(self, seed: int) -> int:
        return seed + 100

    def shuffled_by(self, model: ModelSpec, seed: int) -> np.random.Generator:
        return np.random.default_rng(seed)

    def environment(self) -> dict[str, str]:
        return {"numpy": np.__version__}


class Broken(Good):
    """Makes nothing."""

    def made(self, model: ModelSpec, training: TrainingSpec, weights: Weights, rng: Any) -> Model:
        raise RuntimeError("no such kernel")


# --- what a model is ----------------------------------------------------------------------------------------


class UndeclaredModel(Good):
    """check_models_are_created"""

    def made(self, model: ModelSpec, training: TrainingSpec, weights: Weights, rng: Any) -> Model:
        found: Any = GoodModel(model, training, weights, rng)
        found.__class__ = _Undeclared
        return found


class _Undeclared(ReferenceModel):
    parts, order, fit_epoch, done = GoodModel.parts, GoodModel.order, GoodModel.fit_epoch, GoodModel.done


class _Rounding(GoodModel):
    def get_weights(self) -> Weights:
        return {name: values * np.float32(1 + 2e-7) for name, values in super().get_weights().items()}


class RoundsWeights(Good):
    """check_weights_come_out_as_they_went_in"""

    model = _Rounding


class _Sharing(GoodModel):
    shared: Any = None

    def get_weights(self) -> Weights:
        now = {name: values.copy() for name, values in self.weights.items()}
        if self.shared is None or any((now[name] != self.shared[0][name]).any() for name in now):
            self.shared = now, super().get_weights()
        return self.shared[1]


class SharesMemory(Good):
    """check_weights_are_copies"""

    model = _Sharing


class _Miscounting(GoodModel):
    native = False

    def layers(self) -> tuple[Layer, ...]:
        first, *rest = super().layers()
        wrong = self.native == (self.rng is not None)
        return Layer(first.name, first.output_shape, first.parameters, first.trainable - wrong), *rest


class Miscounts(Good):
    """check_layers_count_the_parameters"""

    model = _Miscounting


# --- what native models are ---------------------------------------------------------------------------------


class MiscountsNatively(Good):
    """check_layers_count_what_moves"""

    model = type("_MiscountingNatively", (_Miscounting,), {"native": True})


class _Losing(GoodModel):
    def set_weights(self, weights: Mapping[str, NDArray[np.floating]]) -> None:
        super().set_weights(weights)
        if getattr(self, "rng", None) is not None and self.spec.cell == "gru":
            self.weights["bias"][1, : 2 * self.spec.units] = 0


class LosesBiases(Good):
    """check_native_weights_come_out_as_they_went_in"""

    model = _Losing


class DrawsOtherwise(Good):
    """check_native_weights_are_drawn_as_declared"""

    @classmethod
    def native_values(cls, model: ModelSpec, training: TrainingSpec) -> Mapping[str, object]:
        return {"factors.dense_weights": "pytorch"}


class DeclaresAnotherEpsilon(Good):
    """check_native_steps_are_as_declared"""

    @classmethod
    def native_values(cls, model: ModelSpec, training: TrainingSpec) -> Mapping[str, object]:
        return {"epsilon": 1e-3}


class ClipsNothingNatively(Good):
    """check_native_gradients_are_clipped"""

    def made(self, model: ModelSpec, training: TrainingSpec, weights: Weights, rng: Any) -> Model:
        own = training if rng is None else training.model_copy(update={"clipnorm": 0.0})
        return super().made(model, own, weights, rng)


class _Separately(GoodModel):
    def _backward(self, *arguments: Any) -> Any:
        found, limit = super()._backward(*arguments), self.training.clipnorm
        for values in found.gradients.values() if self.rng is not None and limit else ():
            values *= limit / np.linalg.norm(values)
        return found


class ClipsEachAlone(Good):
    """Clips natively, but each gradient by its own norm."""

    model = _Separately


class _Elsewhere(GoodModel):
    def predict(self, tokens: Tokens) -> NDArray[np.float32]:
        found = super().predict(tokens)
        return found if self.rng is None else (found * np.float32(0.9)).astype(np.float32)


class ComputesWithOthers(Good):
    """Computes natively with other weights than it gives."""

    model = _Elsewhere


class _Noting(GoodModel):
    def layers(self) -> tuple[Layer, ...]:
        return tuple(replace(row, note="no bias" * (row.name == "gru")) for row in super().layers())


class NotesWhatIsThere(Good):
    """Notes that something isn't there, and it is."""

    model = _Noting


class LeavesOutWhatItDraws(Good):
    """Draws its embedding as PyTorch does, and says so of nothing."""

    def made(self, model: ModelSpec, training: TrainingSpec, weights: Weights, rng: Any) -> Model:
        if rng is not None:
            drawn = np.random.default_rng(int(weights["dense_kernel"][0, 0] * 1e6) % 1000).standard_normal
            weights = {**weights, "embedding": drawn(weights["embedding"].shape).astype(np.float32)}
        return super().made(model, training, weights, rng)


# --- predictions --------------------------------------------------------------------------------------------


class _Overshooting(GoodModel):
    def predict(self, tokens: Tokens) -> NDArray[np.float32]:
        found = super().predict(tokens)
        return np.where(found > 0.99999, np.float32(1.000001), found).astype(np.float32)


class Overshoots(Good):
    """check_probabilities_are_between_0_and_1"""

    model = _Overshooting


class _Chunking(GoodModel):
    def predict(self, tokens: Tokens) -> NDArray[np.float32]:
        found = super().predict(tokens)
        found[32:] = found[: max(len(found) - 32, 0)]  # the second chunk is the first once more
        return found


class MixesChunks(Good):
    """check_predictions_are_the_reference_s"""

    model = _Chunking


class _Squeezing(GoodModel):
    def predict(self, tokens: Tokens) -> NDArray[np.float32]:
        found = super().predict(tokens)
        return found if len(tokens) != 1 else np.full(1, 0.5, np.float32)


class LosesASingleRow(Good):
    """check_a_batch_of_one"""

    model = _Squeezing


class _Packing(GoodModel):
    def predict(self, tokens: Tokens) -> NDArray[np.float32]:
        found = super().predict(tokens)
        found[(tokens == 0).all(axis=1)] = np.nan  # a mean over no tokens
        return found


class FailsOnPadding(Good):
    """check_a_row_of_padding"""

    model = _Packing


class _Cutting(GoodModel):
    def predict(self, tokens: Tokens) -> NDArray[np.float32]:
        check_batch("Backend 'good': predict", self.spec, tokens)
        cut = tokens.copy()
        cut[:, 0] = 0
        return super().predict(cut)


class CutsTheLongest(Good):
    """check_the_longest_row"""

    model = _Cutting


class _Late(GoodModel):
    def forward(self, tokens: Tokens) -> Forward:
        found = super().forward(tokens)
        return Forward(np.roll(found.states, 1, axis=1), found.logits)


class GivesStatesLate(Good):
    """check_states_and_logits"""

    model = _Late


# --- training -----------------------------------------------------------------------------------------------


class _Climbing(GoodModel):
    def train_step(self, tokens: Tokens, labels: Labels) -> float:
        check_batch("Backend 'good': train_step", self.spec, tokens, labels)
        self.steps = getattr(self, "steps", 0) + 1
        if self.rng is None or self.steps < 8:
            return super().train_step(tokens, labels)
        loss = self.loss64(tokens, labels)
        super().train_step(tokens, 1 - labels)
        return loss


class Climbs(Good):
    """check_the_loss_falls"""

    model = _Climbing


class _Afterwards(GoodModel):
    def train_step(self, tokens: Tokens, labels: Labels) -> float:
        super().train_step(tokens, labels)
        return self.loss64(tokens, labels)


class GivesTheLossAfterwards(Good):
    """check_the_loss_is_from_before_the_update"""

    model = _Afterwards


class _Stuck(GoodModel):
    def train_step(self, tokens: Tokens, labels: Labels) -> float:
        if self.rng is None:
            self._adam._steps = min(self._adam._steps, 2)
        return super().train_step(tokens, labels)


class CountsNoStepAfterTheThird(Good):
    """check_the_matched_step_is_the_reference_s"""

    model = _Stuck


class DoesNotClip(Good):
    """check_gradients_are_clipped"""

    def made(self, model: ModelSpec, training: TrainingSpec, weights: Weights, rng: Any) -> Model:
        given = training.model_copy(update={"clipnorm": 0.0}) if rng is None else training
        return super().made(model, given, weights, rng)


class _Clipping(GoodModel):
    def gradients(self, tokens: Tokens, labels: Labels) -> Weights:
        found = super().gradients(tokens, labels)
        limit = self.training.clipnorm
        norm = float(np.sqrt(sum(np.square(values).sum() for values in found.values())))
        scale = np.float32(min(1.0, limit / norm)) if limit else np.float32(1)
        return {name: values * scale for name, values in found.items()}


class ClipsGradients(Good):
    """check_gradients_are_the_reference_s"""

    model = _Clipping


class IgnoresAFactor(Good):
    """check_factors_are_honoured"""

    def made(self, model: ModelSpec, training: TrainingSpec, weights: Weights, rng: Any) -> Model:
        factors = training.factors.model_copy(update={"pad_row": "trained"})
        return super().made(model, training.model_copy(update={"factors": factors}), weights, rng)


class _Unweighted(GoodModel):
    def fit_epoch(self, batches: Batches) -> EpochStats:
        losses, right = [], 0
        for tokens, labels in self.parts(batches):
            right += int(((self.predict(tokens) >= 0.5) == (labels >= 0.5)).sum())
            losses.append(self.train_step(tokens, labels))
            self.done(batches)
        return EpochStats(float(np.mean(losses)), right / batches.examples)


class WeighsBatchesAlike(Good):
    """check_the_last_batch_may_be_smaller"""

    model = _Unweighted


class _Silent(GoodModel):
    def done(self, batches: Batches) -> None:
        pass


class CountsNoBatches(Good):
    """check_batches_are_counted"""

    model = _Silent


class _Ordered(GoodModel):
    def order(self, n: int) -> NDArray[np.int64]:
        return np.arange(n)


class NeverShuffles(Good):
    """check_epochs_are_shuffled"""

    model = _Ordered


# --- repeatability ------------------------------------------------------------------------------------------


class ContinuesAGenerator(Good):
    """check_seed_is_idempotent"""

    last: ClassVar[Any] = None

    def shuffled_by(self, model: ModelSpec, seed: int) -> np.random.Generator:
        asked = (model.cell, seed)
        kept = type(self).last
        rng = kept[1] if kept and kept[0] == asked else np.random.default_rng(seed)
        type(self).last = asked, rng
        return rng

    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        if weights is not None:
            type(self).last = None
        return super().create(model, training, weights=weights, seed=seed, device=device)


class SeedsByProcess(Good):
    """check_a_seed_repeats_in_another_process"""

    def shuffled_by(self, model: ModelSpec, seed: int) -> np.random.Generator:
        return np.random.default_rng([seed, os.getpid()])


class IgnoresTheSeed(Good):
    """check_another_seed_is_another_model"""

    def drawn_by(self, seed: int) -> int:
        return 100


class RemembersOtherRuns(Good):
    """check_runs_are_independent"""

    cells: ClassVar[list[str]] = []

    def shuffled_by(self, model: ModelSpec, seed: int) -> np.random.Generator:
        seen = type(self).cells
        before = next((cell for cell in reversed(seen) if cell != model.cell), "")
        seen.append(model.cell)
        return np.random.default_rng([seed, len(before), before == "gru"])


class _Moving(GoodModel):
    def predict(self, tokens: Tokens) -> NDArray[np.float32]:
        found = super().predict(tokens)
        self.weights["embedding"][1] += 1e-7
        return found


class LearnsFromPredicting(Good):
    """check_predicting_leaves_training_alone"""

    model = _Moving


class _Writing(GoodModel):
    def train_step(self, tokens: Tokens, labels: Labels) -> float:
        loss = super().train_step(tokens, labels)
        if labels.flags.writeable:
            labels[0] = 1 - labels[0]
        return loss


class WritesToItsInputs(Good):
    """check_inputs_are_left_alone"""

    model = _Writing


# --- conduct ------------------------------------------------------------------------------------------------


class _Lazy(GoodModel):
    """Moves its weights only when somebody looks."""

    waiting: Any = None

    def finish(self) -> None:
        if self.waiting is not None:
            batch, self.waiting = self.waiting, None
            super().train_step(*batch)

    def train_step(self, tokens: Tokens, labels: Labels) -> float:
        check_batch("Backend 'good': train_step", self.spec, tokens, labels)
        self.finish()
        self.waiting = tokens.copy(), labels.copy()
        return self.loss64(tokens, labels)

    def get_weights(self) -> Weights:
        self.finish()
        return super().get_weights()

    def predict(self, tokens: Tokens) -> NDArray[np.float32]:
        self.finish()
        return super().predict(tokens)


class ReturnsTooSoon(Good):
    """check_the_device_is_waited_for"""

    model = _Lazy


def _local() -> type[Good]:
    class Nameless(Good):
        """check_specs_may_be_copies"""

    return Nameless


CanNotBePickled = _local()


class _Threaded(GoodModel):
    def train_step(self, tokens: Tokens, labels: Labels) -> float:
        check_batch("Backend 'good': train_step", self.spec, tokens, labels)
        square, done = np.ones((200, 200)), threading.Event()

        def work() -> None:
            while not done.is_set():
                square @ square

        helping = _HELPER.submit(work)
        try:
            return super().train_step(tokens, labels)
        finally:
            done.set()
            helping.result()


#: as frameworks do, it keeps its thread
_HELPER = ThreadPoolExecutor(1)


class UsesTwoThreads(Good):
    """check_threads_are_pinned"""

    model = _Threaded


class SaysANumber(Good):
    """check_the_environment_is_text"""

    def environment(self) -> dict[str, str]:
        found: Mapping[str, Any] = {"version": 1.0}
        return dict(found)


class _Accepting(GoodModel):
    def predict(self, tokens: Tokens) -> NDArray[np.float32]:
        return (1 / (1 + np.exp(-self.logits64(tokens)))).astype(np.float32)


class AcceptsAnything(Good):
    """check_wrong_shapes_are_refused"""

    model = _Accepting


class TunesAway(Good):
    """check_tuned_settings_keep_the_arithmetic"""

    def made(self, model: ModelSpec, training: TrainingSpec, weights: Weights, rng: Any) -> Model:
        epsilon = 1e-8 if self.setting == "tuned" else training.epsilon
        return super().made(model, training.model_copy(update={"epsilon": epsilon}), weights, rng)


class BringsAnother(Good):
    """check_no_other_framework_is_imported"""

    def made(self, model: ModelSpec, training: TrainingSpec, weights: Weights, rng: Any) -> Model:
        # Of this one SciPy asks nothing when it is there.
        sys.modules.setdefault("onnxruntime", types.ModuleType("onnxruntime"))
        return super().made(model, training, weights, rng)


class KeepsEverything(Good):
    """check_memory_is_released"""

    kept: ClassVar[list[Model]] = []

    def made(self, model: ModelSpec, training: TrainingSpec, weights: Weights, rng: Any) -> Model:
        found = super().made(model, training, weights, rng)
        self.kept.append(found)
        return found


# --- without training ---------------------------------------------------------------------------------------


class _Predicting(InferenceModel):
    def __init__(self, spec: ModelSpec, training: TrainingSpec, weights: Weights, rng: Any) -> None:
        self.inner = ReferenceModel(spec, training, weights)

    def predict(self, tokens: Tokens) -> NDArray[np.float32]:
        return self.inner.predict(tokens)

    def get_weights(self) -> Weights:
        return self.inner.get_weights()

    def set_weights(self, weights: Weights) -> None:
        self.inner.set_weights(weights)

    def layers(self) -> tuple[Layer, ...]:
        return self.inner.layers()


class Predicts(Good):
    """Conforms, and trains nothing."""

    name = "predicts"
    capabilities = frozenset({"inference"})
    model = _Predicting
    tuned = ""


class _Pretending(_Predicting):
    def train_step(self, tokens: Tokens, labels: Labels) -> float:
        return 0.7


class PretendsToTrain(Predicts):
    """check_nothing_is_trained"""

    model = _Pretending
