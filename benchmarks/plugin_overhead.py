"""What the installed plugin costs a pytest session that doesn't use it.

Collects an unrelated project with the plugin and with ``-p no:crosscheck``, in turn, and prints the medians and the
median of the differences, in milliseconds of processor time (a session waits for nothing else). Also prints which
heavy packages the session imported: none.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

#: what no session may have imported; of ours, more than the plugin
HEAVY = (
    "tensorflow",
    "keras",
    "torch",
    "jax",
    "pandas",
    "pyarrow",
    "numpy",
    "pydantic",
    "matplotlib",
    "rnn_crosscheck.harness",
)
CONFTEST = """
import sys

def pytest_unconfigure(config):
    print("HEAVY", *[name for name in {heavy!r} if name in sys.modules])
"""


def collect(folder: Path, *options: str) -> tuple[float, str]:
    """Collect once; returns milliseconds of processor time and the heavy packages that were imported."""
    quiet = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")  # which takes a second, more or less
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *quiet, *options]
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    elapsed = (ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime) * 1e3
    line = next(line for line in answer.stdout.splitlines() if line.startswith("HEAVY"))
    return elapsed, line.removeprefix("HEAVY").strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "conftest.py").write_text(CONFTEST.format(heavy=HEAVY))
        (folder / "test_one.py").write_text("def test_one():\n    pass\n")
        collect(folder), collect(folder, "-p", "no:crosscheck")
        with_plugin, without = list[float](), list[float]()
        for number in range(rounds):
            # The order alternates, so that neither always runs second.
            for options in ((), ("-p", "no:crosscheck")) if number % 2 else (("-p", "no:crosscheck"), ()):
                elapsed, heavy = collect(folder, *options)
                (without if options else with_plugin).append(elapsed)
    differences = [a - b for a, b in zip(with_plugin, without, strict=True)]
    print(f"with the plugin     {statistics.median(with_plugin):8.1f} ms (median of {rounds})")
    print(f"without             {statistics.median(without):8.1f} ms")
    print(f"difference          {statistics.median(differences):8.1f} ms (median of the pairs)")
    print(f"heavy packages imported: {heavy or 'none'}")


if __name__ == "__main__":
    main()
