"""Real frameworks, each in a child process of its own, against the contract, each other and NumPy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnn_crosscheck.harness.backend import Backend, Capability
from rnn_crosscheck.harness.machine import memory_variables
from rnn_crosscheck.harness.parity.reference import ReferenceModel
from rnn_crosscheck.harness.protocol import switched
from rnn_crosscheck.harness.registry import find, missing_distributions
from rnn_crosscheck.harness.weights import (
    PARAMETERS,
    canonical_shapes,
    check_weights,
    count_parameters,
    initial_weights,
)
from tests.backends.checks import (
    BATCH,
    CELLS,
    DIVISIONS,
    EXAMPLES,
    FRAMEWORKS,
    SWITCHED,
    TRAINING,
    Examples,
    imdb,
    small,
)

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BACKENDS = ("keras-tensorflow", "pytorch")
OWN = {"keras-tensorflow": {"tensorflow", "keras"}, "pytorch": {"torch"}}

Answer = dict[str, Any]
Ask = Callable[..., Answer]

each_backend = pytest.mark.parametrize("backend", BACKENDS)
each_division = pytest.mark.parametrize("division", DIVISIONS)
each_cell = pytest.mark.parametrize("cell", CELLS)


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Ask a backend in a fresh process, which may keep the memory that it frees; the same question is asked once."""
    folder = tmp_path_factory.mktemp("answers")

    @cache
    def asked(name: str, what: str, *rest: str, kept: bool = False) -> Answer:
        backend: type[Backend] = find(name).load()
        if missing_distributions(backend):
            pytest.skip(f"{name} needs {backend.requirement}")
        memory = memory_variables() if kept else {}
        path = folder / f"{name}-{what}-{'-'.join(rest)}-{kept}.npz"
        done = subprocess.run(
            [sys.executable, "-m", "tests.backends.checks", name, what, str(path), *rest],
            cwd=ROOT,
            env={**os.environ, **backend.worker_environment(1), **memory, "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        with np.load(path) as archive:
            answer = {key: archive[key] for key in archive.files}
        return {**answer, **json.loads(str(answer.pop("json")))}

    return asked


def weights(answer: Answer, prefix: str) -> dict[str, Any]:
    return {name: answer[f"{prefix}/{name}"] for name in PARAMETERS}


# --- the contract, one backend at a time --------------------------------------------------------------------


@each_backend
def test_declares_what_it_is(backend: str) -> None:
    found = find(backend).load()
    capabilities: set[Capability] = {"native", "matched", "parity", "factors"}
    assert found.name == backend
    assert found.capabilities == capabilities


@pytest.mark.long
@each_backend
def test_imports_its_framework_late_and_no_other(ask: Ask, backend: str) -> None:
    answer = ask(backend, "contract")
    assert answer["imported_by_listing"] == []
    assert set(answer["imported"]) == OWN[backend]


def test_looking_at_backends_imports_no_framework() -> None:
    imports = "import sys; from rnn_crosscheck.backends import keras, pytorch"
    code = f"{imports}; print([f for f in {FRAMEWORKS} if f in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.long
@each_backend
@each_division
@each_cell
def test_counts_parameters_at_imdb_sizes(ask: Ask, backend: str, division: str, cell: str) -> None:
    layers = ask(backend, "contract")[f"{division}/{cell}/layers"]
    assert [(name, shape) for name, shape, _, _ in layers] == [
        ("embedding", [500, 32]),
        (cell, [16 if cell == "rnn" else 100]),
        ("dense", [1]),
    ]
    canonical = {"rnn": 160_801, "lstm": 213_301}[cell]
    second_bias = {"rnn": 16, "lstm": 400}[cell] if backend == "pytorch" else 0
    assert count_parameters(imdb(cell)) == canonical
    assert sum(row[2] for row in layers) == canonical + second_bias
    assert sum(row[3] for row in layers) == canonical + (second_bias if division == "native" else 0)


@each_backend
@each_division
@each_cell
def test_weights_go_in_and_come_out_the_same(ask: Ask, backend: str, division: str, cell: str) -> None:
    answer = ask(backend, "contract")
    returned = weights(answer, f"{division}/{cell}/returned")
    check_weights(returned, small(cell), "returned")
    for name, given in weights(answer, f"{division}/{cell}/given").items():
        np.testing.assert_array_equal(returned[name], given, name)
        assert returned[name].flags.c_contiguous


@each_cell
def test_keras_starts_natively_from_its_default_initialisers(ask: Ask, cell: str) -> None:
    found = weights(ask("keras-tensorflow", "contract"), f"native/{cell}/full")
    units = imdb(cell).units
    within(found["embedding"], 0.05)
    within(found["kernel"], np.sqrt(6 / sum(found["kernel"].shape)))
    within(found["dense_kernel"], np.sqrt(6 / (units + 1)), filled=0.7)
    recurrent = found["recurrent_kernel"]
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(units), atol=1e-5)
    expected = np.zeros_like(found["bias"])
    if cell == "lstm":
        expected[units : 2 * units] = 1
    np.testing.assert_array_equal(found["bias"], expected)
    np.testing.assert_array_equal(found["dense_bias"], [0])


@each_cell
def test_pytorch_starts_natively_from_its_default_initialisers(ask: Ask, cell: str) -> None:
    found = weights(ask("pytorch", "contract"), f"native/{cell}/full")
    bound = 1 / np.sqrt(imdb(cell).units)
    assert abs(found["embedding"].mean()) < 0.02
    assert found["embedding"].std() == pytest.approx(1, abs=0.02)
    within(found["kernel"], bound)
    within(found["recurrent_kernel"], bound)
    # The sum of two uniforms reaches twice as far, rarely.
    within(found["bias"], 2 * bound, filled=0.5)
    assert np.abs(found["bias"]).max() > bound
    within(found["dense_kernel"], bound, filled=0.7)
    within(found["dense_bias"], bound, filled=0)


def within(values: Any, bound: float, filled: float = 0.9) -> None:
    """Inside of the bound, and reaching at least `filled` of it on both sides."""
    assert np.abs(values).max() <= bound * (1 + 1e-6)
    assert values.max() >= filled * bound or filled == 0
    assert values.min() <= -filled * bound or filled == 0


@each_backend
@each_division
@each_cell
def test_predictions_do_not_depend_on_their_company(ask: Ask, backend: str, division: str, cell: str) -> None:
    answer = ask(backend, "contract")
    key = f"{division}/{cell}"
    together = answer[f"{key}/together"]
    assert together.shape == (600,)
    assert together.dtype == np.float32
    assert ((together > 0) & (together < 1)).all()
    assert together[:EXAMPLES].std() > 1e-4
    np.testing.assert_allclose(together[EXAMPLES : 2 * EXAMPLES], together[:EXAMPLES], atol=1e-6)
    assert answer[f"{key}/single"].shape == (20, 1)
    np.testing.assert_allclose(answer[f"{key}/single"][:, 0], together[:20], atol=1e-6)
    np.testing.assert_allclose(answer[f"{key}/some"], together[:33], atol=1e-6)
    assert answer[f"{key}/none"].shape == (0,)
    assert answer[f"{key}/none"].dtype == np.float32


@each_backend
@each_division
@each_cell
def test_predicting_and_differentiating_leave_the_weights_alone(
    ask: Ask, backend: str, division: str, cell: str
) -> None:
    answer = ask(backend, "contract")
    for name, given in weights(answer, f"{division}/{cell}/given").items():
        np.testing.assert_array_equal(answer[f"{division}/{cell}/unmoved/{name}"], given, name)


@each_backend
@each_division
@each_cell
def test_a_steps_loss_is_that_of_its_batch_before_the_update(ask: Ask, backend: str, division: str, cell: str) -> None:
    answer = ask(backend, "contract")
    key = f"{division}/{cell}"
    assert answer[f"{key}/float"] == "float"
    np.testing.assert_allclose(answer[f"{key}/losses"], answer[f"{key}/expected_losses"], rtol=2e-6)


@each_backend
@each_division
@each_cell
def test_counts_every_batch_of_an_epoch(ask: Ask, backend: str, division: str, cell: str) -> None:
    answer = ask(backend, "contract")
    assert answer[f"{division}/{cell}/done"] == [1, 2, 3, 4]
    loss, accuracy = answer[f"{division}/{cell}/stats"]
    assert 0.3 < loss < 1.5
    right = accuracy * EXAMPLES
    assert right == pytest.approx(round(right), abs=1e-4)


@each_backend
@each_division
@each_cell
def test_refuses_what_is_not_a_batch_in_a_sentence(ask: Ask, backend: str, division: str, cell: str) -> None:
    errors = ask(backend, "contract")[f"{division}/{cell}/errors"]
    step = f"Backend {backend!r}: train_step: expected "
    assert errors == [
        step + "tokens as int32 (n, 12), got int64 (16, 12).",
        step + "tokens as int32 (n, 12), got int32 (16, 11).",
        step + "labels as float32 (16,), got float32 (15,).",
        step + "labels as float32 (16,), got int8 (16,).",
        step + "a batch of at least one example, got none.",
        f"Backend {backend!r}: gradients: expected labels as float32 (16,), got float32 (16, 1).",
        f"Backend {backend!r}: predict: expected tokens as int32 (n, 12), got int32 (12,).",
        f"Backend {backend!r}: predict: expected tokens as int32 (n, 12), got list.",
        f"Backend {backend!r}: set_weights: expected the parameters {sorted(PARAMETERS)}, got [].",
    ]


@each_backend
def test_refuses_a_device_that_is_not_there(ask: Ask, backend: str) -> None:
    answer = ask(backend, "contract")
    assert answer["devices"] == ["cpu"]
    assert answer["device_error"] == f"Backend {backend!r} can't use the device 'tpu' here; it can use: cpu."


@each_backend
def test_tells_its_environment(ask: Ask, backend: str) -> None:
    answer = ask(backend, "contract")
    for environment in (answer["before"], answer["environment"]):
        assert all(isinstance(value, str) for value in environment.values())
        assert OWN[backend] <= set(environment)
        assert environment["device"] == "cpu"
        assert environment["threads"] == "1 intra-op, 1 inter-op"
    assert {"kernel rnn", "kernel lstm"} <= set(answer["environment"])


def test_pytorch_names_the_kernel_that_its_profiler_sees(ask: Ask) -> None:
    named = ask("pytorch", "contract")["environment"]
    seen = ask("pytorch", "kernels")
    for cell in CELLS:
        assert (named[f"kernel {cell}"] == "oneDNN") == seen[cell]


@pytest.mark.long
@pytest.mark.parametrize(
    ("backend", "question", "framework"),
    [
        ("keras-tensorflow", "contract", "tensorflow"),
        ("keras-jax", "precision", "jax"),
        ("keras-torch", "precision", "torch"),
        ("jax", "precision", "jax"),
        ("pytorch", "contract", "torch"),
    ],
)
def test_matched_models_multiply_in_full_on_a_gpu_too(ask: Ask, backend: str, question: str, framework: str) -> None:
    assert ask(backend, question)["full"] == {framework: True}


@pytest.mark.long
def test_keras_on_tensorflow_is_fed_a_dataset_whose_end_it_needn_t_wait_for(ask: Ask) -> None:
    assert ask("keras-tensorflow", "feed")["tunes itself"] is False


# --- order and repeatability --------------------------------------------------------------------------------


@each_backend
def test_every_native_epoch_has_an_order_of_its_own_that_the_seed_decides(ask: Ask, backend: str) -> None:
    answer = ask(backend, "contract")
    first = answer["orders/first"]
    for order in first:
        assert sorted(order) == list(range(EXAMPLES))
    assert len({tuple(order) for order in first} | {tuple(range(EXAMPLES))}) == 4
    np.testing.assert_array_equal(answer["orders/second"], first)


@pytest.mark.long
@each_backend
def test_a_seed_repeats_to_the_bit_in_another_process_whatever_memory_that_keeps(ask: Ask, backend: str) -> None:
    one, two = ask(backend, "repeat", "3"), ask(backend, "repeat", "3", kept=True)
    keys = [f"{division}/{cell}/{epoch}" for division in DIVISIONS for cell in CELLS for epoch in (1, 2)]
    for key in (*keys, *(f"large/{cell}" for cell in CELLS)):
        np.testing.assert_array_equal(one[key], two[key], key)


@pytest.mark.long
@each_backend
def test_another_seed_gives_another_model(ask: Ask, backend: str) -> None:
    one, two = ask(backend, "repeat", "3"), ask(backend, "repeat", "4")
    for key in (f"{division}/{cell}/1" for division in DIVISIONS for cell in CELLS):
        assert np.abs(one[key] - two[key]).max() > 1e-4


# --- the matched division: each other and NumPy -------------------------------------------------------------


@pytest.mark.long
@each_backend
@each_cell
def test_gradients_are_dense_and_in_the_canonical_layout(ask: Ask, backend: str, cell: str) -> None:
    gradients = weights(ask(backend, "matched"), f"{cell}/gradients0")
    for name, shape in canonical_shapes(small(cell)).items():
        assert gradients[name].shape == shape
        assert gradients[name].dtype == np.float32


@pytest.mark.long
@each_cell
def test_backends_agree_on_gradients(ask: Ask, cell: str) -> None:
    ours, theirs = (weights(ask(backend, "matched"), f"{cell}/gradients0") for backend in BACKENDS)
    for name in PARAMETERS:
        scale = np.abs(ours[name]).max()
        assert scale > 0
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-4, atol=1e-5 * scale, err_msg=name)


@pytest.mark.long
@pytest.mark.parametrize(("steps", "tolerance"), [(0, 0), (1, 1e-6), (20, 1e-5)])
@each_cell
def test_backends_agree_on_weights(ask: Ask, cell: str, steps: int, tolerance: float) -> None:
    ours, theirs = (weights(ask(backend, "matched"), f"{cell}/{steps}") for backend in BACKENDS)
    for name in PARAMETERS:
        np.testing.assert_allclose(theirs[name], ours[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.long
@each_cell
def test_backends_agree_on_losses_and_probabilities(ask: Ask, cell: str) -> None:
    ours, theirs = (ask(backend, "matched") for backend in BACKENDS)
    np.testing.assert_allclose(theirs[f"{cell}/stats"], ours[f"{cell}/stats"], rtol=1e-5)
    np.testing.assert_allclose(theirs[f"{cell}/losses"], ours[f"{cell}/losses"], rtol=1e-5)
    np.testing.assert_allclose(theirs[f"{cell}/predicted"], ours[f"{cell}/predicted"], atol=1e-5)


@pytest.mark.long
@each_backend
@each_cell
def test_updates_are_adams_with_the_protocols_values(ask: Ask, backend: str, cell: str) -> None:
    """Kingma and Ba, algorithm 1 in the form at the end of section 2 ("epsilon hat"), in float64."""
    answer = ask(backend, "matched")
    b1, b2 = TRAINING.beta_1, TRAINING.beta_2
    for name in PARAMETERS:
        m = v = np.zeros_like(answer[f"{cell}/0/{name}"], np.float64)
        for t in range(1, 21):
            gradient = answer[f"{cell}/gradients{t - 1}/{name}"].astype(np.float64)
            m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
            alpha = TRAINING.learning_rate * np.sqrt(1 - b2**t) / (1 - b1**t)
            expected = answer[f"{cell}/{t - 1}/{name}"] - alpha * m / (np.sqrt(v) + TRAINING.epsilon)
            np.testing.assert_allclose(answer[f"{cell}/{t}/{name}"], expected, rtol=0, atol=5e-7, err_msg=f"{name} {t}")


@pytest.mark.long
@each_backend
@each_cell
def test_an_epoch_takes_the_batches_as_they_come(ask: Ask, backend: str, cell: str) -> None:
    answer = ask(backend, "matched")
    for name in PARAMETERS:
        np.testing.assert_array_equal(answer[f"{cell}/epoch/{name}"], answer[f"{cell}/20/{name}"], name)
    # Weighted by examples: the last batch is smaller and counts for less.
    assert answer[f"{cell}/stats"][0] == pytest.approx(answer[f"{cell}/weighted"], rel=1e-6)


# --- factors and clipping -----------------------------------------------------------------------------------


@pytest.mark.long
@each_backend
@each_cell
@pytest.mark.parametrize("what", list(SWITCHED))
def test_a_switched_factor_does_what_it_does_in_the_reference(ask: Ask, backend: str, cell: str, what: str) -> None:
    answer, key = ask(backend, "factors"), f"{cell}/{what}"
    training = switched(TRAINING, SWITCHED[what])
    drawn = initial_weights(small(cell), 0, training.factors)
    if what == "probabilities":
        drawn["dense_bias"] += 20
    reference, examples = ReferenceModel(small(cell), training, drawn), Examples()
    expected = reference.forward64(examples.tokens)
    np.testing.assert_allclose(answer[f"{key}/states"], expected.states, atol=1e-6)
    np.testing.assert_allclose(answer[f"{key}/logits"], expected.logits, rtol=1e-6, atol=1e-6)
    for start, (loss, norm, right) in zip((0, BATCH), answer[f"{key}/steps"], strict=True):
        tokens, labels = examples.batch(start)
        assert right == ((reference.logits64(tokens) >= 0) == (labels >= 0.5)).sum()
        expected_loss, expected_norm = reference.step64(tokens, labels)
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        assert norm == pytest.approx(expected_norm, rel=1e-4)
    reference.step64(*examples.batch(2 * BATCH))
    moved = weights(answer, f"{key}/3")
    for name, values in reference.weights.items():
        # Relative to the largest move: a relu near its kink may differ in single entries.
        size = np.abs(values - drawn[name]).max()
        np.testing.assert_allclose(moved[name], values, atol=2e-6 + 1e-3 * size, err_msg=name)


@each_cell
def test_each_switch_changes_the_training(cell: str) -> None:
    ends = {}
    for what, values in SWITCHED.items():
        training = switched(TRAINING, values)
        model = ReferenceModel(small(cell), training, initial_weights(small(cell), 0, training.factors))
        for start in (0, BATCH, 2 * BATCH):
            model.step64(*Examples().batch(start))
        ends[what] = np.concatenate([values.ravel() for values in model.weights.values()])
    for what, end in ends.items():
        if what not in ("nothing", "probabilities"):  # that one differs only where a model is sure
            assert np.abs(end - ends["nothing"]).max() > 1e-4, what


@pytest.mark.long
@each_backend
def test_native_gradients_are_clipped_too(ask: Ask, backend: str) -> None:
    answer = ask(backend, "factors")
    before, after = weights(answer, "native/before"), weights(answer, "native/after")
    # Adam's first step is the learning rate wherever the gradient is far above epsilon; clipped to 1e-6, none is far.
    assert np.abs(after["kernel"] - before["kernel"]).max() > 0
    assert np.abs(after["kernel"] - before["kernel"]).mean() < 0.9 * TRAINING.learning_rate
