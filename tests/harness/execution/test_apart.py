from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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


class Odd(Exception):
    """Can be pickled, and not be read again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} is not {two}")


def be_odd() -> None:
    raise Odd(1, 2)


def break_down() -> None:
    {}["missing"]


def give_a_function() -> object:
    return lambda: None


def wait_long(place: str) -> None:
    try:
        time.sleep(60)
    finally:
        Path(place).write_text("tidied up")


def talk() -> str:
    print("this is no answer")
    return "answer"


def test_an_error_says_where_it_came_from(apart: Apart) -> None:
    with pytest.raises(KeyError) as caught:
        apart.call(break_down)
    assert "in break_down" in caught.value.__notes__[0]


@pytest.mark.parametrize(("function", "said"), [(be_odd, "1 is not 2"), (give_a_function, "<lambda>")])
def test_what_can_not_be_sent_is_an_error_of_its_own_call_alone(
    apart: Apart, function: Callable[[], object], said: str
) -> None:
    with pytest.raises(RuntimeError, match=f"can't be sent .*(?s:.*){said}"):
        apart.call(function)
    assert apart.call(talk) == "answer"


def test_after_an_interruption_the_next_call_has_its_own_answer(
    apart: Apart, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    # Tests that a script runs in the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    place = tmp_path / "place"
    first = apart.call(where)

    def interrupt() -> None:
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        apart.call(wait_long, str(place))
    assert place.read_text() == "tidied up"
    assert apart.call(where) not in (first, os.getpid())
