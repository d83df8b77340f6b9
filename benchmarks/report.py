"""What a report costs: 25,000 examples and 24 runs, ten times the examples, and a row-wise DataFrame beside it.

python benchmarks/report.py
python benchmarks/report.py --runs 1536

Writes two comparisons with made-up predictions and texts of real lengths, builds the report of each in a process of
its own on two cores, and measures time and peak memory there. The full build is then divided into its parts. Beside
it, in the same run, what a notebook does for two models on 25,000 rows: `DataFrame.apply` with one Python call a
row. With --runs, only 25,000 examples with as many runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from rnn_crosscheck.harness import tables
from rnn_crosscheck.harness.folder import sha256_of, write_json
from rnn_crosscheck.harness.protocol import Division, RunSpec, load_protocol
from rnn_crosscheck.harness.results import (
    DatasetFacts,
    Durations,
    EpochRecord,
    LayerRecord,
    Manifest,
    RunResult,
    Scores,
    SplitFacts,
    write_run,
)

EXAMPLES, TIMES = 25_000, 10
BACKENDS, MODELS = ("keras-tensorflow", "pytorch"), ("rnn", "lstm")
DIVISIONS: tuple[Division, ...] = ("native", "matched")
RUNS = 24
WORDS = 231  # mean length of an IMDB review

#: what is measured in the process that builds
CHILD = """
import json, sys, time
begun = time.perf_counter()
from pathlib import Path
from rnn_crosscheck.reports import build
imported = time.perf_counter()
build.build(Path(sys.argv[1]))
ended = time.perf_counter()
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"import": imported - begun, "build": ended - imported, "peak_mib": peak / 1024}))
"""


def write(folder: Path, examples: int, runs: int = RUNS) -> None:
    """Write a comparison with made-up predictions."""
    generator = np.random.default_rng(0)
    protocol = load_protocol("imdb", [f"data.test_examples={examples}"])
    lengths = np.maximum(8, generator.gamma(2.0, WORDS / 2, examples)).astype(int)
    vocabulary = np.array([f"w{number:x}" for number in range(5000)])
    labels = (np.arange(examples) % 2).astype(np.int8)
    ids = [f"test-{number:06d}" for number in range(examples)]
    texts = [" ".join(vocabulary[generator.integers(0, 5000, length)]) for length in lengths]
    folder.mkdir(parents=True)
    columns = {
        "example_id": ids,
        "label": labels,
        "text": texts,
        "length": lengths,
        "oov": generator.beta(2, 20, examples),
        "truncated": lengths > protocol.data.length,
    }
    tables.write(folder / "test.parquet", tables.TEST, columns)
    split = SplitFacts(
        examples=examples, positive=examples // 2, length_min=8, length_mean=float(WORDS), length_median=174.0,
        length_max=int(lengths.max()), truncated_share=0.08, oov_share=0.08,
    )  # fmt: skip
    write_json(
        folder / "dataset.json",
        DatasetFacts(
            name="made up", source="random words", fingerprint="fade" * 16, distinct_words=5000,
            splits={"test": split}, inputs_hash="c0ffee",
            files={"test.parquet": sha256_of(folder / "test.parquet")},
        ),
    )  # fmt: skip
    shared = generator.normal(size=examples)
    keys = {}
    seeds = range(runs // (len(DIVISIONS) * len(MODELS) * len(BACKENDS)))
    for division in DIVISIONS:
        for model in MODELS:
            for backend in BACKENDS:
                for seed in seeds:
                    spec = RunSpec(
                        backend=backend, division=division, model=protocol.model(model), training=protocol.training,
                        data=protocol.data, dataset_fingerprint="fade" * 16, seed=seed, device="cpu", threads=1,
                    )  # fmt: skip
                    logits = (2.0 * labels - 1) + shared + 0.5 * generator.normal(size=examples)
                    values = (1 / (1 + np.exp(-logits))).astype(np.float32)
                    accuracy = float(((values >= 0.5) == (labels == 1)).mean())
                    keys[spec.run_id] = "key"
                    result = RunResult(
                        run_id=spec.run_id, spec=spec, key="key", status="ok",
                        scores=Scores(accuracy=accuracy, loss=0.5, examples=examples),
                        history=tuple(
                            EpochRecord(
                                epoch=epoch, train_loss=0.5, train_accuracy=0.8, valid_loss=0.5, valid_accuracy=0.8,
                                seconds=60.0,
                            )
                            for epoch in range(1, 4)
                        ),
                        layers=(LayerRecord(name=model, output_shape=(16,), parameters=784, trainable=784),),
                        durations=Durations(start=3, build=0.1, first_step=0.5, train=180, predict=9, total=200),
                        peak_memory_bytes=900_000_000, inputs_hash="c0ffee",
                    )  # fmt: skip
                    write_run(
                        folder / "runs" / spec.run_id, result, example_ids=ids, labels=labels, probabilities=values
                    )
    write_json(
        folder / "manifest.json",
        Manifest(
            protocol=protocol, command="python benchmarks/report.py", created="", device="cpu", backends=BACKENDS,
            runs=tuple(keys), keys=keys,
        ),
    )  # fmt: skip


def build(folder: Path) -> dict[str, float]:
    """Build the report in a process on two cores."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_NUM_THREADS"), "1")
    begun = time.perf_counter()
    process = subprocess.run(
        ["taskset", "-c", cores, sys.executable, "-c", CHILD, str(folder)],
        env=os.environ | threads,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(process.stdout)
    return found | {"whole": time.perf_counter() - begun}


def row_wise(folder: Path) -> float:
    """Compare two models row by row, with a Python call a row for each of them, as the notebook does; seconds."""
    frame = pd.read_parquet(folder / "test.parquet", columns=["label"])
    for model in MODELS:
        path = folder / "runs" / f"native-{BACKENDS[0]}-{model}-seed0" / "predictions.parquet"
        frame[model] = pd.read_parquet(path)["probability"].to_numpy()
    begun = time.perf_counter()
    for model in MODELS:
        name = f"{model}_right"
        frame[name] = frame.apply(lambda row, model=model: (row[model] >= 0.5) == (row["label"] == 1), axis=1)
    frame.apply(lambda row: f"{row['rnn_right']} {row['lstm_right']}", axis=1).value_counts()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="times that each is measured; the fastest counts")
    parser.add_argument("--runs", type=int, help="measure the report of that many alone")
    options = parser.parse_args()
    rounds = options.rounds
    if options.runs:
        with tempfile.TemporaryDirectory() as scratch:
            write(Path(scratch) / "many", EXAMPLES, options.runs)
            row = min((build(Path(scratch) / "many") for _ in range(rounds)), key=lambda row: row["build"])
            _tell(EXAMPLES, options.runs, row)
        return
    with tempfile.TemporaryDirectory() as scratch:
        small, large = Path(scratch) / "small", Path(scratch) / "large"
        write(small, EXAMPLES)
        write(large, TIMES * EXAMPLES)
        found: dict[str, list[dict[str, float]]] = {"small": [], "large": []}
        notebook = []
        for _ in range(rounds):
            found["small"].append(build(small))
            found["large"].append(build(large))
            notebook.append(row_wise(small))
    best = {name: min(rows, key=lambda row: row["build"]) for name, rows in found.items()}
    for name, examples in (("small", EXAMPLES), ("large", TIMES * EXAMPLES)):
        _tell(examples, RUNS, best[name])
    print(f"{TIMES} times the examples: {best['large']['build'] / best['small']['build']:.1f} times the time")
    print(f"row-wise DataFrame.apply, 25,000 rows x 2 models: {min(notebook):.2f} s")
    print(f"the whole report of 24 runs in times of that: {best['small']['build'] / min(notebook):.2f}")


def _tell(examples: int, runs: int, row: dict[str, float]) -> None:
    print(
        f"{examples:,} examples x {runs} runs: {row['build']:.2f} s (process {row['whole']:.2f} s, of which importing "
        f"{row['import']:.2f} s), peak {row['peak_mib']:.0f} MiB"
    )


if __name__ == "__main__":
    main()
