"""Where the time goes from a fresh clone to the first answer: commits beside each other, one after the other.

Clones this repository at each commit, installs what its ``make benchmark`` installs and runs it in an empty cache;
with ``--installed`` the environment of this script serves instead. Prints when the first report was there and when the
comparison ended, and how long its workers were at each kind of work; then the ratio of the last commit's time to the
first one's. Wanted on two idle cores: at most 240 s from the start of pytest to its end, and 120 s to the first report.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]

#: kinds of work by the names of what is waited for, the first that fits
KINDS = {
    "effects": r"^effects-",
    "trained weights": r"^(transplants|occlusions)-",
    "twins": r"-(initial|continuing)\d+$",
    "training": r"-seed\d+$",
    "stages": "",
}


def kind_of(name: str) -> str:
    """Say what kind of work a worker is at."""
    return next(kind for kind, pattern in KINDS.items() if re.search(pattern, name))


def prepared(commit: str, folder: Path, installed: bool) -> tuple[list[str], dict[str, str]]:
    """Clone a commit and install it; returns the command of its comparison and the environment to run it in."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "checkout", "--quiet", commit], check=True)
    # Unbuffered: when a line comes is what is measured.
    own = {"CROSSCHECK_CACHE": str(folder / "cache"), "PYTHONPATH": "", "PYTHONUNBUFFERED": "1"}
    environment = {**os.environ, **own}
    if installed:
        environment["PYTHONPATH"] = os.pathsep.join([str(folder / "src"), str(folder)])
        return [sys.executable, "-m", "pytest", "--benchmark"], environment
    began = time.monotonic()
    # It installs, and then lists what it would run.
    subprocess.run(["make", "benchmark", "ARGS=--collect-only -q"], cwd=folder, env=environment, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    print(f"  installed in {time.monotonic() - began:.0f} s")
    return ["make", "benchmark"], environment


def compare(command: list[str], environment: dict[str, str], folder: Path) -> float:
    """Run a comparison and print where its time went; returns seconds from its start to its end."""
    began = time.monotonic()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    started, spent = dict[str, float](), defaultdict[str, float](float)
    first, timing = 0.0, 0.0
    for line in process.stdout:
        now = time.monotonic() - began
        if found := re.match(r"(\S+): started$", line):
            started[found[1]] = now
        elif found := re.match(r"\[\d+/\d+\] (\S+): ", line):
            spent[kind_of(found[1])] += now - started.pop(found[1], now)
        elif line.startswith("timing: "):
            timing = timing or now
        elif line.startswith("A report of what there is"):
            first = first or now
    process.wait()
    total = time.monotonic() - began
    print(f"  first report after {first or total:.0f} s, timing from {timing:.0f} s on, ended after {total:.0f} s")
    print(
        "  seconds of workers: "
        + ", ".join(f"{kind} {seconds:.0f}" for kind, seconds in sorted(spent.items(), key=lambda item: -item[1]))
    )
    if process.returncode:
        sys.exit(f"The comparison ended with exit code {process.returncode}.")
    return total


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commits", nargs="*", default=["HEAD"], help="for example an old one and HEAD")
    parser.add_argument("--installed", action="store_true", help="install nothing: take what this environment has")
    options = parser.parse_args()
    totals = []
    for commit in options.commits:
        print(f"{commit}: load {os.getloadavg()[0]:.1f} before", flush=True)
        with TemporaryDirectory() as name:
            folder = Path(name) / "clone"
            totals.append(compare(*prepared(commit, folder, options.installed), folder))
    if len(totals) > 1:
        print(f"{options.commits[-1]} takes {totals[-1] / totals[0]:.3f} of {options.commits[0]}'s time")


if __name__ == "__main__":
    main()
