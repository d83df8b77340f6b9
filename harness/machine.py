"""The machine that a comparison runs on, described once: for the manifest and beside stored timings."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from contextlib import suppress
from pathlib import Path


def machine() -> dict[str, str]:
    """Describe the machine by what times depend on and what stays the same from call to call."""
    return {
        "cpu": cpu_name(),
        "cores": str(available_cores()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def cpu_name() -> str:
    """Model of the processor, as far as the system tells."""
    try:
        names = re.findall(r"^model name[ \t]*:[ \t]*(.*\S)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[-1] if names else platform.processor() or platform.machine()


def available_cores() -> int:
    """Cores that this process may use, the quota of a container among the limits."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max" for no quota
        return cores


def memory_variables() -> dict[str, str]:
    """Variables with which a process keeps the memory that it frees, where its malloc is glibc's (mallopt(3)).

    Otherwise large pieces go back to the system at once and come anew at the next step, page by page: for PyTorch's
    LSTM more than a quarter of a training step (``benchmarks/tuning.py``). No arithmetic depends on it.
    """
    return {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


def memory_facts() -> dict[str, str]:
    """Say of this process that it keeps the memory that it frees; nothing where that isn't so, or isn't sure."""
    told = all(os.environ.get(name) == value for name, value in memory_variables().items())
    # What is loaded before everything else may be another malloc.
    sure = platform.libc_ver()[0] == "glibc" and not os.environ.get("LD_PRELOAD")
    return {"freed memory": "kept"} if told and sure else {}


def hand_back_memory() -> bool:
    """Hand freed memory back to the system even so, where malloc is glibc's; returns whether it is."""
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if libc is None or not hasattr(libc, "malloc_trim"):
        return False
    libc.malloc_trim(0)
    return True


def load_average() -> float:
    """How many processes wanted to run in the last minute; 0 where the system doesn't say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0


def waits_by_thread() -> dict[str, int]:
    """Nanoseconds that each thread of this process was ready and waited for a core, by its id.

    Nothing where the system doesn't say (Documentation/scheduler/sched-stats.rst of Linux).
    """
    waits = {}
    for thread in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # it has ended meanwhile
            waits[thread.parent.name] = int(thread.read_text().split()[1])
    return waits
