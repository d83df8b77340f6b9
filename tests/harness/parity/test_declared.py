"""What a backend says of its native models, held against what they are."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rnn_crosscheck.harness.backend import Layer
from rnn_crosscheck.harness.parity import stages
from rnn_crosscheck.harness.parity.declared import drawn_as, lacking, wrongly_drawn
from rnn_crosscheck.harness.protocol import Cell, DataSpec, Factors, ModelSpec, RunSpec, TrainingSpec, switched
from rnn_crosscheck.harness.weights import DRAWN_BY, Weights, initial_weights
from tests.conforming import Good, GoodModel
from tests.planted import BATCH, LENGTH, VOCABULARY, _Examples

CELLS: tuple[Cell, ...] = ("rnn", "lstm", "gru")


def spec_of(cell: Cell, units: int = 32) -> ModelSpec:
    return ModelSpec(
        name=cell, cell=cell, units=units, activation="relu" if cell == "rnn" else "tanh", embedding=8,
        vocabulary=VOCABULARY, length=LENGTH,
    )  # fmt: skip


def drawn(cell: Cell, **factors: str) -> list[Weights]:
    # Other seeds than those that they are held against.
    return [initial_weights(spec_of(cell), seed, Factors.model_validate(factors)) for seed in range(100, 108)]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("factor", DRAWN_BY)
def test_keras_draws_are_told_from_pytorch_s(cell: Cell, factor: str) -> None:
    for kind, other in (("keras", "pytorch"), ("pytorch", "keras")):
        assert drawn_as(factor, drawn(cell, **{factor: kind}), spec_of(cell), Factors.model_validate({factor: kind}))
        assert not drawn_as(
            factor, drawn(cell, **{factor: other}), spec_of(cell), Factors.model_validate({factor: kind})
        )


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", ["keras", "pytorch"])
def test_one_model_is_enough_to_be_believed(cell: Cell, kind: str) -> None:
    # A parameter of a single value can't be told from anything.
    for factor in DRAWN_BY:
        factors = Factors.model_validate({factor: kind})
        for seed in range(100, 140):
            assert drawn_as(factor, [initial_weights(spec_of(cell), seed, factors)], spec_of(cell), factors)


def uniform(shape: tuple[int, ...], limit: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-limit, limit, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("parameter", "factor", "limit"),
    [
        ("bias", "recurrent_bias", 1 / np.sqrt(32)),  # one uniform; PyTorch's is the sum of two
        ("kernel", "recurrent_weights", 1 / np.sqrt(8)),
    ],
)
@pytest.mark.parametrize("kind", ["keras", "pytorch"])
def test_what_is_drawn_in_another_way_is_neither(parameter: str, factor: str, limit: float, kind: str) -> None:
    found = [
        {**weights, parameter: uniform(weights[parameter].shape, limit, seed)}
        for seed, weights in enumerate(drawn("lstm", **{factor: kind}))
    ]
    told = {f"factors.{factor}": kind}
    assert wrongly_drawn(found, spec_of("lstm"), TrainingSpec(), told) == (factor,)
    assert wrongly_drawn(found, spec_of("lstm"), TrainingSpec(), {f"factors.{factor}": "other: in words"}) == ()


def test_orthogonal_gate_by_gate_is_not_orthogonal_as_a_whole() -> None:
    found = drawn("gru")
    for seed, weights in enumerate(found):
        blocks = [np.linalg.qr(np.random.default_rng([seed, gate]).standard_normal((32, 32)))[0] for gate in range(3)]
        weights["recurrent_kernel"][:] = np.concatenate(blocks, axis=1)  # type: ignore[index]
    assert wrongly_drawn(found, spec_of("gru"), TrainingSpec(), {"epsilon": 1e-7}) == ("recurrent_weights",)


class _OneBias(GoodModel):
    """A GRU whose second bias has the candidate's part alone, as in flax and Equinox."""

    def set_weights(self, weights: Any) -> None:
        super().set_weights(weights)
        self.weights["bias"][1, : 2 * self.spec.units] = 0

    def get_weights(self) -> Weights:
        self.weights["bias"][1, : 2 * self.spec.units] = 0
        return super().get_weights()

    def train_step(self, *batch: Any) -> float:
        loss = super().train_step(*batch)
        self.weights["bias"][1, : 2 * self.spec.units] = 0
        return loss

    def gradients(self, *batch: Any) -> Weights:
        found = super().gradients(*batch)
        found["bias"][1, : 2 * self.spec.units] = 0
        return found

    def layers(self) -> tuple[Layer, ...]:
        embedding, gru, dense = super().layers()
        return embedding, Layer(*[*vars(gru).values()][:4], note="no second bias but the candidate's"), dense


def test_what_a_model_lacks_reads_as_nothing() -> None:
    model = _OneBias(spec_of("gru"), TrainingSpec(), initial_weights(spec_of("gru"), 0), None)
    assert {name: int(mask.sum()) for name, mask in lacking(model, spec_of("gru")).items() if mask.any()} == {
        "bias": 64
    }


# --- what the stages say of a declaration ---------------------------------------------------------------------


def contradicted(
    cell: Cell, declared: Mapping[str, object], *, really: Mapping[str, object] | None = None, model: Any = GoodModel
) -> stages.Found:
    """Go through the native stages of a backend that declares something, and is something."""

    class Told(Good):
        @classmethod
        def native_values(cls, model: ModelSpec, training: TrainingSpec) -> Mapping[str, object]:
            return declared

        def create(self, spec: ModelSpec, training: TrainingSpec, **given: Any) -> Any:  # type: ignore[override]
            own = switched(training, really or {})
            return model(spec, own, initial_weights(spec, 100, own.factors), None)

    examples = _Examples(40 * BATCH, 0)
    block = SimpleNamespace(split=examples, rows=np.arange(40 * BATCH))
    run = RunSpec(
        backend="good", division="native", model=spec_of(cell, 12), training=TrainingSpec(batch_size=BATCH),
        data=DataSpec(vocabulary=VOCABULARY, length=LENGTH), dataset_fingerprint="", seed=0, device="cpu", threads=1,
    )  # fmt: skip
    return stages.compare(Told(), run, SimpleNamespace(train=block, test=block), lambda stage: None)  # type: ignore[arg-type]


ORDER = {"factors.order": "another"}


@pytest.mark.parametrize(
    ("declared", "really", "false"),
    [
        (ORDER, {}, {}),
        ({}, {"factors.biases": "two"}, {}),  # who says nothing says nothing false
        ({"epsilon": 1e-3}, {}, {"epsilon": "0.001"}),
        ({"epsilon": 1e-3}, {"epsilon": 1e-3}, {}),
        (ORDER, {"factors.biases": "two"}, {"factors.biases": "one"}),
        (
            {"factors.biases": "two", "epsilon": 1e-3},
            {"factors.biases": "two"},
            {"epsilon": "0.001"},
        ),
        ({"factors.embedding_weights": "pytorch"}, {}, {"factors.embedding_weights": "pytorch"}),
        (ORDER, {"factors.embedding_weights": "pytorch"}, {"factors.embedding_weights": "keras"}),
        ({"factors.embedding_weights": "other: in words"}, {"factors.embedding_weights": "pytorch"}, {}),
    ],
)
def test_a_declaration_that_the_stages_contradict_is_named(
    declared: dict[str, object], really: dict[str, object], false: dict[str, str]
) -> None:
    assert contradicted("lstm", declared, really=really).contradicted == false


def test_what_a_native_model_lacks_the_reference_lacks_too() -> None:
    found = contradicted("gru", ORDER, model=_OneBias)
    assert all(record.ok for record in found.stages), [record for record in found.stages if not record.ok]
    assert found.contradicted == {}
