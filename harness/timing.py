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
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any, Literal

from harness.process import WorkerFailure, WorkerProcess
from harness.protocol import Operation, Protocol, RunSpec, Setting
from harness.ratios import ratio
from harness.results import TimingRecord, TimingResults
from harness.runner import BackendInfo, address, run_key, settings_of, threads_of, worker_environment

#: a round shorter than this is repeated inside, since the clock and the wake-up would weigh too much
_ROUND_NS = 20_000_000
#: what the worker's clock may be ahead of the parent's, which sees the pipe as well
_AHEAD_NS = 5_000_000
#: a worker's clock that ran for less than this share of what the parent waited, and a second less, has stood still
_BEHIND = 0.5
_BEHIND_NS = 1_000_000_000


@dataclass(frozen=True)
class Point:
    """What is measured together, in all backends: an operation of a model, perhaps at other sizes than the protocol's.

    Attributes
    ----------
    model, operation
        What is called.
    batch_size, length
        Of a sweep; 0 for the protocol's.
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
    found = []
    for model, operation in product(models, operations):
        for size in protocol.timing.sweep_batches:
            if size != protocol.training.batch_size:
                found.append(Point(model, operation, batch_size=size))
        for length in protocol.timing.sweep_lengths:
            if length != protocol.data.length:
                found.append(Point(model, operation, length=length))
    return tuple(found)


def balanced_orders(n: int) -> tuple[tuple[int, ...], ...]:
    """Orders of n workers in which each has every place, and every other before it, equally often.

    What ran before leaves caches, clock rates and threads that still spin, so places alone are not enough: in A B C,
    B C A, C A B it is nearly always A before B. (Williams, 1949: n orders for an even n, twice as many for an odd one.)
    """
    first = [0]
    for step in range(1, n):
        first.append((first[-1] + (step if step % 2 else -step)) % n)
    orders = [tuple((place + shift) % n for place in first) for shift in range(n)]
    if n % 2:
        orders += [tuple(reversed(order)) for order in orders]
    return tuple(orders)


@dataclass
class _Lane:
    """One worker in an interleaved measurement."""

    info: BackendInfo
    setting: Setting
    threads: int
    worker: WorkerProcess
    again: bool = False
    loops: int = 1
    build_ns: int = 0
    first_ns: int = 0
    examples: int = 0
    rounds: list[int] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """As it is shown."""
        setting = "" if self.setting == "default" else f" ({self.setting})"
        return f"{self.info.name}{setting}{' (second worker)' if self.again else ''}"


class Stopwatch:
    """Live workers of several backends, asked to measure one operation of one model after the other.

    Parameters
    ----------
    protocol, dataset, dataset_fingerprint, device
        What the comparison uses.
    model
        The model that is measured: threads of tuned settings depend on it.
    backends
        Available backends; the first is the baseline.
    logs
        Folder for what the workers print.
    """

    def __init__(
        self,
        protocol: Protocol,
        model: str,
        backends: Sequence[BackendInfo],
        *,
        dataset: Path,
        dataset_fingerprint: str,
        device: Literal["cpu", "cuda"],
        logs: Path,
    ) -> None:
        self._protocol = protocol
        self.model = model
        self._fingerprint = dataset_fingerprint
        self._device: Literal["cpu", "cuda"] = device
        self._lanes: list[_Lane] = []
        self._baseline = backends[0].name if backends else ""
        self.failures: dict[str, str] = {}
        lanes = [(info, setting, False) for info in backends for setting in settings_of(protocol, info)]
        lanes += [(info, "default", True) for info in backends[:1]]
        for info, setting, again in lanes:
            self._lanes.append(self._lane(info, setting, again, dataset, logs))
        for lane in list(self._lanes):
            with self._surviving(lane):
                lane.worker.receive(protocol.workers.stall_seconds)

    def _lane(self, info: BackendInfo, setting: Setting, again: bool, dataset: Path, logs: Path) -> _Lane:
        threads = threads_of(self._protocol, info, self.model, setting)
        request = {
            "mode": "time",
            "backend": address(info),
            "dataset": str(dataset),
            "threads": threads,
            "setting": setting,
        }
        name = f"timing-{info.name.replace(':', '.')}-{self.model}"
        name += ("" if setting == "default" else f"-{setting}") + ("-again" if again else "")
        worker = WorkerProcess(
            request, environment=worker_environment(info, threads, self._device), log=logs / f"{name}.log"
        )
        return _Lane(info, setting, threads, worker, again)

    def close(self) -> None:
        """End the workers."""
        for lane in self._lanes:
            lane.worker.stop()

    def measure(
        self, point: Point, tell: Callable[[int, int], None] = lambda done, limit: None
    ) -> tuple[TimingRecord, ...]:
        """Measure one operation in every live worker, in turn.

        `tell` is called after each round with the rounds done and the limit. A worker that fails is left out and
        named in `failures`; the others go on.
        """
        timing = self._protocol.timing
        for lane in list(self._lanes):
            lane.rounds, lane.calls = [], []
            with self._surviving(lane):
                self._prepare(lane, point)
        done, stopped, began = 0, "limit", time.monotonic()
        while done < timing.max_rounds and self._lanes:
            orders = balanced_orders(len(self._lanes))
            lanes = list(self._lanes)
            for place in orders[done % len(orders)]:
                lane = lanes[place]
                with self._surviving(lane):
                    calls = self._round(lane, point, lane.loops)
                    lane.rounds.append(max(1, round(sum(calls) / len(calls))))
                    lane.calls += calls if point.operation == "predict_one" else []
            done += 1
            tell(done, timing.max_rounds)
            if done >= timing.min_rounds:
                if self._known(timing.target):
                    stopped = "target"
                    break
                if time.monotonic() - began > timing.max_seconds:
                    stopped = "time"
                    break
        return tuple(self._records(point, stopped))

    def _prepare(self, lane: _Lane, point: Point) -> None:
        spec = self._spec(lane, point).model_dump(mode="json")
        built = self._ask(lane, do="prepare", operation=point.operation, spec=spec)
        lane.examples = int(built["examples"])
        lane.build_ns = int(built["ns"])
        lane.first_ns = lane.build_ns + sum(self._round(lane, point, 1))
        warm = [sum(self._round(lane, point, 1)) for _ in range(self._protocol.timing.warmup)]
        lane.loops = max(1, ceil(_ROUND_NS / max(1, min(warm))))

    def _round(self, lane: _Lane, point: Point, loops: int) -> list[int]:
        """Have a worker make some calls; nanoseconds of each by its clock.

        Raises
        ------
        WorkerFailure
            The worker's clock can't be right: a ratio would be made of nothing.
        """
        began = time.perf_counter_ns()
        calls = [int(ns) for ns in self._ask(lane, do="round", loops=loops)["calls"]]
        waited = time.perf_counter_ns() - began
        total = sum(calls)
        problem = ""
        if len(calls) != loops:
            problem = f"{len(calls)} calls were timed where {loops} were asked for"
        elif min(calls) <= 0:
            problem = f"a call of {point.name} took {min(calls)} ns by the worker's clock, which can't be"
        elif total > waited + _AHEAD_NS:
            problem = (
                f"a round of {point.name} took {total / 1e9:.3f} s by the worker's clock, but it was over after "
                f"{waited / 1e9:.3f} s; the clock has jumped"
            )
        elif total < _BEHIND * waited - _BEHIND_NS:
            problem = (
                f"a round of {point.name} took {total / 1e9:.3f} s by the worker's clock, but was waited for "
                f"{waited / 1e9:.3f} s; the clock has stood still, or the worker did"
            )
        if problem:
            raise WorkerFailure(lane.worker.failure(f"{problem[0].upper()}{problem[1:]}."))
        return calls

    def _ask(self, lane: _Lane, **command: Any) -> Mapping[str, Any]:  # noqa: ANN401 - plain values
        lane.worker.send(command)
        return lane.worker.receive(self._protocol.workers.stall_seconds)

    def _spec(self, lane: _Lane, point: Point) -> RunSpec:
        spec = timing_spec(
            self._protocol,
            lane.info,
            point.model,
            dataset_fingerprint=self._fingerprint,
            device=self._device,
            setting=lane.setting,
        )
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
    def _surviving(self, lane: _Lane) -> Iterator[None]:
        """Let a worker's failure cost that worker only."""
        try:
            yield
        except WorkerFailure as error:
            lane.worker.stop()
            self._lanes = [other for other in self._lanes if other is not lane]
            self.failures[f"{lane.name}, {self.model}"] = error.failure.reason

    def _known(self, target: float) -> bool:
        """Whether every ratio to the baseline has a 95 % interval within the target."""
        base = self._base()
        if base is None:
            return True
        return all(
            ratio(lane.rounds, base.rounds).reach <= target
            for lane in self._lanes
            if lane is not base and len(lane.rounds) == len(base.rounds)
        )

    def _base(self) -> _Lane | None:
        return next(
            (
                lane
                for lane in self._lanes
                if lane.info.name == self._baseline and lane.setting == "default" and not lane.again
            ),
            None,
        )

    def _records(self, point: Point, stopped: str) -> Iterator[TimingRecord]:
        again = next((lane for lane in self._lanes if lane.again), None)
        base = self._base()
        for lane in [lane for lane in self._lanes if not lane.again]:
            facts: Mapping[str, Any] = {}
            with self._surviving(lane):
                facts = self._ask(lane, do="facts")
            if not facts:
                continue
            yield TimingRecord(
                key=timing_key(self._protocol_spec(lane), lane.info, self._baseline),
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
                peak_memory_bytes=int(facts["peak_memory_bytes"]),
                environment={str(k): str(v) for k, v in facts["environment"].items()},
            )

    def _protocol_spec(self, lane: _Lane) -> RunSpec:
        """Give what the key is made of: the protocol's sizes and the default setting, whatever was measured."""
        return timing_spec(
            self._protocol,
            lane.info,
            self.model,
            dataset_fingerprint=self._fingerprint,
            device=self._device,
        )


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
    return hashlib.sha256(f"{run_key(spec, info)} against {baseline}".encode()).hexdigest()


def timing_spec(
    protocol: Protocol,
    info: BackendInfo,
    model: str,
    *,
    dataset_fingerprint: str,
    device: Literal["cpu", "cuda"],
    setting: Setting = "default",
) -> RunSpec:
    """Give the run whose model is timed: native, since that is what a user of the framework gets."""
    return RunSpec(
        backend=info.name,
        division="native",
        model=protocol.model(model),
        training=protocol.training,
        data=protocol.data,
        dataset_fingerprint=dataset_fingerprint,
        seed=0,
        device=device,
        threads=threads_of(protocol, info, model, setting),
        setting=setting,
    )
