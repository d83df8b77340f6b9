"""What counts as done, and what becomes of earlier results."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnn_crosscheck.harness.execution.chosen import look_up
from rnn_crosscheck.harness.execution.plan import Asked, PlannedRun, plan, plan_checks
from rnn_crosscheck.harness.execution.shelf import damage, set_aside, stored
from rnn_crosscheck.harness.protocol import load_protocol
from rnn_crosscheck.harness.results import Failure, RunResult, write_run
from rnn_crosscheck.harness.weights import initial_weights


@pytest.fixture
def asked() -> Asked:
    return Asked(load_protocol("imdb-models"), look_up(["reference"]), ("gru",), ("matched",), "abc")


@pytest.fixture
def run(asked: Asked) -> PlannedRun:
    return plan(asked, seeds=[0])[0]


def finish(folder: Path, run: PlannedRun, text: str) -> None:
    result = RunResult(run_id=run.run_id, spec=run.spec, key=run.key, status="ok", finished=text)
    labels, probabilities = np.array([1], np.int8), np.array([0.5], np.float32)
    write_run(
        folder / run.path,
        result,
        example_ids=["a"],
        labels=labels,
        probabilities=probabilities,
        weights=initial_weights(run.spec.model, 0),
    )


def test_a_result_of_another_key_is_set_aside_and_comes_back(run: PlannedRun, tmp_path: Path) -> None:
    other = replace(run, key="other")
    assert not stored(tmp_path, run)
    finish(tmp_path, run, "first")
    assert stored(tmp_path, run)
    assert not stored(tmp_path, other)

    set_aside(tmp_path, other)
    assert not (tmp_path / run.path).exists()
    finish(tmp_path, other, "second")
    assert stored(tmp_path, run)
    assert '"first"' in (tmp_path / run.path / "result.json").read_text()
    assert stored(tmp_path, other)
    assert '"second"' in (tmp_path / run.path / "result.json").read_text()


def test_a_failure_is_not_kept(run: PlannedRun, tmp_path: Path) -> None:
    failed = RunResult(run_id=run.run_id, spec=run.spec, key=run.key, status="failed", failure=Failure(reason="Gone."))
    write_run(tmp_path / run.path, failed)
    assert not stored(tmp_path, run)

    set_aside(tmp_path, run)
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize("content", [b"", b"PAR1", None])
def test_a_run_whose_table_is_damaged_is_not_done_and_says_why(
    run: PlannedRun, tmp_path: Path, content: bytes | None
) -> None:
    assert damage(tmp_path, run) == ""
    finish(tmp_path, run, "first")
    assert damage(tmp_path, run) == ""
    table = tmp_path / run.path / "predictions.parquet"
    if content is None:
        table.unlink()
    else:
        table.write_bytes(content)
    assert not stored(tmp_path, run)
    assert re.search(r"There is no .*predictions|predictions\.parquet is damaged", damage(tmp_path, run))
    set_aside(tmp_path, run)
    assert not (tmp_path / run.path).exists()
    assert not (tmp_path / "superseded").exists()


def test_a_check_that_is_not_whole_is_made_anew(asked: Asked, tmp_path: Path) -> None:
    check = plan_checks(asked)[0]
    assert not stored(tmp_path, check)
    (tmp_path / check.path).parent.mkdir()
    assert damage(tmp_path, check) == ""
    (tmp_path / check.path).write_text(f'{{"key": "{check.key}"')
    assert not stored(tmp_path, check)
    assert "is damaged" in damage(tmp_path, check)
