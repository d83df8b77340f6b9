"""What a Ray cluster costs: the same short runs by worker processes of this machine, and by Ray on it.

python benchmarks/executors.py

In turn, each from nothing: 40 runs of the reference; to start and to end what carries them out is told beside it. Then
many runs by Ray, and the memory of this process, which leads, after each fifty of them. Wanted: at most 1.10 of the
time, under 50 ms a run in this process, and memory that stays as it is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.execution.chosen import look_up
from rnn_crosscheck.harness.execution.executor import Executor
from rnn_crosscheck.harness.execution.local import LocalExecutor
from rnn_crosscheck.harness.execution.plan import Asked, plan
from rnn_crosscheck.harness.execution.ray import RayExecutor
from rnn_crosscheck.harness.machine import available_cores
from rnn_crosscheck.harness.protocol import load_protocol

SHORT = ["data.train_examples=2000", "data.test_examples=2000", "training.epochs=2", "parity.continuing_twins=0"]

Start = Callable[[Path], Executor]


@dataclass(frozen=True)
class Took:
    """Seconds of start, runs and end; of the runs also those that this process computed."""

    start: float
    runs: float
    end: float
    computed: float

    @property
    def all(self) -> float:
        """From nothing to nothing."""
        return self.start + self.runs + self.end


def carry_out(start: Start, runs: int, told: Callable[[int], None] = lambda done: None) -> Took:
    """Carry out short runs from nothing."""
    asked = Asked(load_protocol("quick", SHORT), look_up(["reference"]), ("rnn",), ("matched",), dataset.fingerprint)
    began = time.monotonic()
    with TemporaryDirectory() as name:
        executor = start(Path(name))
        started, computed = time.monotonic(), time.process_time()
        try:
            promised = [executor.submit([run])[run.name] for run in plan(asked, seeds=range(runs))]
            for done, promise in enumerate(promised, 1):
                promise.result()
                told(done)
            ended, computed = time.monotonic(), time.process_time() - computed
        finally:
            executor.shutdown()
        return Took(started - began, ended - started, time.monotonic() - ended, computed)


def memory() -> float:
    """Resident memory of this process in MB."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1000


def local(folder: Path) -> Executor:
    return LocalExecutor(folder, dataset.path, jobs=available_cores(), stall_seconds=60)


def ray(folder: Path) -> Executor:
    return RayExecutor(folder, dataset.path, address="", jobs=0, stall_seconds=60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--many", type=int, default=300, help="runs during which memory is looked at")
    options = parser.parse_args()
    kinds: dict[str, Start] = {"local": local, "Ray": ray}
    taken: dict[str, list[Took]] = {kind: [] for kind in kinds}
    for number in range(options.rounds):
        for kind in list(kinds)[:: -1 if number % 2 else 1]:
            took = carry_out(kinds[kind], options.runs)
            taken[kind].append(took)
            print(
                f"{kind}: {options.runs} runs in {took.runs:.1f} s, {1000 * took.computed / options.runs:.0f} ms a run "
                f"here; started in {took.start:.1f} s, ended in {took.end:.1f} s",
                flush=True,
            )
    if options.rounds:
        runs = fmean(took.runs for took in taken["Ray"]) / fmean(took.runs for took in taken["local"])
        whole = fmean(took.all for took in taken["Ray"]) / fmean(took.all for took in taken["local"])
        print(f"Ray / local: {runs:.3f}, with start and end {whole:.3f} (means of {options.rounds})")
    if options.many:
        carry_out(
            ray,
            options.many,
            lambda done: None if done % 50 else print(f"after {done} runs by Ray: {memory():.0f} MB", flush=True),
        )


dataset = datasets.load("reviews")

if __name__ == "__main__":
    main()
