"""Results on disk: whole or absent, and read with care."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnn_crosscheck.harness.errors import ResultsError
from rnn_crosscheck.harness.folder import write_json
from rnn_crosscheck.harness.protocol import load_protocol
from rnn_crosscheck.harness.results import (
    FORMAT,
    WEIGHTS,
    Failure,
    RunResult,
    keeps_weights,
    read_record,
    stored_key,
    write_run,
)
from rnn_crosscheck.harness.weights import PARAMETERS, initial_weights, read_weights
from tests.harness.test_protocol import spec
from tests.reports.folders import rewrite


def result(status: str = "ok", key: str = "k") -> RunResult:
    run = spec(load_protocol("quick"))
    failure = Failure(reason="It broke.") if status == "failed" else None
    return RunResult.model_validate(
        {"run_id": run.run_id, "spec": run, "key": key, "status": status, "failure": failure}
    )


def written(folder: Path, key: str = "k") -> Path:
    write_run(
        folder,
        result(key=key),
        example_ids=["a", "b"],
        labels=np.array([0, 1], np.int8),
        probabilities=np.array([0.25, 0.75], np.float32),
        weights=initial_weights(load_protocol("quick").model("rnn"), 3),
    )
    return folder


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    folder = written(tmp_path / "run")
    found = read_record(folder / "result.json", RunResult)
    assert found.model_copy(update={"files": {}}) == result()
    assert list(found.files) == ["predictions.parquet", "weights.npz"]
    table = pq.read_table(folder / "predictions.parquet").to_pydict()
    assert table == {"example_id": ["a", "b"], "label": [0, 1], "probability": [0.25, 0.75]}
    assert stored_key(folder) == "k"


def test_a_newer_result_replaces_an_older_one_whole(tmp_path: Path) -> None:
    folder = written(tmp_path / "run")
    write_run(folder, result("failed", key="l"))
    assert sorted(path.name for path in folder.iterdir()) == ["result.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize(
    "damage", ["no folder", "no predictions", "no result", "half a result", "failed", "other format"]
)
def test_only_a_whole_result_counts_as_stored(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "run"
    if damage != "no folder":
        written(folder)
    if damage == "no predictions":
        (folder / "predictions.parquet").unlink()
    elif damage == "no result":
        (folder / "result.json").unlink()
    elif damage == "half a result":
        text = (folder / "result.json").read_text()
        (folder / "result.json").write_text(text[: len(text) // 2])
    elif damage == "failed":
        write_run(folder, result("failed"))
    elif damage == "other format":
        content = json.loads((folder / "result.json").read_text())
        rewrite(folder / "result.json", {**content, "format": FORMAT + 1})
    assert stored_key(folder) is None


def test_a_missing_or_damaged_record_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"no .*none\.json"):
        read_record(tmp_path / "none.json", RunResult)
    write_json(tmp_path / "bad.json", result())
    content = json.loads((tmp_path / "bad.json").read_text())
    (tmp_path / "bad.json").write_text(json.dumps({**content, "jobs": 2}, indent=1) + "\n")
    with pytest.raises(ResultsError, match=r"bad\.json is damaged .* its digest"):
        read_record(tmp_path / "bad.json", RunResult)
    rewrite(tmp_path / "bad.json", {**content, "status": "fine"})
    with pytest.raises(ResultsError, match=r"bad\.json is damaged.*status"):
        read_record(tmp_path / "bad.json", RunResult)


def test_trained_weights_come_back_to_the_bit_and_are_part_of_a_whole_run(tmp_path: Path) -> None:
    weights = initial_weights(load_protocol("quick").model("rnn"), 3)
    weights["kernel"] = np.asfortranarray(weights["kernel"])
    write_run(
        tmp_path / "run",
        result(),
        example_ids=["a"],
        labels=np.array([0], np.int8),
        probabilities=np.array([0.25], np.float32),
        weights=weights,
    )
    found = read_weights(tmp_path / "run" / WEIGHTS)
    assert list(found) == list(PARAMETERS)
    for name, values in found.items():
        assert values.dtype == np.float32
        assert values.flags.c_contiguous
        np.testing.assert_array_equal(values, weights[name])
    assert stored_key(tmp_path / "run") == "k"
    (tmp_path / "run" / WEIGHTS).unlink()
    assert stored_key(tmp_path / "run") is None


def test_only_the_protocols_own_runs_keep_their_weights() -> None:
    own = spec(load_protocol("quick"))
    assert keeps_weights(own)
    assert not keeps_weights(own.model_copy(update={"twin": "continuing", "twin_number": 1}))
    assert not keeps_weights(own.model_copy(update={"variant": "biases"}))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("missing", r"There is no .*weights\.npz; the run kept no weights\."),
        ("empty", r"weights\.npz is damaged: \S.*\."),
        ("cut off", r"weights\.npz is damaged: \S.*\."),
        ("one byte", r"weights\.npz is damaged: .*CRC.*\."),
        ("text", r"weights\.npz is damaged: \S.*\."),
        ("one array", r"weights\.npz is damaged: \S.*\."),
        ("objects", r"weights\.npz is damaged: .*allow_pickle.*\."),
        ("other names", r"doesn't hold the weights of a run: expected embedding, .*, got a, b\."),
        ("float64", r"doesn't hold the weights of a run: bias is float64, expected float32\."),
    ],
)
def test_weights_that_are_damaged_or_are_none_are_refused_in_a_sentence(
    tmp_path: Path, damage: str, sentence: str
) -> None:
    path = tmp_path / WEIGHTS
    weights = initial_weights(load_protocol("quick").model("rnn"), 0)
    np.savez(path, **weights)  # type: ignore[arg-type]
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut off":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "one byte":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "text":
        path.write_text("weights")
    elif damage == "one array":
        with path.open("wb") as file:
            np.save(file, weights["kernel"])
    elif damage == "objects":
        np.savez(path, **{name: np.array([None], object) for name in PARAMETERS})  # type: ignore[arg-type]
    elif damage == "other names":
        np.savez(path, a=np.zeros(2), b=np.zeros(3))
    elif damage == "float64":
        np.savez(path, **{**weights, "bias": np.zeros(16)})  # type: ignore[arg-type]
    with pytest.raises(ResultsError, match=sentence):
        read_weights(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0), bit=st.integers(0, 7), cut=st.booleans())
def test_weights_with_one_bit_changed_or_cut_off_anywhere_are_refused_or_the_same(
    tmp_path: Path, place: int, bit: int, cut: bool
) -> None:
    path = tmp_path / WEIGHTS
    weights = {name: np.full((1, 2), number, np.float32) for number, name in enumerate(PARAMETERS)}
    np.savez(path, **weights)  # type: ignore[arg-type]
    content = bytearray(path.read_bytes())
    place %= len(content)
    content[place] ^= 1 << bit
    path.write_bytes(content[:place] if cut else content)
    try:
        found = read_weights(path)
    except ResultsError:
        return
    for name, values in weights.items():
        np.testing.assert_array_equal(found[name], values)
