"""The comparison as one pytest session: what is collected, carried out, and said at the end."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

import pytest

from rnn_crosscheck.harness.errors import CrosscheckError, UsageError, in_a_sentence
from rnn_crosscheck.harness.execution.apart import Apart
from rnn_crosscheck.harness.execution.plan import plan_all
from rnn_crosscheck.harness.folder import claim
from rnn_crosscheck.harness.session.choices import Choices
from rnn_crosscheck.harness.session.collection import SUITE, arguments, asks_nothing, parametrize, selected
from rnn_crosscheck.harness.session.comparison import Comparison
from rnn_crosscheck.harness.session.gates import Gate
from rnn_crosscheck.harness.session.opening import Opened, new_executor, open_comparison
from rnn_crosscheck.harness.session.progress import Screen
from rnn_crosscheck.harness.session.signals import TERMINATED, Signals
from rnn_crosscheck.harness.session.suite import nameless_folders
from rnn_crosscheck.harness.session.summary import Summary, tell


def refuse_company(config: pytest.Config) -> None:
    """Refuse other plugins that a comparison can't be run with, or without; raises `UsageError`."""
    if not config.pluginmanager.hasplugin("benchmark"):
        raise UsageError(
            "The comparison needs the plugin pytest-benchmark, which is switched off or not installed; drop "
            "'-p no:benchmark', or: pip install pytest-benchmark."
        )
    option = config.getoption
    spread = option("numprocesses", None) or (option("dist", "no") != "no" and option("tx", None))
    if hasattr(config, "workerinput") or spread:
        raise UsageError(
            "The comparison starts its own processes and can't be spread by pytest-xdist; add -n0, and use "
            "--crosscheck-jobs to train runs side by side."
        )


class ComparisonSession:
    """The hooks of one ``pytest --benchmark``.

    Parameters
    ----------
    config
        pytest's.
    choices
        What the options ask for.
    report
        Builds the report from the folder of the comparison, and judges the gates.
    choose
        Says from the folder of the comparison which examples of which runs are read closely: run id -> example ids.
    check
        Reads an earlier comparison; raises ResultsError if it can't be compared with.
    apart
        Carries out these three, and reads the dataset.

    Raises
    ------
    UsageError
        Somebody's own test files were named; nothing was run.
    """

    def __init__(
        self,
        config: pytest.Config,
        choices: Choices,
        *,
        report: Callable[[Path, Sequence[Gate]], Summary],
        choose: Callable[[Path], Mapping[str, Sequence[str]]],
        check: Callable[[Path], None],
        apart: Apart,
    ) -> None:
        self._config = config
        self._choices = choices
        self._report = report
        self._choose = choose
        self._check = check
        self._apart = apart
        # Names don't depend on the data, so that collecting reads none.
        self._named = plan_all(choices.asked, diagnose=choices.diagnose)
        self._comparison: Comparison | None = None
        self._summary: Summary | None = None
        self._note = ""
        self._begun = False
        self._signals = Signals()
        config.add_cleanup(self._signals.restore)
        config.args = arguments(config)
        # The project around may name its tests otherwise; ours keep their names.
        config.addinivalue_line("python_functions", "test_*")
        # A run that failed or was interrupted has no times to hand over; what it says is enough.
        config.addinivalue_line("filterwarnings", "ignore:Benchmark fixture was not used at all")

    # --- collection -----------------------------------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test a run, one a cell of the timing table."""
        if metafunc.definition.path == SUITE:
            parametrize(metafunc, self._choices, self._named)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        """Leave out tests that nothing was asked of: pytest would show them as skipped."""
        items[:] = [item for item in items if not asks_nothing(item)]
        with nameless_folders(items):
            yield

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Read the data as soon as it is known that something will be run."""
        items = [item for item in session.items if item.path == SUITE]
        if self._config.getoption("collectonly") or not items:
            return
        self._begun = True
        self._signals.install()
        reporter = self._config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:
            name = self._choices.protocol.name
            reporter.write_line(f"comparison: protocol {name}, results in {self._choices.folder}")
            unavailable = [info.unavailable for info in self._choices.backends if info.unavailable]
            for sentence in (*self._choices.left_out, *unavailable):
                reporter.write_line(f"left out: {sentence}")
        try:
            with in_a_sentence(f"The comparison in {self._choices.folder} can't begin"):
                opened = self._open()
                executor = new_executor(self._choices, opened)
        except CrosscheckError as error:
            raise pytest.UsageError(str(error)) from None
        self._comparison = Comparison(
            self._choices,
            opened,
            selected(items),
            choose=self._choose,
            report=self._report,
            apart=self._apart,
            screen=Screen(self._config),
            executor=executor,
        )

    def _open(self) -> Opened:
        if self._choices.baseline is not None:
            self._apart.call(self._check, self._choices.baseline)
        self._config.add_cleanup(claim(self._choices.folder, "--crosscheck-output").release)
        return open_comparison(
            self._choices,
            self._apart.call,
            command=shlex.join(["pytest", *self._config.invocation_params.args]),
            root=self._config.rootpath,
        )

    @pytest.fixture
    def crosscheck(self) -> Comparison:
        """Give the tests of the suite the comparison that they belong to."""
        assert self._comparison is not None
        return self._comparison

    # --- the end --------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int | pytest.ExitCode
    ) -> Generator[None, object, object]:
        """End the comparison before pytest-benchmark writes its files, which may fail."""
        self._signals.ignore()
        self._end(session, exitstatus)
        if self._begun and session.exitstatus == pytest.ExitCode.INTERRUPTED:
            folder = self._choices.folder
            self._note = f"Interrupted: finished runs are kept in {folder}; the same command goes on from there."
            if self._signals.terminated:
                session.exitstatus = TERMINATED
        return (yield)

    def _end(self, session: pytest.Session, exitstatus: int | pytest.ExitCode) -> None:
        """Stop every worker; then build the report from what is on disk, unless that is interrupted."""
        if self._comparison is None:
            return
        self._comparison.close()
        if exitstatus in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR):
            return
        try:
            self._signals.heed()
            self._summary = self._apart.call(self._report, self._choices.folder, self._choices.gates)
            self._signals.ignore()
        except (Exception, KeyboardInterrupt) as error:
            self._signals.ignore()
            if exitstatus == pytest.ExitCode.INTERRUPTED:
                return  # what was built before is there
            if isinstance(error, KeyboardInterrupt):
                session.exitstatus = pytest.ExitCode.INTERRUPTED
                return
            if not isinstance(error, CrosscheckError):
                raise
            self._note = f"No report: {error}"
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            return
        if self._summary.breaches and exitstatus != pytest.ExitCode.INTERRUPTED:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Show the tables and where the report is, below all that pytest and other plugins have to say."""
        reporter = self._config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None and not self._config.getoption("no_summary", False):
            tell(reporter, self._summary, self._note, gated=bool(self._choices.gates))
