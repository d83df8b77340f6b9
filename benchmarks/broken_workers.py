"""What a comparison shows of a worker that hangs or whose clock is wrong: it is stopped, and its row says why.

Measures one step of the test suite's backends that need no framework, one good and four broken, and prints who was
measured and the sentence of each that was not, with the seconds that all of it took.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.append(str(Path(__file__).parent.parent))

from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.execution.chosen import look_up
from rnn_crosscheck.harness.execution.plan import Asked
from rnn_crosscheck.harness.protocol import load_protocol
from rnn_crosscheck.harness.timing.stopwatch import Point, Stopwatch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=float, default=10, help="seconds of silence after which a worker is stopped")
    limit = parser.parse_args().limit
    protocol = load_protocol("quick", [f"workers.stall_seconds={limit}", "timing.starts=1"])
    dataset = datasets.load(protocol.data.dataset)
    point = Point("rnn", "train_step")
    began = time.monotonic()
    with TemporaryDirectory() as logs:
        backends = look_up([f"tests.fakes:{name}" for name in ("Steady", "Stuck", "Stopped", "Jumping", "Backwards")])
        asked = Asked(protocol, backends, ("rnn",), (), dataset.fingerprint)
        stopwatch = Stopwatch(asked, dataset=dataset.path, logs=Path(logs))
        records = stopwatch.measure([point])[point]
    for record in records:
        print(f"{record.backend}: {len(record.rounds_ns)} rounds")
    for name, reason in stopwatch.failures.items():
        print(f"{name} was not timed: {reason}")
    print(f"{time.monotonic() - began:.1f} s, of them {limit:g} s waiting for the one that hangs")


if __name__ == "__main__":
    main()
