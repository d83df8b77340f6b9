"""What digests and flushes cost: of the results of ``quick``, and of a report of many runs.

python -m benchmarks.soundness

Writes results of the sizes of ``quick`` and finds them again, and counts the time that goes into digests and flushes;
then reads a made-up comparison of 24 runs x 25,000 examples and counts what digests and ranges take. Wanted: under 1 %
of ``quick``'s 240 s, and under 0.3 s of the report.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.report import write as write_comparison
from rnn_crosscheck.harness import folder, results, tables
from rnn_crosscheck.harness.protocol import RunSpec, load_protocol
from rnn_crosscheck.harness.results import RunResult
from rnn_crosscheck.harness.weights import initial_weights
from rnn_crosscheck.reports.read.comparison import load

BUDGET, OF_QUICK, OF_REPORT = 240.0, 0.01, 0.3

#: what costs, by the module that calls it
COSTS: tuple[tuple[Any, str], ...] = (
    (folder, "_flush"),
    (folder, "sealed"),
    (folder, "unsealed"),
    (results, "unsealed"),
    (results, "sha256_of"),
    (tables, "sha256_of"),
    (tables, "_wrong"),
    (hashlib, "sha256"),
)


class Counted:
    """Counts seconds within functions, the outermost call only."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inside = False

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Give a function that is counted."""

        def counted(*given: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever it is given
            if self._inside:
                return function(*given, **named)
            self._inside = True
            began = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                self.seconds[name.strip("_")] += time.perf_counter() - began
                self._inside = False

        return counted

    def __enter__(self) -> Counted:
        self._were = [(place, name, getattr(place, name)) for place, name in COSTS]
        for place, name, function in self._were:
            setattr(place, name, self.wrap(name, function))
        return self

    def __exit__(self, *_: object) -> None:
        for place, name, function in self._were:
            setattr(place, name, function)

    def __str__(self) -> str:
        parts = ", ".join(
            f"{name} {1000 * seconds:.0f} ms"
            for name, seconds in sorted(self.seconds.items(), key=lambda item: -item[1])
        )
        return f"{sum(self.seconds.values()):.3f} s ({parts})"


def write_and_find(place: Path) -> int:
    """Write the runs of ``quick`` and look whether they are there; returns how many there are."""
    protocol = load_protocol("quick")
    examples, count = protocol.data.test_examples, 0
    generator = np.random.default_rng(0)
    for backend in ("keras-tensorflow", "pytorch"):
        for division in protocol.divisions:
            for model in protocol.models:
                for seed in protocol.seeds.of(division):
                    spec = RunSpec(
                        backend=backend, division=division, model=protocol.model(model.name),
                        training=protocol.training, data=protocol.data, dataset_fingerprint="fade" * 16, seed=seed,
                        device="cpu", threads=1,
                    )  # fmt: skip
                    result = RunResult(run_id=spec.run_id, spec=spec, key=spec.key({}), status="ok")
                    results.write_run(
                        place / spec.run_id,
                        result,
                        example_ids=[f"test-{number:06d}" for number in range(examples)],
                        labels=(np.arange(examples) % 2).astype(np.int8),
                        probabilities=generator.random(examples, np.float32),
                        weights=initial_weights(spec.model, seed),
                    )
                    assert results.stored_key(place / spec.run_id) == result.key
                    count += 1
    return count


def main() -> None:
    """Run it."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with TemporaryDirectory() as name, Counted() as counted:
        runs = write_and_find(Path(name))
        # Twins, checks and times: each a record or two, and no weights.
        per_comparison = 2 * sum(counted.seconds.values())
        print(f"{runs} runs of quick written and found again: {counted}")
        print(f"of quick, counted twice for its twins, checks and times: {per_comparison / BUDGET:.2%} of {BUDGET:g} s")
    with TemporaryDirectory() as name:
        write_comparison(Path(name) / "comparison", 25_000)
        with Counted() as counted:
            began = time.perf_counter()
            comparison = load(Path(name) / "comparison")
            total = time.perf_counter() - began
        print(f"{len(comparison.runs)} runs x 25,000 examples read in {total:.2f} s, of which {counted}")
    print(f"wanted: under {OF_QUICK:.0%} of quick, under {OF_REPORT} s of the report")


if __name__ == "__main__":
    main()
