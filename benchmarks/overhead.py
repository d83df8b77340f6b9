"""What the harness adds to a training step: the step that is timed against a bare loop of the same framework.

For each backend and model a worker of the harness and a process of `benchmarks/plain/steps.py` are started afresh
several times and take turns on the same real batches, on the same core. Prints the ratio of the recorded step to the
bare one with its interval over starts. Wanted: at most 1.01 for the LSTM and 1.03 for the RNN.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from scipy import stats

from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.datasets.selection import apply
from rnn_crosscheck.harness.execution.chosen import BackendInfo, address, look_up, worker_environment
from rnn_crosscheck.harness.execution.plan import Asked
from rnn_crosscheck.harness.execution.process import WorkerProcess
from rnn_crosscheck.harness.protocol import Protocol, load_protocol
from rnn_crosscheck.harness.timing.ratios import ratio
from rnn_crosscheck.harness.timing.stopwatch import timing_spec

WANTED = {"lstm": 1.01, "rnn": 1.03}
BACKENDS = {"keras": "keras-tensorflow", "pytorch": "pytorch"}


def batches(protocol: Protocol, dataset: Dataset, folder: Path) -> Path:
    """Write the batches that a worker of the harness takes in turn."""
    block = apply(dataset, protocol.data).train
    size = protocol.training.batch_size
    rows = [block.rows[start : start + size] for start in range(0, 8 * size, size)]
    path = folder / "batches.npz"
    np.savez(
        path,
        tokens=np.stack([block.split.padded(part, protocol.data.length, protocol.data.vocabulary) for part in rows]),
        labels=np.stack([block.split.labels[part].astype(np.float32) for part in rows]),
    )
    return path


def one_start(
    protocol: Protocol, info: BackendInfo, framework: str, model: str, dataset: Dataset, start: int, rounds: int
) -> tuple[float, float]:
    """Start both afresh and measure; returns the ratio and the bare step in milliseconds."""
    core = sorted(os.sched_getaffinity(0))[start % len(os.sched_getaffinity(0))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = Path(__file__).parent / "plain" / "steps.py"
        arguments = [framework, model, str(protocol.data.length), str(core), str(batches(protocol, dataset, folder))]
        with (folder / "bare.log").open("w") as log:
            bare = subprocess.Popen(
                [sys.executable, str(script), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        worker = WorkerProcess(
            {"backend": address(info), "dataset": str(dataset.path)},
            {"mode": "time", "threads": 1, "setting": "default", "cores": [core]},
            environment=worker_environment(info, 1, "cpu"),
            log=folder / "worker.log",
        )
        try:
            assert bare.stdin is not None
            assert bare.stdout is not None
            if bare.stdout.readline().strip() != "ready":
                sys.exit((folder / "bare.log").read_text())
            worker.receive(120)
            spec = timing_spec(Asked(protocol, (info,), (model,), (), dataset.fingerprint), info, model)
            worker.send({"do": "prepare", "operation": "train_step", "spec": spec.model_dump(mode="json")})
            worker.receive(120)

            def recorded(loops: int) -> float:
                worker.send({"do": "round", "loops": loops, "lead_in": 1})
                return float(median(worker.receive(120)["calls"]))

            def plain(loops: int) -> float:
                assert bare.stdin is not None
                assert bare.stdout is not None
                bare.stdin.write(f"{loops + 1}\n")
                bare.stdin.flush()
                return float(median([int(ns) for ns in bare.stdout.readline().split()][1:]))

            recorded(4)
            loops = max(1, int(20e6 / plain(3)) + 1)
            ours, theirs = [], []
            for number in range(rounds):
                if number % 2:
                    ours.append(recorded(loops))
                    theirs.append(plain(loops))
                else:
                    theirs.append(plain(loops))
                    ours.append(recorded(loops))
        finally:
            worker.stop()
            bare.kill()
            bare.wait()
    return ratio(ours, theirs).value, median(theirs) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=60, help="of a start")
    parser.add_argument("--length", type=int, default=500)
    parser.add_argument("--frameworks", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--models", nargs="+", choices=WANTED, default=list(WANTED))
    options = parser.parse_args()
    protocol = load_protocol("quick", [f"data.length={options.length}"])
    dataset = datasets.load(protocol.data.dataset)
    for framework in options.frameworks:
        name = BACKENDS[framework]
        (info,) = look_up([name])
        for model in options.models:
            wanted = WANTED[model]
            found = [
                one_start(protocol, info, framework, model, dataset, start, options.rounds)
                for start in range(options.starts)
            ]
            logs = np.log([value for value, _ in found])
            half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5
            low, middle, high = np.exp([logs.mean() - half, logs.mean(), logs.mean() + half])
            print(
                f"{name:17} {model:5} bare step {median(ms for _, ms in found):7.2f} ms; recorded / bare {middle:.4f} "
                f"[{low:.4f}, {high:.4f}] over {options.starts} starts; wanted at most {wanted}: "
                f"{'yes' if middle <= wanted else 'NO'} ({', '.join(f'{value:.3f}' for value, _ in found)})",
                flush=True,
            )


if __name__ == "__main__":
    main()
