"""What memory the process needs that leads a comparison and builds its report, whatever the number of runs.

Runs comparisons of the test suite's backends that need no framework, with the test split and length of `quick`, and
few and many seeds; prints the peak of the leading process (its workers are processes of their own). Wanted: under
400 MB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

PLUGIN = """
from pathlib import Path

def pytest_unconfigure():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            print("PEAK", int(line.split()[1]) * 1024)
"""


def compare(seeds: int, backends: str) -> tuple[int, int, float]:
    """Run one comparison; returns the number of runs, the peak in bytes and seconds."""
    root = Path(__file__).parent.parent
    with TemporaryDirectory() as name:
        (Path(name) / "peak.py").write_text(PLUGIN)
        command = [sys.executable, "-m", "pytest", "--benchmark", "-q", "-p", "no:cacheprovider", "-p", "peak"]
        command += ["--crosscheck-backends", backends, "--crosscheck-seeds", str(seeds), "-k", "test_training"]
        command += ["--crosscheck-set", "training.epochs=1", "--crosscheck-set", "data.train_examples=320"]
        began = time.monotonic()
        answer = subprocess.run(
            command,
            cwd=name,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([name, str(root)])},
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            sys.exit(answer.stdout + answer.stderr)
        peak = next(int(line.split()[1]) for line in answer.stdout.splitlines() if line.startswith("PEAK"))
        runs = len(list(Path(name).glob("comparison/runs/*/predictions.parquet")))
    return runs, peak, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 25])
    parser.add_argument("--backends", default="tests.fakes:Steady,tests.fakes:Other")
    options = parser.parse_args()
    for seeds in options.seeds:
        runs, peak, seconds = compare(seeds, options.backends)
        print(f"{runs:4} runs: peak of the leading process {peak / 1e6:.0f} MB ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
