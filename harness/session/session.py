"""The comparison as one pytest session: what is collected, carried out, and said at the end."""

from __future__ import annotations

import queue
import shlex
import subprocess
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, Literal, cast, get_args

import pytest

from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.backend import registered
from rnn_crosscheck.harness.errors import ContractError, CrosscheckError, ResultsError, UsageError, unknown
from rnn_crosscheck.harness.execution.apart import Apart
from rnn_crosscheck.harness.execution.plan import (
    BackendInfo,
    LocalExecutor,
    PlannedCheck,
    PlannedRun,
    choose_device,
    largest_first,
    look_in,
    look_up,
    number_of_jobs,
    plan,
    plan_checks,
    plan_factors,
    plan_occlusions,
    plan_transplants,
    plan_twins,
    refuse_unknown_factors,
    settings_of,
)
from rnn_crosscheck.harness.execution.process import WorkerFailure
from rnn_crosscheck.harness.machine import machine
from rnn_crosscheck.harness.protocol import DIVISIONS, DataSpec, Device, Division, Protocol, Setting, load_protocol
from rnn_crosscheck.harness.results import (
    MANIFEST,
    STAGES,
    DatasetFacts,
    Manifest,
    OcclusionsRecord,
    ParityRecord,
    RunResult,
    Stage,
    TimingRecord,
    TimingResults,
    TransplantsRecord,
    is_comparison,
    keeps_weights,
    read_record,
    refuse_foreign,
    stored_key,
    way_to,
    write_json,
)
from rnn_crosscheck.harness.session.gates import Gate, parse_gates
from rnn_crosscheck.harness.session.progress import Display, PlainDisplay, Planned, RichDisplay
from rnn_crosscheck.harness.session.suite import nameless_folders
from rnn_crosscheck.harness.timing.ratios import Ratio, against_baseline
from rnn_crosscheck.harness.timing.stopwatch import (
    Point,
    Stopwatch,
    can_be_timed,
    merged,
    points,
    sweep_points,
    timing_key,
    timing_spec,
    why_not,
)

SUITE = Path(__file__).parent / "suite" / "test_comparison.py"
TESTS = (
    "test_parity",
    "test_training",
    "test_twin",
    "test_factor",
    "test_effects",
    "test_transplant",
    "test_words",
    "test_timing",
)


@dataclass(frozen=True)
class Summary:
    """What the terminal shows at the end.

    Attributes
    ----------
    tables
        Title and text of each.
    report
        Path of the report.
    breaches
        Gates that are broken, a sentence each: the session fails.
    remarks
        What else is to be said of the gates.
    """

    tables: Sequence[tuple[str, str]]
    report: Path
    breaches: Sequence[str] = ()
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Timed:
    """One cell of the timing table: what is measured, in one setting of one backend."""

    backend: str
    setting: Setting
    point: Point

    @property
    def name(self) -> str:
        """As in node ids: ``pytorch-lstm-train_step``, ``pytorch-tuned-lstm-train_step``."""
        setting = "" if self.setting == "default" else f"-{self.setting}"
        return f"{self.backend.replace(':', '.')}{setting}-{self.point.name}"


@dataclass(frozen=True)
class Encoded:
    """Where the dataset lies, encoded, and what it is known by."""

    path: Path
    fingerprint: str


def read_dataset(name: str, data: Path | None, columns: str) -> Encoded:
    """Read and encode a dataset, or find it in the cache; raises as `harness.datasets.load`."""
    dataset = datasets.load(name, data=data, columns=columns)
    return Encoded(dataset.path, dataset.fingerprint)


def describe_dataset(path: Path, spec: DataSpec) -> DatasetFacts:
    """Find the facts about an encoded dataset; raises as `harness.datasets.selection.facts`."""
    from rnn_crosscheck.harness.datasets.dataset import Dataset
    from rnn_crosscheck.harness.datasets.selection import facts

    return facts(Dataset.open(path), spec)


def write_test_examples(path: Path, spec: DataSpec, table: Path) -> None:
    """Write the test examples of an encoded dataset for the report."""
    from rnn_crosscheck.harness.datasets.dataset import Dataset
    from rnn_crosscheck.harness.datasets.selection import write_test_table

    write_test_table(Dataset.open(path), spec, table)


class RecordedClock:
    """A timer for pytest-benchmark that replays rounds which a worker has measured."""

    def __init__(self) -> None:
        self._readings: deque[float] = deque()

    def __repr__(self) -> str:
        # What pytest-benchmark writes for the entry's timer.
        return "recorded by the worker"

    def load(self, seconds: Sequence[float]) -> None:
        """Take the rounds to be replayed."""
        # Each round reads the clock twice. Starting every round at 0 keeps its length exact to the last bit.
        self._readings = deque(reading for length in seconds for reading in (0.0, length))

    def __call__(self) -> float:
        """Read the clock."""
        return self._readings.popleft() if self._readings else 0.0


class ComparisonSession:
    """Options, planned runs and workers of one ``pytest --benchmark``.

    Parameters
    ----------
    config
        pytest's.
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
        An option is wrong; nothing was run.
    """

    def __init__(
        self,
        config: pytest.Config,
        *,
        report: Callable[[Path, Sequence[Gate]], Summary],
        choose: Callable[[Path], Mapping[str, Sequence[str]]],
        check: Callable[[Path], None],
        apart: Apart,
    ) -> None:
        self._config = config
        self._report = report
        self._choose = choose
        self._check = check
        self._apart = apart
        self._refuse_company()
        self.protocol = self._read_protocol()
        self._divisions = self._chosen_divisions()
        self._models = self._chosen_models()
        look_in(config.invocation_params.dir)
        self._left_out: list[str] = []
        self.backends = self._chosen_backends()
        refuse_unknown_factors(self.protocol, self.backends, self._divisions)
        self._diagnose = self._wanted("diagnose", "diagnosis", "accuracy")
        self._sweep = self._wanted("timing", "timing", "sweep")
        self._device = self._wanted_device()
        self.folder = self._chosen_folder()
        self._baseline = self._chosen_baseline()
        self._gates = self._chosen_gates()
        config.args = self._arguments()
        # The project around may name its tests otherwise; ours keep their names.
        config.addinivalue_line("python_functions", "test_*")

        self._selected: list[str] = []
        self._selected_checks: list[str] = []
        self._selected_points: list[Point] = []
        self._runs: dict[str, PlannedRun] = {}
        self._checks: dict[str, PlannedCheck] = {}
        self._futures: dict[str, Future[RunResult]] = {}
        self._check_futures: dict[str, Future[Path]] = {}
        #: what the display knows of, by name; what is planned later comes in later
        self._shown_names: dict[str, Planned] = {}
        self._executor: LocalExecutor | None = None
        self._stopwatch: Stopwatch | None = None
        self._timings: dict[Point, tuple[TimingRecord, ...]] = {}
        self._timing_failures: dict[str, str] = {}
        self._dataset: Encoded | None = None
        self._settled: Literal["cpu", "cuda"] = "cpu"
        self._display: Display | None = None
        self._summary: Summary | None = None
        self._note = ""

    # --- options --------------------------------------------------------------------------------------------

    def _option(self, name: str) -> str:
        value = self._config.getoption(f"--crosscheck-{name}")
        ini = f"crosscheck_{name.replace('-', '_')}"
        return str(self._config.getini(ini) if value is None else value).strip()

    def _listed(self, name: str) -> list[str]:
        return [part.strip() for part in self._option(name).split(",") if part.strip()]

    def _refuse_company(self) -> None:
        if not self._config.pluginmanager.hasplugin("benchmark"):
            raise UsageError(
                "The comparison needs the plugin pytest-benchmark, which is switched off or not installed; drop "
                "'-p no:benchmark', or: pip install pytest-benchmark."
            )
        option = self._config.getoption
        spread = option("numprocesses", None) or option("tx", None) or option("dist", "no") != "no"
        if hasattr(self._config, "workerinput") or spread:
            raise UsageError(
                "The comparison starts its own processes and can't be spread by pytest-xdist; add -n0 (and drop --dist "
                "and --tx), and use --crosscheck-jobs to train runs side by side."
            )

    def _read_protocol(self) -> Protocol:
        overrides = [
            *self._config.getini("crosscheck_set"),
            *(self._config.getoption("--crosscheck-set") or ()),
        ]
        if dataset := self._option("dataset"):
            overrides.append(f'data.dataset="{dataset}"')
        if jobs := self._option("jobs"):
            overrides.append(f"workers.jobs={jobs}")
        if seeds := self._option("seeds"):
            value = f"[{seeds}]" if "," in seeds else seeds
            overrides += [f"seeds.{division}={value}" for division in DIVISIONS]
        protocol = load_protocol(self._option("protocol"), overrides)
        if protocol.data.dataset not in datasets.names():
            raise unknown("dataset", protocol.data.dataset, datasets.names())
        return protocol

    def _chosen_divisions(self) -> tuple[Division, ...]:
        chosen = self._listed("divisions")
        for name in chosen:
            if name not in DIVISIONS:
                raise unknown("division", name, DIVISIONS)
        return cast("tuple[Division, ...]", tuple(dict.fromkeys(chosen))) or self.protocol.divisions

    def _chosen_models(self) -> tuple[str, ...]:
        names = tuple(model.name for model in self.protocol.models)
        chosen = self._listed("models")
        for name in chosen:
            if name not in names:
                raise unknown("model", name, names)
        return tuple(dict.fromkeys(chosen)) or names

    def _chosen_backends(self) -> tuple[BackendInfo, ...]:
        if named := self._listed("backends"):
            return look_up(named)
        found: list[BackendInfo] = []
        for name, backend in sorted(registered().items()):
            try:
                if backend.load().by_default:
                    found += look_up([name])
            except ContractError as error:
                # Somebody else's that was installed here; who names it is told the same as an error.
                self._left_out.append(str(error))
        return tuple(found)

    def _wanted(self, option: str, kind: str, value: str) -> bool:
        """Whether an option that has one value was given."""
        name = self._option(option)
        if name not in ("", value):
            raise unknown(kind, name, [value])
        return bool(name)

    def _wanted_device(self) -> Device:
        name = self._option("device")
        if name not in get_args(Device):
            raise unknown("device", name, get_args(Device))
        return cast("Device", name)

    def _chosen_folder(self) -> Path:
        named = self._option("output")
        if not named:
            raise UsageError("--crosscheck-output needs the name of a folder, got an empty value.")
        folder = self._config.invocation_params.dir / named
        refuse_foreign(folder, "--crosscheck-output", is_comparison)
        return folder.resolve()

    def _chosen_baseline(self) -> Path | None:
        named = self._option("baseline")
        if not named:
            return None
        folder = (self._config.invocation_params.dir / named).resolve()
        what = "--crosscheck-baseline needs the folder of an earlier comparison"
        if not folder.is_dir():
            raise UsageError(f"{what}; there is no folder {named!r}.")
        if not (folder / MANIFEST).is_file():
            raise UsageError(
                f"{what}; {named!r} is none, since it has no manifest.json. Give a folder that pytest --benchmark "
                "wrote; of a published report, the predictions are missing."
            )
        if folder == self.folder:
            raise UsageError(
                f"{what}; {named!r} is where this one's results go, which would take the place of the earlier ones. "
                "Give another folder with --crosscheck-output."
            )
        try:
            earlier = read_record(folder / MANIFEST, Manifest)
        except ResultsError as error:
            raise UsageError(f"{what}: {error}") from None
        models = [model.name for model in earlier.protocol.models]
        for kind, mine, theirs in (
            ("backend", [info.name for info in self.backends], earlier.backends),
            ("model", self._models, models),
        ):
            if not set(mine) & set(theirs):
                raise UsageError(
                    f"{what} with a {kind} in common; this one has {', '.join(mine)}, {named!r} has "
                    f"{', '.join(theirs)}."
                )
        return folder

    def _chosen_gates(self) -> tuple[Gate, ...]:
        gates = parse_gates(self._option("fail-if"))
        if gates and self._baseline is None:
            raise UsageError(
                f"--crosscheck-fail-if {','.join(map(str, gates))} needs something to hold the comparison against; "
                "give the folder of an earlier one with --crosscheck-baseline."
            )
        return gates

    def _arguments(self) -> list[str]:
        """Node ids to collect: the whole suite, or what was named of it."""
        if self._config.args_source is not self._config.ArgsSource.ARGS:
            return [str(SUITE)]
        arguments = []
        for argument in self._config.args:
            path, separator, name = argument.partition("::")
            place = (self._config.invocation_params.dir / path).resolve()
            if not path or path.startswith(TESTS):
                arguments.append(f"{SUITE}::{name or path}")
            elif place in (SUITE, SUITE.parent):
                arguments.append(f"{SUITE}{separator}{name}")
            else:
                raise UsageError(
                    f"--benchmark runs the comparison instead of test files, got {argument!r}; leave it out, or name "
                    "a test of the comparison, for example 'test_training[native-pytorch-lstm-seed0]', or use -k."
                )
        return arguments

    # --- collection -----------------------------------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test a run, one a cell of the timing table."""
        if metafunc.definition.path != SUITE:
            return
        # Names don't depend on the data, so that collecting reads none.
        planned = self._plan("", "cpu")
        asked = metafunc.fixturenames
        if "run_id" in asked:
            metafunc.parametrize("run_id", [self._run_param(run, "training") for run in planned])
        elif "twin_id" in asked:
            twins = plan_twins(self.protocol, planned)
            metafunc.parametrize("twin_id", [self._run_param(run, "twin") for run in twins])
        elif "factor_id" in asked:
            factors = plan_factors(planned) if self._diagnose else ()
            metafunc.parametrize("factor_id", [self._run_param(run, "factor") for run in factors])
        elif "stage" in asked:
            cells = [
                (check.name, stage)
                for check in self._plan_checks("", "cpu")
                if check.mode == "parity" and check.spec.division == "matched"
                for stage in STAGES
            ]
            metafunc.parametrize(("check", "stage"), [self._stage_param(*cell) for cell in cells])
        elif "check" in asked:
            rest = [
                check.name
                for check in self._plan_checks("", "cpu")
                if check.mode == "effects" or check.spec.division == "native"
            ]
            marks = (pytest.mark.parity, pytest.mark.crosscheck)
            metafunc.parametrize("check", [pytest.param(name, id=name, marks=marks) for name in rest])
        elif "target" in asked:
            marks = (pytest.mark.trained, pytest.mark.crosscheck)
            # Weights are taken in by who can, words are left out by who has trained.
            taking = {"matched", "inference"} if "transplant" in metafunc.function.__name__ else {"matched"}
            able = [info.name for info in self.backends if taking & info.backend.capabilities]
            metafunc.parametrize(
                "target", [pytest.param(name, id=name.replace(":", "."), marks=marks) for name in able]
            )
        elif "timed" in metafunc.fixturenames:
            # Model by model, since workers live as long as their model is measured.
            wanted = [
                point for model in self._models for point in (*points(self.protocol, [model]), *self._swept(model))
            ]
            timed = [
                Timed(info.name, setting, point)
                for point, info in product(wanted, self.backends)
                if can_be_timed(info, point.operation)
                for setting in settings_of(self.protocol, info)
            ]
            metafunc.parametrize("timed", [self._timed_param(cell) for cell in timed])

    def _swept(self, model: str) -> tuple[Point, ...]:
        return sweep_points(self.protocol, [model]) if self._sweep else ()

    def _stage_param(self, check: str, stage: Stage) -> object:
        marks = (pytest.mark.matched, pytest.mark.parity, pytest.mark.crosscheck)
        return pytest.param(check, stage, id=f"{check.removeprefix('matched-')}-{stage}", marks=marks)

    def _run_param(self, run: PlannedRun, kind: str) -> object:
        spec = run.spec
        benchmark = pytest.mark.benchmark(group=f"{spec.model.name} epoch, {spec.division}", timer=RecordedClock())
        marks = (getattr(pytest.mark, spec.division), getattr(pytest.mark, kind), pytest.mark.crosscheck, benchmark)
        return pytest.param(run.run_id, id=run.run_id, marks=marks)

    def _timed_param(self, cell: Timed) -> object:
        group = cell.point.name.replace("-", " ")
        benchmark = pytest.mark.benchmark(group=group, timer=RecordedClock())
        marks = (pytest.mark.native, pytest.mark.timing, pytest.mark.crosscheck, benchmark)
        return pytest.param(cell, id=cell.name, marks=marks)

    def _plan(self, fingerprint: str, device: Literal["cpu", "cuda"]) -> tuple[PlannedRun, ...]:
        return plan(
            self.protocol,
            self.backends,
            dataset_fingerprint=fingerprint,
            device=device,
            models=self._models,
            divisions=self._divisions,
        )

    def _plan_checks(self, fingerprint: str, device: Literal["cpu", "cuda"]) -> tuple[PlannedCheck, ...]:
        return plan_checks(
            self.protocol,
            self.backends,
            dataset_fingerprint=fingerprint,
            device=device,
            models=self._models,
            divisions=self._divisions,
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        """Leave out tests that nothing was asked of: pytest would show them as skipped."""
        items[:] = [item for item in items if not (item.path == SUITE and _asks_nothing(item))]
        with nameless_folders(items):
            yield

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Read the data as soon as it is known that something will be run."""
        items = [item for item in session.items if item.path == SUITE and isinstance(item, pytest.Function)]
        # What pytest-benchmark skips (--benchmark-only) isn't to be computed either.
        wanted = [item for item in items if not item.get_closest_marker("skip")]
        chosen: dict[str, list[str]] = {"run_id": [], "twin_id": [], "factor_id": [], "check": []}
        for item in wanted:
            for kind, names in chosen.items():
                if hasattr(item, "callspec") and kind in item.callspec.params:
                    names.append(str(item.callspec.params[kind]))
        self._selected = [name for kind in ("run_id", "twin_id", "factor_id") for name in chosen[kind]]
        self._selected_checks = list(dict.fromkeys(chosen["check"]))
        cells = [item.callspec.params.get("timed") for item in wanted if hasattr(item, "callspec")]
        self._selected_points = list(dict.fromkeys(cell.point for cell in cells if isinstance(cell, Timed)))
        if self._config.getoption("collectonly") or not items:
            return
        try:
            self._open()
        except CrosscheckError as error:
            raise pytest.UsageError(str(error)) from None
        except OSError as error:
            raise pytest.UsageError(f"The results can't be written to {self.folder}: {error}.") from None

    def _open(self) -> None:
        """Encode the data, settle the device, and write down what is going to be compared."""
        reporter = self._config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"comparison: protocol {self.protocol.name}, results in {self.folder}")
            for sentence in self._left_out:
                reporter.write_line(f"left out: {sentence}")
        if self._baseline is not None:
            self._apart.call(self._check, self._baseline)
        data = self._option("data")
        self._dataset = self._apart.call(
            read_dataset,
            self.protocol.data.dataset,
            self._config.invocation_params.dir / data if data else None,
            self._option("columns"),
        )
        facts = self._apart.call(describe_dataset, self._dataset.path, self.protocol.data)
        self._settled = choose_device(self._device, self.backends)
        runs = self._plan(self._dataset.fingerprint, self._settled)
        variants = (*plan_twins(self.protocol, runs), *(plan_factors(runs) if self._diagnose else ()))
        self._runs = {run.run_id: run for run in (*runs, *variants)}
        checks = self._plan_checks(self._dataset.fingerprint, self._settled)
        self._checks = {check.name: check for check in checks}
        # Before anything else: it says that the folder is ours, should the session end here.
        write_json(
            self.folder / MANIFEST,
            Manifest(
                protocol=self.protocol,
                command=shlex.join(["pytest", *self._config.invocation_params.args]),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                device=self._settled,
                backends=tuple(info.name for info in self.backends),
                inference=tuple(info.name for info in self.backends if not info.trains),
                runs=tuple(run.run_id for run in runs),
                variants=tuple(run.run_id for run in variants),
                keys={run_id: run.key for run_id, run in self._runs.items()},
                parity_keys={name: check.key for name, check in self._checks.items()},
                timing_keys=self._timing_keys(),
                commit=_commit(self._config.rootpath),
                machine=machine(),
                baseline=way_to(self._baseline, self.folder) if self._baseline else "",
            ),
        )
        write_json(self.folder / "dataset.json", facts)
        table = self.folder / "test.parquet"
        self._apart.call(write_test_examples, self._dataset.path, self.protocol.data, table)

    # --- carrying out ---------------------------------------------------------------------------------------

    @pytest.fixture
    def crosscheck(self) -> ComparisonSession:
        """Give the tests of the suite the comparison that they belong to."""
        return self

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
        return self._wait_for_file(self._check_futures[name])

    def _wait_for_file(self, future: Future[Path]) -> Path | str:
        with self._shown():
            self._watch([future])
        try:
            return future.result()
        except WorkerFailure as error:
            return f"{error.failure.reason}\n{error.failure.log_tail}".strip()

    def transplants(self, backend: str) -> TransplantsRecord | str | None:
        """Tell what the trained weights of all backends predict in one of them, or say what went wrong.

        None stands for no run that has ended well. All selected runs end first.
        """
        self._finish_runs()
        try:
            check = plan_transplants(self.folder, self._own_runs(), self.info(backend))
            path = self._carry_out(check) if check else None
            return read_record(path, TransplantsRecord) if isinstance(path, Path) else path
        except CrosscheckError as error:
            return str(error)

    def occlusions(self, backend: str) -> OcclusionsRecord | str | None:
        """Tell what the runs of a backend say to examples with words left out, as `transplants` does.

        None stands for no example that is to be read.
        """
        self._finish_runs()
        try:
            if not any(stored_key(self.folder / "runs" / run.run_id) == run.key for run in self._own_runs()):
                return None
            chosen = self._apart.call(self._choose, self.folder)
            check = plan_occlusions(self.folder, self._own_runs(), self.info(backend), chosen)
            path = self._carry_out(check) if check else None
            return read_record(path, OcclusionsRecord) if isinstance(path, Path) else path
        except CrosscheckError as error:
            return str(error)

    def _own_runs(self) -> list[PlannedRun]:
        """List the protocol's own runs, those that weren't selected among them: they may be there from before."""
        return [run for run in self._runs.values() if keeps_weights(run.spec)]

    def _carry_out(self, check: PlannedCheck) -> Path | str:
        """Have a check made that could be planned only now."""
        assert self._executor is not None
        self._shown_names[check.name] = check
        return self._wait_for_file(self._executor.submit_check(check))

    def _finish_runs(self) -> None:
        """Wait until every selected check and run has ended, well or not."""
        self._start()
        with self._shown():
            self._watch([*self._check_futures.values(), *self._futures.values()])

    def result(self, run_id: str) -> RunResult:
        """Wait for the result of one run; all selected runs are started at the first call."""
        self._start()
        with self._shown():
            self._watch([self._futures[run_id]])
        return self._futures[run_id].result()

    def _start(self) -> None:
        if self._executor is not None:
            return
        assert self._dataset is not None
        self._executor = LocalExecutor(
            self.folder,
            self._dataset.path,
            jobs=number_of_jobs(self.protocol, self._settled),
            stall_seconds=self.protocol.workers.stall_seconds,
        )
        # The stages first: they are quick, and what they find may spare the training.
        self._check_futures = {name: self._executor.submit_check(self._checks[name]) for name in self._selected_checks}
        runs = largest_first(self._runs[run_id] for run_id in self._selected)
        self._futures = {run.run_id: self._executor.submit(run) for run in runs}

    def _watch(self, futures: Sequence[Future[Any]]) -> None:
        """Show what happens until all of `futures` are done."""
        assert self._executor is not None
        assert self._display is not None
        while True:
            done = not wait(futures, timeout=0).not_done
            try:
                while True:
                    self._display.show(self._executor.progress.get(timeout=0 if done else 0.2))
            except queue.Empty:
                if done:
                    return

    @contextmanager
    def _shown(self) -> Iterator[Display]:
        """Have the terminal to ourselves for a while."""
        if self._display is None:
            self._display = self._new_display()
        capture = self._config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            self._display.begin()
            try:
                yield self._display
            finally:
                self._display.end()

    def _new_display(self) -> Display:
        writer = self._config.get_terminal_writer()
        self._shown_names |= {name: self._checks[name] for name in self._selected_checks}
        self._shown_names |= {run_id: self._runs[run_id] for run_id in self._selected}
        if writer.hasmarkup:
            return RichDisplay(lambda text: writer.write(text, flush=True), writer.fullwidth, self._shown_names)
        return PlainDisplay(writer, self._shown_names)

    def timing(self, cell: Timed) -> tuple[TimingRecord, Ratio | None] | str:
        """Give the rounds of one cell and its ratio to the baseline, or say why there are none.

        All selected operations of a model are measured at once, in all backends and settings.
        """
        if cell.point not in self._timings:
            self._measure(cell.point.model)
        records = [record for found in self._timings.values() for record in found]
        for record in self._timings[cell.point]:
            if (record.backend, record.setting) == (cell.backend, cell.setting):
                return record, against_baseline(records, record)
        return why_not(self._timing_failures, cell.backend, cell.setting, cell.point.model)

    def _measure(self, model: str) -> None:
        assert self._dataset is not None
        with self._shown() as display:
            if self._futures or self._check_futures:
                # Training side by side would be in the figures.
                self._watch([*self._check_futures.values(), *self._futures.values()])
            self._stopwatch = Stopwatch(
                self.protocol,
                model,
                self._timed_backends(),
                dataset=self._dataset.path,
                dataset_fingerprint=self._dataset.fingerprint,
                device=self._settled,
                logs=self.folder / "logs",
            )
            found = self._stopwatch.measure(
                [point for point in self._selected_points if point.model == model],
                tell=lambda text: display.message(f"timing: {text}"),
            )
        self._timing_failures |= self._stopwatch.failures
        self._timings |= found
        path = self.folder / "timings.json"
        for point, records in found.items():
            write_json(path, merged(self._earlier_timings(path), point, records, self._timing_failures))

    def _earlier_timings(self, path: Path) -> TimingResults:
        """Read the timings on disk that belong to this comparison."""
        try:
            earlier = read_record(path, TimingResults)
        except ResultsError:
            return TimingResults()
        valid = set(self._timing_keys().values())
        return TimingResults(records=tuple(record for record in earlier.records if record.key in valid))

    def _timed_backends(self) -> list[BackendInfo]:
        """Choose the backends that can be timed, the baseline first, which trains if one of them does."""
        timed = [info for info in self.backends if not info.missing and can_be_timed(info, "predict_batch")]
        return sorted(timed, key=lambda info: not info.trains)

    def _timing_keys(self) -> dict[str, str]:
        """Name what a timing must have been taken of to belong to this comparison."""
        assert self._dataset is not None
        timed = self._timed_backends()
        return {
            f"{info.name}/{model}": timing_key(
                timing_spec(
                    self.protocol,
                    info,
                    model,
                    dataset_fingerprint=self._dataset.fingerprint,
                    device=self._settled,
                ),
                info,
                timed[0].name,
            )
            for info, model in product(timed, self._models)
        }

    @property
    def baseline(self) -> str:
        """Name the backend whose times the others' are divided by."""
        return self._timed_backends()[0].name

    def info(self, backend: str) -> BackendInfo:
        """Look a backend of the comparison up by name."""
        return next(info for info in self.backends if info.name == backend)

    # --- the end --------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int | pytest.ExitCode
    ) -> Generator[None, object, object]:
        """End the comparison before pytest-benchmark writes its files, which may fail."""
        self._end(session, exitstatus)
        return (yield)

    def _end(self, session: pytest.Session, exitstatus: int | pytest.ExitCode) -> None:
        """Stop every worker; then build the report from what is on disk."""
        if self._stopwatch is not None:
            self._stopwatch.close()
        if self._executor is not None:
            self._executor.shutdown()
        if self._dataset is None or exitstatus in (
            pytest.ExitCode.USAGE_ERROR,
            pytest.ExitCode.INTERNAL_ERROR,
        ):
            return
        if exitstatus == pytest.ExitCode.INTERRUPTED:
            self._note = f"Interrupted: finished runs are kept in {self.folder}; the same command goes on from there."
            return
        try:
            self._summary = self._apart.call(self._report, self.folder, self._gates)
        except CrosscheckError as error:
            self._note = f"No report: {error}"
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            return
        if self._summary.breaches:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Show the tables and where the report is, below all that pytest and other plugins have to say."""
        terminalreporter = self._config.pluginmanager.getplugin("terminalreporter")
        if terminalreporter is None:
            return
        if self._note:
            terminalreporter.section("comparison")
            terminalreporter.write_line(self._note)
        if self._summary is None:
            return
        for title, table in self._summary.tables:
            terminalreporter.section(title)
            for line in table.splitlines():
                terminalreporter.write_line(line)
        if self._gates:
            terminalreporter.section("--crosscheck-fail-if")
        for sentence in self._summary.breaches:
            terminalreporter.write_line(f"FAILED {sentence}", red=True)
        for sentence in self._summary.remarks:
            terminalreporter.write_line(sentence)
        terminalreporter.section("report")
        terminalreporter.write_line(str(self._summary.report))


def _asks_nothing(item: pytest.Item) -> bool:
    """Whether a test was made from an empty list of parameters; pytest gives it a value that stands for none."""
    given = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    return any(type(value).__name__ == "NotSetType" for value in given)


def _commit(folder: Path) -> str:
    """Commit of the repository that the comparison is run in, or nothing."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
