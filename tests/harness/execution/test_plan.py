"""What is planned, and in which order it begins."""

from rnn_crosscheck.harness.execution.plan import largest_first, look_up, plan, plan_twins
from rnn_crosscheck.harness.protocol import load_protocol


def test_of_each_division_the_largest_models_begin_first() -> None:
    protocol = load_protocol("imdb-models", ["parity.continuing_twins=2"])
    backends = look_up(["keras-tensorflow", "pytorch"])
    planned = plan(protocol, backends, dataset_fingerprint="", device="cpu")
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
