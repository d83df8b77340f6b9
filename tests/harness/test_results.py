"""Results on disk: whole or absent, and read with care."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from harness.errors import ResultsError
from harness.protocol import load_protocol
from harness.results import (
    Failure,
    RunResult,
    hash_inputs,
    new_folder,
    read_record,
    stored_key,
    write_json,
    write_run,
    write_text,
)
from tests.harness.test_protocol import spec


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
    )
    return folder


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    folder = written(tmp_path / "run")
    assert read_record(folder / "result.json", RunResult) == result()
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
        text = (folder / "result.json").read_text()
        (folder / "result.json").write_text(text.replace('"format": 1', '"format": 99', 1))
    assert stored_key(folder) is None


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    class Interrupt(BaseException):
        pass

    def write_half() -> None:
        with new_folder(tmp_path / "run") as scratch:
            (scratch / "half").write_text("x")
            raise Interrupt

    with pytest.raises(Interrupt):
        write_half()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TypeError):
        write_text(tmp_path / "file", 3)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_damaged_record_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"no .*none\.json"):
        read_record(tmp_path / "none.json", RunResult)
    write_json(tmp_path / "bad.json", result())
    text = (tmp_path / "bad.json").read_text().replace('"status": "ok"', '"status": "fine"')
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ResultsError, match=r"bad\.json is damaged.*status"):
        read_record(tmp_path / "bad.json", RunResult)


def test_the_hash_of_inputs_sees_ids_labels_tokens_and_their_order() -> None:
    ids, labels, tokens = ["a", "b"], np.array([0, 1], np.int8), np.array([[1, 2], [3, 4]], np.int32)
    hashes = {
        hash_inputs(ids, labels, tokens),
        hash_inputs(["b", "a"], labels, tokens),
        hash_inputs(ids, labels[::-1], tokens),
        hash_inputs(ids, labels, tokens[::-1]),
        hash_inputs(ids, labels, tokens.reshape(1, 4)),
    }
    assert len(hashes) == 5
    assert hash_inputs(ids, labels, tokens) == hash_inputs(ids, labels, tokens.astype(np.int64))
