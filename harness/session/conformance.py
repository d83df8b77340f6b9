"""The conformance suite as a pytest session: one test a check, carried out in worker processes."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from rnn_crosscheck.harness.conformance.checks import CHECKS, Verdict, checks_of, to_be_written
from rnn_crosscheck.harness.conformance.trial import Check
from rnn_crosscheck.harness.errors import UsageError
from rnn_crosscheck.harness.execution.chosen import (
    BackendInfo,
    address,
    choose_device,
    look_in,
    look_up,
    worker_environment,
)
from rnn_crosscheck.harness.execution.process import WorkerFailure, WorkerProcess
from rnn_crosscheck.harness.protocol import Device
from rnn_crosscheck.harness.session.suite import nameless_folders

SUITE = Path(__file__).parent / "suite" / "test_conformance.py"

#: a check that says nothing for longer is stopped, in seconds
_STALL = 300.0


class ConformanceSession:
    """Options, checks and workers of one ``pytest --benchmark --crosscheck-conformance NAME``.

    Raises
    ------
    UsageError
        There is no such backend, it breaks the contract so that it can't be looked at, its framework is missing, or it
        can't use the device here.
    """

    def __init__(self, config: pytest.Config, name: str, device: Device) -> None:
        self._config = config
        look_in(config.invocation_params.dir)
        self.info = self._look_up(name)
        if self.info.unavailable:
            raise UsageError(f"{self.info.unavailable}.")
        self.device = choose_device(device, [self.info])
        self._logs = Path(tempfile.mkdtemp(prefix="crosscheck-conformance-"))
        self._worker: WorkerProcess | None = None
        self._verdicts: dict[str, Verdict] = {}
        config.args = self._arguments()
        config.addinivalue_line("python_functions", "test_*")

    def _look_up(self, name: str) -> BackendInfo:
        if "," in name:
            raise UsageError(f"--crosscheck-conformance looks at one backend at a time, got {name}.")
        (info,) = look_up([name])
        return info

    def _arguments(self) -> list[str]:
        if self._config.args_source is not self._config.ArgsSource.ARGS:
            return [str(SUITE)]
        named = []
        for argument in self._config.args:
            path, _, node = argument.partition("::")
            if not (node or path).startswith("test_conforms"):
                raise UsageError(
                    f"--crosscheck-conformance runs its checks instead of test files, got {argument!r}; leave it out, "
                    "or choose checks with -k."
                )
            named.append(f"{SUITE}::{node or path}")
        return named

    # --- the tests ------------------------------------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test a check."""
        if metafunc.definition.path != SUITE:
            return
        name = self.info.name.replace("::", ".")
        params = [pytest.param(check, id=f"{name}:{check.name}", marks=pytest.mark.crosscheck) for check in self.checks]
        metafunc.parametrize("check", params)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        """Let ``-k`` see the checks alone."""
        with nameless_folders(items):
            yield

    @property
    def checks(self) -> Sequence[Check]:
        """Checks that apply."""
        return checks_of(self.info.backend)

    @pytest.fixture
    def conformance(self) -> ConformanceSession:
        """Give the tests of the suite the session that they belong to."""
        return self

    def verdict(self, check: Check) -> Verdict:
        """Carry out a check where it belongs."""
        try:
            found = self._carry_out(check)
        except WorkerFailure as error:
            self._close()
            tail = error.failure.log_tail
            found = Verdict(problem=error.failure.reason + (f" Last lines of its log:\n{tail}" if tail else ""))
        said = found.todo or found.problem
        if said and any(said == (before.todo or before.problem) for before in self._verdicts.values()):
            found = replace(found, told=True)
        self._verdicts[check.name] = found
        return found

    def _carry_out(self, check: Check) -> Verdict:
        if check.place == "shared":
            if self._worker is None:
                self._worker = self._start()
            return self._ask(self._worker, check)
        found = []
        for _ in range(2 if check.place == "twice" else 1):
            worker = self._start()
            try:
                found.append(self._ask(worker, check))
            finally:
                worker.stop()
        failed = [verdict for verdict in found if verdict.problem or verdict.todo]
        if failed or found[0].answer == found[-1].answer:
            return (failed or found)[0]
        differ = [
            one.partition(":")[0]
            for one, two in zip(found[0].answer.split(), found[1].answer.split(), strict=True)
            if one != two
        ]
        return Verdict(problem=f"{', '.join(differ)}: a second process gave other bits for the same seed.")

    def _start(self) -> WorkerProcess:
        worker = WorkerProcess(
            {"backend": address(self.info)},
            {"mode": "conform", "device": self.device},
            environment=worker_environment(self.info, 1, self.device),
            log=self._logs / "worker.log",
        )
        worker.receive(_STALL)
        return worker

    def _ask(self, worker: WorkerProcess, check: Check) -> Verdict:
        worker.send({"check": check.name})
        event = worker.receive(_STALL)
        return Verdict(str(event["problem"]), str(event["todo"]), str(event["answer"]))

    # --- the end --------------------------------------------------------------------------------------------

    def _close(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def pytest_sessionfinish(self) -> None:
        """Stop the workers."""
        self._close()
        with suppress(OSError):
            shutil.rmtree(self._logs)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how far the backend is, and what to write next."""
        if not self._verdicts:
            return
        if self._config.option.reportchars == "fE":
            # pytest's default. It would list every check again, below what is said here.
            terminalreporter.reportchars = "E"
        wrong = [name for name, verdict in self._verdicts.items() if verdict.problem or verdict.todo]
        terminalreporter.section(f"conformance of {self.info.name} on {self.device}")
        claimed = ", ".join(sorted(self.info.backend.capabilities))
        held = len(self._verdicts) - len(wrong)
        terminalreporter.write_line(f"{held} of {len(self._verdicts)} checks hold (it claims {claimed}).")
        if any(verdict.todo for verdict in self._verdicts.values()):
            # All that the file says is missing: one method keeps many checks from running.
            # What blocks most comes first.
            blocked = Counter(verdict.todo for verdict in self._verdicts.values())
            todo = sorted(to_be_written(self.info.backend), key=lambda what: -blocked[what])
            terminalreporter.write_line("Write next:")
            for number, what in enumerate(todo, start=1):
                terminalreporter.write_line(f"  {number}. {what}")
        elif wrong:
            terminalreporter.write_line(f"Mend next: {wrong[0]}. {CHECKS[wrong[0]].question}")
