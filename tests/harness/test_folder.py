"""Files and folders are whole or absent, known by their digests, and one process' at a time."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_crosscheck.harness.errors import UsageError
from rnn_crosscheck.harness.folder import claim, new_folder, sealed, unsealed, write_text


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    class Interrupt(BaseException):
        pass

    def write_half() -> None:
        with new_folder(tmp_path / "run") as scratch:
            (scratch / "half").write_text("x")
            raise Interrupt

    with pytest.raises(Interrupt):
        write_half()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TypeError):
        write_text(tmp_path / "file", 3)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_two_that_write_one_folder_leave_one_of_theirs_whole(tmp_path: Path) -> None:
    def write(number: int) -> None:
        with new_folder(tmp_path / "entry") as scratch:
            for name in "ab":
                (scratch / name).write_text(str(number))

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(write, range(300)))
    first, second = (path.read_text() for path in sorted((tmp_path / "entry").iterdir()))
    assert first == second
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]


RECORD = sealed('{\n "key": "abc",\n "figures": [\n  0.25,\n  1e-7\n ]\n}\n').encode()


@given(at=st.integers(0, len(RECORD) - 1), to=st.integers(0, 255))
def test_a_record_of_which_a_byte_is_another_is_not_what_was_written(at: int, to: int) -> None:
    changed = RECORD[:at] + bytes([to]) + RECORD[at + 1 :]
    assert (unsealed(changed) is None) == (changed != RECORD)


@given(st.binary(max_size=200))
def test_what_has_no_seal_is_none(content: bytes) -> None:
    assert unsealed(content) is None
    assert unsealed(RECORD + content) is None or not content


HOLDER = """
import sys, time
from pathlib import Path
from rnn_crosscheck.harness.folder import claim
lock = claim(Path(sys.argv[1]), "--crosscheck-output")
print("mine", flush=True)
time.sleep(60)
"""


def test_a_folder_is_one_process_s_until_that_ends_in_whatever_way(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "results")], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"mine\n"
    with pytest.raises(
        UsageError, match=rf"under way in .*results: process {other.pid}, since 20\d\d-.*--crosscheck-output"
    ):
        claim(tmp_path / "results", "--crosscheck-output")
    other.kill()
    other.communicate()
    lock = claim(tmp_path / "results", "--crosscheck-output")
    assert f"process {os.getpid()}," in (tmp_path / "results" / ".lock.txt").read_text()
    lock.release()
