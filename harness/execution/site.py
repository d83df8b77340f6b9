"""What a worker is asked, by value, and the place where it is carried out: this machine, or a node of a cluster.

A `Task` holds plain values and no absolute path. A `Site` has a folder laid out like a comparison's: what a task needs
of other runs lies there under its usual name, and so does what comes of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rnn_crosscheck.harness.execution.chosen import BackendInfo, address, look_up, worker_environment
from rnn_crosscheck.harness.execution.plan import PlannedCheck, PlannedRun, source_of
from rnn_crosscheck.harness.execution.process import WorkerFailure, WorkerProcess
from rnn_crosscheck.harness.registry import registered
from rnn_crosscheck.harness.results import Failure

#: tells what happens: the name of a run or check, the event, and what it carries
Tell = Callable[[str, str, Mapping[str, Any]], None]

#: of the harness' own, what checks depend on and no backend's versions say
_CHECKING = (
    "worker/checks.py",
    "worker/trained.py",
    "parity/stages.py",
    "parity/declared.py",
    "parity/reference.py",
    "parity/occlusion.py",
)


@dataclass(frozen=True)
class Task:
    """What one fresh worker process carries out in turn, each step a run or a check."""

    backend: Mapping[str, str]  # where it is found
    versions: Mapping[str, str]  # of what computes
    environment: Mapping[str, str]
    threads: int
    device: str
    steps: tuple[Mapping[str, Any], ...]  # the worker's requests, each with a name, and the path of what comes of it
    needs: tuple[str, ...]  # folders of other runs

    def plain(self) -> dict[str, Any]:
        """Give it as values that JSON has."""
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """What became of a step: it is there under its path, or `failure` says why not."""

    name: str
    failure: Failure | None = None


def task_of(planned: Sequence[PlannedRun | PlannedCheck]) -> Task:
    """Make a task of runs or checks that one worker can carry out."""
    info, spec = planned[0].info, planned[0].spec
    return Task(
        backend=address(info),
        versions=versions(info),
        environment=worker_environment(info, spec.threads, spec.device, keep_memory=True),
        threads=spec.threads,
        device=spec.device,
        steps=tuple(
            {"name": one.name, "mode": one.mode, "spec": one.spec.model_dump(mode="json"), "key": one.key}
            | {"path": one.path, **one.extra}
            for one in planned
        ),
        needs=tuple(f"runs/{run_id}" for one in planned for run_id in one.extra.get("keys", ())),
    )


def versions(info: BackendInfo) -> dict[str, str]:
    """Versions of what computes a backend's results and checks on this machine."""
    return {**info.versions, "checks": source_of(*_CHECKING)}


def refuse_others(task: Task) -> str:
    """Say why this machine can't carry out a task as it was planned; nothing where it can."""
    try:
        name, target = task.backend["name"], task.backend["target"]
        (info,) = look_up([name if name in registered() else target])
    except Exception as error:  # noqa: BLE001 - whatever looking for a backend raises here
        return str(error)
    if info.unavailable:
        return info.unavailable
    here = versions(info)
    other = [
        f"{name} {here.get(name, 'not installed')} (the comparison has {version})"
        for name, version in task.versions.items()
        if here.get(name) != version
    ]
    return f"it has {' and '.join(other)}" if other else ""


class Site:
    """Carries out tasks in worker processes of this machine, in a folder laid out like a comparison's.

    `dataset` is the folder of the encoded dataset, `jobs` the number of runs side by side.
    """

    def __init__(self, folder: Path, dataset: Path, *, jobs: int, stall_seconds: float) -> None:
        self._folder = folder
        self._dataset = dataset
        self._jobs = jobs
        self._stall_seconds = stall_seconds
        self._workers: set[WorkerProcess] = set()
        self._lock = threading.Lock()
        self._closed = False

    def carry_out(self, task: Task, tell: Tell) -> Iterator[Outcome]:
        """Carry out the steps of a task; a worker that fails costs the step that it was at alone."""
        left = list(task.steps)
        while left:
            tell(left[0]["name"], "start", {})
            try:
                for _ in self._work(task, list(left), tell):
                    yield Outcome(left.pop(0)["name"])
                    if left:
                        tell(left[0]["name"], "start", {})
            except WorkerFailure as error:
                if left:  # else it fell after its last step
                    yield Outcome(left.pop(0)["name"], error.failure)

    def stop(self) -> None:
        """Kill the workers; no others are started."""
        with self._lock:
            self._closed = True
            workers = list(self._workers)
        for worker in workers:
            worker.stop()

    def _work(self, task: Task, steps: Sequence[Mapping[str, Any]], tell: Tell) -> Iterator[None]:
        """Have one worker carry out steps, pass on what it tells, and yield after each that is finished."""
        names = [step["name"] for step in steps]
        with self._lock:
            if self._closed:
                raise WorkerFailure(Failure(reason="The comparison was stopped before this run began."))
            worker = WorkerProcess(
                {"backend": task.backend, "dataset": str(self._dataset), "folder": str(self._folder)},
                *({"jobs": self._jobs, **step} for step in steps),
                environment=task.environment,
                log=self._folder / "logs" / f"{names[0]}.log",
            )
            self._workers.add(worker)
        try:
            tell(names[0], "pid", {"pid": worker.pid})
            for event in worker.events(self._stall_seconds):
                if event["event"] == "finished":
                    names.pop(0)
                    yield
                elif names:
                    tell(names[0], event["event"], {key: value for key, value in event.items() if key != "event"})
        finally:
            worker.stop()
            with self._lock:
                self._workers.discard(worker)
