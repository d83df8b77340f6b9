"""What a Ray cluster costs: the same short runs by worker processes of this machine, and by Ray on it.

python benchmarks/executors.py

In turn, each from nothing: 40 runs of the reference, started and ended executors included. Then many runs by Ray, and
the memory of this process, which leads, after each hundred of them. Wanted: at most 1.10 of the time, under 50 ms a run
in this process, and memory that stays as it is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
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


def carry_out(start: Start, runs: int, told: Callable[[int], None] = lambda done: None) -> tuple[float, float]:
    """Carry out short runs from nothing; seconds, and those that this process computed."""
    asked = Asked(load_protocol("quick", SHORT), look_up(["reference"]), ("rnn",), ("matched",), dataset.fingerprint)
    began, computed = time.monotonic(), time.process_time()
    with TemporaryDirectory() as name:
        executor = start(Path(name))
        try:
            promised = [executor.submit([run])[run.name] for run in plan(asked, seeds=range(runs))]
            for done, promise in enumerate(promised, 1):
                promise.result()
                told(done)
        finally:
            executor.shutdown()
    return time.monotonic() - began, time.process_time() - computed


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
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(options.rounds):
        for kind in list(kinds)[:: -1 if number % 2 else 1]:
            seconds, computed = carry_out(kinds[kind], options.runs)
            taken[kind].append(seconds)
            print(
                f"{kind}: {options.runs} runs in {seconds:.1f} s, {1000 * computed / options.runs:.0f} ms a run here",
                flush=True,
            )
    print(f"Ray / local: {fmean(taken['Ray']) / fmean(taken['local']):.3f} (means of {options.rounds})")
    if options.many:
        carry_out(
            ray,
            options.many,
            lambda done: None if done % 50 else print(f"after {done} runs by Ray: {memory():.0f} MB", flush=True),
        )


dataset = datasets.load("reviews")

if __name__ == "__main__":
    main()
