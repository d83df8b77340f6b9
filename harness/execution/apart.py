"""Calls functions in a second process, so that what they import and read is not the first one's memory.

The process that leads a comparison lives for hours beside the trainings. What reads whole datasets and builds reports
needs pandas, matplotlib and hundreds of megabytes, for seconds.

``python -m rnn_crosscheck.harness.execution.apart``, started by `lifeline.start`, is that second process: calls come
pickled on its standard input, answers go back on what was its standard output.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, ParamSpec, TypeVar, cast

from rnn_crosscheck.harness import lifeline
from rnn_crosscheck.harness.errors import CrosscheckError

#: how long the process may take to end when it is told to
_TIDY_SECONDS = 5.0

_Given = ParamSpec("_Given")
_Returned = TypeVar("_Returned")


class Apart:
    """One process beside this one, started when it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def call(
        self, function: Callable[_Given, _Returned], /, *arguments: _Given.args, **named: _Given.kwargs
    ) -> _Returned:
        """Call a function of a module there, with values that can be pickled; what it raises is raised here.

        Raises
        ------
        CrosscheckError
            The process ended before it answered.
        """
        try:
            went_well, answer = self._ask((function, arguments, named))
        except (OSError, EOFError, pickle.UnpicklingError):
            self.close()
            what = function.__name__.replace("_", " ")
            raise CrosscheckError(
                f"The process that was to {what} ended before it was done (the system may have run out of memory); the "
                "same command goes on from what is on disk."
            ) from None
        except BaseException:
            # An answer that would still come is not that of the next call.
            self.close()
            raise
        if went_well:
            return cast("_Returned", answer)
        raise answer

    def _ask(self, call: tuple[Any, ...]) -> tuple[bool, Any]:
        if self._process is None:
            # Until it is ready for it, an interruption would end it with a traceback.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            try:
                self._process = lifeline.start(__name__)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self._send([os.path.abspath(entry or ".") for entry in sys.path])
        self._send(call)
        assert self._process.stdout is not None
        return cast("tuple[bool, Any]", pickle.load(self._process.stdout))

    def _send(self, value: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        pickle.dump(value, self._process.stdin)
        self._process.stdin.flush()

    def close(self) -> None:
        """End the process, which may tidy up first; the next call starts another."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGINT)
        try:
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=_TIDY_SECONDS)
        finally:
            lifeline.stop(process)


def main() -> None:
    """Answer calls until there are no more or we are interrupted, in the second process."""
    lifeline.leave_with_parent()
    # What is raised while it is sent or answered means that nobody is there any more.
    with suppress(KeyboardInterrupt, OSError, EOFError, pickle.UnpicklingError):
        signal.signal(signal.SIGINT, _interrupted)  # also where who started us ignores it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        _answer()


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Stop what is being done; whatever it has to say of that is of no use to anybody."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    raise KeyboardInterrupt


def _answer() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    # What the functions print is no answer.
    os.dup2(2, 1)
    calls = sys.stdin.buffer
    # Behind our own, so that nothing of a user's stands in for what we import.
    sys.path.extend(entry for entry in pickle.load(calls) if entry not in sys.path)
    while True:
        try:
            function, arguments, named = pickle.load(calls)
        except EOFError:
            return
        try:
            answer = True, function(*arguments, **named)
        except Exception as error:  # noqa: BLE001 - raised again by who asked
            if not isinstance(error, CrosscheckError):  # which is a sentence for the user
                error.add_note(f"In the process apart:\n{traceback.format_exc()}")
            answer = False, error
        answers.write(_packed(answer))
        answers.flush()


def _packed(answer: tuple[bool, Any]) -> bytes:
    """Pickle an answer; one that can't be sent, or not be read, becomes an error that says what it was."""
    try:
        packed = pickle.dumps(answer)
        pickle.loads(packed)
    except Exception as error:  # noqa: BLE001 - whatever somebody's class raises
        what = "".join(traceback.format_exception(answer[1])) if isinstance(answer[1], Exception) else repr(answer[1])
        return pickle.dumps((False, RuntimeError(f"The answer can't be sent ({error}): {what}")))
    return packed


if __name__ == "__main__":
    main()
