"""Calls functions in a second process, so that what they import and read is not the first one's memory.

The process that leads a comparison lives for hours beside the trainings. What reads whole datasets and builds reports
needs pandas, matplotlib and hundreds of megabytes, for seconds.

``python -m rnn_crosscheck.harness.execution.apart`` is that second process: calls come pickled on its standard input,
answers go back on what was its standard output.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from rnn_crosscheck.harness.errors import CrosscheckError

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
        if went_well:
            return cast("_Returned", answer)
        raise answer

    def _ask(self, call: tuple[Any, ...]) -> tuple[bool, Any]:
        if self._process is None:
            self._process = subprocess.Popen(
                # -P: the folder may hold modules called like ours, or like those that we import.
                [sys.executable, "-P", "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Ctrl-C in the terminal is for the process that leads.
                start_new_session=True,
            )
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
        """End the process; the next call starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def main() -> None:
    """Answer calls until there are no more, in the second process."""
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
            answer = False, error
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
