"""From choices to tests: what each test of the suite is asked of, and what of it was selected."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from rnn_crosscheck.harness.errors import UsageError
from rnn_crosscheck.harness.execution.plan import ABLE, Plan, PlannedRun
from rnn_crosscheck.harness.folder import resolved
from rnn_crosscheck.harness.results import STAGES
from rnn_crosscheck.harness.session.choices import Choices
from rnn_crosscheck.harness.session.timed import Timed
from rnn_crosscheck.harness.timing.stopwatch import points, sweep_points, timed_settings

SUITE = Path(__file__).parent / "suite" / "test_comparison.py"

#: one test: its values, their name in the node id, and its marks
Param = tuple[tuple[Any, ...], str, tuple[Any, ...]]


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


# --- what each test is asked of -----------------------------------------------------------------------------


def _run(run: PlannedRun, kind: str) -> Param:
    spec = run.spec
    benchmark = pytest.mark.benchmark(group=f"{spec.model.name} epoch, {spec.division}", timer=RecordedClock())
    marks = (getattr(pytest.mark, spec.division), getattr(pytest.mark, kind), benchmark)
    return (run.run_id,), run.run_id, marks


def _stages(choices: Choices, plan: Plan) -> Iterable[Param]:
    marks = (pytest.mark.matched, pytest.mark.parity)
    for check in plan.checks:
        if check.mode == "parity" and check.spec.division == "matched":
            for stage in STAGES:
                yield (check.name, stage), f"{check.name.removeprefix('matched-')}-{stage}", marks


def _effects(choices: Choices, plan: Plan) -> Iterable[Param]:
    for check in plan.checks:
        if check.mode == "effects" or check.spec.division == "native":
            yield (check.name,), check.name, (pytest.mark.parity,)


def _trainings(choices: Choices, plan: Plan) -> Iterable[Param]:
    return (_run(run, "training") for run in plan.runs)


def _twins(choices: Choices, plan: Plan) -> Iterable[Param]:
    return (_run(run, "twin") for run in plan.variants if run.spec.twin)


def _factors(choices: Choices, plan: Plan) -> Iterable[Param]:
    return (_run(run, "factor") for run in plan.variants if run.spec.variant)


def _able(mode: str) -> Callable[[Choices, Plan], Iterable[Param]]:
    """One test a backend that is asked this of trained weights."""

    def params(choices: Choices, plan: Plan) -> Iterable[Param]:
        for info in choices.backends:
            if info.backend.capabilities & ABLE[mode]:
                yield (info.name,), info.name.replace(":", "."), (pytest.mark.trained,)

    return params


def _timings(choices: Choices, plan: Plan) -> Iterable[Param]:
    protocol = choices.protocol
    for model in choices.models:  # model by model, since workers live as long as their model is measured
        swept = sweep_points(protocol, [model]) if choices.sweep else ()
        for point, info in product((*points(protocol, [model]), *swept), choices.backends):
            for setting in timed_settings(protocol, info, point.operation):
                cell = Timed(info.name, setting, point)
                benchmark = pytest.mark.benchmark(group=point.name.replace("-", " "), timer=RecordedClock())
                yield (cell,), cell.name, (pytest.mark.native, pytest.mark.timing, benchmark)


#: test of the suite -> its arguments, and what it is asked of
KINDS: Mapping[str, tuple[tuple[str, ...], Callable[[Choices, Plan], Iterable[Param]]]] = {
    "test_parity": (("check", "stage"), _stages),
    "test_effects": (("check",), _effects),
    "test_training": (("run_id",), _trainings),
    "test_twin": (("run_id",), _twins),
    "test_factor": (("run_id",), _factors),
    "test_transplant": (("target",), _able("transplant")),
    "test_words": (("target",), _able("occlude")),
    "test_timing": (("timed",), _timings),
}


def parametrize(metafunc: pytest.Metafunc, choices: Choices, plan: Plan) -> None:
    """Make one test of each thing that a function of the suite is asked of."""
    names, params = KINDS[metafunc.function.__name__]
    found = [
        pytest.param(*values, id=name, marks=(*marks, pytest.mark.crosscheck))
        for values, name, marks in params(choices, plan)
    ]
    metafunc.parametrize(names, found)


def asks_nothing(item: pytest.Item) -> bool:
    """Whether a test was made from an empty list of parameters; pytest gives it a value that stands for none."""
    given = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    return item.path == SUITE and any(type(value).__name__ == "NotSetType" for value in given)


# --- what was selected --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selected:
    """What is to be computed for the tests that were selected.

    Run ids, names of checks, what is asked of trained weights (``transplant`` or ``occlude``, and the backend), timed
    cells.
    """

    runs: tuple[str, ...]
    checks: tuple[str, ...]
    trained: tuple[tuple[str, str], ...]
    timed: tuple[Timed, ...]


def selected(items: Iterable[pytest.Item]) -> Selected:
    """Find what the tests of the suite need."""
    # What pytest-benchmark skips (--benchmark-only) isn't to be computed either.
    asked = [
        item
        for item in items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec") and not item.get_closest_marker("skip")
    ]

    def values(name: str) -> tuple[Any, ...]:
        params = [item.callspec.params for item in asked]
        return tuple(dict.fromkeys(given[name] for given in params if name in given))

    modes = {"test_transplant": "transplant", "test_words": "occlude"}
    trained = [
        (modes[item.originalname], str(item.callspec.params["target"])) for item in asked if item.originalname in modes
    ]
    return Selected(values("run_id"), values("check"), tuple(trained), values("timed"))


def arguments(config: pytest.Config) -> list[str]:
    """Node ids to collect: the whole suite, or what was named of it.

    Raises
    ------
    UsageError
        A file of somebody's own tests was named.
    """
    if config.args_source is not config.ArgsSource.ARGS:
        return [str(SUITE)]
    found = []
    for argument in config.args:
        path, separator, name = argument.partition("::")
        place = resolved(config.invocation_params.dir / path)
        if not path or path.startswith(tuple(KINDS)):
            found.append(f"{SUITE}::{name or path}")
        elif place in (SUITE.resolve(), SUITE.resolve().parent):
            found.append(f"{SUITE}{separator}{name}")
        else:
            raise UsageError(
                f"--benchmark runs the comparison instead of test files, got {argument!r}; leave it out, or name "
                "a test of the comparison, for example 'test_training[native-pytorch-lstm-seed0]', or use -k."
            )
    return found
