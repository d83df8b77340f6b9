"""Carries out runs and checks in worker processes of this machine, several side by side if asked."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rnn_crosscheck.harness.errors import CrosscheckError
from rnn_crosscheck.harness.execution.chosen import address, worker_environment
from rnn_crosscheck.harness.execution.executor import Executor, Progress
from rnn_crosscheck.harness.execution.plan import PlannedCheck, PlannedRun
from rnn_crosscheck.harness.execution.process import WorkerFailure, WorkerProcess
from rnn_crosscheck.harness.execution.shelf import set_aside, stored, stored_check
from rnn_crosscheck.harness.results import Failure, RunResult, read_record, write_run


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

    def submit_check(self, check: PlannedCheck) -> Future[Path]:
        """See `Executor.submit_check`."""
        return self._pool.submit(self._check, check)

    def shutdown(self) -> None:
        """See `Executor.shutdown`; what has begun is killed."""
        with self._lock:
            self._closed = True
            workers = list(self._workers)
        for worker in workers:
            worker.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, run: PlannedRun) -> RunResult:
        if stored(self._folder, run):
            result = read_record(self._folder / run.path / "result.json", RunResult)
            self._tell(run.run_id, "end", status=result.status, stored=True)
            return result
        set_aside(self._folder, run)
        result = self._trained(run)
        self._tell(run.run_id, "end", status=result.status, stored=False, result=result)
        return result

    def _trained(self, run: PlannedRun) -> RunResult:
        """Have a run trained; what comes to nothing has a result as well."""
        if run.info.unavailable:
            return self._without(run, "unavailable", Failure(reason=run.info.unavailable))
        folder = self._folder / run.path
        self._tell(run.run_id, "start")
        try:
            self._work(run.run_id, run, {"mode": "train", "result": str(folder), "jobs": self._jobs})
            return read_record(folder / "result.json", RunResult)
        except WorkerFailure as error:
            # A run that we stopped ourselves has not failed.
            return self._without(run, "failed", error.failure, kept=not self._closed)
        except CrosscheckError as error:
            return self._without(run, "failed", Failure(reason=str(error)))

    def _check(self, check: PlannedCheck) -> Path:
        path = self._folder / check.path
        if stored_check(self._folder, check):
            self._tell(check.name, "end", status="ok", stored=True)
            return path
        self._tell(check.name, "start")
        try:
            self._work(check.name, check, {"mode": check.mode, "result": str(path), **check.extra})
        except WorkerFailure as error:
            path.unlink(missing_ok=True)
            self._tell(check.name, "end", status="failed", stored=False, reason=error.failure.reason)
            raise
        self._tell(check.name, "end", status="ok", stored=False)
        return path

    def _work(self, name: str, planned: PlannedRun | PlannedCheck, request: Mapping[str, Any]) -> None:
        """Have one worker carry out one request, and pass on what it tells."""
        info, spec = planned.info, planned.spec
        plain = {"spec": spec.model_dump(mode="json"), "key": planned.key, "backend": address(info)}
        with self._lock:
            if self._closed:
                raise WorkerFailure(Failure(reason="The comparison was stopped before this run began."))
            worker = WorkerProcess(
                {**plain, **request, "dataset": str(self._dataset)},
                environment=worker_environment(info, spec.threads, spec.device, keep_memory=True),
                log=self._folder / "logs" / f"{name}.log",
            )
            self._workers.add(worker)
        try:
            self._tell(name, "pid", pid=worker.pid)
            for event in worker.events(self._stall_seconds):
                self._tell(name, event["event"], **{k: v for k, v in event.items() if k != "event"})
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

    def _tell(self, name: str, event: str, **content: Any) -> None:  # noqa: ANN401 - plain values
        self.progress.put(Progress(name, event, content))
