"""Protocols: presets, files, overrides, and sentences for what is wrong."""

from pathlib import Path

import pytest

from rnn_crosscheck.harness.errors import UsageError
from rnn_crosscheck.harness.protocol import Protocol, RunSpec, load_protocol, preset_names


def spec(protocol: Protocol, **changes: object) -> RunSpec:
    values: dict[str, object] = {
        "backend": "pytorch",
        "division": "native",
        "model": protocol.model(protocol.models[0].name),
        "training": protocol.training,
        "data": protocol.data,
        "dataset_fingerprint": "f",
        "seed": 0,
        "device": "cpu",
        "threads": 1,
    }
    return RunSpec.model_validate(values | changes)


def test_presets_are_quick_and_imdb() -> None:
    assert {"quick", "imdb"} <= set(preset_names())


def test_imdb_is_the_experiment_at_full_size() -> None:
    protocol = load_protocol("imdb")
    rnn, lstm = protocol.model("rnn"), protocol.model("lstm")
    assert (protocol.data.vocabulary, protocol.data.length, protocol.data.validation_fraction) == (5000, 500, 0.2)
    assert (rnn.cell, rnn.units, rnn.activation, rnn.embedding) == ("rnn", 16, "relu", 32)
    assert (lstm.cell, lstm.units, lstm.activation, lstm.embedding) == ("lstm", 100, "tanh", 32)
    training = protocol.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (3, 32, 1e-3)
    assert len(protocol.seeds.native) >= 5
    assert len(protocol.seeds.matched) >= 3


def test_a_file_starts_from_a_preset_and_changes_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('extends = "quick"\n[training]\nepochs = 1\n[models.big]\ncell = "lstm"\nunits = 200\n')
    protocol, quick = load_protocol(file), load_protocol("quick")
    assert protocol.name == "mine"
    assert protocol.training.epochs == 1
    assert protocol.training.batch_size == quick.training.batch_size
    assert [model.name for model in protocol.models] == [*(model.name for model in quick.models), "big"]


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("training.epochs=7", lambda p: p.training.epochs == 7),
        ("training.learning_rate=1e-2", lambda p: p.training.learning_rate == 1e-2),
        ("seeds.native=3", lambda p: p.seeds.native == (0, 1, 2)),
        ("seeds.native=[5, 9]", lambda p: p.seeds.native == (5, 9)),
        ("data.dataset=reviews", lambda p: p.data.dataset == "reviews"),
        ('divisions=["matched"]', lambda p: p.divisions == ("matched",)),
        ("models.rnn.units=20", lambda p: p.model("rnn").units == 20),
        ('timing.operations=["predict_one"]', lambda p: p.timing.operations == ("predict_one",)),
    ],
)
def test_every_value_can_be_overridden(override: str, read: object) -> None:
    assert callable(read)
    assert read(load_protocol("quick", [override]))


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("training.epoch=1", ["quick.toml", "training.epoch", "epochs", "batch_size"]),
        ("trainings.epochs=1", ["quick.toml", "trainings", "training"]),
        ("training.epochs=0", ["quick.toml", "training.epochs", "greater than or equal to 1", "0"]),
        ("training.epochs=2.5", ["quick.toml", "training.epochs", "integer", "2.5"]),
        ("models.lstm.units=many", ["quick.toml", "models.lstm.units", "integer", "many"]),
        ("models.lstm.unit=3", ["quick.toml", "models.lstm.unit", "units"]),
        ("models.lstm.activation=relu", ["quick.toml", "models.lstm", "tanh"]),
        ('divisions=["naive"]', ["quick.toml", "divisions", "native", "matched", "naive"]),
        ("seeds.native=[1, 1]", ["quick.toml", "seeds", "differ"]),
        ("seeds.native=0", ["quick.toml", "seeds.native"]),
        ("seeds.native=100000000", ["quick.toml", "seeds.native", "at most 10000 seeds", "100000000"]),
        (f"models.rnn.units={10**30}", ["quick.toml", "models.rnn.units", "less than or equal to 100000000"]),
        ("training.learning_rate=inf", ["quick.toml", "training.learning_rate", "finite", "inf"]),
        ("training.epochs=" + "[" * 3000, ["quick.toml", "training.epochs", "integer"]),
        ("timing.max_rounds=5", ["quick.toml", "timing", "max_rounds", "min_rounds"]),
        ("training.epochs", ["dotted.key=value"]),
        ("name.of.it=1", ["name"]),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence_that_names_file_key_and_what_is_allowed(
    override: str, parts: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        load_protocol("quick", [override])
    sentence = str(caught.value)
    assert "\n" not in sentence
    for part in parts:
        assert part in sentence


def test_a_file_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text(f"models = {'[' * 3000}{']' * 3000}")
    with pytest.raises(UsageError, match=r"deep\.toml is nested too deeply for a protocol\."):
        load_protocol(tmp_path / "deep.toml")


def test_an_unknown_preset_lists_the_valid_ones() -> None:
    with pytest.raises(UsageError, match=r"Unknown protocol 'fast'.*imdb.*quick"):
        load_protocol("fast")


def test_a_missing_broken_or_circular_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no protocol file"):
        load_protocol(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("training = [")
    with pytest.raises(UsageError, match=r"broken\.toml is not valid TOML"):
        load_protocol(broken)
    circle = tmp_path / "circle.toml"
    circle.write_text(f'extends = "{circle.as_posix()}"\n')
    with pytest.raises(UsageError, match="extends"):
        load_protocol(circle)


def test_a_protocol_and_a_spec_survive_json() -> None:
    protocol = load_protocol("quick")
    assert Protocol.model_validate_json(protocol.model_dump_json()) == protocol
    run = spec(protocol)
    assert RunSpec.model_validate_json(run.model_dump_json()) == run


def test_the_key_changes_with_everything_that_a_result_depends_on() -> None:
    protocol = load_protocol("quick")
    base = spec(protocol)
    other_training = load_protocol("quick", ["training.beta_2=0.99"]).training
    other_data = load_protocol("quick", ["data.length=81"])
    others = [
        spec(protocol, seed=1),
        spec(protocol, backend="keras-tensorflow"),
        spec(protocol, division="matched"),
        spec(protocol, model=protocol.model(protocol.models[1].name)),
        spec(protocol, training=other_training),
        spec(protocol, data=other_data.data),
        spec(protocol, dataset_fingerprint="g"),
        spec(protocol, device="cuda"),
        spec(protocol, threads=2),
    ]
    keys = {run.key({"torch": "2"}) for run in [base, *others]} | {base.key({"torch": "3"})}
    assert len(keys) == len(others) + 2
    assert base.key({"a": "1", "b": "2"}) == base.key({"b": "2", "a": "1"})


def test_nothing_can_be_changed_afterwards() -> None:
    protocol = load_protocol("quick")
    with pytest.raises(Exception, match="frozen"):
        protocol.training.epochs = 9  # type: ignore[misc]
