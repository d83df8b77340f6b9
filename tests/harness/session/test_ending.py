"""How a session ends that somebody ends: nothing of it stays, and the same command goes on."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from rnn_crosscheck.harness.errors import ContractError
from rnn_crosscheck.harness.execution.process import WorkerFailure, WorkerProcess
from rnn_crosscheck.harness.registry import find
from tests.harness.session.test_session import RNN, UNREPORTED, arguments, results, text

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")

#: how often each end comes at random in the long test
REPEATS = int(os.environ.get("CROSSCHECK_ENDS", "3"))  # 20 by hand
#: how long a process may outlive the one that started it, in seconds
SOON = 10.0


class Launched:
    """Python in a process whose descendants can be told from all others, by a variable; what it says is kept."""

    def __init__(self, *command: str, folder: Path, path: Path | None = None) -> None:
        mark = f"CROSSCHECK_TEST_LAUNCH={uuid4()}"
        self._mark = mark.encode()
        name, _, value = mark.partition("=")
        paths = os.pathsep.join([*([str(path)] if path else []), os.environ["PYTHONPATH"]])
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env={**os.environ, name: value, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # Tests that a script runs in the background ignore Ctrl-C, and what they start would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def alive(self) -> list[str]:
        """Command lines of the process and its descendants."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self._mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.process.pid, number)

    def end(self, timeout: float = 120.0) -> str:
        """Wait until nobody holds the output any more, as `| cat` does, and nothing is left; what was said."""
        try:
            output, _ = self.process.communicate(timeout=timeout)
            until(lambda: not self.alive())
        finally:
            self.process.kill()
        assert self.alive() == [], output
        return output


def until(true: Callable[[], bool], seconds: float = SOON) -> None:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.1)


# --- processes end with their parent ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "starts",
    [
        "from tests.fakes import stay; from rnn_crosscheck.harness.execution.apart import Apart; Apart().call(stay)",
        f"from {__name__} import work; work('tests.fakes:Staying')",
    ],
    ids=["apart", "worker"],
)
def test_a_process_in_a_long_call_ends_with_its_parent_and_what_it_has_started_too(starts: str, tmp_path: Path) -> None:
    launched = Launched("-c", starts, folder=tmp_path)
    until(lambda: len(launched.alive()) == 3, 60.0)
    assert len(launched.alive()) == 3
    launched.send(signal.SIGKILL)
    launched.end(timeout=SOON)


def work(name: str, log: str = "log") -> None:
    worker = WorkerProcess(
        {"backend": {"name": name, "target": name}}, {"mode": "conform"}, environment={}, log=Path(log)
    )
    worker.receive(100)


# --- signals ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGINT, 2, marks=pytest.mark.long), (signal.SIGTERM, 143)]
)
def test_finished_runs_are_kept_and_nothing_half_written_and_no_process(
    pytester: pytest.Pytester, number: signal.Signals, code: int
) -> None:
    command = ["-m", "pytest", *arguments("tests.fakes:Slow", *RNN), "--crosscheck-jobs", "1", "-k", "training"]
    launched = Launched(*command, folder=pytester.path)
    until(lambda: bool(results(pytester.path)), 60.0)
    time.sleep(1.0)  # the next run is under way
    launched.send(number)
    output = launched.end()
    assert launched.process.returncode == code, output
    assert "Interrupted: finished runs are kept" in output
    assert "Traceback" not in output
    report = (pytester.path / "comparison/report.md").read_text()
    head = report.partition("\n- ")[0]
    assert re.search(r"\*\*Unfinished\*\*, still without 1 of 2 runs.* and the times\.", head), head
    assert f"`pytest {shlex.join(command[2:])}`" in head
    kept = results(pytester.path)
    assert kept
    assert {run.status for run in kept.values()} == {"ok"}
    runs = pytester.path / "comparison" / "runs"
    assert sorted(path.name for path in runs.iterdir()) == sorted(kept)


@pytest.mark.slow
def test_ctrl_c_gives_the_report_up_and_a_second_changes_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        endless="""
        import time
        from rnn_crosscheck import plugin

        def build_report(folder, gates):
            print("the report is being built", flush=True)
            time.sleep(100)

        plugin.build_report = build_report
        """
    )
    launched = Launched(
        *("-m", "pytest", "-p", "endless", *arguments("reference", *RNN), "-k", "parity"), folder=pytester.path
    )
    assert launched.process.stdout is not None
    shown = [next(line for line in launched.process.stdout if "the report is being built" in line)]
    launched.send(signal.SIGINT, group=True)
    time.sleep(0.2)
    launched.send(signal.SIGINT, group=True)
    output = "".join([*shown, launched.end()])
    assert launched.process.returncode == 2, output
    assert "Interrupted: finished runs are kept" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("then", "code"),
    [
        ("pass", 0),
        ("signals._LAST_SECONDS = 0.0", -signal.SIGTERM),
    ],
)
def test_a_signal_hurts_no_process_that_ends_with_its_session_and_is_given_back_to_one_that_goes_on(
    then: str, code: int, tmp_path: Path
) -> None:
    lines = (
        "import time",
        "from rnn_crosscheck.harness.session import signals",
        then,
        "taken = signals.Signals()",
        "taken.install()",
        "taken.restore()",
        "print('over', flush=True)",
        "time.sleep(0.3)",
    )
    launched = Launched("-c", "\n".join(lines), folder=tmp_path)
    assert launched.process.stdout is not None
    assert launched.process.stdout.readline() == "over\n"
    while launched.process.poll() is None:
        launched.send(signal.SIGTERM)
        time.sleep(0.002)
    assert (launched.end(), launched.process.returncode) == ("", code)


# --- backends that go ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_worker_that_is_killed_fails_the_session(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess(
        *arguments("tests.fakes:Second", *RNN, *UNREPORTED, "--crosscheck-set", "timing.operations=['train_step']"),
        *("-k", "timing"),
    )
    assert result.ret == 1
    result.assert_outcomes(failed=1, deselected=result.parseoutcomes()["deselected"])
    assert "second worker, which tells the noise of the machine: The worker was killed by SIGKILL" in text(result)


@pytest.mark.slow
def test_a_backend_that_exits_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    sentence = r"^Backend 'leaving:Mine' \(leaving:Mine\) can't be imported: SystemExit: 3\.$"
    with pytest.raises(ContractError, match=sentence):
        find("leaving:Mine").load()
    with pytest.raises(WorkerFailure, match=sentence):
        work("leaving:Mine", str(tmp_path / "log"))
    with pytest.raises(WorkerFailure, match=r"^SystemExit: 3$"):
        work("tests.fakes:Leaving", str(tmp_path / "log"))


# --- at random ----------------------------------------------------------------------------------------------

TINY = ("-m", "pytest", *arguments("reference", *RNN))
ENDS = {
    "kill": (signal.SIGKILL, False, -9),
    "SIGTERM": (signal.SIGTERM, False, 143),
    "SIGINT": (signal.SIGINT, False, 2),
    "SIGINT-group": (signal.SIGINT, True, 2),
}
#: what is another at every comparison, times, memory and dates: keys, and words of a page
_VARIES = re.compile(r"(_s|_sd|seconds|bytes|finished|created)$")
_VARYING = re.compile(r"\d{4}-\d\d-\d\d|[\d.]+ (?=minutes)")


def findings(folder: Path) -> tuple[str, Any]:
    """The front page and all numbers, without what varies."""

    def steady(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: steady(one) for key, one in value.items() if not _VARIES.search(key)}
        return [steady(one) for one in value] if isinstance(value, list) else value

    found = folder / "comparison"
    page = _VARYING.sub("", (found / "report.md").read_text())
    return page, steady(json.loads((found / "comparison.json").read_text()))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[float, tuple[str, Any]]:
    """How long a comparison takes, on a machine without semaphores, and what it finds."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "sitecustomize.py").write_text(
        "import _multiprocessing\ndef refuse(*_, **__): raise OSError(30, 'Read-only file system')\n"
        "_multiprocessing.SemLock = refuse\n"
    )
    begun = time.monotonic()
    launched = Launched(*TINY, folder=folder, path=folder)
    output = launched.end()
    assert launched.process.returncode == 0, output
    return time.monotonic() - begun, findings(folder)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", ENDS)
def test_whenever_it_is_ended_nothing_stays_and_the_same_command_gives_the_same_report(
    how: str, undisturbed: tuple[float, tuple[str, Any]], tmp_path: Path
) -> None:
    number, group, code = ENDS[how]
    lasts, found = undisturbed
    draw = random.Random(how)
    for turn in range(REPEATS):
        folder = tmp_path / str(turn)
        folder.mkdir()
        launched = Launched(*TINY, folder=folder)
        moment, again = draw.uniform(0, lasts), draw.uniform(0.15, 0.8) if draw.random() < 0.5 else 0.0
        time.sleep(moment)
        launched.send(number, group=group)
        if again:
            time.sleep(again)
            launched.send(number, group=group)
        output = launched.end()
        said = f"{how} at {moment:.2f} s and {again:.2f} s later: {launched.process.returncode}\n{output}"
        if "comparison: protocol" in output and number != signal.SIGKILL:  # the session had begun
            assert launched.process.returncode in (code, 0), said
            assert "Traceback" not in output, said
        rerun = Launched(*TINY, folder=folder)
        assert (rerun.end(), rerun.process.returncode)[1] == 0, said
        assert findings(folder) == found, said
