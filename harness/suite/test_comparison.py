"""What ``pytest --benchmark`` runs: one test a run, one a cell of the timing table.

The work is done by the `crosscheck` fixture; a test waits for it, says what went wrong, and hands the recorded
times to pytest-benchmark.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.session import ComparisonSession, RecordedClock, Timed

pytestmark = [
    # A run that failed has no times to hand over; its failure says enough.
    pytest.mark.filterwarnings("ignore:Benchmark fixture was not used at all"),
    # A training may take hours; a worker that hangs is stopped by `workers.stall_seconds`.
    pytest.mark.timeout(0),
]


def _replay(request: pytest.FixtureRequest, benchmark: BenchmarkFixture, seconds: Sequence[float]) -> None:
    """Hand measured rounds to pytest-benchmark, which reads them off the test's recorded clock."""
    marker = request.node.get_closest_marker("benchmark")
    clock = marker.kwargs["timer"]
    assert isinstance(clock, RecordedClock)
    clock.load(seconds)
    benchmark.pedantic(lambda: None, rounds=len(seconds), iterations=1)


def test_training(
    crosscheck: ComparisonSession, run_id: str, request: pytest.FixtureRequest, benchmark: BenchmarkFixture
) -> None:
    """The run ends with a result; its epochs are entries of pytest-benchmark."""
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
        division=result.spec.division,
        seed=result.spec.seed,
        threads=result.spec.threads,
        jobs=result.jobs,
        test_accuracy=result.scores.accuracy,
        test_loss=result.scores.loss,
        environment=result.environment,
    )
    _replay(request, benchmark, [record.seconds for record in result.history])


def test_timing(
    crosscheck: ComparisonSession, timed: Timed, request: pytest.FixtureRequest, benchmark: BenchmarkFixture
) -> None:
    """The operation was measured, in turn with the other backends; its rounds are entries of pytest-benchmark."""
    info = crosscheck.info(timed.backend)
    if info.unavailable:
        pytest.skip(info.unavailable)
    record = crosscheck.timing(timed)
    if isinstance(record, str):
        pytest.fail(record, pytrace=False)
    benchmark.extra_info.update(
        backend=record.backend,
        model=record.model,
        operation=record.operation,
        setting=record.setting,
        threads=record.threads,
        examples=record.examples,
        environment=record.environment,
    )
    _replay(request, benchmark, [ns / 1e9 for ns in record.rounds_ns])
