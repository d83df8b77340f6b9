"""What training side by side saves: `quick` with a job of one thread a core, and with one job of all cores.

Each round trains all of `quick` twice from nothing, in turn, and prints seconds of the whole command and the ratio.
Wanted on 2 cores: at most 0.7.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from rnn_crosscheck.harness.machine import available_cores


def train(jobs: int, threads: int, options: list[str]) -> float:
    """Train all runs of `quick` from nothing; returns seconds."""
    with TemporaryDirectory() as name:
        command = [sys.executable, "-m", "pytest", "--benchmark", "-q", "-p", "no:cacheprovider", "-k", "test_training"]
        command += ["--crosscheck-jobs", str(jobs), "--crosscheck-set", f"workers.threads={threads}"]
        began = time.monotonic()
        answer = subprocess.run([*command, *options], cwd=name, capture_output=True, text=True, check=False)
        taken = time.monotonic() - began
        if answer.returncode:
            sys.exit(answer.stdout + answer.stderr)
        if not list(Path(name).glob("comparison/runs/*/result.json")):
            sys.exit("Nothing was trained.")
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("options", nargs="*", help="more options of pytest, after --, for both")
    arguments = parser.parse_args()
    cores = available_cores()
    kinds = {f"{cores} jobs of 1 thread": (cores, 1), f"1 job of {cores} threads": (1, cores)}
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(arguments.rounds):
        for kind in list(kinds)[:: -1 if number % 2 else 1]:
            taken[kind].append(train(*kinds[kind], arguments.options))
            print(f"{kind}: {taken[kind][-1]:.1f} s", flush=True)
    side, alone = (fmean(values) for values in taken.values())
    print(f"side by side / one after the other: {side / alone:.3f} (means of {arguments.rounds})")


if __name__ == "__main__":
    main()
