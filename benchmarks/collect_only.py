"""How long ``pytest --benchmark --collect-only`` takes to list what would be run.

Lists the comparison and, in turn, collects an empty folder with the same plugins, each in a fresh process and in the
same empty folder, and prints median and best of N for both and the median of the differences, in milliseconds of
wall time. What is left beside the difference is Python, pytest and the other plugins of the environment.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path


def collect(folder: Path, options: Sequence[str]) -> tuple[float, int]:
    """Collect once; returns milliseconds and how many tests were listed."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *options]
    # As in a user's shell, where Python keeps what it has compiled.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    elapsed = (time.perf_counter() - began) * 1e3
    if answer.returncode not in (0, 5):  # 5: nothing was collected
        sys.exit(answer.stdout + answer.stderr)
    return elapsed, sum("::" in line for line in answer.stdout.splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("options", nargs="*", help="more options of pytest, after --, for both")
    arguments = parser.parse_args()
    kinds = {"--benchmark": ["--benchmark", *arguments.options], "empty folder": arguments.options}
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    listed: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for options in kinds.values():
            collect(folder, options)
        for number in range(arguments.rounds):
            # The order alternates, so that neither always runs second.
            for kind in sorted(kinds, reverse=bool(number % 2)):
                elapsed, listed[kind] = collect(folder, kinds[kind])
                taken[kind].append(elapsed)
    for kind, values in taken.items():
        print(
            f"{kind:13} {statistics.median(values):8.0f} ms (median of {len(values)}) "
            f"{min(values):8.0f} ms (best)   {listed[kind]} tests listed"
        )
    differences = [a - b for a, b in zip(*taken.values(), strict=True)]
    print(f"{'difference':13} {statistics.median(differences):8.0f} ms (median of the pairs)")


if __name__ == "__main__":
    main()
