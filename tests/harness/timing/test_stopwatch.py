"""Measuring in turn: real worker processes with backends that need no framework, some of them broken."""

import os
import platform
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.errors import UsageError
from rnn_crosscheck.harness.execution.chosen import look_up
from rnn_crosscheck.harness.execution.plan import Asked
from rnn_crosscheck.harness.protocol import Protocol, load_protocol
from rnn_crosscheck.harness.results import TimingRecord, TimingResults
from rnn_crosscheck.harness.timing.rounds import balanced_orders
from rnn_crosscheck.harness.timing.stopwatch import Point, Stopwatch, merged, points, sweep_points

SMALL = (
    "data.train_examples=300",
    "data.valid_examples=100",
    "data.test_examples=200",
    "data.length=30",
    "timing.warmup=1",
    "timing.min_rounds=5",
    "timing.max_rounds=8",
)
GLIBC = platform.libc_ver()[0] == "glibc"
STEP = Point("rnn", "train_step")
ONE = Point("rnn", "predict_one")
LARGER = Point("rnn", "train_step", batch_size=64)
LONGER = Point("rnn", "train_step", length=50)


def protocol(*more: str) -> Protocol:
    return load_protocol("quick", (*SMALL, *more))


def stopwatch(folder: Path, of: Protocol, *fakes: str) -> Stopwatch:
    dataset = datasets.load("reviews")
    asked = Asked(of, look_up([f"tests.fakes:{fake}" for fake in fakes]), ("rnn",), (), dataset.fingerprint)
    return Stopwatch(asked, dataset=dataset.path, logs=folder)


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[Point, tuple[TimingRecord, ...]], dict[str, str]]:
    """What a stopwatch says of good and of broken backends, measured together."""
    of = protocol("workers.stall_seconds=5", "timing.starts=2")
    watch = stopwatch(
        tmp_path_factory.mktemp("logs"), of, "Steady", "Sleepy", "Tuned", "Stuck", "Stopped", "Jumping", "Backwards"
    )
    return watch.measure([STEP, ONE, LARGER, LONGER]), watch.failures


Measured = tuple[dict[Point, tuple[TimingRecord, ...]], dict[str, str]]


@pytest.mark.slow
def test_every_backend_and_setting_is_measured_in_the_same_rounds(measured: Measured) -> None:
    records = measured[0][STEP]
    assert [(record.backend, record.setting, record.baseline) for record in records] == [
        ("tests.fakes:Steady", "default", True),
        ("tests.fakes:Sleepy", "default", False),
        ("tests.fakes:Tuned", "default", False),
        ("tests.fakes:Tuned", "tuned", False),
    ]
    assert {len(record.rounds_ns) for record in records} == {len(records[0].again_ns)}
    (starts,) = {record.starts for record in records}
    assert len(starts) == 2
    assert all(5 <= rounds <= 8 for rounds in starts)
    assert sum(starts) == len(records[0].rounds_ns)
    assert all(not record.again_ns for record in records[1:])
    assert {record.examples for record in records} == {32}


@pytest.mark.slow
def test_a_slower_backend_is_slower_by_what_it_sleeps(measured: Measured) -> None:
    steady, sleepy, *_ = measured[0][STEP]
    slept = min(sleepy.rounds_ns)
    assert slept >= 10e6
    assert min(steady.rounds_ns) < slept


@pytest.mark.slow
def test_a_worker_knows_its_setting_and_threads_and_asks_for_no_determinism(measured: Measured) -> None:
    default, tuned = measured[0][STEP][2:]
    assert default.environment["setup"] == "default, 1 threads, deterministic: False"
    assert tuned.environment["setup"] == "tuned, 2 threads, deterministic: False"
    assert (default.environment["variable"], tuned.environment["variable"]) == ("1", "2")
    assert (default.threads, tuned.threads) == (1, 2)
    told = (default.environment.get("freed memory"), tuned.environment.get("freed memory"))
    assert told == (None, "kept" if GLIBC else None)


@pytest.mark.slow
def test_building_the_first_call_and_later_ones_are_apart(measured: Measured) -> None:
    for record in measured[0][STEP]:
        assert 0 < record.build_ns < record.first_call_ns
        assert record.peak_memory_bytes > 10e6


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can start a peak anew")
def test_memory_is_its_own_row_s_also_where_a_worker_keeps_what_it_frees(measured: Measured) -> None:
    before, after = (measured[0][point][2:] for point in (LARGER, LONGER))  # 64 examples a step, then 32
    for larger, smaller in zip(before, after, strict=True):
        assert larger.peak_memory_bytes - smaller.peak_memory_bytes > 0.8 * 32 * 1.6e6


@pytest.mark.slow
def test_single_examples_keep_every_call(measured: Measured) -> None:
    for record in measured[0][ONE]:
        assert record.examples == 1
        assert len(record.calls_ns) > len(record.rounds_ns)
        # A round is the median of its calls.
        assert {min(record.calls_ns), max(record.calls_ns)} != set(record.rounds_ns)
        assert min(record.calls_ns) <= min(record.rounds_ns)
        assert max(record.calls_ns) >= max(record.rounds_ns)
    assert all(not record.calls_ns for record in measured[0][STEP])


@pytest.mark.slow
def test_a_sweep_measures_other_sizes(measured: Measured) -> None:
    larger = measured[0][LARGER]
    assert {(record.batch_size, record.length, record.examples) for record in larger} == {(64, 0, 64)}
    longer = measured[0][LONGER]
    assert {(record.batch_size, record.length, record.examples) for record in longer} == {(0, 50, 32)}
    # All of them belong to the comparison under one key.
    assert {record.key for record in longer if record.baseline} == {
        record.key for record in measured[0][STEP] if record.baseline
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fake", "reason"),
    [
        ("Stuck", r"^The worker said nothing for 5 s and was stopped\.$"),
        ("Stopped", r"^A call of rnn-predict_one took 0 ns by the worker's clock, which can't be\.$"),
        (
            "Jumping",
            r"took 360\d\.\d+ s by the worker's clock, but it was over after 0\.\d+ s; the clock has jumped\.$",
        ),
        ("Backwards", r"^A call of rnn-predict_one took -3599\d+ ns by the worker's clock, which can't be\.$"),
    ],
)
def test_a_worker_that_hangs_or_has_no_clock_is_left_out_with_a_sentence(
    measured: Measured, fake: str, reason: str
) -> None:
    failures = measured[1]
    assert set(failures) == {f"tests.fakes:{name}, rnn" for name in ("Stuck", "Stopped", "Jumping", "Backwards")}
    assert re.search(reason, failures[f"tests.fakes:{fake}, rnn"]), failures


@pytest.mark.slow
def test_without_the_baseline_nothing_is_called_one(tmp_path: Path) -> None:
    watch = stopwatch(tmp_path, protocol("timing.starts=1"), "Stopped", "Steady")
    records = watch.measure([STEP])[STEP]
    assert [(record.backend, record.baseline) for record in records] == [("tests.fakes:Steady", False)]
    assert set(watch.failures) == {"tests.fakes:Stopped, rnn", "tests.fakes:Stopped (second worker), rnn"}


@pytest.mark.slow
def test_a_worker_measures_all_models_unless_they_want_other_threads(tmp_path: Path) -> None:
    of = protocol("timing.starts=1", 'timing.tuned_operations=["train_step"]')
    watch = stopwatch(tmp_path, of, "Steady", "Tuned")
    cells = [Point("rnn", "train_step"), Point("lstm", "train_step"), Point("lstm", "predict_batch")]
    told: list[str] = []
    found = watch.measure(cells, tell=told.append)
    assert watch.failures == {}
    measured = [text.partition(":")[0] for text in told if ":" in text]
    assert measured == ["lstm predict_batch", "rnn train_step", "lstm train_step"], (
        "training leaves its traces in memory"
    )
    assert sorted(path.stem.partition("fakes.")[2] for path in tmp_path.iterdir()) == [
        "Steady-lstm", "Steady-lstm-again", "Tuned-lstm", "Tuned-rnn-tuned"
    ]  # fmt: skip
    settings = [[record.setting for record in found[cell] if record.backend.endswith("Tuned")] for cell in cells]
    assert settings == [["default", "tuned"], ["default", "tuned"], ["default"]]


@pytest.mark.slow
def test_rounds_end_at_the_limit_of_time(tmp_path: Path) -> None:
    of = protocol("timing.starts=1", "timing.max_seconds=0.001", "timing.max_rounds=500", "timing.target=1e-9")
    (record,) = stopwatch(tmp_path, of, "Steady").measure([STEP])[STEP]
    assert (record.stopped, len(record.rounds_ns)) == ("time", 5)


@pytest.mark.parametrize("n", range(1, 9))
def test_every_worker_has_every_place_and_every_predecessor_equally_often(n: int) -> None:
    orders = balanced_orders(n)
    assert all(sorted(order) == list(range(n)) for order in orders)
    places = Counter((place, worker) for order in orders for place, worker in enumerate(order))
    assert len(set(places.values())) == 1
    assert len(places) == n * n
    pairs = Counter(pair for order in orders for pair in pairwise(order))
    assert len(pairs) == n * (n - 1)
    assert len(set(pairs.values())) <= 1


def test_a_sweep_leaves_out_what_is_measured_anyway() -> None:
    of = protocol("data.length=100")
    assert [point.name for point in points(of, ["rnn"])] == ["rnn-train_step", "rnn-predict_batch", "rnn-predict_one"]
    sizes = ["batch1", "batch8", "batch128", "batch512", "length250", "length500"]
    assert [point.name for point in sweep_points(of, ["rnn"])] == [
        f"rnn-{operation}-{size}" for operation in ("train_step", "predict_batch") for size in sizes
    ]


def test_what_is_measured_anew_takes_the_place_of_its_own_records_only() -> None:
    def record(**changes: object) -> TimingRecord:
        known = {"backend": "a", "model": "rnn", "operation": "train_step", "examples": 1, "rounds_ns": (1,),
                 "first_call_ns": 1, "baseline": True, "stopped": "limit", "threads": 1,
                 "peak_memory_bytes": 1}  # fmt: skip
        return TimingRecord.model_validate(known | changes)

    old = TimingResults(records=(record(), record(batch_size=8), record(operation="predict_one")))
    new = merged(old, Point("rnn", "train_step", batch_size=8), [record(batch_size=8, rounds_ns=(2,))], {"b": "gone"})
    assert [(each.point, each.rounds_ns) for each in new.records] == [
        (("rnn", "train_step", 0, 0), (1,)),
        (("rnn", "predict_one", 0, 0), (1,)),
        (("rnn", "train_step", 8, 0), (2,)),
    ]
    assert new.failures == {"b": "gone"}


def test_settings_without_the_default_are_refused() -> None:
    with pytest.raises(UsageError, match="must have 'default'"):
        protocol('timing.settings=["tuned"]')


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores can be chosen on Linux only")
def test_the_workers_of_a_start_share_a_core(measured: Measured) -> None:
    for record in measured[0][STEP][2:]:
        assert record.environment["cores"] == str(min(record.threads, len(os.sched_getaffinity(0))))
