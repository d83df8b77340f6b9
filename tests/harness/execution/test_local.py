"""What the executor of this machine does where things go wrong, and what its workers share."""

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.execution.chosen import look_up
from rnn_crosscheck.harness.execution.local import LocalExecutor
from rnn_crosscheck.harness.execution.plan import Asked, PlannedCheck, plan, plan_checks, together
from rnn_crosscheck.harness.execution.process import WorkerFailure
from rnn_crosscheck.harness.protocol import load_protocol
from rnn_crosscheck.harness.results import LostCheck, ParityRecord, RunResult, lost_check, read_record


def test_a_backend_that_is_not_installed_has_a_result_that_says_so(tmp_path: Path) -> None:
    (info,) = look_up(["tests.fakes:Steady"])
    asked = Asked(load_protocol("imdb-models"), (replace(info, missing=("steady",)),), ("rnn",), ("native",), "abc")
    (run,) = plan(asked, seeds=[0])
    executor = LocalExecutor(tmp_path, tmp_path, jobs=1, stall_seconds=1.0)
    error = executor.submit([run])[run.name].exception()
    executor.shutdown()

    assert isinstance(error, WorkerFailure)
    assert error.failure.reason.startswith("tests.fakes:Steady needs steady, which is not installed")
    result = read_record(tmp_path / run.path / "result.json", RunResult)
    assert (result.status, result.key, result.failure) == ("unavailable", run.key, error.failure)
    assert [progress.event for progress in executor.progress.queue] == ["end"]


TINY = ("data.train_examples=64", "data.valid_examples=20", "data.test_examples=20", "data.length=8")


def checked(folder: Path, backend: str) -> tuple[list[PlannedCheck], dict[str, Future[Path]], list[tuple[str, str]]]:
    """Carry out the stages of one backend: the checks, what became of them, and what was told."""
    protocol, dataset = load_protocol("quick", TINY), datasets.load("reviews")
    asked = Asked(protocol, look_up([backend]), ("rnn", "lstm"), ("matched",), dataset.fingerprint)
    (checks,) = together(check for check in plan_checks(asked) if check.mode == "parity")
    executor = LocalExecutor(folder, dataset.path, jobs=1, stall_seconds=60)
    promised = executor.submit(checks)
    for future in promised.values():
        future.exception()
    executor.shutdown()
    return checks, promised, [(one.run_id, one.event) for one in executor.progress.queue if one.event != "progress"]


@pytest.mark.slow
def test_one_worker_carries_out_the_stages_of_all_models_of_a_backend_and_what_is_on_disk_is_taken(
    tmp_path: Path,
) -> None:
    checks, promised, told = checked(tmp_path, "reference")
    names = [check.name for check in checks]
    assert names == ["matched-reference-rnn", "matched-reference-lstm"]
    for check in checks:
        record = read_record(promised[check.name].result(), ParityRecord)
        assert (record.model, record.key, record.first_failed) == (check.spec.model.name, check.key, None)
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["matched-reference-rnn.log"]
    rnn, lstm = names
    assert told == [(rnn, "start"), (rnn, "pid"), (rnn, "end"), (lstm, "start"), (lstm, "end")]

    again = checked(tmp_path, "reference")[2]
    assert again == [(rnn, "end"), (lstm, "end")]
    (tmp_path / checks[0].path).write_bytes(b"")
    mended = checked(tmp_path, "reference")[2]
    assert mended == [(rnn, "anew"), (lstm, "end"), (rnn, "start"), (rnn, "pid"), (rnn, "end")]


@pytest.mark.slow
def test_a_worker_that_dies_costs_the_check_that_it_was_at(tmp_path: Path) -> None:
    checks, promised, _ = checked(tmp_path, "tests.fakes:Picky")
    rnn, lstm = (promised[check.name] for check in checks)
    with pytest.raises(WorkerFailure, match="killed by SIGKILL"):
        rnn.result()
    lost = read_record(lost_check(tmp_path / checks[0].path), LostCheck)
    assert lost.key == checks[0].key
    assert "killed by SIGKILL" in lost.reason
    assert not lost_check(tmp_path / checks[1].path).exists()
    assert read_record(lstm.result(), ParityRecord).first_failed is None
