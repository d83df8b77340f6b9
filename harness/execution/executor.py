"""What carries out runs and checks: what is on disk is taken, the rest is made, wherever the workers are."""

from __future__ import annotations

import queue
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rnn_crosscheck.harness.errors import CrosscheckError
from rnn_crosscheck.harness.execution.plan import PlannedCheck, PlannedRun
from rnn_crosscheck.harness.execution.process import WorkerFailure
from rnn_crosscheck.harness.execution.shelf import damage, set_aside, stored
from rnn_crosscheck.harness.execution.site import Outcome, Task, task_of
from rnn_crosscheck.harness.folder import write_json
from rnn_crosscheck.harness.results import RESULT, Failure, LostCheck, RunResult, lost_check, read_record, write_run

Planned = PlannedRun | PlannedCheck


@dataclass(frozen=True)
class Progress:
    """Something that happened in a run or check; `at` is by `time.monotonic`.

    ``anew`` says that what is on disk is damaged; then come ``start``, events of its worker, and ``end``.
    """

    run_id: str
    event: str
    content: Mapping[str, Any]
    at: float = field(default_factory=time.monotonic, compare=False)


class Executor(ABC):
    """Carries out runs and checks for the comparison in `folder`, up to `at_once` groups of them side by side."""

    def __init__(self, folder: Path, *, at_once: int) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="crosscheck")
        self._closed = False
        #: what happens, for whoever shows it
        self.progress: queue.Queue[Progress] = queue.Queue()

    def submit(self, planned: Sequence[Planned]) -> dict[str, Future[Path]]:
        """Promise by name where each will lie; what is on disk under the same key is taken.

        One worker carries them out in turn, so that they start a framework once; they belong together as `together`
        says. A future raises `WorkerFailure` for what can't be made, and the others are made all the same.
        """
        promised: dict[str, Future[Path]] = {one.name: Future() for one in planned}
        kept = self._pool.submit(self._keep, planned, promised)
        kept.add_done_callback(lambda kept: [one.cancel() for one in promised.values()] if kept.cancelled() else None)
        return promised

    def shutdown(self) -> None:
        """Drop what hasn't begun and stop what has; results on disk stay as they are."""
        self._closed = True
        self._stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    @abstractmethod
    def _carry_out(self, task: Task) -> Iterator[Outcome]:
        """Carry out a task somewhere, and give what became of each step as soon as it is in the folder."""

    @abstractmethod
    def _stop(self) -> None:
        """End all workers, wherever they are."""

    def _keep(self, planned: Sequence[Planned], promised: Mapping[str, Future[Path]]) -> None:
        """Keep promises, or break them: whatever happens, nobody waits for ever."""
        try:
            left = {one.name: one for one in planned if not self._taken(one, promised[one.name])}
            for outcome in self._carry_out(task_of(list(left.values()))) if left else ():
                self._settle(left[outcome.name], outcome.failure, promised[outcome.name])
        except BaseException as error:
            told = WorkerFailure(Failure(reason=f"It couldn't be carried out: {str(error).rstrip('.')}."))
            ours = isinstance(error, (OSError, CrosscheckError))
            for name, future in promised.items():
                if not future.done():
                    self._tell(name, "end", {"status": "failed", "reason": told.failure.reason})
                    future.set_exception(told if ours else error)
            raise

    def _taken(self, one: Planned, promise: Future[Path]) -> bool:
        """Take what needs no worker: it is there, or can't be had."""
        if stored(self._folder, one):
            self._tell(one.name, "end", {"status": "ok", "stored": True})
            promise.set_result(self._folder / one.path)
            return True
        if why := damage(self._folder, one):
            self._tell(one.name, "anew", {"reason": why})
        if isinstance(one, PlannedRun):
            set_aside(self._folder, one)
        if one.info.unavailable:
            self._settle(one, Failure(reason=one.info.unavailable), promise)
            return True
        return False

    def _settle(self, one: Planned, failure: Failure | None, promise: Future[Path]) -> None:
        """Tell what became of a run or check, and write down why there is none."""
        place = self._folder / one.path
        if failure is None:
            scores = read_record(place / RESULT, RunResult).scores if isinstance(one, PlannedRun) else None
            lost_check(place).unlink(missing_ok=True)
            self._tell(one.name, "end", {"status": "ok", "accuracy": scores.accuracy if scores else None})
            promise.set_result(place)
            return
        if not self._closed:  # what we stopped ourselves has not failed
            self._write_down(one, failure)
        status = "unavailable" if one.info.unavailable else "failed"
        self._tell(one.name, "end", {"status": status, "reason": failure.reason})
        promise.set_exception(WorkerFailure(failure))

    def _write_down(self, one: Planned, failure: Failure) -> None:
        """Keep why there is nothing, if the disk takes it."""
        place = self._folder / one.path
        with suppress(OSError):
            if isinstance(one, PlannedRun):
                write_run(place, without(one, failure))
            else:
                place.unlink(missing_ok=True)
                lost = LostCheck(key=one.key, keys=one.extra.get("keys", {}), reason=failure.reason)
                write_json(lost_check(place), lost)

    def _tell(self, name: str, event: str, content: Mapping[str, Any]) -> None:
        self.progress.put(Progress(name, event, content))


def without(run: PlannedRun, failure: Failure) -> RunResult:
    """Give the result of a run that has none."""
    return RunResult(
        run_id=run.run_id,
        spec=run.spec,
        key=run.key,
        status="unavailable" if run.info.unavailable else "failed",
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        failure=failure,
    )
