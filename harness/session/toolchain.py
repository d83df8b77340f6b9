"""What pytest-benchmark's own options need beside a comparison.

Its storing, comparing and grouping work on the entries of the suite by themselves. This plugin stands beside it for
what they can't know: which options are mistakes before hours of training rather than after, that ``--benchmark-skip``
leaves timing out and not training, whether a stored run is from this machine, and that its tables are for who asks for
them. It is there with ``--benchmark`` only, and only where pytest-benchmark is.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.logger import PytestBenchmarkWarning
from pytest_benchmark.session import BenchmarkSession, PerformanceRegression
from pytest_benchmark.storage.file import FileStorage

from rnn_crosscheck.harness.machine import machine

#: what the entries can be grouped by with ``--benchmark-group-by=param:NAME``; None where it says nothing
PARAMETERS = ("backend", "model", "operation", "division", "setting", "seed", "batch_size", "length")
#: what else pytest-benchmark can group by
_GROUPINGS = ("group", "name", "func", "fullname", "fullfunc", "param")
#: options that ask for pytest-benchmark's tables, or for what it makes only while it prints them
SHOWING = tuple(
    f"--benchmark-{name}"
    for name in ("columns", "sort", "group-by", "compare", "histogram", "cprofile", "verbose", "name")
)
#: key of our description in pytest-benchmark's ``machine_info``
_KEY = "crosscheck"


class Toolchain:
    """Stands beside pytest-benchmark in one ``pytest --benchmark``.

    Made before pytest-benchmark is configured, which is when that reads stored runs. Raises `pytest.UsageError` for a
    stored run that it would stumble over.

    Parameters
    ----------
    config
        pytest's.
    arguments
        Of the session, with those of the ini file.
    """

    def __init__(self, config: pytest.Config, arguments: Sequence[str]) -> None:
        self._config = config
        self._shows = any(argument.startswith(SHOWING) for argument in arguments)
        #: descriptions of the machines of the stored runs, in pytest-benchmark's order
        self._machines: list[Mapping[str, str]] = []
        #: entries of the stored runs, in the same order
        self._stored: list[Sequence[Mapping[str, Any]]] = []
        self._session: pytest.Session | None = None
        option = config.option
        stored = option.benchmark_compare
        if isinstance(stored, str) and len(Path(stored).parts) > 2 and not Path(stored).is_file():
            raise pytest.UsageError(
                f"--benchmark-compare={stored}: there is no such file; give a file, or the number of a stored run."
            )
        # It would skip every test that has entries, training among them. What isn't to be measured is timing alone.
        self._without_timing = bool(option.benchmark_skip and not option.benchmark_only)
        if self._without_timing:
            option.benchmark_skip = option.benchmark_enable = False
            option.benchmark_disable = True

    @property
    def _benchmarks(self) -> BenchmarkSession:
        return self._config.pluginmanager.getplugin("pytest-benchmark")

    # --- before anything is run -----------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Refuse what pytest-benchmark would stumble over when all has been run."""
        benchmarks = self._benchmarks
        for grouping in benchmarks.group_by.split(","):
            if grouping not in _GROUPINGS and grouping not in {f"param:{name}" for name in PARAMETERS}:
                raise pytest.UsageError(
                    f"--benchmark-group-by can't group by {grouping!r}; the valid ones are: {', '.join(_GROUPINGS)}, "
                    f"and param:NAME with NAME one of {', '.join(PARAMETERS)}."
                )
        if benchmarks.compare_fail and not benchmarks.compared_mapping:
            raise pytest.UsageError(
                "--benchmark-compare-fail needs a stored run to compare with: give --benchmark-compare, or "
                f"--benchmark-compare=NUM, with a run that is in {benchmarks.storage}."
            )
        if benchmarks.json and (Path(benchmarks.json).is_dir() or not Path(benchmarks.json).absolute().parent.is_dir()):
            raise pytest.UsageError(
                f"--benchmark-json needs a file in a folder that is there, got {str(benchmarks.json)!r}."
            )
        saving = benchmarks.save or benchmarks.autosave
        if saving and isinstance(benchmarks.storage, FileStorage) and not benchmarks.storage.get("").is_dir():
            raise pytest.UsageError(f"--benchmark-storage: {benchmarks.storage} can't be made a folder.")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: Iterable[pytest.Item]) -> None:
        """Leave timing out with ``--benchmark-skip``."""
        if self._without_timing:
            for item in items:
                if item.get_closest_marker("timing") and item.get_closest_marker("crosscheck"):
                    item.add_marker(pytest.mark.skip(reason="Skipping benchmark (--benchmark-skip active)."))

    # --- the machine ----------------------------------------------------------------------------------------

    def pytest_benchmark_update_machine_info(self, machine_info: MutableMapping[str, Any]) -> None:
        """Put our description beside pytest-benchmark's, and take out what differs from call to call."""
        machine_info[_KEY] = machine()
        cpu = machine_info.get("cpu") or {}
        for key in [key for key in cpu if key.startswith("hz_")]:
            del cpu[key]

    @pytest.hookimpl(wrapper=True)
    def pytest_benchmark_compare_machine_info(
        self, compared_benchmark: Mapping[str, Any]
    ) -> Generator[None, None, None]:
        """Keep what a stored run says of its machine; our sentence stands for pytest-benchmark's two pages."""
        if not isinstance(compared_benchmark.get("machine_info"), Mapping):
            raise pytest.UsageError(
                "--benchmark-compare: the file has no machine_info, so it isn't a run that pytest-benchmark has stored."
            )
        found = described(compared_benchmark["machine_info"])
        self._machines.append(found)
        self._stored.append(compared_benchmark["benchmarks"])
        with warnings.catch_warnings():
            if differences(found, machine()):
                warnings.simplefilter("ignore", PytestBenchmarkWarning)
            try:
                yield
            except ValueError:
                # Its warning names the storage relative to the current folder, which one elsewhere isn't.
                pass

    # --- the end --------------------------------------------------------------------------------------------

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Keep the session: the summary may change how it ends."""
        self._session = session

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
        """Say what a stored run can't be compared in; end a regression with exit code 1 and no traceback."""
        if not self._shows:
            # Its tables have more columns than a terminal. What it stores was written when the session finished.
            self._benchmarks.groups = None
        try:
            yield
        except PerformanceRegression:
            # pytest-benchmark has named the entries. Its exception would end pytest with a traceback.
            assert self._session is not None
            if self._session.exitstatus == pytest.ExitCode.OK:
                self._session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if lines := self._remarks():
            terminalreporter.section("stored timings")
            for line in lines:
                terminalreporter.write_line(line, yellow=True)

    def _remarks(self) -> list[str]:
        benchmarks = self._benchmarks
        if benchmarks.disabled:
            wanted = ("json", "save", "autosave", "compare")
            asked = [f"--benchmark-{name}" for name in wanted if getattr(benchmarks, name)]
            option = "skip" if self._without_timing else "disable"
            return [f"Nothing was measured (--benchmark-{option}), so {asked[0]} did nothing."] if asked else []
        if benchmarks.compare and not benchmarks.compared_mapping:
            which = "" if benchmarks.compare is True else f" that matches {benchmarks.compare!r}"
            return [f"Nothing was compared: there is no stored run{which} in {benchmarks.storage}."]
        lines = []
        measured = {entry.fullname: entry.extra_info for entry in benchmarks.benchmarks}
        for path, there, stored in zip(benchmarks.compared_mapping, self._machines, self._stored, strict=True):
            name = Path(path).stem
            if other := differences(there, machine()):
                lines.append(
                    f"{name} was measured on another machine, so its times can't be held against these: "
                    f"{listed(other)}."
                )
            pairs = [
                (entry["extra_info"], measured[entry["fullname"]]) for entry in stored if entry["fullname"] in measured
            ]
            if measured and not pairs:
                lines.append(f"{name} has no entry that was measured now, so nothing was compared with it.")
            for backend in dict.fromkeys(now["backend"] for _, now in pairs):
                other = {}
                for before, now in pairs:
                    if now["backend"] == backend:
                        other |= differences(_environment(before), _environment(now))
                if other:
                    lines.append(f"{name} was measured with another environment of {backend}: {listed(other)}.")
        return lines


def _environment(extra_info: Mapping[str, Any]) -> dict[str, str]:
    """Give the versions and settings that an entry names; the digest of the source says nothing to a reader."""
    found = {**extra_info.get("versions", {}), **extra_info.get("environment", {})}
    return {str(key): str(value) for key, value in found.items() if key != "source"}


def described(machine_info: Mapping[str, Any]) -> Mapping[str, str]:
    """Describe the machine of a stored run: as we did, or from what pytest-benchmark says of one that isn't ours."""
    if _KEY in machine_info:
        return {str(key): str(value) for key, value in machine_info[_KEY].items()}
    found = {
        "cpu": (machine_info.get("cpu") or {}).get("brand_raw"),
        "system": f"{machine_info.get('system', '')} {machine_info.get('machine', '')}".strip(),
        "python": machine_info.get("python_version"),
    }
    return {key: str(value) for key, value in found.items() if value}


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Find what both describe, and differently: field -> (before, now)."""
    return {key: (before[key], now[key]) for key in now if key in before and before[key] != now[key]}


def listed(found: Mapping[str, tuple[str, str]]) -> str:
    """Put differences into words, both values of each."""
    return ", ".join(f"{key} {before} (here {now})" for key, (before, now) in found.items())
