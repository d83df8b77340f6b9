"""What a node of a Ray cluster does for a task; the other end of `harness.execution.ray`."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from rnn_crosscheck.harness.datasets.cache import fetched
from rnn_crosscheck.harness.execution.site import Site, Task, refuse_others
from rnn_crosscheck.harness.machine import available_cores

#: signs of life that are passed on are this far apart, in seconds
_APART = 0.5
#: bytes that must be free for what a task needs and gives
_ROOM = 200 * 2**20


def carry_out(
    asked: Mapping[str, Any],
    files: Mapping[str, bytes],
    dataset: tuple[str, str, Callable[[], bytes]],
    tell: Callable[[str, str, Mapping[str, Any]], None],
    jobs: int,
    stall_seconds: float,
) -> dict[str, Any]:
    """Carry out a task, given as plain values, in a temporary folder.

    Parameters
    ----------
    asked
        The task.
    files
        What it needs of other runs, by path in the folder of a comparison.
    dataset
        Name in the cache, fingerprint, and what gives it packed if this node doesn't have it.
    tell
        Takes what happens: name, event, content.
    jobs
        Tasks side by side at most, anywhere; 0 for as many as there is room for.
    stall_seconds
        How long a worker may say nothing.

    Returns
    -------
    dict
        ``unfit``, why this node can't serve the backend named in ``of``; or ``outcomes``, for each step its name, its
        failure or None, what came of it by name of the file, and the log.
    """
    task = Task(**asked)
    if why := refuse_others(task):
        return {"unfit": why, "of": task.backend["name"]}
    encoded = fetched(*dataset)
    _sweep()
    with TemporaryDirectory(prefix=f"crosscheck-{os.getpid()}-") as name:
        folder = Path(name)
        if shutil.disk_usage(folder).free < _ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        many = max(1, available_cores() // task.threads)
        site = Site(folder, encoded, jobs=min(jobs or many, many), stall_seconds=stall_seconds)
        steps = {step["name"]: step for step in task.steps}
        outcomes = [
            {
                "name": outcome.name,
                "failure": outcome.failure.model_dump() if outcome.failure else None,
                "files": {} if outcome.failure else _files(folder / steps[outcome.name]["path"]),
            }
            for outcome in site.carry_out(task, _seldom(tell))
        ]
        return {"outcomes": outcomes, "logs": {path.name: path.read_bytes() for path in (folder / "logs").iterdir()}}


def _sweep() -> None:
    """Take away the folders of processes that were killed."""
    for left in Path(gettempdir()).glob("crosscheck-*-*"):
        if not Path(f"/proc/{left.name.split('-')[1]}").exists():
            shutil.rmtree(left, ignore_errors=True)


def _files(place: Path) -> dict[str, bytes]:
    """Read what came of a step: the files of a run, or a record and the tables beside it, the record last."""
    if place.is_dir():
        return {path.name: path.read_bytes() for path in place.iterdir()}
    beside: Iterable[Path] = sorted(place.parent.glob(f"{place.stem}.*"), key=lambda path: path == place)
    return {path.name: path.read_bytes() for path in beside}


def _seldom(tell: Callable[[str, str, Mapping[str, Any]], None]) -> Callable[[str, str, Mapping[str, Any]], None]:
    """Pass on all events but signs of life that follow each other too closely."""
    last = 0.0

    def told(name: str, event: str, content: Mapping[str, Any]) -> None:
        nonlocal last
        if event == "progress" and time.monotonic() - last < _APART:
            return
        last = time.monotonic()
        tell(name, event, content)

    return told
