"""Processes that end with the one that started them, whatever they are at.

Who starts them holds the write end of a pipe that nobody writes to. The system closes it when that process is gone,
however it went, and whoever reads the other end is told.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import cache
from typing import IO


def start(
    module: str, *, environment: Mapping[str, str] | None = None, stderr: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Run a module as a process that leads a group and a session of its own; it calls `leave_with_parent`."""
    end, _ = _pipe()
    return subprocess.Popen(
        # -P: the current folder may hold modules called like those that we import.
        [sys.executable, "-P", "-m", module, str(end)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, **(environment or {})},
        # Ctrl-C in the terminal is for the parent, which stops what it has started in order.
        start_new_session=True,
        pass_fds=[end],
    )


@cache
def _pipe() -> tuple[int, int]:
    return os.pipe()


def stop(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that `start` has started, and whatever is left of its group."""
    try:
        # Even if its leader is gone: a framework may have started processes of its own.
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS refuses a group that has only a zombie left
        pass
    process.wait()


def leave_with_parent() -> None:
    """Kill this process and its group as soon as its parent is gone."""
    threading.Thread(target=_leave, args=[int(sys.argv[1])], daemon=True).start()


def _leave(end: int) -> None:
    os.read(end, 1)
    os.killpg(0, signal.SIGKILL)
