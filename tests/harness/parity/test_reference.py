"""The reference against finite differences, naive loops, formulas by hand, and an autograd that isn't ours."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.errors import ContractError, CrosscheckError
from rnn_crosscheck.harness.parity.reference import Reference, ReferenceModel
from rnn_crosscheck.harness.protocol import Factors, ModelSpec, TrainingSpec
from rnn_crosscheck.harness.registry import find, versions
from rnn_crosscheck.harness.weights import (
    GATES,
    PARAMETERS,
    Weights,
    canonical_shapes,
    count_parameters,
    initial_weights,
)

Array = NDArray[np.float64]

VOCABULARY, LENGTH, UNITS, EMBEDDING, BATCH = 12, 6, 3, 4, 5
CELLS = ("relu", "tanh", "lstm", "gru")

each_cell = pytest.mark.parametrize("cell", CELLS)


def spec_of(cell: str, **sizes: int) -> ModelSpec:
    given: dict[str, Any] = {
        "vocabulary": VOCABULARY,
        "length": LENGTH,
        "units": UNITS,
        "embedding": EMBEDDING,
        **sizes,
    }
    if cell == "lstm" or cell == "gru":
        return ModelSpec(name=cell, cell=cell, **given)
    return ModelSpec(name="rnn", cell="rnn", activation=cell, **given)  # type: ignore[arg-type]  # relu or tanh


def drawn(spec: ModelSpec, seed: int) -> dict[str, Array]:
    """Weights of the size of 1, so that every gate is used, and none is 0."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.7, shape) for name, shape in canonical_shapes(spec).items()}


def batch_of(seed: int, n: int = BATCH) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Examples padded in front, in which tokens come again."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, VOCABULARY, (n, LENGTH)).astype(np.int32)
    tokens[:, :2] = 0
    return tokens, (rng.random(n) < 0.5).astype(np.float32)


def without_repeats() -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    return np.arange(2 * LENGTH, dtype=np.int32).reshape(2, LENGTH), np.array([0, 1], np.float32)


def model_of(cell: str, seed: int = 0, training: TrainingSpec | None = None, **factors: Any) -> ReferenceModel:
    training = training or TrainingSpec(learning_rate=0.01, factors=Factors(**factors))
    spec = spec_of(cell)
    return ReferenceModel(spec, training, drawn(spec, seed))


def moves(model: ReferenceModel, batch: tuple[NDArray[np.int32], NDArray[np.float32]]) -> dict[str, Array]:
    before = {name: values.copy() for name, values in model.weights.items()}
    model.step64(*batch)
    return {name: values - before[name] for name, values in model.weights.items()}


# --- forward and loss ---------------------------------------------------------------------------------------


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def naive(model: ReferenceModel, tokens: NDArray[np.int32]) -> tuple[Array, Array]:
    """States (n, length, units) and logits (n,), a number at a time."""
    w, spec = model.weights, model.spec
    states, logits = [], []
    for row in tokens:
        h, c = [0.0] * spec.units, [0.0] * spec.units
        course = []
        for token in row:
            x = w["embedding"][token]

            def enters(j: int, x: Array = x, h: list[float] = h) -> float:
                inputs = sum(x[k] * w["kernel"][k, j] for k in range(spec.embedding))
                return float(inputs + sum(h[k] * w["recurrent_kernel"][k, j] for k in range(spec.units)) + w["bias"][j])

            if spec.cell == "gru":

                def share(gate: int, u: int, of: str, x: Array = x, h: list[float] = h) -> float:
                    values, name, place = (x, "kernel", 0) if of == "inputs" else (h, "recurrent_kernel", 1)
                    j = gate * spec.units + u
                    return float(sum(values[k] * w[name][k, j] for k in range(len(values))) + w["bias"][place, j])

                z, r = (
                    [logistic(share(gate, u, "inputs") + share(gate, u, "state")) for u in range(spec.units)]
                    for gate in (0, 1)
                )
                new = [math.tanh(share(2, u, "inputs") + r[u] * share(2, u, "state")) for u in range(spec.units)]
                h = [z[u] * h[u] + (1 - z[u]) * new[u] for u in range(spec.units)]
            elif spec.cell == "lstm":
                i, f, g, o = ([enters(gate * spec.units + u) for u in range(spec.units)] for gate in range(4))
                c = [logistic(f[u]) * c[u] + logistic(i[u]) * math.tanh(g[u]) for u in range(spec.units)]
                h = [logistic(o[u]) * math.tanh(c[u]) for u in range(spec.units)]
            elif spec.activation == "relu":
                h = [max(0.0, enters(u)) for u in range(spec.units)]
            else:
                h = [math.tanh(enters(u)) for u in range(spec.units)]
            course.append(h)
        states.append(course)
        logits.append(sum(h[u] * w["dense_kernel"][u, 0] for u in range(spec.units)) + w["dense_bias"][0])
    return np.array(states), np.array(logits)


@each_cell
def test_the_forward_pass_is_that_of_a_naive_loop(cell: str) -> None:
    model = model_of(cell)
    tokens, labels = batch_of(1)
    states, logits = naive(model, tokens)
    found = model.forward64(tokens)
    np.testing.assert_allclose(found.states, states, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-12)
    np.testing.assert_allclose(model.logits64(tokens), logits, rtol=1e-12)
    expected = np.mean([-math.log(logistic(z if y else -z)) for z, y in zip(logits, labels, strict=True)])
    assert model.loss64(tokens, labels) == pytest.approx(expected, rel=1e-12)


def test_preactivations_are_what_a_relu_is_taken_of() -> None:
    tokens, _ = batch_of(2)
    found = model_of("relu").forward64(tokens)
    assert found.preactivations is not None
    assert found.preactivations.min() < 0 < found.preactivations.max()
    np.testing.assert_array_equal(np.maximum(found.preactivations, 0), found.states)
    assert model_of("tanh").forward64(tokens).preactivations is None
    assert model_of("lstm").forward64(tokens).preactivations is None


@each_cell
def test_examples_do_not_see_one_another(cell: str) -> None:
    model = model_of(cell)
    tokens, _ = batch_of(3, n=150)  # more than one chunk
    alone = [model.forward64(tokens[i : i + 1]) for i in range(len(tokens))]
    together = model.forward64(tokens)
    # Other shapes are other sums in BLAS; near 0 a last bit is a large share.
    states, logits = (np.concatenate([getattr(part, name) for part in alone]) for name in ("states", "logits"))
    np.testing.assert_allclose(together.states, states, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(together.logits, logits, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(model.logits64(tokens), together.logits, rtol=1e-12, atol=1e-15)
    assert model.predict(tokens[:0]).shape == (0,)


def sure(logit: float, **factors: Any) -> ReferenceModel:
    """A model whose logit is `logit`, whatever it reads."""
    model = model_of("tanh", **factors)
    model.weights["dense_kernel"][:] = 0
    model.weights["dense_bias"][:] = logit
    return model


@pytest.mark.parametrize("logit", [-1000.0, -40.0, 0.0, 40.0, 1000.0])
def test_the_loss_of_logits_is_exact_however_sure_the_model_is(logit: float) -> None:
    tokens, _ = batch_of(0, n=1)
    right, wrong = np.array([logit >= 0]), np.array([logit < 0])
    with np.errstate(all="raise", under="ignore"):
        model = sure(logit)
        assert model.loss64(tokens, right) == pytest.approx(math.log1p(math.exp(-abs(logit))), rel=1e-12, abs=0)
        assert model.loss64(tokens, wrong) == pytest.approx(abs(logit) + math.log1p(math.exp(-abs(logit))), rel=1e-12)
        slope = model.gradients64(tokens, wrong)["dense_bias"][0]
    assert abs(slope) == pytest.approx(1 / (1 + math.exp(-abs(logit))), rel=1e-12)


def test_probabilities_are_clipped_in_the_loss_and_flat_beyond() -> None:
    tokens, _ = batch_of(0, n=1)
    model = sure(20.0, loss_form="probabilities")
    above = float(np.float32(1 - 1e-7))  # 1.2e-7 away from 1
    for label, loss in ((0, -math.log(1 - above)), (1, -math.log(above))):
        assert model.loss64(tokens, np.array([label])) == pytest.approx(loss, rel=1e-8)
        assert not any(values.any() for values in model.gradients64(tokens, np.array([label])).values())


@each_cell
def test_both_forms_of_the_loss_agree_where_nothing_is_clipped(cell: str) -> None:
    batch = batch_of(4)
    logits, probabilities = model_of(cell), model_of(cell, loss_form="probabilities")
    assert probabilities.loss64(*batch) == pytest.approx(logits.loss64(*batch), rel=1e-12)
    expected = logits.gradients64(*batch)
    for name, values in probabilities.gradients64(*batch).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-10, atol=1e-14)


# --- gradients ----------------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(
    cell=st.sampled_from(CELLS),
    seed=st.integers(0, 10_000),
    loss_form=st.sampled_from(["logits", "probabilities"]),
    n=st.integers(1, 4),
)
def test_gradients_are_those_of_finite_differences(cell: str, seed: int, loss_form: str, n: int) -> None:
    model = model_of(cell, seed, loss_form=loss_form)
    batch = batch_of(seed + 1, n)
    start = model.forward64(batch[0])
    # Surer models lose the digits of 1 - p that the difference is made of.
    assume(np.abs(start.logits).max() < 5)
    # No kink within reach of the difference.
    assume(start.preactivations is None or np.abs(start.preactivations).min() > 1e-4)
    found = model.gradients64(*batch)
    step = 1e-6
    for name in PARAMETERS:
        expected = np.zeros_like(found[name])
        flat = model.weights[name].reshape(-1)
        for place in range(flat.size):
            kept = flat[place]
            flat[place] = kept + step
            above = model.loss64(*batch)
            flat[place] = kept - step
            expected.reshape(-1)[place] = (above - model.loss64(*batch)) / (2 * step)
            flat[place] = kept
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=2e-8, err_msg=f"{cell} {name}")


def frequent(spec: ModelSpec) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Eight examples in which a few tokens are frequent, as in real ones."""
    rng = np.random.default_rng(0)
    tokens = np.minimum(rng.zipf(1.3, (8, spec.length)) - 1, spec.vocabulary - 1).astype(np.int32)
    return tokens, (rng.random(8) < 0.5).astype(np.float32)


def by_autograd(spec: ModelSpec, weights: Weights) -> tuple[Array, float, dict[str, Array]]:
    """States, mean loss and gradients of the same model in PyTorch with float64."""
    import torch

    tokens, labels = (torch.tensor(values) for values in frequent(spec))
    embedding = torch.nn.Embedding(spec.vocabulary, spec.embedding).double()
    if spec.cell != "rnn":
        kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[spec.cell]
        recurrent = kind(spec.embedding, spec.units, batch_first=True).double()
    else:
        recurrent = torch.nn.RNN(spec.embedding, spec.units, nonlinearity=spec.activation, batch_first=True).double()
    dense = torch.nn.Linear(spec.units, 1).double()
    parameters = {
        "embedding": embedding.weight,
        "kernel": recurrent.weight_ih_l0,
        "recurrent_kernel": recurrent.weight_hh_l0,
        "bias": recurrent.bias_ih_l0,
        "dense_kernel": dense.weight,
        "dense_bias": dense.bias,
    }
    turned = {"kernel", "recurrent_kernel", "dense_kernel"}
    # PyTorch has a GRU's reset gate before its update gate.
    blocks = np.arange(spec.units * GATES[spec.cell]).reshape(-1, spec.units)
    order = (blocks[[1, 0, 2]] if spec.cell == "gru" else blocks).ravel()
    biases = weights["bias"][:, order] if spec.cell == "gru" else (weights["bias"], np.zeros_like(weights["bias"]))
    with torch.no_grad():
        for name, parameter in parameters.items():
            given = biases[0] if name == "bias" else weights[name]
            given = given[..., order] if name in ("kernel", "recurrent_kernel") else given
            parameter.copy_(torch.tensor(given.T if name in turned else given))
        recurrent.bias_hh_l0.copy_(torch.tensor(biases[1]))
    states, _ = recurrent(embedding(tokens))
    logits = dense(states[:, -1]).squeeze(-1)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.double())
    loss.backward()
    gradients = {name: parameter.grad.numpy() for name, parameter in parameters.items()}
    if spec.cell == "gru":
        gradients["bias"] = np.stack([gradients["bias"], recurrent.bias_hh_l0.grad.numpy()])[:, order]
        gradients |= {name: gradients[name][order] for name in ("kernel", "recurrent_kernel")}
    return (
        states.detach().numpy(),
        loss.item(),
        {name: values.T if name in turned else values for name, values in gradients.items()},
    )


@pytest.mark.slow
@each_cell
def test_gradients_are_those_of_pytorch_in_float64(cell: str) -> None:
    if find_spec("torch") is None:
        pytest.skip("needs torch")
    spec = spec_of(cell, units=16, embedding=8, vocabulary=50, length=60)
    weights = initial_weights(spec, 3)
    # No framework is ever imported by pytest's own process.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        states, loss, gradients = pool.submit(by_autograd, spec, weights).result()
    model, (tokens, labels) = ReferenceModel(spec, TrainingSpec(), weights), frequent(spec)
    np.testing.assert_allclose(model.forward64(tokens).states, states, rtol=1e-10, atol=1e-14)
    assert model.loss64(tokens, labels) == pytest.approx(loss, rel=1e-12)
    for name, values in model.gradients64(tokens, labels).items():
        assert np.linalg.norm(values - gradients[name]) <= 1e-10 * np.linalg.norm(gradients[name]), name
    assert "torch" not in sys.modules


# --- the optimizer ------------------------------------------------------------------------------------------


@each_cell
def test_adam_is_kerass_formula_a_number_at_a_time(cell: str) -> None:
    training = TrainingSpec(learning_rate=0.02, beta_1=0.8, beta_2=0.95, epsilon=1e-3)
    model = model_of(cell, training=training)
    m = {name: np.zeros(values.size) for name, values in model.weights.items()}
    v = {name: np.zeros(values.size) for name, values in model.weights.items()}
    expected = {name: values.reshape(-1).copy() for name, values in model.weights.items()}
    for t in range(1, 5):
        batch = batch_of(t)
        gradients, before = model.gradients64(*batch), model.loss64(*batch)
        loss, norm = model.step64(*batch)
        alpha = 0.02 * math.sqrt(1 - 0.95**t) / (1 - 0.8**t)
        for name, gradient in gradients.items():
            for place, g in enumerate(gradient.reshape(-1).tolist()):
                m[name][place] = 0.8 * m[name][place] + 0.2 * g
                v[name][place] = 0.95 * v[name][place] + 0.05 * g * g
                expected[name][place] -= alpha * m[name][place] / (math.sqrt(v[name][place]) + 1e-3)
            # The powers of the betas are float32, as in the frameworks.
            np.testing.assert_allclose(model.weights[name].reshape(-1), expected[name], rtol=0, atol=t * 2e-8)
        assert loss == before
        assert norm == pytest.approx(math.sqrt(sum(float((g * g).sum()) for g in gradients.values())), rel=1e-12)


def test_the_size_of_the_first_step_has_kerass_rounding() -> None:
    model = model_of("tanh", training=TrainingSpec(epsilon=1e-30))
    moved = moves(model, batch_of(0))["dense_bias"][0]
    one = np.float32(1)
    alpha = np.float32(1e-3) * np.sqrt(one - np.float32(0.999)) / (one - np.float32(0.9))
    assert abs(moved) == pytest.approx(float(alpha) * 0.1 / math.sqrt(0.001), rel=1e-10)
    assert abs(moved) != pytest.approx(1e-3, rel=1e-6)


@pytest.mark.parametrize("clipnorm", [1e-3, 1e3])
@each_cell
def test_clipping_leaves_no_norm_above_the_largest(cell: str, clipnorm: float) -> None:
    # Without memory and with a huge epsilon, an update is the gradient times rate over epsilon.
    plain = {"learning_rate": 1.0, "beta_1": 0.0, "beta_2": 0.0, "epsilon": 1e6}
    batch = batch_of(5)
    free = moves(model_of(cell, training=TrainingSpec(**plain)), batch)  # type: ignore[arg-type]
    model = model_of(cell, training=TrainingSpec(**plain, clipnorm=clipnorm))  # type: ignore[arg-type]
    gradients = model.gradients64(*batch)
    before = math.sqrt(sum(float(np.square(values).sum()) for values in gradients.values()))
    clipped = moves(model, batch)
    after = 1e6 * math.sqrt(sum(float(np.square(values).sum()) for values in clipped.values()))
    assert after == pytest.approx(min(before, clipnorm), rel=1e-5)
    for name in PARAMETERS:  # one scale for all
        np.testing.assert_allclose(clipped[name], free[name] * min(1, clipnorm / before), rtol=1e-5, atol=1e-13)
    again = model_of(cell, training=TrainingSpec(clipnorm=clipnorm))
    assert again.observed_step(*batch).gradient_norm == pytest.approx(before, rel=1e-12)


# --- factors ------------------------------------------------------------------------------------------------


@each_cell
def test_epsilon_after_is_a_smaller_epsilon_before(cell: str) -> None:
    batch = batch_of(6)
    after, before = (
        model_of(cell, training=TrainingSpec(epsilon=1e-3, factors=Factors(epsilon_place=place)))
        for place in ("after", "before")
    )
    unlike = model_of(cell, training=TrainingSpec(epsilon=1e-3))
    for t in (1, 2, 3):
        epsilon = 1e-3 * math.sqrt(1 - 0.999**t)
        before._adam._training = TrainingSpec(epsilon=epsilon)
        after.step64(*batch)
        before.step64(*batch)
        unlike.step64(*batch)
    for name in PARAMETERS:
        np.testing.assert_allclose(after.weights[name], before.weights[name], rtol=0, atol=1e-7)
        assert np.abs(after.weights[name] - unlike.weights[name]).max() > 1e-5


@each_cell
def test_duplicates_apart_change_nothing_where_no_token_repeats(cell: str) -> None:
    batch = without_repeats()
    apart, summed = moves(model_of(cell, duplicates="apart"), batch), moves(model_of(cell), batch)
    for name in PARAMETERS:
        np.testing.assert_allclose(apart[name], summed[name], rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("clipnorm", [0.0, 1e-2])
def test_duplicates_apart_are_squared_before_they_are_summed(clipnorm: float) -> None:
    # With beta_1 = beta_2 = 0 an update is rate * sum / (sqrt(sum of squares) + epsilon).
    training = TrainingSpec(
        learning_rate=1.0, beta_1=0, beta_2=0, epsilon=1e-3, clipnorm=clipnorm, factors=Factors(duplicates="apart")
    )
    tokens = np.array([[0, 0, 1, 2, 1, 3]], np.int32)
    labels = np.array([1], np.float32)
    # The same example with a row of its own for each place gives the gradient at each place.
    spread = model_of("tanh")
    rows = np.arange(LENGTH, dtype=np.int32)[None]
    model = model_of("tanh", training=training)
    spread.weights["embedding"][rows[0]] = model.weights["embedding"][tokens[0]]
    places = spread.gradients64(rows, labels)["embedding"][:LENGTH]
    norm = math.sqrt(sum(float(np.square(values).sum()) for values in model.gradients64(tokens, labels).values()))
    places = places * (clipnorm / max(norm, clipnorm) if clipnorm else 1.0)
    moved = moves(model, (tokens, labels))["embedding"]
    for token in range(VOCABULARY):
        here = places[tokens[0] == token]
        expected = -here.sum(axis=0) / (np.sqrt(np.square(here).sum(axis=0)) + 1e-3)
        np.testing.assert_allclose(moved[token], expected, rtol=1e-6, atol=1e-12)


@each_cell
def test_a_second_bias_doubles_the_move_of_the_bias_and_of_nothing_else(cell: str) -> None:
    batch = batch_of(7)
    two, one = moves(model_of(cell, biases="two"), batch), moves(model_of(cell), batch)
    # A GRU has two in any case.
    doubled = "" if cell == "gru" else "bias"
    for name in PARAMETERS:
        np.testing.assert_allclose(two[name], one[name] * (2 if name == doubled else 1), rtol=1e-10, atol=1e-15)


def test_a_second_bias_has_its_share_of_the_norm() -> None:
    batch = batch_of(7)
    model = model_of("lstm", biases="two")
    gradients = model.gradients64(*batch)
    squares = sum(float(np.square(values).sum()) for values in [*gradients.values(), gradients["bias"]])
    assert model.step64(*batch)[1] == pytest.approx(math.sqrt(squares), rel=1e-12)


@pytest.mark.parametrize("duplicates", ["summed", "apart"])
@each_cell
def test_a_frozen_pad_row_stays_where_it_is(cell: str, duplicates: str) -> None:
    batch = batch_of(8)
    frozen, trained = (
        model_of(cell, pad_row="frozen", duplicates=duplicates),
        model_of(cell, duplicates=duplicates),
    )
    found, expected = frozen.gradients64(*batch), trained.gradients64(*batch)
    assert expected["embedding"][0].any()
    expected["embedding"][0] = 0
    for name in PARAMETERS:
        np.testing.assert_array_equal(found[name], expected[name])
    by_frozen, by_trained = moves(frozen, batch), moves(trained, batch)
    assert not by_frozen["embedding"][0].any()
    np.testing.assert_array_equal(by_frozen["embedding"][1:], by_trained["embedding"][1:])


# --- the contract -------------------------------------------------------------------------------------------


def test_the_backend_is_registered_and_trains_matched_models_on_the_cpu_only() -> None:
    assert find("reference").load() is Reference
    backend = Reference()
    assert not backend.by_default
    assert backend.capabilities == {"matched", "parity", "factors"}
    backend.setup(threads=1, seed=0, setting="default", deterministic=True)
    spec = spec_of("lstm")
    with pytest.raises(ContractError, match="no native division"):
        backend.create(spec, TrainingSpec(), weights=None, seed=0, device="cpu")
    with pytest.raises(CrosscheckError, match="can't use the device 'cuda'"):
        backend.create(spec, TrainingSpec(), weights=initial_weights(spec, 0), seed=0, device="cuda")
    assert backend.environment() == {"numpy": np.__version__, "device": "cpu", "arithmetic": "float64"}
    assert set(Reference.worker_environment(2).values()) == {"2"}


def test_a_change_of_the_source_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = versions(Reference)
    read = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: read(path) + (b"\nadded = 1\n" if path.name == "reference.py" else b"")
    )
    assert versions(Reference)["source"] != before["source"]


@each_cell
def test_weights_come_back_as_they_were_given(cell: str) -> None:
    spec = spec_of(cell)
    given = initial_weights(spec, 4)
    model = Reference().create(spec, TrainingSpec(), weights=given, seed=0, device="cpu")
    assert sum(layer.parameters for layer in model.layers()) == count_parameters(spec)
    assert [layer.output_shape for layer in model.layers()] == [(LENGTH, EMBEDDING), (UNITS,), (1,)]
    model.train_step(*batch_of(0))
    assert all((given[name] != values).any() for name, values in model.get_weights().items())
    model.set_weights(given)
    for name, values in model.get_weights().items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, given[name])


@pytest.mark.parametrize("dtype", [np.int64, np.float16])
def test_weights_that_are_no_canonical_layout_are_refused(dtype: type) -> None:
    model, spec = model_of("tanh"), spec_of("tanh")
    weights = drawn(spec, 0)
    kept = model.weights["bias"].copy()
    for wrong in (weights["bias"].astype(dtype), weights["bias"][None]):
        with pytest.raises(ContractError, match=r"Backend 'reference': set_weights: expected bias as float32 \(3,\)"):
            model.set_weights({**weights, "bias": wrong})
    with pytest.raises(ContractError, match="expected the parameters"):
        model.set_weights({})
    np.testing.assert_array_equal(model.weights["bias"], kept)


def test_float64_weights_are_copied_to_the_last_digit() -> None:
    spec = spec_of("relu")
    weights = drawn(spec, 0)
    model = ReferenceModel(spec, TrainingSpec(), weights)
    kept = {name: values.copy() for name, values in weights.items()}
    np.testing.assert_array_equal(model.weights["kernel"], weights["kernel"])
    model.step64(*batch_of(0))
    for name, values in weights.items():
        np.testing.assert_array_equal(values, kept[name])


def test_batches_that_break_the_contract_are_refused() -> None:
    model = model_of("tanh")
    tokens, labels = batch_of(0)
    calls: list[tuple[Any, tuple[Any, ...]]] = [
        (model.train_step, (tokens.astype(np.int64), labels)),
        (model.observed_step, (tokens[:, 1:], labels)),
        (model.gradients, (tokens, labels[1:])),
        (model.predict, (tokens[0],)),
        (model.forward, (tokens.tolist(),)),
    ]
    for method, arguments in calls:
        with pytest.raises(ContractError, match=f"^Backend 'reference': {method.__name__}: "):
            method(*arguments)


class Examples:
    def __init__(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> None:
        self.tokens, self.labels = tokens, labels.astype(np.int8)

    def padded(self, rows: NDArray[np.int64], length: int, vocabulary: int) -> NDArray[np.int32]:
        return self.tokens[rows]


@each_cell
def test_an_epoch_is_its_batches_one_by_one(cell: str) -> None:
    tokens, labels = batch_of(9, n=11)
    order = np.random.default_rng(0).permutation(11)
    done: list[int] = []
    batches = Batches(
        Examples(tokens, labels),
        np.arange(11),
        order=order,
        batch_size=4,
        length=LENGTH,
        vocabulary=VOCABULARY,
        on_batch=done.append,
    )
    whole, single = model_of(cell), model_of(cell)
    losses, right = [], 0
    stats = whole.fit_epoch(batches)
    for start in range(0, 11, 4):
        rows = order[start : start + 4]
        hits = int(((single.predict(tokens[rows]) >= 0.5) == (labels[rows] == 1)).sum())
        step = single.observed_step(tokens[rows], labels[rows])
        assert step.right == hits
        right += hits
        losses.append(step.loss * len(rows))
    assert done == [1, 2, 3]
    assert stats.loss == pytest.approx(sum(losses) / 11, rel=1e-12)
    assert stats.accuracy == right / 11
    for name in PARAMETERS:
        np.testing.assert_array_equal(whole.weights[name], single.weights[name])


@each_cell
def test_what_the_contract_asks_for_is_the_float64_result_rounded(cell: str) -> None:
    model = model_of(cell)
    tokens, labels = batch_of(10)
    found, expected = model.forward(tokens), model.forward64(tokens)
    np.testing.assert_array_equal(found.states, expected.states.astype(np.float32))
    np.testing.assert_array_equal(found.logits, expected.logits.astype(np.float32))
    assert found.states.shape == (BATCH, LENGTH, UNITS)
    np.testing.assert_allclose(model.predict(tokens), 1 / (1 + np.exp(-expected.logits)), rtol=1e-6)
    gradients = model.gradients64(tokens, labels)
    for name, values in model.gradients(tokens, labels).items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, gradients[name].astype(np.float32))
    before = model.loss64(tokens, labels)
    assert model.train_step(tokens, labels) == before
    assert model.loss64(tokens, labels) < before


@each_cell
def test_a_model_learns(cell: str) -> None:
    model = model_of(cell)
    batch = batch_of(11)
    before = model.loss64(*batch)
    for _ in range(200):
        model.step64(*batch)
    assert model.loss64(*batch) < before / 10
