"""The register of backends, and what is refused at its door."""

import sys

import pytest

from rnn_crosscheck.harness import backend, registry
from rnn_crosscheck.harness.backend import InferenceModel
from rnn_crosscheck.harness.errors import ContractError, UsageError
from rnn_crosscheck.harness.protocol import ModelSpec, TrainingSpec
from rnn_crosscheck.harness.registry import (
    Registered,
    check_contract,
    find,
    install_command,
    missing_distributions,
    registered,
    versions,
)
from tests import fakes

LSTM = ModelSpec(name="lstm", cell="lstm", units=2, embedding=2, vocabulary=5, length=1)


class Predicting(InferenceModel, fakes.BagModel):
    pass


class OtherStep(fakes.BagModel):
    def train_step(self, batch: object) -> float:  # type: ignore[override]
        return 0.0


def test_the_built_in_backends_are_registered_and_hold_the_contract() -> None:
    assert set(registered()) >= {"jax", "keras-jax", "keras-tensorflow", "keras-torch", "onnxruntime", "pytorch"}
    for name, entry in registered().items():
        assert entry.load().name == name


def test_looking_a_backend_up_imports_no_framework() -> None:
    for entry in registered().values():
        versions(entry.load())
    assert not {"tensorflow", "keras", "torch", "jax", "optax", "onnx", "onnxruntime"} & set(sys.modules)


def test_an_unknown_backend_lists_the_valid_ones() -> None:
    valid = "jax, keras-jax, keras-tensorflow, keras-torch, onnxruntime, pytorch, reference, or module:Class"
    with pytest.raises(UsageError, match=rf"Unknown backend 'torch'; .*{valid}"):
        find("torch")


def test_a_local_backend_goes_by_module_and_class() -> None:
    assert find("tests.fakes:Steady").load() is fakes.Steady


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("tests.nowhere:Steady", ["tests.nowhere:Steady", "can't be imported"]),
        ("tests.fakes:Nobody", ["can't be imported", "Nobody"]),
        ("tests.fakes:np", ["expected a subclass of rnn_crosscheck.harness.backend.Backend"]),
        ("tests.fakes:BagModel", ["expected a subclass of rnn_crosscheck.harness.backend.Backend"]),
        ("tests.fakes:Unfinished", ["does not implement", "create", "devices", "environment", "setup"]),
        (
            "tests.fakes:OtherSignature",
            ["setup takes (seed)", "the contract asks for (threads, seed, setting, deterministic)"],
        ),
    ],
)
def test_what_breaks_the_contract_is_refused_in_one_line_with_both_sides(target: str, parts: list[str]) -> None:
    with pytest.raises(ContractError) as caught:
        find(target).load()
    for part in [target, *parts]:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        (
            {"capabilities": frozenset({"native", "flying"})},
            "claims 'flying', which is no capability; there are native,",
        ),
        ({"capabilities": frozenset({"parity"})}, "claims none of native, matched and inference"),
        ({"capabilities": frozenset({"native", "inference"})}, "claims 'inference' beside native"),
        ({"capabilities": frozenset({"native", "factors"})}, "claims 'factors', which are switches of matched models"),
        (
            {"capabilities": frozenset({"matched", "parity"})},
            "claims 'parity', but BagModel does not implement forward and gradients.",
        ),
        ({"model": InferenceModel}, "InferenceModel does not implement get_weights, layers, predict, set_weights."),
        (
            {"model": Predicting},
            "claims matched and native, but Predicting is an InferenceModel, which trains nothing.",
        ),
        ({"model": dict}, "model must be a subclass of rnn_crosscheck.harness.backend.Model, got <class 'dict'>."),
        ({"model": OtherStep}, "OtherStep.train_step takes (batch), the contract asks for (tokens, labels)."),
    ],
)
def test_what_is_claimed_and_not_there_is_refused(attributes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ContractError) as caught:
        check_contract("claiming", type("Claiming", (fakes.Steady,), attributes))
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("Backend 'claiming': ")


def test_undeclared_attributes_are_refused() -> None:
    class Nameless(fakes.Steady):
        pass

    check_contract("nameless", Nameless)
    undeclared = type("Undeclared", (backend.Backend,), {})
    with pytest.raises(ContractError, match="must declare 'name'"):
        check_contract("undeclared", undeclared)


@pytest.mark.parametrize(
    "values",
    [
        {"factor.biases": "two"},
        {"factors.biases": "three"},
        {"rate": 1},
        {"epsilon": "x"},
        {"factors.biases": "other: "},
        {"epsilon": "other: a small one"},
        {"factors.bias": "other: none"},
        {1: "two"},
        "two",
    ],
)
def test_native_values_that_the_training_spec_does_not_have_are_refused(values: dict[str, object]) -> None:
    wrong = type("Wrong", (fakes.Steady,), {"native_values": classmethod(lambda cls, model, training: values)})
    with pytest.raises(ContractError, match=r"native_values must give values of the training spec by dotted key"):
        check_contract("wrong", wrong)


def test_a_factor_may_be_told_in_words() -> None:
    values = {"factors.recurrent_bias": "other: uniform in +-1/sqrt(units)"}
    check_contract(
        "right", type("Right", (fakes.Steady,), {"native_values": classmethod(lambda cls, model, training: values)})
    )


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ("native_values", "native_values takes (training), the contract asks for (model, training)"),
        ("worker_environment", "worker_environment must give texts by the names of variables, such as"),
    ],
)
def test_what_is_said_wrongly_is_refused(method: str, sentence: str) -> None:
    said = {"native_values": lambda cls, training: {}, "worker_environment": lambda cls, threads: {"THREADS": threads}}
    with pytest.raises(ContractError) as caught:
        check_contract("wrong", type("Wrong", (fakes.Steady,), {method: classmethod(said[method])}))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("attribute", "value", "sentence"),
    [
        ("distributions", "torch", "distributions must be a tuple of names, such as ('torch',), got 'torch'."),
        ("distributions", (1,), "distributions must be a tuple of names, such as ('torch',), got (1,)."),
        ("capabilities", "native", "capabilities must be a set, such as frozenset({'native'}), got 'native'."),
    ],
)
def test_a_text_is_no_list(attribute: str, value: object, sentence: str) -> None:
    with pytest.raises(ContractError) as caught:
        check_contract("wrong", type("Wrong", (fakes.Steady,), {attribute: value}))
    assert sentence in str(caught.value)


def test_what_fails_to_be_said_is_a_sentence() -> None:
    def failing(cls: type, model: object, training: object) -> object:
        return {}["missing"]

    wrong = type("Wrong", (fakes.Steady,), {"native_values": classmethod(failing)})
    with pytest.raises(ContractError, match=r"Wrong\.native_values ended in KeyError: 'missing'\.$"):
        check_contract("wrong", wrong)


def test_a_backend_is_registered_under_its_own_name() -> None:
    with pytest.raises(ContractError, match=r"Backend 'mine' \(tests\.fakes:Picky\) calls itself 'picky'; register it"):
        Registered("mine", "tests.fakes:Picky").load()


def test_of_native_values_the_wrong_one_is_named() -> None:
    values = {"epsilon": 1e-8, "factors.biases": "three"}
    wrong = type("Wrong", (fakes.Steady,), {"native_values": classmethod(lambda cls, model, training: values)})
    with pytest.raises(ContractError, match=r"got 'factors\.biases': 'three'\.$"):
        check_contract("wrong", wrong)


@pytest.mark.parametrize(
    ("requirement", "command"),
    [
        ("torch", "pip install torch"),
        ("rnn-crosscheck[keras]", "pip install 'rnn-crosscheck[keras]'"),
        ("equinox optax>=0.2", "pip install equinox 'optax>=0.2'"),
        ("torch >= 2.4", "pip install 'torch>=2.4'"),
    ],
)
def test_what_installs_a_backend_is_a_command_that_pip_takes(requirement: str, command: str) -> None:
    assert install_command(type("Needy", (fakes.Steady,), {"requirement": requirement})) == command


@pytest.mark.parametrize("name", ["../mine", "", "a/b", "a\x1b"])
def test_a_name_that_can_be_none_of_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ContractError, match=r"name must have letters, digits, .* alone, got"):
        check_contract("mine", type("Mine", (fakes.Steady,), {"name": name}))


def test_what_is_native_depends_on_clipping_in_keras_on_tensorflow() -> None:
    keras = find("keras-tensorflow").load()
    assert keras.native_values(LSTM, TrainingSpec())["factors.duplicates"] == "apart"
    assert "factors.duplicates" not in keras.native_values(LSTM, TrainingSpec(clipnorm=1.0))


def test_two_distributions_cannot_take_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        Registered("pytorch", "rnn_crosscheck.backends.pytorch:PyTorch"),
        Registered("pytorch", "elsewhere:Torch"),
    ]

    class Point:
        def __init__(self, entry: Registered) -> None:
            self.name, self.value = entry.name, entry.target

    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: [Point(entry) for entry in points])
    with pytest.raises(
        ContractError, match=r"Two backends .*'pytorch': rnn_crosscheck\.backends\.pytorch:PyTorch and elsewhere:Torch"
    ):
        registered()


def test_versions_name_what_a_result_depends_on() -> None:
    found = versions(fakes.Steady)
    assert set(found) == {"numpy", "source"}
    assert versions(fakes.Absent)["a-framework-that-nobody-has"] == "not installed"
    assert missing_distributions(fakes.Absent) == ("a-framework-that-nobody-has",)
    assert missing_distributions(fakes.Steady) == ()
