from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from rnn_crosscheck.harness.errors import CrosscheckError, DataError
from rnn_crosscheck.harness.execution.apart import Apart


@pytest.fixture
def apart() -> Iterator[Apart]:
    apart = Apart()
    yield apart
    apart.close()


def where() -> int:
    return os.getpid()


def refuse(what: str) -> None:
    raise DataError(f"{what} can't be read.")


def read_too_much() -> None:
    os._exit(9)


def test_calls_run_in_one_process_that_is_not_this_one(apart: Apart) -> None:
    first = apart.call(where)
    assert first != os.getpid()
    assert apart.call(where) == first
    apart.close()
    assert apart.call(where) != first


def test_an_error_keeps_its_kind_and_its_sentence(apart: Apart) -> None:
    with pytest.raises(DataError, match=r"^mine\.csv can't be read\.$"):
        apart.call(refuse, "mine.csv")


def test_a_process_that_dies_is_a_sentence_and_the_next_call_starts_another(apart: Apart) -> None:
    with pytest.raises(CrosscheckError, match=r"was to read too much ended before it was done"):
        apart.call(read_too_much)
    assert apart.call(where) != os.getpid()
