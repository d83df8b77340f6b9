"""A comparison being carried out: tests wait here for what they ask of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from rnn_crosscheck.harness.errors import CrosscheckError, ResultsError
from rnn_crosscheck.harness.execution.apart import Apart
from rnn_crosscheck.harness.execution.chosen import BackendInfo, number_of_jobs
from rnn_crosscheck.harness.execution.local import LocalExecutor
from rnn_crosscheck.harness.execution.plan import (
    PlannedCheck,
    PlannedRun,
    largest_first,
    plan_occlusions,
    plan_transplants,
)
from rnn_crosscheck.harness.execution.process import WorkerFailure
from rnn_crosscheck.harness.results import (
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
from rnn_crosscheck.harness.session.opening import Opened
from rnn_crosscheck.harness.session.progress import Screen
from rnn_crosscheck.harness.session.timed import Timed, Timings, timed_backends
from rnn_crosscheck.harness.timing.ratios import Ratio


class Comparison:
    """Runs, checks and timings of one session; what was selected is started when the first of it is asked for.

    Parameters
    ----------
    choices, opened, selected
        What is compared, as it was planned, and what of it is wanted.
    choose
        Says from the folder of the comparison which examples of which runs are read closely: run id -> example ids.
    apart
        Calls `choose`.
    screen
        Shows what happens.
    """

    def __init__(
        self,
        choices: Choices,
        opened: Opened,
        selected: Selected,
        *,
        choose: Callable[[Path], Mapping[str, Sequence[str]]],
        apart: Apart,
        screen: Screen,
    ) -> None:
        self.protocol = choices.protocol
        self._folder = choices.folder
        self._backends = {info.name: info for info in choices.backends}
        self._plan = opened.plan
        self._selected = selected
        self._choose = choose
        self._apart = apart
        self._screen = screen
        self._timings = Timings(opened.plan.asked, selected.points, opened.dataset.path, choices.folder)
        self._runs: dict[str, Future[RunResult]] = {}
        self._checks: dict[str, Future[Path]] = {}
        self._executor = LocalExecutor(
            choices.folder,
            opened.dataset.path,
            jobs=number_of_jobs(choices.protocol, opened.plan.asked.device),
            stall_seconds=choices.protocol.workers.stall_seconds,
        )

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
        self._screen.watch(self._executor.progress, [self._runs[run_id]])
        return self._runs[run_id].result()

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
        # The stages first: they are quick, and what they find may spare the training.
        checks = [check for check in self._plan.checks if check.name in self._selected.checks]
        runs = [self._plan.by_id[run_id] for run_id in self._selected.runs]
        self._screen.expect({**{check.name: check for check in checks}, **{run.run_id: run for run in runs}})
        self._checks = {check.name: self._executor.submit_check(check) for check in checks}
        self._runs = {run.run_id: self._executor.submit(run) for run in largest_first(runs)}

    def _file(self, future: Future[Path]) -> Path | str:
        self._screen.watch(self._executor.progress, [future])
        try:
            return future.result()
        except WorkerFailure as error:
            return f"{error.failure.reason}\n{error.failure.log_tail}".strip()

    def _finish(self) -> None:
        """Wait until every selected check and run has ended, well or not."""
        self._start()
        self._screen.watch(self._executor.progress, [*self._checks.values(), *self._runs.values()])

    # --- trained weights ------------------------------------------------------------------------------------

    def transplants(self, backend: str) -> TransplantsRecord | str | None:
        """Tell what the trained weights of all backends predict in one of them, or say what went wrong.

        None stands for no run that has ended well. All selected runs end first.
        """
        self._finish()
        try:
            path = self._carry_out(plan_transplants(self._folder, self._own_runs(), self.info(backend)))
            return read_record(path, TransplantsRecord) if isinstance(path, Path) else path
        except CrosscheckError as error:
            return str(error)

    def occlusions(self, backend: str) -> OcclusionsRecord | str | None:
        """Tell what the runs of a backend say to examples with words left out, as `transplants` does.

        None stands for no example that is to be read.
        """
        self._finish()
        own = self._own_runs()
        try:
            if not any(run.ended_well(self._folder) for run in own):
                return None
            chosen = self._apart.call(self._choose, self._folder)
            path = self._carry_out(plan_occlusions(self._folder, own, self.info(backend), chosen))
            return read_record(path, OcclusionsRecord) if isinstance(path, Path) else path
        except CrosscheckError as error:
            return str(error)

    def _own_runs(self) -> list[PlannedRun]:
        """List the protocol's own runs, those that weren't selected among them: they may be there from before."""
        return [run for run in self._plan.by_id.values() if keeps_weights(run.spec)]

    def _carry_out(self, check: PlannedCheck | None) -> Path | str | None:
        """Have a check made that could be planned only now."""
        if check is None:
            return None
        self._screen.expect({check.name: check})
        return self._file(self._executor.submit_check(check))

    # --- timing ---------------------------------------------------------------------------------------------

    def timing(self, cell: Timed) -> tuple[TimingRecord, Ratio | None] | str:
        """Give the rounds of one cell and its ratio to the baseline, or say why there are none.

        All selected operations of a model are measured at once, in all backends and settings.
        """
        if not self._timings.has(cell.point):
            # Training side by side would be in the figures.
            self._screen.watch(self._executor.progress, [*self._checks.values(), *self._runs.values()])
            with self._screen.shown() as display:
                self._timings.measure(cell.point.model, lambda text: display.message(f"timing: {text}"))
        return self._timings.of(cell)
