"""One process that carries out the tasks of one request and answers on a pipe.

``python -m rnn_crosscheck.harness.worker``, started by `lifeline.start`, reads one JSON line from standard input and
writes JSON lines to standard output, one an event; ``finished`` after each task. Whatever a framework prints goes to
standard error, which the parent keeps as the log. When the parent goes away, so does the worker.
"""

# ruff: noqa: E402 - the clock starts before everything else is imported

from __future__ import annotations

import time

_STARTED = time.perf_counter()

import errno
import json
import os
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from rnn_crosscheck.harness.errors import CrosscheckError
from rnn_crosscheck.harness.lifeline import leave_with_parent
from rnn_crosscheck.harness.registry import Registered
from rnn_crosscheck.harness.worker.job import Job

#: each ``mode`` of a request is a function of its name in one of these modules; a process imports no other
_MODES: Mapping[str, str] = {
    "train": "train",  # runs one `RunSpec` and writes its result
    "transplant": "trained",  # predicts with the trained weights of other backends
    "occlude": "trained",  # predicts examples with tokens left out
    "parity": "checks",  # holds a backend's model against the reference
    "effects": "checks",  # switches the factors one by one in the reference
    "conform": "checks",  # stays alive and carries out the checks that it is told to
    "probe": "checks",  # tells the devices that a backend can use
    "time": "measure",  # stays alive and measures what it is told to
}

#: what the disk has against a file, which no traceback explains better
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


def main() -> int:
    """Answer one request; the exit code says whether it went well."""
    leave_with_parent()
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    # Frameworks print to standard output from C++ as well; only events may go there.
    os.dup2(2, 1)

    def emit(event: str, **content: Any) -> None:  # noqa: ANN401 - plain JSON values
        channel.write(json.dumps({"event": event, **content}).encode() + b"\n")

    request = json.loads(sys.stdin.readline() or "{}")
    sys.path.extend(entry for entry in request.get("sys_path", ()) if entry not in sys.path)
    try:
        backend = Registered(**request["backend"]).load()()
        tasks = request.pop("tasks")
        for task in tasks:
            module = import_module(f"rnn_crosscheck.harness.worker.{_MODES[task['mode']]}")
            getattr(module, task["mode"])(Job({**request, **task}, backend, emit, _STARTED))
            emit("finished")
    except CrosscheckError as error:
        emit("failed", reason=str(error))
        return 1
    except OSError as error:
        if error.errno not in _NO_ROOM:  # a framework's own trouble
            traceback.print_exc()
        emit("failed", reason=f"OSError: {error}")
        return 1
    except (Exception, SystemExit) as error:  # noqa: BLE001 - this run's failure, told to the parent
        traceback.print_exc()
        emit("failed", reason=f"{type(error).__name__}: {str(error).strip() or 'no message'}")
        return 1
    emit("done")
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Frameworks take a second or more to take themselves down.
    os._exit(code)
