"""Canonical layout: shapes, counts, initialisers."""

import numpy as np
import pytest

from rnn_crosscheck.harness.errors import ContractError
from rnn_crosscheck.harness.protocol import load_protocol
from rnn_crosscheck.harness.weights import canonical_shapes, check_weights, count_parameters, initial_weights

IMDB = load_protocol("imdb-models")


@pytest.mark.parametrize(("name", "count"), [("rnn", 160_801), ("lstm", 213_301), ("gru", 200_301)])
def test_imdb_models_have_the_known_number_of_parameters(name: str, count: int) -> None:
    model = IMDB.model(name)
    assert count_parameters(model) == count
    assert sum(values.size for values in initial_weights(model, 0).values()) == count


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_initial_weights_are_drawn_as_keras_does(name: str) -> None:
    model = IMDB.model(name)
    weights = initial_weights(model, 3)
    check_weights(weights, model, "test")
    assert all(values.flags.c_contiguous for values in weights.values())
    embedding = weights["embedding"]
    assert abs(embedding).max() <= 0.05
    assert embedding.std() == pytest.approx(0.05 / np.sqrt(3), rel=0.01)
    for part in ("kernel", "dense_kernel"):
        limit = np.sqrt(6 / sum(weights[part].shape))
        assert limit * 0.9 < abs(weights[part]).max() <= limit
    recurrent = weights["recurrent_kernel"]
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(model.units), atol=1e-5)
    expected = np.zeros(canonical_shapes(model)["bias"])
    if name == "lstm":
        expected[100:200] = 1  # the forget gate is the second of four
    np.testing.assert_array_equal(weights["bias"], expected)
    assert weights["dense_bias"] == 0


def test_the_large_rnn_is_as_near_to_the_lstm_s_size_as_an_rnn_can_be() -> None:
    lstm, rnn = IMDB.model("lstm"), IMDB.model("rnn_large")
    gaps = [
        abs(count_parameters(rnn.model_copy(update={"units": rnn.units + more})) - count_parameters(lstm))
        for more in (-1, 0, 1)
    ]
    assert gaps[1] == min(gaps)
    assert gaps[1] / count_parameters(lstm) < 0.0011


def test_the_seed_decides() -> None:
    model = IMDB.model("rnn")
    first, same, other = initial_weights(model, 1), initial_weights(model, 1), initial_weights(model, 2)
    assert all((first[name] == same[name]).all() for name in first)
    assert (first["embedding"] != other["embedding"]).any()


def test_other_names_shapes_and_dtypes_are_refused() -> None:
    model = IMDB.model("rnn")
    good = initial_weights(model, 0)
    with pytest.raises(ContractError, match=r"keras\.set_weights: expected the parameters"):
        check_weights({name: good[name] for name in good if name != "bias"}, model, "keras.set_weights")
    with pytest.raises(ContractError, match=r"expected kernel as float32 \(32, 16\), got float32 \(16, 32\)"):
        check_weights({**good, "kernel": good["kernel"].T}, model, "here")
    with pytest.raises(ContractError, match="got float64"):
        check_weights({**good, "bias": good["bias"].astype(np.float64)}, model, "here")
