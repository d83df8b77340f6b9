"""What is known of the machine, and what its processes are told about memory."""

import hashlib
import os
import platform
import subprocess
import sys
import threading
import time

import pytest

from rnn_crosscheck.harness.machine import memory_facts, memory_variables, waits_by_thread

#: what a training step does with its memory; prints the pages that the system had to hand out meanwhile
STEPS = """
import resource
import numpy as np

def step():
    return [np.ones(200_000) for _ in range(20)]

step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


#: prints the bytes by which a process's peak is smaller once it was told to start anew
FORGOTTEN = """
import numpy as np
from rnn_crosscheck.harness.worker.measure import forget_peak_memory, peak_memory

pieces = [np.ones(200_000) for _ in range(100)]
del pieces
before = peak_memory()
forget_peak_memory()
print(before - peak_memory())
"""

on_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc's malloc can be told to keep memory"
)


def said(code: str, variables: dict[str, str]) -> int:
    environment = untold() | variables
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


def untold() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in {*memory_variables(), "LD_PRELOAD"}}


@pytest.mark.slow
@on_glibc
def test_a_process_that_keeps_its_memory_is_handed_no_more() -> None:
    assert said(STEPS, memory_variables()) < said(STEPS, {}) / 10


@pytest.mark.slow
@on_glibc
def test_a_peak_that_starts_anew_forgets_the_memory_that_was_kept() -> None:
    assert said(FORGOTTEN, memory_variables()) > 100 * 1.6e6 / 2


def test_a_process_says_that_it_keeps_its_memory_if_it_was_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ({*os.environ} - {*untold()}) | {"LD_PRELOAD"}:
        monkeypatch.delenv(name, raising=False)
    assert memory_facts() == {}
    for name, value in memory_variables().items():
        monkeypatch.setenv(name, value)
    assert memory_facts() == ({"freed memory": "kept"} if platform.libc_ver()[0] == "glibc" else {})
    monkeypatch.setenv("LD_PRELOAD", "libjemalloc.so")
    assert memory_facts() == {}
    monkeypatch.delenv("LD_PRELOAD")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert memory_facts() == {}


@pytest.mark.skipif(not waits_by_thread(), reason="this system doesn't say how long a thread waits")
def test_a_thread_that_waits_for_a_core_is_told_from_one_that_sleeps() -> None:
    def work(seconds: float) -> None:
        os.sched_setaffinity(0, {core})  # of this thread alone
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            hashlib.sha256(block).digest()  # without Python's lock
        done.release()
        leave.wait()

    core, block, done, leave = min(os.sched_getaffinity(0)), bytes(2**20), threading.Semaphore(0), threading.Event()
    threads = [threading.Thread(target=work, args=(seconds,)) for seconds in (0.1, 0.1, 0.0)]
    for thread in threads:
        thread.start()
    for _ in threads:
        done.acquire()
    waits = waits_by_thread()
    first, second, idle = (waits[str(thread.native_id)] for thread in threads)
    leave.set()
    # On one core each waits while the other computes.
    assert min(first, second) > 0.03e9
    assert idle < min(first, second)
