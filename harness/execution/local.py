"""Carries out runs and checks in worker processes of this machine, several side by side if asked."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rnn_crosscheck.harness.errors import CrosscheckError
from rnn_crosscheck.harness.execution.chosen import address, worker_environment
from rnn_crosscheck.harness.execution.executor import Executor, Progress
from rnn_crosscheck.harness.execution.plan import PlannedCheck, PlannedRun
from rnn_crosscheck.harness.execution.process import WorkerFailure, WorkerProcess
from rnn_crosscheck.harness.execution.shelf import damage, set_aside, stored, stored_check
from rnn_crosscheck.harness.folder import write_json
from rnn_crosscheck.harness.results import Failure, LostCheck, RunResult, lost_check, read_record, write_run


class LocalExecutor(Executor):
    """Worker processes on this machine, up to `jobs` side by side.

    `folder` is the comparison's, and `dataset` that of the encoded dataset.
    """

    def __init__(self, folder: Path, dataset: Path, *, jobs: int, stall_seconds: float) -> None:
        self._folder = folder
        self._dataset = dataset
        self._jobs = jobs
        self._stall_seconds = stall_seconds
        self._pool = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="crosscheck")
        self._workers: set[WorkerProcess] = set()
        self._lock = threading.Lock()
        self._closed = False
        self.progress: queue.Queue[Progress] = queue.Queue()

    def submit(self, run: PlannedRun) -> Future[RunResult]:
        """See `Executor.submit`."""
        return self._pool.submit(self._run, run)

    def submit_checks(self, checks: Sequence[PlannedCheck]) -> dict[str, Future[Path]]:
        """See `Executor.submit_checks`."""
        promised: dict[str, Future[Path]] = {check.name: Future() for check in checks}
        self._pool.submit(self._check_all, checks, promised)
        return promised

    def shutdown(self) -> None:
        """See `Executor.shutdown`; what has begun is killed."""
        with self._lock:
            self._closed = True
            workers = list(self._workers)
        for worker in workers:
            worker.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, run: PlannedRun) -> RunResult:
        try:
            if stored(self._folder, run):
                result = read_record(self._folder / run.path / "result.json", RunResult)
                self._tell(run.run_id, "end", status=result.status, stored=True)
                return result
            self._tell_damage(run)
            set_aside(self._folder, run)
            result = self._trained(run)
        except OSError as error:
            result = self._without(run, "failed", Failure(reason=f"It couldn't be carried out: {error}."), kept=False)
        self._tell(run.run_id, "end", status=result.status, stored=False, result=result)
        return result

    def _trained(self, run: PlannedRun) -> RunResult:
        """Have a run trained; what comes to nothing has a result as well."""
        if run.info.unavailable:
            return self._without(run, "unavailable", Failure(reason=run.info.unavailable))
        folder = self._folder / run.path
        self._tell(run.run_id, "start")
        try:
            for _ in self._work(run.run_id, [run], [{"mode": "train", "result": str(folder), "jobs": self._jobs}]):
                pass
            return read_record(folder / "result.json", RunResult)
        except WorkerFailure as error:
            # A run that we stopped ourselves has not failed.
            return self._without(run, "failed", error.failure, kept=not self._closed)
        except CrosscheckError as error:
            return self._without(run, "failed", Failure(reason=str(error)))

    def _check_all(self, checks: Sequence[PlannedCheck], promised: Mapping[str, Future[Path]]) -> None:
        """Carry out what isn't stored; whatever happens, every promise is kept or broken."""
        try:
            self._check_each(checks, promised)
        except BaseException as error:
            told = WorkerFailure(Failure(reason=f"{error}.")) if isinstance(error, OSError) else error
            for future in promised.values():
                if not future.done():
                    future.set_exception(told)
            raise

    def _check_each(self, checks: Sequence[PlannedCheck], promised: Mapping[str, Future[Path]]) -> None:
        """Carry out what isn't stored; a worker that fails costs the check that it was at, and the next has another."""
        left = []
        for check in checks:
            if stored_check(self._folder, check):
                self._tell(check.name, "end", status="ok", stored=True)
                promised[check.name].set_result(self._folder / check.path)
            else:
                self._tell_damage(check)
                left.append(check)
        while left:
            self._tell(left[0].name, "start")
            tasks = [{"mode": check.mode, "result": str(self._folder / check.path), **check.extra} for check in left]
            try:
                for _ in self._work(left[0].name, list(left), tasks):
                    check = left.pop(0)
                    lost_check(self._folder / check.path).unlink(missing_ok=True)
                    self._tell(check.name, "end", status="ok", stored=False)
                    promised[check.name].set_result(self._folder / check.path)
                    if left:
                        self._tell(left[0].name, "start")
            except WorkerFailure as error:
                if not left:  # it fell after its last task
                    return
                check = left.pop(0)
                if not self._closed:  # what we stopped ourselves has not failed
                    self._lose(check, error.failure.reason)
                self._tell(check.name, "end", status="failed", stored=False, reason=error.failure.reason)
                promised[check.name].set_exception(error)

    def _lose(self, check: PlannedCheck, reason: str) -> None:
        """Keep why there is no record of a check, if the disk takes it."""
        record = self._folder / check.path
        with suppress(OSError):
            record.unlink(missing_ok=True)
            write_json(lost_check(record), LostCheck(key=check.key, keys=check.extra.get("keys", {}), reason=reason))

    def _work(
        self, name: str, planned: Sequence[PlannedRun | PlannedCheck], tasks: Sequence[Mapping[str, Any]]
    ) -> Iterator[None]:
        """Have one worker carry out what is planned, pass on what it tells, and yield after each that is finished."""
        info, spec = planned[0].info, planned[0].spec
        keyed = [
            {"spec": one.spec.model_dump(mode="json"), "key": one.key, **task}
            for one, task in zip(planned, tasks, strict=True)
        ]
        names = [one.name for one in planned]
        with self._lock:
            if self._closed:
                raise WorkerFailure(Failure(reason="The comparison was stopped before this run began."))
            worker = WorkerProcess(
                {"backend": address(info), "dataset": str(self._dataset)},
                *keyed,
                environment=worker_environment(info, spec.threads, spec.device, keep_memory=True),
                log=self._folder / "logs" / f"{name}.log",
            )
            self._workers.add(worker)
        try:
            self._tell(name, "pid", pid=worker.pid)
            for event in worker.events(self._stall_seconds):
                if event["event"] == "finished":
                    names.pop(0)
                    yield
                elif names:
                    self._tell(names[0], event["event"], **{k: v for k, v in event.items() if k != "event"})
        finally:
            worker.stop()
            with self._lock:
                self._workers.discard(worker)

    def _without(
        self, run: PlannedRun, status: Literal["failed", "unavailable"], why: Failure, *, kept: bool = True
    ) -> RunResult:
        """Give the result of a run that has none, and write it if it is to be `kept`."""
        result = RunResult(
            run_id=run.run_id,
            spec=run.spec,
            key=run.key,
            status=status,
            jobs=self._jobs,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            failure=why,
        )
        if kept:
            write_run(self._folder / run.path, result)
        return result

    def _tell_damage(self, planned: PlannedRun | PlannedCheck) -> None:
        if why := damage(self._folder, planned):
            self._tell(planned.name, "anew", reason=why)

    def _tell(self, name: str, event: str, **content: Any) -> None:  # noqa: ANN401 - plain values
        self.progress.put(Progress(name, event, content))
