"""The stages find what is wrong, at the right stage, and accuse nobody else; calibration and traces behind twins."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rnn_crosscheck.harness.backend import Forward, Step
from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.errors import CrosscheckError
from rnn_crosscheck.harness.parity.reference import ReferenceModel
from rnn_crosscheck.harness.parity.stages import FACTORS, _first_batches, native_in, other_in
from rnn_crosscheck.harness.parity.trace import Noise, Trace, calibrate, initial_twin, probe_steps
from rnn_crosscheck.harness.protocol import DataSpec, Factors, ModelSpec, RunSpec, TrainingSpec, switched
from rnn_crosscheck.harness.weights import PARAMETERS, initial_weights

ROOT = Path(__file__).parents[3]
BOTH = ("rnn", "lstm")

#: fault -> cells, first stage that fails, and the parameter that is named (empty for any)
EXPECTED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "transposed recurrent kernel": (BOTH, "forward", "recurrent states"),
    "swapped gates": (("lstm",), "forward", "recurrent states"),
    "missing forget bias": (("lstm",), "forward", "recurrent states"),
    "biases doubled": (("lstm",), "forward", "recurrent states"),
    "epsilon inside the root": (BOTH, "update", ""),
    "no bias correction": (BOTH, "update", ""),
    "learning rate doubled": (BOTH, "update", ""),
    "sum instead of mean": (BOTH, "loss", "mean loss"),
    "labels flipped": (BOTH, "loss", "mean loss"),
    "off by one": (BOTH, "forward", "recurrent states"),
    "padding behind": (BOTH, "forward", "recurrent states"),
    "reads backwards": (BOTH, "forward", "recurrent states"),
    "tanh for relu": (("rnn",), "forward", "recurrent states"),
    "last batch dropped": (BOTH, "steps_5", ""),
    "stale order": (BOTH, "steps_5", ""),
    "state carried over": (BOTH, "forward", "recurrent states"),
    "half precision": (BOTH, "weights", "dense_kernel"),
    "gradient of a bias lost": (BOTH, "gradients", "bias"),
    "duplicates apart": (BOTH, "update", "embedding"),
    "two biases": (BOTH, "update", "bias"),
    "epsilon after": (BOTH, "update", ""),
}
NAMED = {
    "duplicates apart": {"factors.duplicates": "apart"},
    "two biases": {"factors.biases": "two"},
    "epsilon after": {"epsilon": "1e-08", "factors.epsilon_place": "after"},
}


def shown(folder: Path, cases: list[str]) -> dict[str, Any]:
    """What the stages show of each ``FAULT:CELL:SEED``, from a process that has the framework."""
    target = folder / "shown.json"
    subprocess.run([sys.executable, "-m", "tests.planted", str(target), *cases], check=True, cwd=ROOT, timeout=300)
    found: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    return found


@pytest.mark.long
def test_every_planted_fault_is_named_at_its_stage(tmp_path: Path) -> None:
    cases = {f"{fault}:{cell}:3": fault for fault, (cells, _, _) in EXPECTED.items() for cell in cells}
    found = shown(tmp_path, list(cases))
    for case, fault in cases.items():
        _, stage, parameter = EXPECTED[fault]
        assert found[case]["stage"] == stage, case
        assert found[case]["parameter"] == parameter or not parameter, case
        assert (found[case]["named"] or {}) == NAMED.get(fault, {}), case


@pytest.mark.long
def test_a_model_without_a_fault_is_never_accused(tmp_path: Path) -> None:
    cases = [f"none:{cell}:{seed}" for cell, seed in product(BOTH, range(25))]
    found = shown(tmp_path, cases)
    assert len(found) == 50
    assert [case for case, answer in found.items() if answer["stage"] is not None] == []


# --- factors ------------------------------------------------------------------------------------------------


def test_every_factor_of_the_protocol_can_be_switched() -> None:
    keys = {key for values in FACTORS.values() for key in values}
    assert keys == {"epsilon", *(f"factors.{name}" for name in Factors.model_fields)}
    for values in FACTORS.values():
        changed = switched(TrainingSpec(), values)
        assert changed != TrainingSpec()
        assert switched(changed, values) == changed


def test_a_factor_is_native_where_all_of_its_values_are_declared() -> None:
    declared = {"a": {"epsilon": 1e-8, "factors.epsilon_place": "after"}, "b": {"epsilon": 1e-8}, "c": {}}
    assert native_in("epsilon", declared) == ("a",)
    assert native_in("biases", declared) == ()
    told = {**declared, "d": {"epsilon": 1e-7}, "e": {"factors.biases": "other: three"}}
    # Neither Keras' nor PyTorch's: 1e-8 before the correction.
    assert other_in("epsilon", told, TrainingSpec()) == {"b": {"epsilon": "1e-08"}}
    assert other_in("biases", told, TrainingSpec()) == {"e": {"factors.biases": "other: three"}}
    # Where the protocol has another epsilon than all of them.
    assert sorted(other_in("epsilon", told, TrainingSpec(epsilon=1e-3))) == ["b", "d"]


@pytest.mark.parametrize(
    ("factor", "parameters"),
    [
        ("embedding_weights", {"embedding"}),
        ("recurrent_weights", {"kernel", "recurrent_kernel"}),
        ("recurrent_bias", {"bias"}),
        ("dense_weights", {"dense_kernel", "dense_bias"}),
    ],
)
@pytest.mark.parametrize("cell", BOTH)
def test_a_switched_initialiser_draws_its_own_parameters_alone(cell: Any, factor: str, parameters: set[str]) -> None:
    model = spec(cell, units=16)
    plain = initial_weights(model, 3)
    drawn = initial_weights(model, 3, Factors.model_validate({factor: "pytorch"}))
    assert {name for name in PARAMETERS if not np.array_equal(plain[name], drawn[name])} == parameters
    for name in parameters - {"embedding"}:
        limit = (2 if name == "bias" else 1) / np.sqrt(model.units)
        assert np.abs(drawn[name]).max() <= limit
    if "embedding" in parameters:
        assert drawn["embedding"].std() == pytest.approx(1, abs=0.05)


def test_a_frozen_pad_row_begins_at_zero() -> None:
    model = spec("lstm")
    drawn = initial_weights(model, 0, Factors(pad_row="frozen"))
    assert not drawn["embedding"][0].any()
    assert np.array_equal(drawn["embedding"][1:], initial_weights(model, 0)["embedding"][1:])


# --- traces and twins ---------------------------------------------------------------------------------------


def spec(cell: Any, units: int = 5) -> ModelSpec:
    return ModelSpec(
        name=cell, cell=cell, units=units, activation="relu" if cell == "rnn" else "tanh", embedding=8,
        vocabulary=100, length=10,
    )  # fmt: skip


class Examples:
    def __init__(self, n: int = 64) -> None:
        rng = np.random.default_rng(0)
        self.tokens = rng.integers(0, 100, (n, 10)).astype(np.int32)
        self.labels = rng.integers(0, 2, n).astype(np.int8)

    def padded(self, rows: Any, length: int, vocabulary: int) -> Any:
        return self.tokens[rows]

    def batches(self, size: int = 8) -> Batches:
        rows = np.arange(len(self.labels))
        return Batches(self, rows, order=rows, batch_size=size, length=10, vocabulary=100)


class Float32(ReferenceModel):
    """The reference as a framework would be: weights in float32 after every update."""

    def train_step(self, tokens: Any, labels: Any) -> float:
        loss = super().train_step(tokens, labels)
        self._round()
        return loss

    def observed_step(self, tokens: Any, labels: Any) -> Step:
        step = super().observed_step(tokens, labels)
        self._round()
        return step

    def _round(self) -> None:
        for name, values in self.weights.items():
            self.weights[name] = values.astype(np.float32).astype(np.float64)


@pytest.mark.parametrize(
    ("total", "steps"),
    [(1, (1,)), (6, (1, 2, 3, 5, 6)), (20, (1, 2, 3, 5, 7, 10, 20)), (75, (1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 75))],
)
def test_probes_are_looked_at_in_a_geometric_series_and_at_the_end(total: int, steps: tuple[int, ...]) -> None:
    assert probe_steps(total) == steps


def test_an_initial_twin_has_one_weight_moved_by_one_unit_in_the_last_place() -> None:
    weights = initial_weights(spec("lstm"), 0)
    for number in (1, 2):
        moved = initial_twin(weights, number)
        differ = [(name, place) for name in weights for place in np.argwhere(moved[name] != weights[name]).tolist()]
        assert differ == [("kernel", [0, number - 1])]
        before, after = weights["kernel"][0, number - 1], moved["kernel"][0, number - 1]
        assert after == np.nextafter(before, np.float32(np.inf))


@pytest.mark.parametrize("cell", BOTH)
def test_noise_has_the_size_of_the_backends_own_rounding(cell: Any) -> None:
    model, training = spec(cell), TrainingSpec(batch_size=8)
    weights = initial_weights(model, 0)
    scales = calibrate(
        Float32(model, training, weights), ReferenceModel(model, training, weights), Examples().batches()
    )
    assert set(scales) >= {"embedding", "dense_kernel", "dense_bias"}
    # Weights of the embedding are below 0.06: rounded to float32, they are off by at most half of 2**-28.
    assert 1e-10 < scales["embedding"] < 2**-28
    if cell == "lstm":
        assert scales["bias.1"] > 10 * scales["bias.0"]  # the forget gate begins at 1

    disturbed = Float32(model, training, weights)
    noise = Noise(disturbed, dict.fromkeys(scales, 1e-3), seed=0, number=1)
    for name in ("embedding", "kernel"):
        disturbed.weights[name] = disturbed.weights[name] + 0.5
    before = {name: values.copy() for name, values in disturbed.weights.items()}
    noise()
    change = {name: disturbed.weights[name] - before[name] for name in before}
    assert change["embedding"].std() == pytest.approx(1e-3, rel=0.1)
    assert not change["recurrent_kernel"].any()  # it wasn't moved by the update


def test_a_flipped_relu_is_not_taken_for_rounding() -> None:
    class Flipped(Float32):
        """Has one relu on that is off, by less than rounding, in the reference; and says so."""

        def forward(self, tokens: Any) -> Forward:
            found = super().forward(tokens)
            found.states[0, 0, 0] = max(found.states[0, 0, 0], np.float32(1e-9))
            return found

        def train_step(self, tokens: Any, labels: Any) -> float:
            loss, _ = self.step64(tokens, labels, self.forward(tokens).states > 0)
            self._round()
            return loss

    model, training = spec("rnn"), TrainingSpec(batch_size=8)
    weights = initial_weights(model, 0)
    found = [
        calibrate(kind(model, training, weights), ReferenceModel(model, training, weights), Examples().batches())
        for kind in (Float32, Flipped)
    ]
    assert found[1]["embedding"] < 3 * found[0]["embedding"]
    # Otherwise Adam would make a whole step of it.
    unmasked = Flipped(model, training, weights)
    reference = ReferenceModel(model, training, weights)
    tokens, labels = next(iter(Examples().batches()))
    unmasked.train_step(tokens, labels)
    reference.step64(tokens, labels)
    assert np.abs(unmasked.weights["embedding"] - reference.weights["embedding"]).max() > 1e-5


def test_a_training_that_diverges_says_so() -> None:
    class Diverging(Float32):
        def observed_step(self, tokens: Any, labels: Any) -> Step:
            return Step(float("nan"), 1.0, 0)

    model = Diverging(spec("rnn"), TrainingSpec(), initial_weights(spec("rnn"), 0))
    trace = Trace(lambda: model.predict(Examples().tokens), total=8, disturb=None)
    with pytest.raises(CrosscheckError, match="Training diverged: the loss of step 1 is nan"):
        trace.epoch(model, Examples().batches())


@pytest.mark.parametrize("rows", [1, 7, 40, 700])
def test_any_number_of_training_examples_gives_twenty_updates_of_which_the_fifth_is_smaller(rows: int) -> None:
    examples = Examples(rows)
    block = SimpleNamespace(split=examples, rows=np.arange(rows))
    run = RunSpec(
        backend="b", division="matched", model=spec("rnn"), training=TrainingSpec(batch_size=8),
        data=DataSpec(vocabulary=100, length=10), dataset_fingerprint="", seed=0, device="cpu", threads=1,
    )  # fmt: skip
    singles, epoch = _first_batches(run, SimpleNamespace(train=block))
    assert [len(labels) for _, labels in singles] == [8, 8, 8, 8, 5, *[8] * 15]
    assert [len(labels) for _, labels in epoch] == [8, 8, 8, 8, 5]


def test_noise_below_a_unit_in_the_last_place_is_not_lost_and_has_no_drift() -> None:
    model = spec("rnn")
    reference = ReferenceModel(model, TrainingSpec(), initial_weights(model, 0))
    noise = Noise(reference, dict.fromkeys(PARAMETERS, 1e-9), seed=0, number=1)
    values = np.full(200_000, 1.0) + np.random.default_rng(0).normal(0, 1e-9, 200_000)
    rounded = noise._rounded(values)
    assert (rounded != 1).mean() > 0.005  # half a unit in the last place is 6e-8: rounding to the nearest gives 0
    assert rounded.astype(np.float64).mean() - 1 == pytest.approx(0, abs=2e-10)


def test_two_numbers_are_two_twins_and_one_number_is_one() -> None:
    def disturbed(number: int) -> Any:
        model = spec("rnn")
        reference = Float32(model, TrainingSpec(), initial_weights(model, 0))
        noise = Noise(reference, dict.fromkeys(PARAMETERS, 1e-4), seed=0, number=number)
        for batch in Examples(16).batches():
            reference.train_step(*batch)
            noise()
        return reference.get_weights()["kernel"]

    assert np.array_equal(disturbed(1), disturbed(1))
    assert not np.array_equal(disturbed(1), disturbed(2))


def test_a_trace_holds_every_step_and_the_probes_and_trains_as_without(tmp_path: Path) -> None:
    import pandas as pd

    examples = Examples(20)
    probes = examples.tokens[:6]
    model = Float32(spec("rnn"), TrainingSpec(), initial_weights(spec("rnn"), 0))
    plain = Float32(spec("rnn"), TrainingSpec(), initial_weights(spec("rnn"), 0))
    trace = Trace(lambda: model.predict(probes), total=6, disturb=None)
    for _ in range(2):
        stats = trace.epoch(model, examples.batches())
        losses = [(plain.train_step(*batch), len(batch[1])) for batch in examples.batches()]
    assert stats.loss == pytest.approx(sum(loss * n for loss, n in losses) / 20)
    assert 0 <= stats.accuracy <= 1
    trace.write(tmp_path, [f"e{row}" for row in range(6)])
    steps = pd.read_parquet(tmp_path / "trace.parquet")
    assert steps["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert (steps["gradient_norm"] > 0).all()
    found = pd.read_parquet(tmp_path / "probes.parquet")
    assert list(found) == ["example_id", "step_1", "step_2", "step_3", "step_5", "step_6"]
    assert found["step_6"].to_numpy() == pytest.approx(plain.predict(probes))
