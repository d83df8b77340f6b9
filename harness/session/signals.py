"""Ctrl-C and SIGTERM while a comparison runs: the first ends the session in order, and no other disturbs that."""

from __future__ import annotations

import atexit
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

#: what a shell says of a process that SIGTERM has ended
TERMINATED = 143
#: whoever presses Ctrl-C again sooner means the same; one that comes later may find that the first was swallowed
_DEAF_SECONDS = 15.0
#: how long a process takes at most to end when its session is over
_LAST_SECONDS = 2.0


class Terminated(KeyboardInterrupt):
    """SIGTERM came; the session ends as it does after Ctrl-C."""


class Signals:
    """Handlers of SIGINT and SIGTERM that raise `KeyboardInterrupt` or `Terminated` where that can be borne.

    `terminated` says whether SIGTERM has come. A signal that is ignored where pytest was started stays ignored.
    """

    def __init__(self) -> None:
        self.terminated = False
        self._deaf_until = 0.0
        self._over = False
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int] = {}

    def install(self) -> None:
        """Take both over; does nothing in a thread that isn't the main one, where no handler can be set."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)
            if before is not None and before is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._raise)

    def ignore(self) -> None:
        """Let none in until `heed`."""
        self._deaf_until = math.inf

    def heed(self) -> None:
        """Let the next one in."""
        self._deaf_until = 0.0

    def restore(self) -> None:
        """Give both back, to the first that comes when a process that ends now has ended: none is to hurt that."""
        self._over = True
        self._deaf_until = time.monotonic() + _LAST_SECONDS
        # Python lets go of handlers a good while before the process has ended.
        atexit.register(self._give_back, signal.SIG_IGN)

    def _give_back(self, instead: signal.Handlers | None = None) -> None:
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before if instead is None else instead)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if time.monotonic() < self._deaf_until:
            return
        if self._over:
            self._give_back()
            os.kill(os.getpid(), number)
            return
        self._deaf_until = time.monotonic() + _DEAF_SECONDS
        if number == signal.SIGTERM:
            self.terminated = True
            raise Terminated("SIGTERM")
        raise KeyboardInterrupt
