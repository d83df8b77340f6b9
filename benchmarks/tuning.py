"""Which settings of a framework make a training step faster here: what `Backend.tuned` was chosen by.

python -m benchmarks.tuning

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
from typing import NamedTuple

from benchmarks.overhead import batches
from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.machine import memory_variables
from rnn_crosscheck.harness.protocol import load_protocol
from rnn_crosscheck.harness.timing.ratios import ratio
from rnn_crosscheck.harness.timing.rounds import balanced_orders


class Candidate(NamedTuple):
    """Options of the bare loop, whether it has all cores, and whether it keeps the memory that it frees."""

    options: tuple[str, ...] = ()
    everywhere: bool = False
    keeps: bool = False


CANDIDATES = {
    "keras": {
        "plain": Candidate(),
        "deterministic": Candidate(("deterministic",)),
        "memory kept": Candidate(keeps=True),
        "all cores": Candidate(everywhere=True),
        "XLA": Candidate(("xla",)),
        "XLA, memory kept": Candidate(("xla",), keeps=True),
        "XLA, all cores, memory kept": Candidate(("xla",), everywhere=True, keeps=True),
    },
    "pytorch": {
        "plain": Candidate(),
        "deterministic": Candidate(("deterministic",)),
        "memory kept": Candidate(keeps=True),
        "all cores": Candidate(everywhere=True),
        "fused Adam": Candidate(("fused",)),
        "fused Adam, memory kept": Candidate(("fused",), keeps=True),
        "fused Adam, all cores, memory kept": Candidate(("fused",), everywhere=True, keeps=True),
        "torch.compile": Candidate(("compile",)),
    },
}


class Loop:
    """A process that makes steps when it is asked to."""

    def __init__(self, arguments: list[str], log: Path, *, keeps: bool) -> None:
        script = str(Path(__file__).parent / "plain" / "steps.py")
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, script, *arguments],
                env=os.environ | (memory_variables() if keeps else {}),
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
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = str(batches(protocol, dataset, folder))
        for framework, candidates in CANDIDATES.items():
            for model in ("rnn", "lstm"):
                loops = []
                for place, candidate in enumerate(candidates.values()):
                    used = ",".join(map(str, cores if candidate.everywhere else cores[:1]))
                    arguments = [framework, model, str(options.length), used, data, *candidate.options]
                    loops.append(Loop(arguments, folder / f"{place}.log", keeps=candidate.keeps))
                number = max(1, round(20e6 / loops[0].steps(3)))
                taken: list[list[float]] = [[] for _ in loops]
                orders = balanced_orders(len(loops))
                for turn in range(options.rounds):
                    for place in orders[turn % len(orders)]:
                        taken[place].append(loops[place].steps(number))
                for name, rounds in zip(candidates, taken, strict=True):
                    value, low, high, _ = ratio(rounds, taken[0])
                    print(
                        f"{framework:8} {model:5} {name:34} {median(rounds) / 1e6:7.2f} ms, times plain's "
                        f"{value:.3f} [{low:.3f}, {high:.3f}]",
                        flush=True,
                    )
                for loop in loops:
                    loop.process.kill()
                    loop.process.wait()


if __name__ == "__main__":
    main()
