"""Interleaved measurement of several live workers.

Workers of all compared backends are alive at once, idle ones asleep on a pipe. Rounds go A B C, B C A, C A B, so
that no backend always runs second, and go on until the ratios to the baseline are known well enough or the limit
is reached. The baseline is measured in a second worker as well: the spread of that A/A ratio is the noise of the
machine. The clock is the worker's own, read around the call; pipes are outside of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil, log, sqrt
from pathlib import Path
from statistics import stdev
from typing import Any, Literal

from harness.process import WorkerFailure, WorkerProcess
from harness.protocol import Operation, Protocol, RunSpec
from harness.results import TimingRecord, TimingResults
from harness.runner import BackendInfo, address, run_key, worker_environment

#: a round shorter than this is repeated inside, since the clock and the wake-up would weigh too much
_ROUND_NS = 20_000_000


@dataclass
class _Lane:
    """One worker in an interleaved measurement."""

    info: BackendInfo
    worker: WorkerProcess
    again: bool = False
    loops: int = 1
    first_ns: int = 0
    examples: int = 0
    rounds: list[int] = field(default_factory=list)


class Stopwatch:
    """Live workers of several backends, asked to measure one operation of one model after the other.

    Parameters
    ----------
    protocol, dataset, dataset_fingerprint, device
        What the comparison uses.
    backends
        Available backends; the first is the baseline.
    logs
        Folder for what the workers print.
    """

    def __init__(
        self,
        protocol: Protocol,
        backends: Sequence[BackendInfo],
        *,
        dataset: Path,
        dataset_fingerprint: str,
        device: Literal["cpu", "cuda"],
        logs: Path,
    ) -> None:
        self._protocol = protocol
        self._fingerprint = dataset_fingerprint
        self._device = device
        self._lanes: list[_Lane] = []
        self._baseline = backends[0].name if backends else ""
        self.failures: dict[str, str] = {}
        threads = protocol.workers.threads
        for info, again in [(info, False) for info in backends] + [(info, True) for info in backends[:1]]:
            request = {
                "mode": "time",
                "backend": address(info),
                "dataset": str(dataset),
                "threads": threads,
            }
            name = f"timing-{info.name.replace(':', '.')}{'-again' if again else ''}"
            worker = WorkerProcess(
                request, environment=worker_environment(info, threads, device), log=logs / f"{name}.log"
            )
            self._lanes.append(_Lane(info, worker, again))
        for lane in list(self._lanes):
            with self._surviving(lane):
                lane.worker.receive(self._protocol.workers.stall_seconds)

    def close(self) -> None:
        """End the workers."""
        for lane in self._lanes:
            lane.worker.stop()

    def measure(
        self, model: str, operation: Operation, tell: Callable[[int, int], None] = lambda done, limit: None
    ) -> tuple[TimingRecord, ...]:
        """Measure one operation of one model in every live worker, in turn.

        `tell` is called after each round with the rounds done and the limit. A worker that fails is left out and
        named in `failures`; the others go on.
        """
        timing = self._protocol.timing
        call = f"{model}-{operation}"
        for lane in list(self._lanes):
            lane.rounds = []
            with self._surviving(lane):
                self._prepare(lane, model, operation, call)
        done, stopped = 0, "limit"
        while done < timing.max_rounds and self._lanes:
            turn = done % len(self._lanes)
            for lane in self._lanes[turn:] + self._lanes[:turn]:
                with self._surviving(lane):
                    lane.rounds.append(self._round(lane, call, lane.loops))
            done += 1
            tell(done, timing.max_rounds)
            if done >= timing.min_rounds and self._known(timing.target):
                stopped = "target"
                break
        return tuple(self._records(model, operation, stopped))

    def _prepare(self, lane: _Lane, model: str, operation: Operation, call: str) -> None:
        spec = self._spec(lane, model).model_dump(mode="json")
        built = self._ask(lane, do="prepare", call=call, operation=operation, spec=spec)
        lane.examples = int(built["examples"])
        lane.first_ns = int(built["ns"]) + self._round(lane, call, 1)
        warm = [self._round(lane, call, 1) for _ in range(self._protocol.timing.warmup)]
        lane.loops = max(1, ceil(_ROUND_NS / max(1, min(warm))))

    def _round(self, lane: _Lane, call: str, loops: int) -> int:
        ns = int(self._ask(lane, do="round", call=call, loops=loops)["ns"])
        if ns <= 0:
            # A clock that stood still or jumped back would make a ratio of nothing.
            raise WorkerFailure(
                lane.worker.failure(f"A round of {call} took {ns} ns by the worker's clock, which can't be.")
            )
        return ns

    def _ask(self, lane: _Lane, **command: Any) -> Mapping[str, Any]:  # noqa: ANN401 - plain values
        lane.worker.send(command)
        return lane.worker.receive(self._protocol.workers.stall_seconds)

    def _spec(self, lane: _Lane, model: str) -> RunSpec:
        return timing_spec(
            self._protocol,
            lane.info.name,
            model,
            dataset_fingerprint=self._fingerprint,
            device=self._device,
        )

    @contextmanager
    def _surviving(self, lane: _Lane) -> Iterator[None]:
        """Let a worker's failure cost that worker only."""
        try:
            yield
        except WorkerFailure as error:
            lane.worker.stop()
            self._lanes = [other for other in self._lanes if other is not lane]
            name = lane.info.name + (" (second worker)" if lane.again else "")
            self.failures[name] = error.failure.reason

    def _known(self, target: float) -> bool:
        """Whether every ratio to the baseline has a 95 % interval within the target."""
        base = next((lane for lane in self._lanes if not lane.again), None)
        others = [lane for lane in self._lanes if lane is not base]
        if base is None:
            return True
        for lane in others:
            logs = [log(a / b) for a, b in zip(lane.rounds, base.rounds, strict=True)]
            if 1.96 * stdev(logs) / sqrt(len(logs)) > target:
                return False
        return True

    def _records(self, model: str, operation: Operation, stopped: str) -> Iterator[TimingRecord]:
        again = next((lane for lane in self._lanes if lane.again), None)
        for lane in [lane for lane in self._lanes if not lane.again]:
            facts: Mapping[str, Any] = {}
            with self._surviving(lane):
                facts = self._ask(lane, do="facts", call="")
            if not facts:
                continue
            twin = again is not None and again.info.name == lane.info.name
            yield TimingRecord(
                key=timing_key(self._spec(lane, model), lane.info, self._baseline),
                backend=lane.info.name,
                model=model,
                operation=operation,
                examples=lane.examples,
                rounds_ns=tuple(lane.rounds),
                again_ns=tuple(again.rounds) if again is not None and twin else (),
                first_call_ns=lane.first_ns,
                baseline=lane.info.name == self._baseline,
                stopped=stopped,
                threads=self._protocol.workers.threads,
                peak_memory_bytes=int(facts["peak_memory_bytes"]),
                environment={str(k): str(v) for k, v in facts["environment"].items()},
            )


def merged(
    old: TimingResults, measured: tuple[str, Operation], records: Sequence[TimingRecord], failures: Mapping[str, str]
) -> TimingResults:
    """Put what was just measured beside earlier records of other models and operations.

    Earlier records of the `measured` cell go, even if measuring it anew has failed.
    """
    kept = [record for record in old.records if (record.model, record.operation) != measured]
    return TimingResults(records=(*kept, *records), failures=dict(failures))


def timing_key(spec: RunSpec, info: BackendInfo, baseline: str) -> str:
    """Key of a timing: the run that is timed, and the backend whose time it is held against."""
    return hashlib.sha256(f"{run_key(spec, info)} against {baseline}".encode()).hexdigest()


def timing_spec(
    protocol: Protocol, backend: str, model: str, *, dataset_fingerprint: str, device: Literal["cpu", "cuda"]
) -> RunSpec:
    """Give the run whose model is timed: native, since that is what a user of the framework gets."""
    return RunSpec(
        backend=backend,
        division="native",
        model=protocol.model(model),
        training=protocol.training,
        data=protocol.data,
        dataset_fingerprint=dataset_fingerprint,
        seed=0,
        device=device,
        threads=protocol.workers.threads,
    )
