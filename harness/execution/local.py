"""Carries out runs and checks in worker processes of this machine, several side by side if asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rnn_crosscheck.harness.execution.executor import Executor
from rnn_crosscheck.harness.execution.site import Outcome, Site, Task


class LocalExecutor(Executor):
    """Worker processes on this machine, up to `jobs` side by side, which write into the comparison's `folder` itself.

    `dataset` is the folder of the encoded dataset.
    """

    def __init__(self, folder: Path, dataset: Path, *, jobs: int, stall_seconds: float) -> None:
        super().__init__(folder, at_once=jobs)
        self._site = Site(folder, dataset, jobs=jobs, stall_seconds=stall_seconds)

    def _carry_out(self, task: Task) -> Iterator[Outcome]:
        return self._site.carry_out(task, self._tell)

    def _stop(self) -> None:
        self._site.stop()
