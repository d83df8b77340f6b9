"""A comparison being carried out: tests wait here for what they ask of it, and the report grows meanwhile."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from rnn_crosscheck.harness.errors import CrosscheckError, ResultsError, in_a_sentence
from rnn_crosscheck.harness.execution.apart import Apart
from rnn_crosscheck.harness.execution.chosen import BackendInfo
from rnn_crosscheck.harness.execution.executor import Executor, without
from rnn_crosscheck.harness.execution.plan import (
    PlannedCheck,
    PlannedRun,
    largest_first,
    plan_occlusions,
    plan_transplants,
    together,
)
from rnn_crosscheck.harness.execution.process import WorkerFailure
from rnn_crosscheck.harness.results import (
    RESULT,
    OcclusionsRecord,
    ParityRecord,
    RunResult,
    TimingRecord,
    TransplantsRecord,
    keeps_weights,
    read_record,
)
from rnn_crosscheck.harness.session.choices import Choices
from rnn_crosscheck.harness.session.collection import Selected
from rnn_crosscheck.harness.session.gates import Gate
from rnn_crosscheck.harness.session.opening import Opened
from rnn_crosscheck.harness.session.progress import Screen
from rnn_crosscheck.harness.session.summary import Summary
from rnn_crosscheck.harness.session.timed import Timed, Timings, timed_backends
from rnn_crosscheck.harness.timing.ratios import Ratio

Record = TypeVar("Record", TransplantsRecord, OcclusionsRecord)

#: seconds that pass before a report is built early, and between two of them while runs are under way
_SOON, _REST = 30.0, 120.0


class Comparison:
    """Runs, checks and timings of one session; what was selected is started when the first of it is asked for.

    Parameters
    ----------
    choices, opened, selected
        What is compared, as it was planned, and what of it is wanted.
    choose
        Says from the folder of the comparison which examples of which runs are read closely: run id -> example ids.
    report
        Builds the report from the folder of the comparison.
    apart
        Calls these two.
    screen
        Shows what happens.
    executor
        Carries out runs and checks.
    """

    def __init__(
        self,
        choices: Choices,
        opened: Opened,
        selected: Selected,
        *,
        choose: Callable[[Path], Mapping[str, Sequence[str]]],
        report: Callable[[Path, Sequence[Gate]], Summary],
        apart: Apart,
        screen: Screen,
        executor: Executor,
    ) -> None:
        self.protocol = choices.protocol
        self._folder = choices.folder
        self._backends = {info.name: info for info in choices.backends}
        self._plan = opened.plan
        self._selected = selected
        self._choose = choose
        self._report = report
        #: how far the comparison was when the report was built last, and when that was
        self._reported, self._built = 0, time.monotonic()
        self._apart = apart
        self._screen = screen
        self._timings = Timings(opened.plan.asked, selected.timed, opened.dataset.path, choices.folder)
        self._untimed = ""
        self._runs: dict[str, Future[Path]] = {}
        self._checks: dict[str, Future[Path]] = {}
        self._executor = executor

    def info(self, backend: str) -> BackendInfo:
        """Look a backend of the comparison up by name."""
        return self._backends[backend]

    @property
    def baseline(self) -> str:
        """Name the backend whose times the others' are divided by."""
        return timed_backends(list(self._backends.values()))[0].name

    def close(self) -> None:
        """Stop every worker."""
        self._timings.close()
        self._executor.shutdown()

    # --- runs and checks ------------------------------------------------------------------------------------

    def result(self, run_id: str) -> RunResult:
        """Wait for the result of one run."""
        self._start()
        self._wait([self._runs[run_id]])
        try:
            return read_record(self._runs[run_id].result() / RESULT, RunResult)
        except WorkerFailure as error:
            return without(self._plan.by_id[run_id], error.failure)

    def parity(self, name: str) -> ParityRecord | str:
        """Give the stages of one backend and model, or say why there are none."""
        path = self.check(name)
        try:
            return path if isinstance(path, str) else read_record(path, ParityRecord)
        except ResultsError as error:
            return str(error)

    def check(self, name: str) -> Path | str:
        """Wait for the file of a check, or say why there is none."""
        self._start()
        return self._file(self._checks[name])

    def _start(self) -> None:
        if self._runs or self._checks:
            return
        checks = [check for check in self._plan.checks if check.name in self._selected.checks]
        runs = [self._plan.by_id[run_id] for run_id in self._selected.runs]
        self._screen.expect({**{check.name: check for check in checks}, **{run.run_id: run for run in runs}})
        # First a run of each cell, so that there is something to read; then what tells of causes; then the other seeds.
        groups = together(checks)
        plain = [group for group in groups if group[0].mode == "parity" and group[0].spec.setting == "default"]
        first = {run.cell: run for run in reversed(runs) if not (run.spec.twin or run.spec.variant)}
        ordered = largest_first(runs)
        self._submit([run for run in ordered if run is first.get(run.cell)])
        self._submit_checks([*plain, *(group for group in groups if group not in plain)])
        self._submit([run for run in ordered if run is not first.get(run.cell)])

    def _submit(self, runs: Sequence[PlannedRun]) -> None:
        for run in runs:
            self._runs |= self._executor.submit([run])

    def _submit_checks(self, groups: Sequence[Sequence[PlannedCheck]]) -> None:
        for group in groups:
            self._checks |= self._executor.submit(group)

    def _wait(self, futures: Sequence[Future[Path]]) -> None:
        """Wait, show what happens meanwhile, and build the report when every cell has a run and when all have ended."""
        self._screen.watch(self._executor.progress, futures, meanwhile=self._grow)

    def _file(self, future: Future[Path]) -> Path | str:
        self._wait([future])
        try:
            return future.result()
        except WorkerFailure as error:
            return f"{error.failure.reason}\n{error.failure.log_tail}".strip()

    def _finish(self) -> None:
        """Wait until every selected check and run has ended, well or not."""
        self._start()
        self._wait([*self._checks.values(), *self._runs.values()])

    # --- the report before the end --------------------------------------------------------------------------

    def _grow(self) -> str:
        cells = defaultdict(list)
        for run_id, future in self._runs.items():
            cells[self._plan.by_id[run_id].cell].append(future.done())
        everything = [*self._runs.values(), *self._checks.values()]
        if all(future.done() for future in everything):
            more = self._selected.trained or self._selected.timed
            return self._report_early(2, _REST) if more else ""
        return self._report_early(1, _SOON) if cells and all(any(done) for done in cells.values()) else ""

    def _report_early(self, step: int, rest: float) -> str:
        """Build the report from what there is, once for each step, `rest` seconds after the last; say where it is."""
        if step <= self._reported or time.monotonic() - self._built < rest:
            return ""
        self._reported = step
        try:
            path = self._apart.call(self._report, self._folder, ()).report
            return f"A report of what there is: {path}"
        except Exception as error:  # noqa: BLE001 - runs are under way; the report at the end says it again
            return f"No report yet: {error}"
        finally:
            self._built = time.monotonic()

    # --- trained weights ------------------------------------------------------------------------------------

    def transplants(self, backend: str) -> TransplantsRecord | str | None:
        """Tell what the trained weights of all backends predict in one of them, or say what went wrong.

        None stands for no run that has ended well. All selected runs end first.
        """
        return self._of_trained("transplant", backend, TransplantsRecord)

    def occlusions(self, backend: str) -> OcclusionsRecord | str | None:
        """Tell what the runs of a backend say to examples with words left out, as `transplants` does.

        None stands for no example that is to be read.
        """
        return self._of_trained("occlude", backend, OcclusionsRecord)

    def _of_trained(self, mode: str, backend: str, kind: type[Record]) -> Record | str | None:
        planned = self._trained[mode, backend]
        if not isinstance(planned, PlannedCheck):
            return planned
        path = self._file(self._checks[planned.name])
        try:
            return read_record(path, kind) if isinstance(path, Path) else path
        except ResultsError as error:
            return str(error)

    @cached_property
    def _trained(self) -> Mapping[tuple[str, str], PlannedCheck | str | None]:
        """What could be planned only when all runs had ended, or why it couldn't: all of it begins at once."""
        self._finish()
        # Those that weren't selected too: they may be there from before.
        kept = [run for run in self._plan.by_id.values() if keeps_weights(run.spec)]
        own = [run for run in kept if run.ended_well(self._folder)]
        found: dict[tuple[str, str], PlannedCheck | str | None] = {}
        chosen: Mapping[str, Sequence[str]] | str = {}
        if own and any(mode == "occlude" for mode, _ in self._selected.trained):
            try:
                chosen = self._apart.call(self._choose, self._folder)
            except CrosscheckError as error:
                chosen = str(error)
        for mode, backend in self._selected.trained:
            info = self.info(backend)
            try:
                if mode == "transplant":
                    found[mode, backend] = plan_transplants(self._folder, own, info)
                elif isinstance(chosen, str):
                    found[mode, backend] = chosen
                else:
                    found[mode, backend] = plan_occlusions(self._folder, own, info, chosen)
            except CrosscheckError as error:
                found[mode, backend] = str(error)
        checks = [check for check in found.values() if isinstance(check, PlannedCheck) and not check.info.missing]
        self._screen.expect({check.name: check for check in checks})
        self._submit_checks(together(checks))
        return found

    # --- timing ---------------------------------------------------------------------------------------------

    def timing(self, cell: Timed) -> tuple[TimingRecord, Ratio | None] | str:
        """Give the rounds of one cell and its ratio to the baseline, or say why there are none.

        All that was selected is measured at once, in all backends and settings.
        """
        if self._untimed:
            return self._untimed
        if not self._timings.has(cell.point):
            # Training side by side would be in the figures, and so would the report.
            self._wait([*self._checks.values(), *self._runs.values()])
            with self._screen.shown() as display:
                if (self._runs or self._checks) and (said := self._report_early(3, _SOON)):
                    display.message(said)
                try:
                    with in_a_sentence("The times couldn't be measured"):
                        self._timings.measure(lambda text: display.message(f"timing: {text}"))
                except CrosscheckError as error:
                    self._untimed = str(error)
                    return self._untimed
        return self._timings.of(cell)
