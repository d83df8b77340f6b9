"""Errors that are sentences for people.

A `CrosscheckError` is a mistake or a condition that a user can do something about. Its text says what was
expected, what came and what to do; it is shown as it is, without a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class CrosscheckError(Exception):
    """Something a user can mend; the message is a whole sentence."""


class UsageError(CrosscheckError):
    """A wrong option, protocol or name: nothing was run (exit code 4)."""


class DataError(CrosscheckError):
    """A dataset that can't be read or isn't what it should be."""


class ContractError(CrosscheckError):
    """A backend that breaks the contract: names the backend, the method, what was expected and what came."""


class ResultsError(CrosscheckError):
    """Results on disk that are missing, damaged or don't belong together."""


class DamageError(ResultsError):
    """A file of results that is missing or isn't what was written; it can be made anew."""


@contextmanager
def in_a_sentence(what: str) -> Iterator[None]:
    """Turn what the system or a library has against a file into a `CrosscheckError`; `what` couldn't be done.

    It stands at each door: where a user's files come in, and where ours go out.
    """
    try:
        yield
    except CrosscheckError:
        raise
    except RecursionError:
        raise CrosscheckError(f"{what}: something in it is nested too deeply.") from None
    except MemoryError:
        raise CrosscheckError(f"{what}: there isn't memory enough.") from None
    except OSError as error:
        raise CrosscheckError(f"{what}: {error}.") from None
    except Exception as error:
        if not type(error).__module__.startswith("pyarrow"):
            raise
        raise CrosscheckError(f"{what}: {str(error).splitlines()[0]}.") from None


def unknown(what: str, got: str, valid: Iterable[str]) -> UsageError:
    """Say in one sentence that a name isn't known, and list the valid ones."""
    return UsageError(f"Unknown {what} {got!r}; the valid ones are: {', '.join(sorted(valid))}.")
