"""What the executor of this machine says of runs that no worker is started for."""

from dataclasses import replace
from pathlib import Path

from rnn_crosscheck.harness.execution.chosen import look_up
from rnn_crosscheck.harness.execution.local import LocalExecutor
from rnn_crosscheck.harness.execution.plan import Asked, plan
from rnn_crosscheck.harness.protocol import load_protocol
from rnn_crosscheck.harness.results import RunResult, read_record


def test_a_backend_that_is_not_installed_has_a_result_that_says_so(tmp_path: Path) -> None:
    (info,) = look_up(["tests.fakes:Steady"])
    asked = Asked(load_protocol("imdb-models"), (replace(info, missing=("steady",)),), ("rnn",), ("native",), "abc")
    (run,) = plan(asked, seeds=[0])
    executor = LocalExecutor(tmp_path, tmp_path, jobs=1, stall_seconds=1.0)
    result = executor.submit(run).result()
    executor.shutdown()

    assert (result.status, result.key) == ("unavailable", run.key)
    assert result.failure is not None
    assert result.failure.reason.startswith("tests.fakes:Steady needs steady, which is not installed")
    assert read_record(tmp_path / run.path / "result.json", RunResult) == result
    assert [progress.event for progress in executor.progress.queue] == ["end"]
