"""What a whole run on full IMDB costs in the harness, beside the bare script of the same framework.

The script in `benchmarks/plain/` and a comparison of one run (native, seed 0) work at the same time, each with one
thread, twice. Both are left to the system's scheduler, as real runs are. The script asks for determinism where the
harness does: in PyTorch, since one thread of TensorFlow has it without asking. Both keep the memory that they free, and
neither of Keras' waits for datasets that tune themselves (docs/findings.md); ``--arrays`` leaves the script its
arrays. Prints seconds from a framework that is ready to the last prediction, start-up apart, and their ratio. Wanted:
at most 1.03. Needs two cores and the folder with imdb.npz; one or two minutes a round for the RNN, three to six for the
LSTM.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import geometric_mean
from tempfile import TemporaryDirectory

from rnn_crosscheck.harness.machine import available_cores, memory_variables
from rnn_crosscheck.harness.results import RunResult, read_record

BACKENDS = {"pytorch": "pytorch_imdb.py", "keras-tensorflow": "keras_imdb.py"}
#: what makes the script do as the harness does
EQUAL = {"pytorch": ["--deterministic"], "keras-tensorflow": ["--no-autotune"]}


def started(command: list[str], folder: str) -> subprocess.Popen[str]:
    """Start a command whose libraries keep to one thread, and that keeps its memory."""
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **memory_variables(), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )


def one_round(backend: str, model: str, data: Path, more: list[str]) -> float:
    """Run both at once; returns the ratio of their seconds."""
    script = Path(__file__).parent / "plain" / BACKENDS[backend]
    options = ["--data", str(data.absolute()), "--threads", "1"]
    options += more
    comparison = ["-q", "-p", "no:cacheprovider", "-k", "test_training", "--crosscheck-protocol", "imdb"]
    comparison += [
        f"--crosscheck-data={data.absolute()}",
        "--crosscheck-seeds",
        "1",
        "--crosscheck-divisions",
        "native",
    ]
    comparison += ["--crosscheck-backends", backend]
    comparison += ["--crosscheck-models", model, "--crosscheck-jobs", "1"]
    with TemporaryDirectory() as folder:
        began = time.monotonic()
        bare = started([sys.executable, str(script), model, *options], folder)
        ours = started([sys.executable, "-m", "pytest", "--benchmark", *comparison], folder)
        said, _ = bare.communicate()
        bare_seconds = time.monotonic() - began
        answer, _ = ours.communicate()
        if bare.returncode or ours.returncode:
            sys.exit(said + answer)
        result = read_record(next(Path(folder).glob("comparison/runs/*/result.json")), RunResult)
    found = re.search(r"accuracy ([\d.]+); ready ([\d.]+) s, train ([\d.]+) s, predict ([\d.]+) s", said)
    assert found is not None, said
    assert result.durations is not None
    assert result.scores is not None
    ready, work = float(found[2]), float(found[3]) + float(found[4])
    took = result.durations.total - result.durations.start
    print(
        f"{backend} {model}: bare {work:.1f} s and {ready:.1f} to be ready ({bare_seconds:.0f} s in all, accuracy "
        f"{found[1]}); run {took:.1f} s and {result.durations.start:.1f} to be ready (accuracy "
        f"{result.scores.accuracy:.4f}); ratio {took / work:.3f}",
        flush=True,
    )
    return took / work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("CROSSCHECK_DATA"), help="folder with imdb.npz")
    parser.add_argument("--models", nargs="+", default=["rnn", "lstm"])
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--arrays", action="store_true", help="let Keras' script work on its arrays")
    options = parser.parse_args()
    if options.data is None:
        parser.error("give --data, or set CROSSCHECK_DATA")
    if available_cores() < 2:
        parser.error("two cores are needed")
    for model in options.models:
        for backend in options.backends:
            more = [] if options.arrays and backend == "keras-tensorflow" else EQUAL[backend]
            ratios = [one_round(backend, model, Path(options.data), more) for _ in range(2)]
            print(f"{backend} {model}: run / bare script {geometric_mean(ratios):.3f}", flush=True)


if __name__ == "__main__":
    main()
