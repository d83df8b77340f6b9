"""Whether the interval of a ratio can be believed: PyTorch against itself, and against itself with a planted slowdown.

    python benchmarks/a_against_a.py

Each repetition is an independent comparison with fresh workers: PyTorch, a second worker of it, and two that sleep and
spin for 5 % of every step (`benchmarks/planted.py`). Counts in how many the interval of the A/A ratio covers 1, and in
how many a slowdown is found: its interval lies above 1 and above the A/A band, as the report asks for. Wanted: 18 and
19 of 20.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.execution.chosen import look_up
from rnn_crosscheck.harness.execution.plan import Asked
from rnn_crosscheck.harness.protocol import load_protocol
from rnn_crosscheck.harness.timing.ratios import a_against_a, against_baseline
from rnn_crosscheck.harness.timing.stopwatch import Point, Stopwatch

PLANTED = ("planted:Sleeping", "planted:Spinning")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--model", choices=("rnn", "lstm"), default="rnn")
    parser.add_argument("--set", action="append", default=[], help="override of the protocol, as in --crosscheck-set")
    options = parser.parse_args()
    protocol = load_protocol("quick", ['timing.settings=["default"]', *options.set])
    dataset = datasets.load(protocol.data.dataset)
    backends = look_up(["pytorch", *PLANTED])
    point = Point(options.model, "train_step")
    covered = 0
    found, above = Counter[str](), Counter[str]()
    for number in range(1, options.repetitions + 1):
        began = time.monotonic()
        with TemporaryDirectory() as logs:
            asked = Asked(protocol, backends, (options.model,), (), dataset.fingerprint)
            stopwatch = Stopwatch(asked, dataset=dataset.path, logs=Path(logs))
            records = stopwatch.measure([point])[point]
        again = a_against_a(records, records[0])
        assert again is not None, stopwatch.failures
        covers = again.low <= 1 <= again.high
        covered += covers
        said = [f"A/A {again.value:.4f} [{again.low:.4f}, {again.high:.4f}]{'' if covers else ' misses 1'}"]
        for record in records[1:]:
            slower, name = against_baseline(records, record), record.backend.removeprefix("planted:").lower()
            assert slower is not None
            clear = slower.low > max(again.high, 1 / again.low)
            found[name] += clear
            above[name] += slower.low > 1
            said.append(
                f"{name} {slower.value:.4f} [{slower.low:.4f}, {slower.high:.4f}]{'' if clear else ' not found'}"
            )
        taken = f"{len(records[0].rounds_ns)} rounds, {time.monotonic() - began:.0f} s"
        print(f"{number:3}: {'; '.join(said)}; {taken}", flush=True)
    print(f"{options.model}, {options.repetitions} repetitions: A/A covers 1 in {covered}")
    for name in found:
        print(f"{name} by 5 %: found in {found[name]} (its interval lies above 1 in {above[name]})")


if __name__ == "__main__":
    main()
