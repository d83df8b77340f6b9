"""The door to pytest: options and markers, and nothing else until a comparison is asked for.

Installed beside somebody's own tests, this module is imported by every pytest session there. So it needs the standard
library and pytest alone, and its options give way: ``--crosscheck`` is ours, ``--benchmark`` means the same where
nobody else has it. It is also the one place that hands `reports` to the harness, which calls them in a process apart.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rnn_crosscheck.harness.session.gates import Gate
    from rnn_crosscheck.harness.session.summary import Summary

#: option -> (metavar, default, help); each is also an ini value ``crosscheck_<option>``, with ``_`` for ``-``
OPTIONS: Mapping[str, tuple[str, str, str]] = {
    "protocol": ("NAME", "quick", "protocol: a preset (quick, imdb) or a file that ends in .toml"),
    "dataset": ("NAME", "", "dataset instead of the protocol's"),
    "data": ("PATH", "", "file or folder of the dataset, for datasets that are read from one"),
    "columns": ("ROLE=NAME,...", "", "columns of the dataset table: text=A,label=B,split=C,id=D (guessed)"),
    "backends": ("A,B", "", "backends, the first is the baseline (all registered ones)"),
    "models": ("A,B", "", "models of the protocol (all)"),
    "divisions": ("A,B", "", "native, matched (the protocol's)"),
    "diagnose": (
        "accuracy",
        "",
        "train matched runs with each difference between the backends switched alone; or name some, A,B+C",
    ),
    "timing": (
        "sweep",
        "",
        "measure other batch sizes and lengths too (timing.sweep_batches, timing.sweep_lengths)",
    ),
    "seeds": ("N or A,B", "", "a count or a list of seeds (the protocol's)"),
    "device": ("NAME", "cpu", "cpu, cuda, or auto for cuda when every backend can use it"),
    "jobs": ("N", "", "runs to train side by side (cores / threads of a worker)"),
    "executor": ("NAME", "local", "where runs are trained: local, or ray for a Ray cluster (docs/scaling.md)"),
    "ray-address": (
        "ADDRESS",
        "",
        "auto, or HOST:PORT of the cluster's head (a Ray of this machine, started and ended)",
    ),
    "conformance": ("NAME", "", "check a backend (a name, or module:Class) against the contract instead of comparing"),
    "output": ("DIR", "comparison", "folder for results and report: a new or empty one, or that of a comparison"),
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

_GROUP = ("crosscheck", "comparison of frameworks (rnn-crosscheck)")
#: all arguments of the session, with those of the ini file
_ARGUMENTS = pytest.StashKey[Sequence[str]]()


# --- options ------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Define the ``--crosscheck-*`` options, each also as an ini value."""
    group = parser.getgroup(*_GROUP)
    try:
        group.addoption(
            "--crosscheck",
            action="store_true",
            default=False,
            help="Run the comparison of frameworks that comes with rnn-crosscheck instead of this project's tests.",
        )
        group.addoption(
            "--crosscheck-list",
            action="store_true",
            default=False,
            help="List the backends, whether each can be used here, and what it can do.",
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
        parser.addini("crosscheck_set", type="linelist", help="overrides of the protocol, one KEY=VALUE a line")
    except (ValueError, argparse.ArgumentError) as error:
        _refuse_rival(error)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: Sequence[str]
) -> Generator[None]:
    """Define ``--benchmark`` when all others have defined their options, and only if none of them has it."""
    try:
        yield
    except (ValueError, argparse.ArgumentError) as error:
        _refuse_rival(error)
        raise
    early_config.stash[_ARGUMENTS] = tuple(args)
    if _nobody_has("--benchmark", parser):
        parser.getgroup(*_GROUP).addoption(
            "--benchmark",
            action="store_true",
            default=False,
            dest="crosscheck_benchmark",
            help="The same as --crosscheck.",
        )


def _refuse_rival(error: Exception) -> None:
    """Turn argparse's complaint about an option that two plugins have into a sentence."""
    wording = r"(?:option names \{|argument |option dest )'?(?:--)?(crosscheck[\w-]*)"
    if found := re.match(wording, str(error)):
        option = "--" + found[1].replace("_", "-")
        raise pytest.UsageError(
            f"{option} is an option of rnn-crosscheck, and another plugin or conftest.py of this project defines it "
            "too; rename theirs, or leave rnn-crosscheck out with '-p no:crosscheck'."
        ) from None


def _nobody_has(option: str, parser: pytest.Parser) -> bool:
    try:
        return option in parser.parse_known_and_unknown_args([option])[1]
    except pytest.UsageError:  # somebody has it, with a value
        return False


def _asked(config: pytest.Config) -> bool:
    return bool(config.getoption("crosscheck") or config.getoption("crosscheck_benchmark", False))


def _refuse_idle(config: pytest.Config) -> None:
    """Refuse our options where no comparison is asked for; in the ini file or addopts they may wait for one."""
    for given in config.invocation_params.args:
        option = str(given).partition("=")[0]
        if option.startswith("--crosscheck-") and option != "--crosscheck-list":
            raise pytest.UsageError(f"{option} has a meaning in a comparison only; add --crosscheck.")


def options_of(config: pytest.Config) -> dict[str, str]:
    """Give the text of each of `OPTIONS`: as it was given, or of the ini file, or the default."""
    found = {}
    for name in OPTIONS:
        value = config.getoption(f"--crosscheck-{name}")
        found[name] = str(config.getini(f"crosscheck_{name.replace('-', '_')}") if value is None else value).strip()
    return found


def options(**given: str) -> dict[str, str]:
    """Give the text of each of `OPTIONS` as if the ones named were given: ``options(fail_if="accuracy-drop:1pt")``."""
    return {name: given.get(name.replace("-", "_"), default) for name, (_, default, _) in OPTIONS.items()}


# --- handing over -------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """List the backends, or stand beside pytest-benchmark before that is configured: it reads stored runs then."""
    if config.getoption("--crosscheck-list"):
        from rnn_crosscheck.harness.session.listing import listing

        print(listing())
        return 0
    if _asked(config) and config.pluginmanager.hasplugin("benchmark"):
        from rnn_crosscheck.harness.session.toolchain import Toolchain

        config.pluginmanager.register(
            Toolchain(config, config.stash.get(_ARGUMENTS, config.invocation_params.args)), "crosscheck-toolchain"
        )
    return None


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Hand over to the comparison, if it was asked for."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if config.option.help:
        return
    if not _asked(config):
        _refuse_idle(config)
        return
    from rnn_crosscheck.harness.errors import CrosscheckError, in_a_sentence
    from rnn_crosscheck.harness.execution.apart import Apart
    from rnn_crosscheck.harness.session.choices import choose, device_asked_for
    from rnn_crosscheck.harness.session.session import ComparisonSession, refuse_company

    if checked := options_of(config)["conformance"]:
        from rnn_crosscheck.harness.session.conformance import ConformanceSession

        try:
            conformance = ConformanceSession(config, checked, device_asked_for(options_of(config)))
            config.pluginmanager.register(conformance, "crosscheck-conformance")
        except CrosscheckError as error:
            raise pytest.UsageError(str(error)) from None
        return
    apart = Apart()
    try:
        refuse_company(config)
        overrides = [*config.getini("crosscheck_set"), *(config.getoption("--crosscheck-set") or ())]
        with in_a_sentence("The comparison can't begin"):
            choices = choose(options_of(config), overrides, config.invocation_params.dir)
        session = ComparisonSession(
            config, choices, report=build_report, choose=choose_examples, check=read_baseline, apart=apart
        )
    except CrosscheckError as error:
        raise pytest.UsageError(str(error)) from None
    # Cleaned up first, what came last: signals are let in again when nothing is left that they could hurt.
    config.add_cleanup(apart.close)
    # A run takes as long as it takes; the suite says so to pytest-timeout, which need not be there.
    config.addinivalue_line("markers", "timeout(seconds): limit of one test, read by pytest-timeout")
    config.pluginmanager.register(session, "crosscheck-session")


# --- what the harness has done with the reports, in a process apart ------------------------------------------


def build_report(folder: Path, gates: Sequence[Gate]) -> Summary:
    """Build the report of a comparison's folder and what the terminal shows of it."""
    from rnn_crosscheck.harness.errors import in_a_sentence
    from rnn_crosscheck.harness.session.summary import Summary
    from rnn_crosscheck.reports.analysis.gates import judge
    from rnn_crosscheck.reports.build import build

    with in_a_sentence(f"The report can't be made in {folder}"):
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
    from rnn_crosscheck.harness.errors import in_a_sentence
    from rnn_crosscheck.reports.read.comparison import load_whole

    with in_a_sentence(f"The earlier comparison {folder} can't be read"):
        load_whole(folder)


def choose_examples(folder: Path) -> Mapping[str, Sequence[str]]:
    """Choose the examples whose words are left out: those that the report shows, by run."""
    from rnn_crosscheck.harness.errors import in_a_sentence
    from rnn_crosscheck.reports.analysis.examples import to_read

    with in_a_sentence(f"No examples can be chosen from {folder}"):
        return to_read(folder)
