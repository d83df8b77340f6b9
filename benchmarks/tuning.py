"""Which settings of a framework make a training step faster here: what `Backend.tuned` was chosen by.

For each framework and model a bare loop (`benchmarks/plain/steps.py`) of every candidate is alive, all take turns,
and the ratio to the plain one is printed with its interval over rounds. On as many cores as a candidate has threads.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from overhead import batches

from harness import datasets
from harness.protocol import load_protocol
from harness.ratios import ratio
from harness.timing import balanced_orders

#: name -> options of the bare loop, whether on all cores
CANDIDATES = {
    "keras": {
        "plain": ([], False),
        "deterministic": (["deterministic"], False),
        "all cores": ([], True),
        "XLA": (["xla"], False),
        "XLA, all cores": (["xla"], True),
    },
    "pytorch": {
        "plain": ([], False),
        "deterministic": (["deterministic"], False),
        "all cores": ([], True),
        "fused Adam": (["fused"], False),
        "fused Adam, all cores": (["fused"], True),
        "torch.compile": (["compile"], False),
    },
}


class Loop:
    """A process that makes steps when it is asked to."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        script = str(Path(__file__).parent / "plain" / "steps.py")
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, script, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(log.read_text())

    def steps(self, number: int) -> float:
        """Make some steps after one that isn't counted; median nanoseconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{number + 1}\n")
        self.process.stdin.flush()
        return median([int(ns) for ns in self.process.stdout.readline().split()][1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--length", type=int, default=500)
    options = parser.parse_args()
    protocol = load_protocol("quick", [f"data.length={options.length}"])
    dataset = datasets.load(protocol.data.dataset)
    cores = sorted(os.sched_getaffinity(0))
    with TemporaryDirectory() as name:
        folder = Path(name)
        data = str(batches(protocol, dataset, folder))
        for framework, candidates in CANDIDATES.items():
            for model in ("rnn", "lstm"):
                loops = []
                for place, (wanted, everywhere) in enumerate(candidates.values()):
                    used = ",".join(map(str, cores if everywhere else cores[:1]))
                    arguments = [framework, model, str(options.length), used, data, *wanted]
                    loops.append(Loop(arguments, folder / f"{place}.log"))
                number = max(1, round(20e6 / loops[0].steps(3)))
                taken: list[list[float]] = [[] for _ in loops]
                orders = balanced_orders(len(loops))
                for turn in range(options.rounds):
                    for place in orders[turn % len(orders)]:
                        taken[place].append(loops[place].steps(number))
                for candidate, rounds in zip(candidates, taken, strict=True):
                    value, low, high = ratio(rounds, taken[0])
                    print(
                        f"{framework:8} {model:5} {candidate:22} {median(rounds) / 1e6:7.2f} ms, times plain's "
                        f"{value:.3f} [{low:.3f}, {high:.3f}]",
                        flush=True,
                    )
                for loop in loops:
                    loop.process.kill()
                    loop.process.wait()


if __name__ == "__main__":
    main()
