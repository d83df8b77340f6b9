"""A worker process seen from its parent: started, listened to, stopped; and never left behind."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rnn_crosscheck.harness import lifeline
from rnn_crosscheck.harness.results import Failure

Event = Mapping[str, Any]

_END = None
_LOG_TAIL_LINES = 20
_LOOK_SECONDS = 1.0


class WorkerFailure(Exception):
    """The worker ended, hung or said that it failed; carries what the report shows."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class WorkerProcess:
    """One fresh interpreter that runs ``harness.worker``.

    It carries out `tasks`, all of one kind, each what `common` has and its own values besides; they are plain values.
    `environment` has variables that must stand before anything is imported, on top of the parent's; the file `log`
    takes whatever the worker and its framework print. A worker that can't be started is a `WorkerFailure`.
    """

    def __init__(
        self, common: Mapping[str, Any], *tasks: Mapping[str, Any], environment: Mapping[str, str], log: Path
    ) -> None:
        self._log = log
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as output:
                self._process = lifeline.start("rnn_crosscheck.harness.worker", environment=environment, stderr=output)
        except OSError as error:
            raise WorkerFailure(Failure(reason=f"The worker couldn't be started: {error}.")) from None
        self._events: queue.Queue[Event | str | None] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        # Local backends (module:Class) are importable here, so they must be there too.
        self.send({**common, "tasks": tasks, "sys_path": [os.path.abspath(entry or ".") for entry in sys.path]})

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one message to the worker; a worker that is gone is noticed by `receive`."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def receive(self, timeout: float) -> Event:
        """Wait for the next event.

        Raises
        ------
        WorkerFailure
            The worker died (with its signal or exit code), said nothing for `timeout` seconds, said something
            that isn't an event, or said that it failed.
        """
        try:
            event = self._next(timeout)
        except queue.Empty:
            self.stop()
            raise WorkerFailure(self.failure(f"The worker said nothing for {timeout:g} s and was stopped.")) from None
        if event is _END:
            raise WorkerFailure(self._death())
        if isinstance(event, str):
            self.stop()
            raise WorkerFailure(self.failure(f"The worker answered nonsense: {event[:200]!r}."))
        if event["event"] == "failed":
            self.stop()
            raise WorkerFailure(self.failure(str(event["reason"])))
        return event

    def events(self, timeout: float) -> Iterator[Event]:
        """Events until the worker says that it is done; raises like `receive`."""
        while True:
            event = self.receive(timeout)
            yield event
            if event["event"] == "done":
                self.stop(gently=True)
                return

    def stop(self, *, gently: bool = False) -> None:
        """End the worker and whatever it started."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        if gently:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
        lifeline.stop(self._process)
        self._listener.join(timeout=_LOOK_SECONDS)

    def _next(self, timeout: float) -> Event | str | None:
        """Wait for an event, looking now and then whether the worker is still there.

        A child of a dead worker may hold the pipe open, so that it never ends.
        """
        deadline = time.monotonic() + timeout
        while True:
            gone = self._process.poll() is not None
            try:
                return self._events.get(timeout=max(0.0, min(_LOOK_SECONDS, deadline - time.monotonic())))
            except queue.Empty:
                if gone:
                    return _END
                if time.monotonic() >= deadline:
                    raise

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                    known = isinstance(event, dict) and isinstance(event.get("event"), str)
                except ValueError:
                    known = False
                self._events.put(event if known else line.decode(errors="replace"))
        self._events.put(_END)

    def _death(self) -> Failure:
        code = self._process.wait()
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            hint = " (the system may have run out of memory)" if name == "SIGKILL" else ""
            return self.failure(f"The worker was killed by {name}{hint}.", name)
        return self.failure(f"The worker ended with exit code {code} before it was done.")

    def failure(self, reason: str, name: str | None = None) -> Failure:
        """Put a reason together with the last lines of the worker's log."""
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        return Failure(reason=reason, signal=name, log_tail="\n".join(lines[-_LOG_TAIL_LINES:]))
