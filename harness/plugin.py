"""The pytest plugin: options, and nothing else until ``--benchmark`` is given.

Installed in any repository, this module is imported by every pytest session there, so it imports nothing heavy. With
``--benchmark`` it hands over to `harness.session`. It is the one place in the harness that calls `reports`, and only
at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Only a name so far. A project's conftest may put a folder called `reports` in front of ours later on.
import reports

if TYPE_CHECKING:
    from harness.gates import Gate
    from harness.session import Summary

#: option -> (metavar, default, help); each is also an ini value ``crosscheck_<option>``, with ``_`` for ``-``
OPTIONS: Mapping[str, tuple[str, str, str]] = {
    "protocol": ("NAME", "quick", "protocol: a preset (quick, imdb) or a file that ends in .toml"),
    "dataset": ("NAME", "", "dataset instead of the protocol's"),
    "data": ("PATH", "", "file or folder of the dataset, for datasets that are read from one"),
    "columns": ("ROLE=NAME,...", "", "columns of the dataset table: text=A,label=B,split=C,id=D (guessed)"),
    "backends": ("A,B", "", "backends, the first is the baseline (all registered ones)"),
    "models": ("A,B", "", "models of the protocol (all)"),
    "divisions": ("A,B", "", "native, matched (the protocol's)"),
    "diagnose": ("accuracy", "", "train matched runs with each difference between the backends switched alone"),
    "timing": (
        "sweep",
        "",
        "measure other batch sizes and lengths too (timing.sweep_batches, timing.sweep_lengths)",
    ),
    "seeds": ("N or A,B", "", "a count or a list of seeds (the protocol's)"),
    "device": ("NAME", "cpu", "cpu, cuda, or auto for cuda when every backend can use it"),
    "jobs": ("N", "", "runs to train side by side (cores / threads of a worker)"),
    "conformance": ("NAME", "", "check a backend (a name, or module:Class) against the contract instead of comparing"),
    "output": ("DIR", "comparison", "folder for results and report"),
    "baseline": ("DIR", "", "folder of an earlier comparison; the report says what changed since"),
    "fail-if": (
        "RULE:BOUND,...",
        "",
        "fail if it clearly got worse since the baseline, by accuracy-drop (points), step-slowdown or disagreement "
        "(per cent)",
    ),
}

MARKERS = (
    "crosscheck: a test of the comparison that `pytest --benchmark` runs",
    "training: trains one model and keeps its predictions (with --benchmark)",
    "timing: measures one operation of one model (with --benchmark)",
    "native: a run with the framework's own defaults (with --benchmark)",
    "matched: a run with equal weights, batches and arithmetic (with --benchmark)",
    "parity: compares stages with the reference, or measures what a factor does",
    "twin: trains a twin of a matched run",
    "factor: trains a matched run with one factor switched",
    "trained: uses the trained weights of the runs (with --benchmark)",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Define ``--benchmark`` and the ``--crosscheck-*`` options, each also as an ini value."""
    group = parser.getgroup("crosscheck", "comparison of frameworks (rnn-crosscheck)")
    group.addoption(
        "--benchmark",
        action="store_true",
        default=False,
        help="Run the comparison of frameworks that comes with rnn-crosscheck instead of this project's tests.",
    )
    for name, (metavar, default, text) in OPTIONS.items():
        shown = f"{text} [{default}]" if default else text
        group.addoption(f"--crosscheck-{name}", metavar=metavar, default=None, help=shown)
        parser.addini(f"crosscheck_{name.replace('-', '_')}", help=shown, default=default)
    group.addoption(
        "--crosscheck-set",
        metavar="KEY=VALUE",
        action="append",
        default=None,
        help="Override one value of the protocol by its dotted key, e.g. training.epochs=1 (repeatable).",
    )
    group.addoption(
        "--crosscheck-list",
        action="store_true",
        default=False,
        help="List the backends, whether each can be used here, and what it can do.",
    )
    parser.addini("crosscheck_set", type="linelist", help="overrides of the protocol, one KEY=VALUE a line")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """List the backends, or stand beside pytest-benchmark before that is configured: it reads stored runs then."""
    if config.getoption("--crosscheck-list"):
        from harness.listing import listing

        print(listing())
        return 0
    if config.getoption("--benchmark") and config.pluginmanager.hasplugin("benchmark"):
        from harness.toolchain import Toolchain

        config.pluginmanager.register(Toolchain(config), "crosscheck-toolchain")
    return None


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Hand over to the comparison, if it was asked for."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if not config.getoption("--benchmark"):
        return
    from harness.apart import Apart
    from harness.errors import CrosscheckError
    from harness.session import ComparisonSession

    if Path(reports.__file__ or "").resolve().parent.parent != Path(__file__).resolve().parent.parent:
        raise pytest.UsageError(
            f"--benchmark needs its own package `reports`, but found another at {reports.__file__}; run it from a "
            "folder that has none, or with `pytest` instead of `python -m pytest`."
        )
    checked = config.getoption("--crosscheck-conformance") or str(config.getini("crosscheck_conformance"))
    if checked:
        from harness.conformance_session import ConformanceSession

        try:
            config.pluginmanager.register(ConformanceSession(config, checked), "crosscheck-conformance")
        except CrosscheckError as error:
            raise pytest.UsageError(str(error)) from None
        return
    apart = Apart()
    config.add_cleanup(apart.close)
    try:
        session = ComparisonSession(
            config, report=build_report, choose=choose_examples, check=read_baseline, apart=apart
        )
    except CrosscheckError as error:
        raise pytest.UsageError(str(error)) from None
    # A run takes as long as it takes; the suite says so to pytest-timeout, which need not be there.
    config.addinivalue_line("markers", "timeout(seconds): limit of one test, read by pytest-timeout")
    config.pluginmanager.register(session, "crosscheck-session")


def build_report(folder: Path, gates: Sequence[Gate]) -> Summary:
    """Build the report of a comparison's folder and what the terminal shows of it."""
    from harness.session import Summary
    from reports.build import build
    from reports.gates import judge

    built = build(folder)
    if built.since is None:
        return Summary(tables=built.summary, report=built.report)
    judged = judge(built.since, gates)
    return Summary(
        tables=built.summary,
        report=built.report,
        breaches=judged.breaches,
        remarks=(*judged.unjudged, *judged.held, *judged.caveats),
    )


def read_baseline(folder: Path) -> None:
    """Read an earlier comparison as the report will, so that what is wrong with it is said before hours of training."""
    from reports.load import load

    load(folder)


def choose_examples(folder: Path) -> Mapping[str, Sequence[str]]:
    """Choose the examples whose words are left out: those that the report shows, by run."""
    from reports.examples import to_read

    return to_read(folder)
