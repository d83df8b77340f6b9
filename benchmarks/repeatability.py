"""Whether "Keras is 1.4 times slower" comes out the same tomorrow: the same ratio from independent comparisons.

python -m benchmarks.repeatability

Each repetition measures the ratio Keras on TensorFlow / PyTorch of a train step twice, in the same minute:
interleaved, as a comparison does, and with plain pytest-benchmark, one framework after the other, each a test in a
process of its own with the bare steps of `benchmarks/plain/steps.py`. Prints the spread (largest / smallest) of
either. Wanted: at most 1.03.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.overhead import batches
from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.execution.chosen import look_up
from rnn_crosscheck.harness.execution.plan import Asked
from rnn_crosscheck.harness.protocol import Protocol, load_protocol
from rnn_crosscheck.harness.timing.ratios import against_baseline
from rnn_crosscheck.harness.timing.stopwatch import Point, Stopwatch, points

TEST = """
import sys
import numpy as np
sys.path.insert(0, {plain!r})
from steps import keras_step, pytorch_step

def test_step(benchmark):
    with np.load({batches!r}) as file:
        tokens, labels = file["tokens"], file["labels"]
    step = {framework}_step({model!r}, {length})
    for place in range(4):
        step(tokens[place], labels[place])
    benchmark(step, tokens[0], labels[0])
"""


def interleaved(protocol: Protocol, dataset: Dataset, model: str) -> tuple[float, int]:
    """Measure as a comparison does; returns the ratio and the number of rounds."""
    point = Point(model, "train_step")
    with TemporaryDirectory() as logs:
        asked = Asked(protocol, look_up(["pytorch", "keras-tensorflow"]), (model,), (), dataset.fingerprint)
        stopwatch = Stopwatch(asked, dataset=dataset.path, logs=Path(logs))
        # All operations, as a comparison does: the starts lie as far apart as they do there.
        records = stopwatch.measure(points(protocol, [model]))[point]
    found = against_baseline(records, records[1])
    assert found is not None, stopwatch.failures
    return found.value, len(records[0].rounds_ns)


def sequential(protocol: Protocol, dataset: Dataset, model: str) -> dict[str, float]:
    """Measure with pytest-benchmark, one framework after the other; the ratio of each of its statistics."""
    taken: dict[str, dict[str, float]] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        data = batches(protocol, dataset, folder)
        for framework in ("keras", "pytorch"):
            filled = {"batches": str(data), "framework": framework, "model": model, "length": protocol.data.length}
            plain = str(Path(__file__).parent / "plain")
            (folder / f"test_{framework}.py").write_text(TEST.format(plain=plain, **filled))
            written = folder / f"{framework}.json"
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:crosscheck", "-p", "no:cacheprovider"]
            done = subprocess.run(
                [*command, f"--benchmark-json={written}", f"test_{framework}.py"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": ""},
                check=False,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                sys.exit(done.stdout + done.stderr)
            taken[framework] = json.loads(written.read_text())["benchmarks"][0]["stats"]
    return {name: taken["keras"][name] / taken["pytorch"][name] for name in ("mean", "median", "min")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--models", nargs="+", default=["rnn", "lstm"])
    parser.add_argument("--set", action="append", default=[], help="override of the protocol, as in --crosscheck-set")
    options = parser.parse_args()
    if options.repetitions < 2:
        parser.error("a spread takes two repetitions")
    protocol = load_protocol("quick", ['timing.settings=["default"]', *options.set])
    dataset = datasets.load(protocol.data.dataset)
    for model in options.models:
        ratios: dict[str, list[float]] = defaultdict(list)
        for number in range(1, options.repetitions + 1):
            began = time.monotonic()
            value, rounds = interleaved(protocol, dataset, model)
            ratios["interleaved"].append(value)
            plain = sequential(protocol, dataset, model)
            for name, ratio in plain.items():
                ratios[f"sequential, {name}"].append(ratio)
            print(
                f"{model} {number:3}: interleaved {value:.4f} ({rounds} rounds); sequential "
                + ", ".join(f"{name} {ratio:.4f}" for name, ratio in plain.items())
                + f"; {time.monotonic() - began:.0f} s",
                flush=True,
            )
        for kind, values in ratios.items():
            apart = [max(pair) / min(pair) for pair in combinations(values, 2)]
            print(
                f"{model}, {kind:18}: spread {max(values) / min(values):.4f} ({min(values):.4f} to {max(values):.4f}); "
                f"two of them {median(apart):.4f} apart, at most 1.06 in {sum(each <= 1.06 for each in apart)} of "
                f"{len(apart)} pairs"
            )


if __name__ == "__main__":
    main()
