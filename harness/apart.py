"""Calls functions in a second process, so that what they import and read is not the first one's memory.

The process that leads a comparison lives for hours beside the trainings. What reads whole datasets and builds reports
needs pandas, matplotlib and hundreds of megabytes, for seconds.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

from harness.errors import CrosscheckError

_Given = ParamSpec("_Given")
_Returned = TypeVar("_Returned")


class Apart:
    """One process beside this one, started when it is first needed."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def call(
        self, function: Callable[_Given, _Returned], /, *arguments: _Given.args, **named: _Given.kwargs
    ) -> _Returned:
        """Call a function of a module there, with values that can be pickled; what it raises is raised here.

        Raises
        ------
        CrosscheckError
            The process ended before it answered.
        """
        if self._pool is None:
            # Not forked: threads listen to workers here, and whatever has been imported would come along.
            self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        try:
            return self._pool.submit(function, *arguments, **named).result()
        except BrokenProcessPool:
            self.close()
            what = function.__name__.replace("_", " ")
            raise CrosscheckError(
                f"The process that was to {what} ended before it was done (the system may have run out of memory); the "
                "same command goes on from what is on disk."
            ) from None

    def close(self) -> None:
        """End the process; the next call starts another."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
