"""What ``pytest --benchmark`` runs: one test a run, two a backend on trained weights, one a cell of the timing table.

The work is done by the `crosscheck` fixture; a test waits for it, says what went wrong, and hands the recorded
times to pytest-benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from rnn_crosscheck.harness.results import TRANSPLANT_TOLERANCE, OcclusionsRecord, Stage, TransplantsRecord
from rnn_crosscheck.harness.session.collection import RecordedClock
from rnn_crosscheck.harness.session.comparison import Comparison
from rnn_crosscheck.harness.session.timed import Timed
from rnn_crosscheck.harness.session.toolchain import PARAMETERS

Record = TypeVar("Record", TransplantsRecord, OcclusionsRecord)

pytestmark = [
    # A training may take hours; a worker that hangs is stopped by `workers.stall_seconds`.
    pytest.mark.timeout(0),
]


def _replay(request: pytest.FixtureRequest, benchmark: BenchmarkFixture, seconds: Sequence[float]) -> None:
    """Hand measured rounds to pytest-benchmark, which reads them off the test's recorded clock."""
    marker = request.node.get_closest_marker("benchmark")
    clock = marker.kwargs["timer"]
    assert isinstance(clock, RecordedClock)
    clock.load(seconds)
    # Stored runs are compared by this name. The usual one has the place of this file in it, which depends on where
    # pytest was started.
    benchmark.fullname = f"::{request.node.name}"
    benchmark.params = {name: benchmark.extra_info.get(name) for name in PARAMETERS}
    benchmark.pedantic(lambda: None, rounds=len(seconds), iterations=1)


def test_parity(crosscheck: Comparison, check: str, stage: Stage) -> None:
    """A matched model stays within the tolerance of the stage, beside the float64 reference."""
    record = crosscheck.parity(check)
    if isinstance(record, str):
        pytest.fail(record, pytrace=False)
    beyond = [found for found in record.stages if found.stage == stage and not found.ok]
    if beyond:
        worst = max(beyond, key=lambda found: found.error / (found.tolerance or 1))
        size = worst.error
        kind = "largest" if worst.measure == "max" else "relative"
        cause = ""
        if record.explanation is not None and record.explanation.values:
            values = " and ".join(f"{key} = {value}" for key, value in record.explanation.values.items())
            cause = f" The reference does the same with {values}."
        first = record.first_failed
        assert first is not None
        before = "" if first.stage == stage else f" It left its tolerance before, at {first.stage}: {first.parameter}."
        pytest.fail(
            f"{record.backend}, {record.model}: {stage}: {worst.parameter} has a {kind} error of {size:.2g}, expected "
            f"at most {worst.tolerance:g}.{before}{cause}",
            pytrace=False,
        )


def test_effects(crosscheck: Comparison, check: str) -> None:
    """What the report says about causes was computed: stages of native models, effects of the factors."""
    answer = crosscheck.check(check)
    if isinstance(answer, str):
        pytest.fail(answer, pytrace=False)


def test_training(
    crosscheck: Comparison, run_id: str, request: pytest.FixtureRequest, benchmark: BenchmarkFixture
) -> None:
    """The run ends with a result; its epochs are entries of pytest-benchmark."""
    _wait(crosscheck, run_id, request, benchmark)


def test_twin(crosscheck: Comparison, run_id: str, request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> None:
    """The twin of a matched run ends with a result."""
    _wait(crosscheck, run_id, request, benchmark)


def test_factor(
    crosscheck: Comparison, run_id: str, request: pytest.FixtureRequest, benchmark: BenchmarkFixture
) -> None:
    """A matched run with one factor switched ends with a result."""
    _wait(crosscheck, run_id, request, benchmark)


def _wait(crosscheck: Comparison, run_id: str, request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> None:
    result = crosscheck.result(run_id)
    if result.status == "unavailable":
        assert result.failure is not None
        pytest.skip(result.failure.reason)
    if result.status == "failed":
        assert result.failure is not None
        pytest.fail(f"{result.failure.reason}\n{result.failure.log_tail}".strip(), pytrace=False)
    assert result.scores is not None
    benchmark.extra_info.update(
        backend=result.spec.backend,
        model=result.spec.model.name,
        operation="epoch",
        division=result.spec.division,
        seed=result.spec.seed,
        threads=result.spec.threads,
        jobs=result.jobs,
        test_accuracy=result.scores.accuracy,
        test_loss=result.scores.loss,
        environment=result.environment,
    )
    _replay(request, benchmark, [record.seconds for record in result.history])


def test_transplant(crosscheck: Comparison, target: str) -> None:
    """Trained weights of every backend predict in this one what they predicted at home."""
    record = _trained(crosscheck, target, crosscheck.transplants, "No run has ended with a result: no trained weights.")
    if not record.transplants:
        pytest.skip(next(f"{run_id}: {reason}" for run_id, reason in record.left_out.items()))
    worst = max(record.transplants, key=lambda transplant: transplant.max_difference)
    if worst.max_difference > TRANSPLANT_TOLERANCE:
        pytest.fail(
            f"{target}: with the trained weights of {worst.source} a probability differs by {worst.max_difference:.2g} "
            f"from what that run predicted, expected at most {TRANSPLANT_TOLERANCE:g}.",
            pytrace=False,
        )


def test_words(crosscheck: Comparison, target: str) -> None:
    """The examples that the report shows were predicted with their words left out."""
    record = _trained(crosscheck, target, crosscheck.occlusions, "No run of this backend has an example to be read.")
    if not record.runs:
        pytest.skip(next(f"{run_id}: {reason}" for run_id, reason in record.left_out.items()))


def _trained(crosscheck: Comparison, target: str, find: Callable[[str], Record | str | None], nothing: str) -> Record:
    """Give what was made in a backend from trained weights; skip without any, fail with the worker's reason."""
    if unavailable := crosscheck.info(target).unavailable:
        pytest.skip(unavailable)
    record = find(target)
    if record is None:
        pytest.skip(nothing)
    if isinstance(record, str):
        pytest.fail(record, pytrace=False)
    return record


def test_timing(
    crosscheck: Comparison, timed: Timed, request: pytest.FixtureRequest, benchmark: BenchmarkFixture
) -> None:
    """The operation was measured, in turn with the other backends; its rounds are entries of pytest-benchmark."""
    info = crosscheck.info(timed.backend)
    if info.unavailable:
        pytest.skip(info.unavailable)
    answer = crosscheck.timing(timed)
    if isinstance(answer, str):
        pytest.fail(answer, pytrace=False)
    record, ratio = answer
    benchmark.extra_info.update(
        backend=record.backend,
        model=record.model,
        operation=record.operation,
        setting=record.setting,
        threads=record.threads,
        examples=record.examples,
        batch_size=record.examples,
        length=record.length or crosscheck.protocol.data.length,
        starts=record.starts,
        versions=dict(info.versions),
        environment=record.environment,
    )
    if ratio is not None and not record.baseline:
        benchmark.extra_info.update(
            baseline=crosscheck.baseline, ratio=ratio.value, ratio_low=ratio.low, ratio_high=ratio.high
        )
    _replay(request, benchmark, [ns / 1e9 for ns in record.rounds_ns])
