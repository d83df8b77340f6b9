"""Whether the interval of a ratio can be believed: PyTorch against itself, and against itself with a planted slowdown.

Each repetition is an independent comparison with fresh workers: PyTorch, a second worker of it, and one that sleeps
for 5 % of every step (`benchmarks/planted.py`). Counts in how many the interval of the A/A ratio covers 1, and in
how many the slowdown is found: its interval lies above 1 and above the A/A band, as the report asks for. Wanted: 18
and 19 of 20.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import datasets
from harness.protocol import load_protocol
from harness.ratios import a_against_a, against_baseline
from harness.runner import look_up
from harness.timing import Point, Stopwatch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--model", choices=("rnn", "lstm"), default="rnn")
    parser.add_argument("--set", action="append", default=[], help="override of the protocol, as in --crosscheck-set")
    options = parser.parse_args()
    protocol = load_protocol("quick", ['timing.settings=["default"]', *options.set])
    dataset = datasets.load(protocol.data.dataset)
    backends = look_up(["pytorch", "planted:Slower"])
    point = Point(options.model, "train_step")
    covered = found = above = 0
    for number in range(1, options.repetitions + 1):
        began = time.monotonic()
        with TemporaryDirectory() as logs:
            stopwatch = Stopwatch(
                protocol,
                options.model,
                backends,
                dataset=dataset.path,
                dataset_fingerprint=dataset.fingerprint,
                device="cpu",
                logs=Path(logs),
            )
            records = stopwatch.measure([point])[point]
        again = a_against_a(records, records[0])
        slower = against_baseline(records, records[1])
        assert again is not None, stopwatch.failures
        assert slower is not None
        covers, clear = again.low <= 1 <= again.high, slower.low > max(again.high, 1 / again.low)
        covered, found, above = covered + covers, found + clear, above + (slower.low > 1)
        print(
            f"{number:3}: A/A {again.value:.4f} [{again.low:.4f}, {again.high:.4f}] {'' if covers else 'misses 1'}; "
            f"slower {slower.value:.4f} [{slower.low:.4f}, {slower.high:.4f}] {'' if clear else 'not found'}; "
            f"{len(records[0].rounds_ns)} rounds, {time.monotonic() - began:.0f} s",
            flush=True,
        )
    print(
        f"{options.model}, {options.repetitions} repetitions: A/A covers 1 in {covered}; the slowdown is found in "
        f"{found} (its interval lies above 1 in {above})"
    )


if __name__ == "__main__":
    main()
