"""What is known of the machine, and what its processes are told about memory."""

import os
import platform
import subprocess
import sys

import pytest

from harness.machine import memory_facts, memory_variables

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


def pages(variables: dict[str, str]) -> int:
    done = subprocess.run(
        [sys.executable, "-c", STEPS], env=os.environ | variables, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc can be told to keep memory")
def test_a_process_that_keeps_its_memory_is_handed_no_more() -> None:
    assert pages(memory_variables()) < pages({}) / 10


def test_a_process_says_that_it_keeps_its_memory_if_it_was_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory_facts() == {}
    for name, value in memory_variables().items():
        monkeypatch.setenv(name, value)
    assert memory_facts() == ({"freed memory": "kept"} if platform.libc_ver()[0] == "glibc" else {})
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert memory_facts() == {}
