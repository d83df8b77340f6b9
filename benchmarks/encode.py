"""Measure loading the dataset ``reviews``: the first time, from the cache, and padding.

Each load runs in a process of its own with a cache in a temporary folder::

    python benchmarks/encode.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_CACHED_LOADS = 5


def child(cache: Path) -> dict[str, float]:
    """Load in this process: seconds, and peak memory in MiB before and after."""
    import resource

    # What the loader imports itself is part of its time; its callers have these already.
    from harness import datasets, results  # noqa: F401

    # Linux counts KiB, macOS bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    start = time.perf_counter()
    datasets.load("reviews", cache=cache)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return {"seconds": seconds, "before_mib": before, "peak_mib": after}


def in_a_process(cache: Path) -> dict[str, float]:
    """Load in a fresh process."""
    command = [sys.executable, __file__, "--child", str(cache)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(finished.stdout)
    return measured


def pad(cache: Path, examples: int, rounds: int) -> float:
    """Median seconds of padding so many random training examples to 500 tokens."""
    import numpy as np

    from harness import datasets

    split = datasets.load("reviews", cache=cache).splits["train"]
    generator = np.random.default_rng(0)
    seconds = []
    for _ in range(rounds):
        rows = generator.permutation(len(split))[:examples]
        start = time.perf_counter()
        split.padded(rows, 500, 5000)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def show(what: str, measured: dict[str, Any]) -> None:
    extra = measured["peak_mib"] - measured["before_mib"]
    print(f"{what:<12} {measured['seconds']:8.3f} s   peak {measured['peak_mib']:6.0f} MiB, {extra:6.0f} of them extra")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        show("first load", in_a_process(cache))
        again = [in_a_process(cache) for _ in range(_CACHED_LOADS)]
        show("cached load", {name: statistics.median(one[name] for one in again) for name in again[0]})
        print(f"pad 32 examples      {pad(cache, 32, 1000) * 1e6:8.1f} us")
        print(f"pad 15,000 examples  {pad(cache, 15_000, 5) * 1e3:8.1f} ms")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(Path(sys.argv[2]))))
    else:
        main()
