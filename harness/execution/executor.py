"""What carries out runs and checks: the interface that a comparison knows, wherever the workers are."""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

from rnn_crosscheck.harness.execution.plan import PlannedCheck, PlannedRun
from rnn_crosscheck.harness.results import RunResult


@dataclass(frozen=True)
class Progress:
    """Something that happened in a run; `at` is by `time.monotonic`.

    ``anew`` says that what is on disk is damaged; then come ``start``, events of its worker, and ``end``.
    """

    run_id: str
    event: str
    content: Mapping[str, Any]
    at: float = field(default_factory=time.monotonic, compare=False)


class Executor(Interface):
    """Carries out runs and checks, anywhere."""

    #: what happens in them, for whoever shows it
    progress: queue.Queue[Progress]

    def submit(self, run: PlannedRun) -> Future[RunResult]:
        """Promise the result of a run; one that is on disk under the same key is read, not run again."""

    def submit_checks(self, checks: Sequence[PlannedCheck]) -> dict[str, Future[Path]]:
        """Promise the files of checks by name; one that is on disk under the same key is taken.

        One worker carries them out in turn, so that they start a framework once; they belong together as `together`
        says. A future raises `WorkerFailure` for a check that can't be made, and the others are made all the same.
        """

    def shutdown(self) -> None:
        """Drop what hasn't begun and stop what has; results on disk stay as they are."""
