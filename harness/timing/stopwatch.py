"""Interleaved measurement of several live workers.

Workers of all compared backends and settings are alive at once, idle ones asleep on a pipe. The order changes from
round to round, so that no worker always runs second or always after the same other one, and rounds go on until the
ratios to the baseline are known well enough or a limit is reached. The baseline is measured in a second worker as well:
the spread of that A/A ratio is the noise of the machine. The clock is the worker's own, read around the call; pipes are
outside of it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, product
from math import ceil
from pathlib import Path
from statistics import fmean, median
from typing import Any

from rnn_crosscheck.harness.execution.chosen import BackendInfo, address, settings_of, threads_of, worker_environment
from rnn_crosscheck.harness.execution.plan import Asked, run_key, source_of
from rnn_crosscheck.harness.execution.process import WorkerFailure, WorkerProcess
from rnn_crosscheck.harness.machine import available_cores, load_average
from rnn_crosscheck.harness.protocol import Operation, Protocol, RunSpec, Setting
from rnn_crosscheck.harness.results import TimingRecord, TimingResults
from rnn_crosscheck.harness.timing.ratios import ratio
from rnn_crosscheck.harness.timing.rounds import balanced_orders, cores_in_turn

#: a round shorter than this is repeated inside, since the clock and the wake-up would weigh too much
_ROUND_NS = 20_000_000
#: a round of shorter calls begins with one that isn't timed: the caches are another worker's
_LEAD_IN_NS = 100_000_000
#: what the worker's clock may be ahead of the parent's, which sees the pipe as well
_AHEAD_NS = 5_000_000
#: a worker's clock that ran for less than this share of what the parent waited, and five seconds less, has stood still
_BEHIND = 0.5
_BEHIND_NS = 5_000_000_000


@dataclass(frozen=True)
class Point:
    """What is measured together, in all backends: an operation of a model, perhaps at other sizes than the protocol's.

    `batch_size` and `length` are those of a sweep; 0 for the protocol's.
    """

    model: str
    operation: Operation
    batch_size: int = 0
    length: int = 0

    @property
    def name(self) -> str:
        """As in node ids: ``lstm-train_step``, ``lstm-train_step-batch128``, ``lstm-train_step-length250``."""
        sizes = (f"-batch{self.batch_size}" if self.batch_size else "") + (f"-length{self.length}" * bool(self.length))
        return f"{self.model}-{self.operation}{sizes}"


def points(protocol: Protocol, models: Sequence[str]) -> tuple[Point, ...]:
    """List what every comparison measures, model by model."""
    return tuple(Point(model, operation) for model, operation in product(models, protocol.timing.operations))


def sweep_points(protocol: Protocol, models: Sequence[str]) -> tuple[Point, ...]:
    """List what a sweep measures besides: each operation on batches, at other batch sizes and at other lengths."""
    operations = [operation for operation in protocol.timing.operations if operation != "predict_one"]
    sizes = [size for size in protocol.timing.sweep_batches if size != protocol.training.batch_size]
    lengths = [length for length in protocol.timing.sweep_lengths if length != protocol.data.length]
    found = []
    for model, operation in product(models, operations):
        found += [Point(model, operation, batch_size=size) for size in sizes]
        found += [Point(model, operation, length=length) for length in lengths]
    return tuple(found)


def timed_settings(protocol: Protocol, info: BackendInfo, operation: Operation) -> tuple[Setting, ...]:
    """List the settings that an operation of a backend is timed in; none if it can't be timed."""
    if not can_be_timed(info, operation):
        return ()
    tuned = operation in protocol.timing.tuned_operations
    return tuple(setting for setting in settings_of(protocol, info) if setting == "default" or tuned)


def can_be_timed(info: BackendInfo, operation: Operation) -> bool:
    """Whether an operation can be timed: in native models, and predictions of a backend that trains nothing."""
    return "native" in info.backend.capabilities or (not info.trains and operation != "train_step")


@dataclass
class _Lane:
    """One worker in an interleaved measurement."""

    info: BackendInfo
    setting: Setting
    threads: int
    worker: WorkerProcess
    again: bool = False
    loops: int = 1
    lead_in: int = 0
    build_ns: int = 0
    first_ns: int = 0
    examples: int = 0
    rounds: list[int] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)


class Stopwatch:
    """Workers of several backends, asked to measure operations.

    A worker serves all models, but where the threads of a tuned setting depend on the model. Of the backends that are
    `asked` for, which all can be timed, the first is the baseline. `dataset` is the folder of the encoded dataset, and
    `logs` that for what the workers print. `failures` says why a worker was left out, by its name.
    """

    def __init__(self, asked: Asked, *, dataset: Path, logs: Path) -> None:
        self._asked = asked
        self._protocol = asked.protocol
        self._dataset = dataset
        self._logs = logs
        #: those that are alive, and of them those that measure the model at hand
        self._alive: dict[tuple[str, Setting, bool, int], _Lane] = {}
        self._lanes: list[_Lane] = []
        self._baseline = asked.backends[0].name if asked.backends else ""
        self.failures: dict[str, str] = {}

    def close(self) -> None:
        """End the workers."""
        for lane in self._alive.values():
            lane.worker.stop()
        self._alive, self._lanes = {}, []

    def measure(
        self,
        wanted: Sequence[Point],
        tell: Callable[[str], None] = lambda text: None,
        keep: Callable[[dict[Point, tuple[TimingRecord, ...]]], None] = lambda found: None,
    ) -> dict[Point, tuple[TimingRecord, ...]]:
        """Measure some operations in every worker, in turn, and all of it again in workers that are started afresh.

        Predictions come before training steps, which leave a process's memory in pieces: afterwards an LSTM of Keras
        predicts slower in some processes and not in others.

        `tell` is called with a sentence after each operation, `keep` with what there is after each start. A worker that
        fails is left out and named in `failures`; the others go on. What it measured before it failed is dropped.
        """
        found: dict[Point, list[list[TimingRecord]]] = {
            point: [] for point in sorted(wanted, key=lambda point: point.operation == "train_step")
        }
        try:
            for start in range(self._protocol.timing.starts):
                tell(f"starting workers ({start + 1} of {self._protocol.timing.starts})")
                for point in found:
                    self._man(point, start)
                    began = time.monotonic()
                    records = self._measure_once(point)
                    found[point].append(records)
                    rounds = max((len(record.rounds_ns) for record in records), default=0)
                    tell(f"{point.name.replace('-', ' ')}: {rounds} rounds in {time.monotonic() - began:.1f} s")
                self.close()
                keep({point: tuple(_joined(starts)) for point, starts in found.items()})
        finally:
            self.close()
        return {point: tuple(_joined(starts)) for point, starts in found.items()}

    def _man(self, point: Point, start: int) -> None:
        """Have a worker of each backend and setting that is measured and hasn't failed, and the baseline's second."""
        model = point.model
        cores = cores_in_turn(start)
        lanes = [
            (info, setting, False)
            for info in self._asked.backends
            for setting in timed_settings(self._protocol, info, point.operation)
        ]
        lanes += [(info, "default", True) for info, _, _ in lanes if info is self._asked.backends[0]][:1]
        self._lanes, fresh = [], []
        for info, setting, again in lanes:
            threads = threads_of(self._protocol, info, model, setting)
            place = (info.name, setting, again, threads)
            if _failure(info.name, setting, again, model) in self.failures:
                continue
            if place not in self._alive:
                self._alive[place] = self._lane(info, model, place, cores[:threads])
                fresh.append(self._alive[place])
            self._lanes.append(self._alive[place])
        for lane in fresh:
            with self._surviving(lane, model):
                lane.worker.receive(self._protocol.workers.stall_seconds)

    def _lane(
        self, info: BackendInfo, model: str, place: tuple[str, Setting, bool, int], cores: Sequence[int]
    ) -> _Lane:
        """Start a worker; its log is named after the first model that it measures."""
        _, setting, again, threads = place
        common = {"backend": address(info), "dataset": str(self._dataset)}
        task = {"mode": "time", "threads": threads, "setting": setting, "cores": list(cores)}
        name = f"timing-{info.name.replace(':', '.')}-{model}"
        name += ("" if setting == "default" else f"-{setting}") + ("-again" if again else "")
        # What a framework's users get by default hands freed memory back.
        environment = worker_environment(info, threads, self._asked.device, keep_memory=setting == "tuned")
        worker = WorkerProcess(common, task, environment=environment, log=self._logs / f"{name}.log")
        return _Lane(info, setting, threads, worker, again)

    def _measure_once(self, point: Point) -> list[TimingRecord]:
        """Measure one operation in the live workers."""
        timing = self._protocol.timing
        for lane in self._lanes:
            lane.rounds, lane.calls = [], []
        self._prepare(point)
        done, stopped, began = 0, "limit", time.monotonic()
        while done < timing.max_rounds and (lanes := list(self._lanes)):
            orders = balanced_orders(len(lanes))
            for place in orders[done % len(orders)]:
                lane = lanes[place]
                with self._surviving(lane, point.model):
                    calls = self._round(lane, point, lane.loops, lane.lead_in)
                    lane.rounds.append(max(1, round(median(calls))))
                    lane.calls += calls if point.operation == "predict_one" else []
            done += 1
            if done >= timing.min_rounds:
                # Starts are averaged, which shortens the reach by the root of their number.
                if self._known(timing.target * timing.starts**0.5):
                    stopped = "target"
                    break
                if time.monotonic() - began > timing.max_seconds:
                    stopped = "time"
                    break
        return list(self._records(point, stopped))

    def _prepare(self, point: Point) -> None:
        """Have the workers build their model and call it once, as many of them at a time as there are cores; warm up.

        That is when frameworks trace and compile, which takes longer than all rounds and is no part of a ratio.
        """
        lanes, at_once = list(self._lanes), available_cores()
        for some in (lanes[start : start + at_once] for start in range(0, len(lanes), at_once)):
            for lane in some:
                spec = self._spec(lane, point).model_dump(mode="json")
                lane.worker.send({"do": "prepare", "operation": point.operation, "spec": spec})
            for lane in some:
                with self._surviving(lane, point.model):
                    built = lane.worker.receive(self._protocol.workers.stall_seconds)
                    lane.examples, lane.build_ns = int(built["examples"]), int(built["ns"])
                    lane.first_ns = lane.build_ns + int(built["first_ns"])
        for lane in list(self._lanes):
            with self._surviving(lane, point.model):
                warm = min(sum(self._round(lane, point, 1)) for _ in range(self._protocol.timing.warmup))
                lane.loops = max(1, ceil(_ROUND_NS / max(1, warm)))
                lane.lead_in = int(warm < _LEAD_IN_NS)

    def _round(self, lane: _Lane, point: Point, loops: int, lead_in: int = 0) -> list[int]:
        """Have a worker make some calls; nanoseconds of each by its clock.

        A clock that can't be right is the worker's failure: a ratio would be made of nothing.
        """
        began = time.perf_counter_ns()
        calls = [int(ns) for ns in self._ask(lane, do="round", loops=loops, lead_in=lead_in)["calls"]]
        waited = time.perf_counter_ns() - began
        if len(calls) != loops:
            problem = f"{len(calls)} calls were timed where {loops} were asked for."
        else:
            problem = _wrong_with(calls, waited, loops / (loops + lead_in), point.name)
        if problem:
            raise WorkerFailure(lane.worker.failure(problem))
        return calls

    def _ask(self, lane: _Lane, **command: Any) -> Mapping[str, Any]:  # noqa: ANN401 - plain values
        lane.worker.send(command)
        return lane.worker.receive(self._protocol.workers.stall_seconds)

    def _spec(self, lane: _Lane, point: Point) -> RunSpec:
        spec = timing_spec(self._asked, lane.info, point.model, lane.setting)
        length = point.length or spec.data.length
        batch_size = point.batch_size or spec.training.batch_size
        return spec.model_copy(
            update={
                "data": spec.data.model_copy(update={"length": length}),
                "model": spec.model.model_copy(update={"length": length}),
                "training": spec.training.model_copy(update={"batch_size": batch_size}),
            }
        )

    @contextmanager
    def _surviving(self, lane: _Lane, model: str) -> Iterator[None]:
        """Let a worker's failure cost that worker only, and the model that it was at."""
        try:
            yield
        except WorkerFailure as error:
            lane.worker.stop()
            self._lanes = [other for other in self._lanes if other is not lane]
            self._alive = {place: other for place, other in self._alive.items() if other is not lane}
            self.failures[_failure(lane.info.name, lane.setting, lane.again, model)] = error.failure.reason

    def _known(self, target: float) -> bool:
        """Whether every ratio to the baseline has a 95 % interval within the target."""
        base = self._base()
        return base is None or all(
            ratio(lane.rounds, base.rounds).reach <= target
            for lane in self._lanes
            if lane is not base and len(lane.rounds) == len(base.rounds)
        )

    def _base(self) -> _Lane | None:
        plain = [lane for lane in self._lanes if lane.setting == "default" and not lane.again]
        return next((lane for lane in plain if lane.info.name == self._baseline), None)

    def _records(self, point: Point, stopped: str) -> Iterator[TimingRecord]:
        again = next((lane for lane in self._lanes if lane.again), None)
        base = self._base()
        for lane in [lane for lane in self._lanes if lane.rounds and not lane.again]:
            facts: Mapping[str, Any] = {}
            with self._surviving(lane, point.model):
                facts = self._ask(lane, do="facts")
            if not facts:
                continue
            yield TimingRecord(
                # The protocol's sizes and the default setting, whatever was measured.
                key=timing_key(timing_spec(self._asked, lane.info, point.model), lane.info, self._baseline),
                backend=lane.info.name,
                model=point.model,
                operation=point.operation,
                setting=lane.setting,
                batch_size=point.batch_size,
                length=point.length,
                examples=lane.examples,
                rounds_ns=tuple(lane.rounds),
                again_ns=tuple(again.rounds) if again is not None and lane is base else (),
                calls_ns=tuple(lane.calls),
                build_ns=lane.build_ns,
                first_call_ns=lane.first_ns,
                baseline=lane is base,
                stopped=stopped,
                threads=lane.threads,
                load=load_average(),
                peak_memory_bytes=int(facts["peak_memory_bytes"]),
                environment={str(k): str(v) for k, v in facts["environment"].items()},
            )


def _wrong_with(calls: Sequence[int], waited: int, share: float, name: str) -> str:
    """Say why the worker's clock can't be right, if it can't: `share` of what was waited was timed, in nanoseconds."""
    took, over = f"{sum(calls) / 1e9:.3f} s by the worker's clock", f"{waited / 1e9:.3f} s"
    if min(calls) <= 0:
        return f"A call of {name} took {min(calls)} ns by the worker's clock, which can't be."
    if sum(calls) > waited + _AHEAD_NS:
        return f"A round of {name} took {took}, but it was over after {over}; the clock has jumped."
    if sum(calls) < _BEHIND * waited * share - _BEHIND_NS:
        return (
            f"A round of {name} took {took}, but was waited for {over}; the clock has stood still, or the worker did."
        )
    return ""


def _failure(backend: str, setting: Setting, again: bool, model: str) -> str:
    """Name a worker as `Stopwatch.failures` does."""
    shown = "" if setting == "default" else f" ({setting})"
    return f"{backend}{shown}{' (second worker)' if again else ''}, {model}"


def why_not(failures: Mapping[str, str], backend: str, setting: Setting, model: str, *, again: bool = False) -> str:
    """Say why there are no figures of a worker, or of the baseline's second."""
    return failures.get(_failure(backend, setting, again, model), "The worker left no figures.")


def _joined(starts: Sequence[Sequence[TimingRecord]]) -> Iterator[TimingRecord]:
    """Put the records of one operation of all starts together, of each worker that didn't fail in any."""
    records = list(chain.from_iterable(starts))
    for first in starts[0] if starts else ():
        mine = [other for other in records if (other.backend, other.setting) == (first.backend, first.setting)]
        if len(mine) != len(starts):
            continue
        again = all(record.again_ns for record in mine)
        yield mine[-1].model_copy(
            update={
                "rounds_ns": tuple(chain.from_iterable(record.rounds_ns for record in mine)),
                "again_ns": tuple(chain.from_iterable(record.again_ns for record in mine)) if again else (),
                "calls_ns": tuple(chain.from_iterable(record.calls_ns for record in mine)),
                "starts": tuple(len(record.rounds_ns) for record in mine),
                "build_ns": round(fmean(record.build_ns for record in mine)),
                "first_call_ns": round(fmean(record.first_call_ns for record in mine)),
                "load": max(record.load for record in mine),
                "peak_memory_bytes": max(record.peak_memory_bytes for record in mine),
                # The least certain of them.
                "stopped": max((record.stopped for record in mine), key=_STOPPED.index),
            }
        )


#: why rounds end, from good to bad
_STOPPED = ("target", "limit", "time")


def merged(
    old: TimingResults, measured: Point, records: Sequence[TimingRecord], failures: Mapping[str, str]
) -> TimingResults:
    """Put what was just measured beside earlier records of other models, operations and sizes.

    Earlier records of what was `measured` go, even if measuring it anew has failed.
    """
    place = (measured.model, measured.operation, measured.batch_size, measured.length)
    kept = [record for record in old.records if record.point != place]
    return TimingResults(records=(*kept, *records), failures=dict(failures))


def timing_key(spec: RunSpec, info: BackendInfo, baseline: str) -> str:
    """Key of a timing: the run that is timed, and the backend whose time it is held against."""
    measured = f"{run_key(spec, info)} against {baseline} by {source_of('worker/measure.py', 'timing/stopwatch.py')}"
    return hashlib.sha256(measured.encode()).hexdigest()


def timing_spec(asked: Asked, info: BackendInfo, model: str, setting: Setting = "default") -> RunSpec:
    """Give the run whose model is timed: native, since that is what a user of the framework gets.

    A backend that trains nothing has no such model, and gets weights.
    """
    spec = asked.spec("native" if "native" in info.backend.capabilities else "matched", model, info, seed=0)
    threads = threads_of(asked.protocol, info, model, setting)
    return spec.model_copy(update={"setting": setting, "threads": threads})
