"""What is planned, and in which order it begins."""

from dataclasses import replace

from rnn_crosscheck.harness.execution.chosen import look_up
from rnn_crosscheck.harness.execution.plan import Asked, largest_first, plan, plan_all, plan_twins
from rnn_crosscheck.harness.protocol import TrainingSpec, load_protocol


def test_of_each_division_the_largest_models_begin_first() -> None:
    protocol = load_protocol("imdb-models", ["parity.continuing_twins=2"])
    backends = look_up(["keras-tensorflow", "pytorch"])
    asked = Asked(protocol, backends, tuple(model.name for model in protocol.models), protocol.divisions)
    planned = plan(asked)
    twins = plan_twins(protocol, planned)
    begun = largest_first([*planned, *twins])

    assert sorted(run.run_id for run in begun) == sorted(run.run_id for run in (*planned, *twins))
    sizes = {"rnn": 16 * (32 + 16), "gru": 3 * 100 * (32 + 100), "lstm": 4 * 100 * (32 + 100)}
    for division, twin in (*((division, False) for division in protocol.divisions), ("matched", True)):
        mine = [run.spec for run in begun if (run.spec.division, bool(run.spec.twin)) == (division, twin)]
        found = [sizes[spec.model.name] for spec in mine if spec.model.name in sizes]
        assert set(found) == set(sizes.values())
        assert found == sorted(found, reverse=True)
        # Of one model, backends and seeds keep their order.
        assert [spec.run_id for spec in mine if spec.model.name == "gru"] == [
            run.run_id
            for run in (twins if twin else planned)
            if run.spec.division == division and run.spec.model.name == "gru"
        ]
    # What is asked for first is answered first.
    parts = [(run.spec.division, bool(run.spec.twin)) for run in begun]
    assert parts == sorted(parts, key=lambda part: (part[1], protocol.divisions.index(part[0])))


def test_what_is_only_named_has_no_key_and_the_same_names() -> None:
    protocol = load_protocol("imdb-models", ["parity.initial_twins=1"])
    named = Asked(protocol, look_up(["reference", "pytorch"]), ("gru",), ("matched",))
    names, keys = (
        plan_all(named, diagnose=["accuracy"]),
        plan_all(replace(named, dataset_fingerprint="abc"), diagnose=["accuracy"]),
    )

    assert list(names.by_id) == list(keys.by_id)
    assert [check.path for check in names.checks] == [check.path for check in keys.checks]
    assert {run.key for run in names.by_id.values()} == {check.key for check in names.checks} == {""}
    assert all(run.key for run in keys.by_id.values())
    assert all(check.key for check in keys.checks)
    assert all(run.spec.twin or run.spec.variant for run in keys.variants)


def test_factors_are_switched_alone_or_together_where_a_backend_has_them_all() -> None:
    asked = Asked(load_protocol("quick"), look_up(["keras-tensorflow", "pytorch"]), ("lstm",), ("native", "matched"))

    def switched(*diagnose: str) -> dict[str, TrainingSpec]:
        variants = plan_all(asked, diagnose=diagnose).variants
        return {run.run_id: run.spec.training for run in variants if run.spec.variant}

    alone = switched("accuracy")
    assert {name.rpartition("-")[2] for name in alone if "keras" in name} == {"order", "duplicates"}
    both = switched("embedding_weights+epsilon", "accuracy", "epsilon")
    (name,) = both.keys() - alone.keys()
    assert name == "matched-pytorch-lstm-seed0-embedding_weights+epsilon"
    one, two = (alone[f"matched-pytorch-lstm-seed0-{factor}"] for factor in ("embedding_weights", "epsilon"))
    assert both[name].factors.embedding_weights == one.factors.embedding_weights == "pytorch"
    assert (both[name].epsilon, both[name].factors.epsilon_place) == (two.epsilon, two.factors.epsilon_place)
    assert not switched("duplicates+epsilon")


def test_a_gru_has_no_second_bias_to_switch() -> None:
    protocol = load_protocol("imdb-models")
    asked = Asked(protocol, look_up(["pytorch"]), ("lstm", "gru"), ("matched",))
    variants = plan_all(asked, diagnose=["biases"]).variants
    assert {run.spec.model.name for run in variants if run.spec.variant} == {"lstm"}


def test_runs_go_by_division_model_backend_and_seed() -> None:
    asked = Asked(load_protocol("imdb-models"), look_up(["tests.fakes:Steady", "pytorch"]), ("rnn", "gru"), ("native",))

    assert [(run.spec.model.name, run.spec.backend, run.spec.seed) for run in plan(asked, seeds=(7, 3))] == [
        (model, backend, seed)
        for model in ("rnn", "gru")
        for backend in ("tests.fakes:Steady", "pytorch")
        for seed in (7, 3)
    ]
