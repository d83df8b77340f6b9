"""Measure loading datasets: the first time, from the cache, and padding.

Each load runs in a process of its own with a cache in a temporary folder::

    python benchmarks/encode.py

With ``CROSSCHECK_DATA`` naming a folder with ``imdb.npz`` and ``imdb_word_index.json``, the dataset ``imdb`` is
measured too, against Keras' own ``load_data`` and ``pad_sequences`` in the same run; their result is in memory, and
padded, while ours stays on the disk and is padded batch by batch, so padding all of ours is measured as well.

``--table MEGABYTES`` measures a CSV file of that size instead, made of the reviews: 1000 takes several minutes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_CACHED_LOADS = 5
#: a new word in so many rows: large tables have more words than small ones
_NEW_WORD = 3


def measured(work: Callable[[], object]) -> dict[str, float]:
    """Work in this process: seconds, and peak memory in MiB before and after."""
    # Linux counts KiB, macOS bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "before_mib": before,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit,
    }


def load(dataset: str, cache: Path, data: Path | None) -> dict[str, float]:
    # What the loader imports itself is part of its time; its callers have these already.
    from rnn_crosscheck.harness import (
        datasets,
        results,  # noqa: F401
    )

    return measured(lambda: datasets.load(dataset, data=data, cache=cache))


def encode() -> dict[str, float]:
    """Encode the texts of the reviews in memory, without reading and writing them."""
    import numpy as np

    from rnn_crosscheck.harness.datasets import reviews, text

    corpus = reviews.read(reviews.source_file())
    training = np.array([split == "train" for split in corpus.splits])
    return measured(lambda: text.encode(corpus.texts, training))


def keras(folder: Path) -> dict[str, float]:
    """Load and pad both splits as a notebook does; importing Keras isn't counted."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    from keras.src.datasets import imdb
    from keras.utils import pad_sequences

    # The file is at hand: neither a download nor a check of its digest.
    imdb.get_file = lambda *arguments, **options: str(folder / "imdb.npz")

    def work() -> None:
        (train, _), (test, _) = imdb.load_data(num_words=5000)
        pad_sequences(train, maxlen=500)
        pad_sequences(test, maxlen=500)

    return measured(work)


def pad(dataset: str, cache: Path, data: Path | None, examples: int, rounds: int) -> dict[str, float]:
    """Median seconds of padding so many random training examples, or all of both splits with 0, to 500 tokens."""
    import numpy as np

    from rnn_crosscheck.harness import datasets

    splits = datasets.load(dataset, data=data, cache=cache).splits
    train, test = splits["train"], splits["test"]
    generator = np.random.default_rng(0)
    seconds = []
    for _ in range(rounds):
        rows = generator.permutation(len(train))[:examples]
        start = time.perf_counter()
        if examples:
            train.padded(rows, 500, 5000)
        else:
            train.padded(np.arange(len(train)), 500, 5000)
            test.padded(np.arange(len(test)), 500, 5000)
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds), "before_mib": 0, "peak_mib": 0}


def write_table(path: Path, megabytes: int) -> dict[str, float]:
    """Write a CSV of so many megabytes, made of the reviews, and say how many rows it has."""
    from rnn_crosscheck.harness.datasets import reviews

    corpus = reviews.read(reviews.source_file())
    labels = corpus.labels.tolist()
    generator = random.Random(0)
    rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "sentiment"])
        while file.tell() < megabytes * 10**6:
            for _ in range(500):
                one = generator.randrange(len(labels))
                writer.writerow([f"word{rows // _NEW_WORD} {corpus.texts[one]}", ("neg", "pos")[labels[one]]])
                rows += 1
    return {"rows": rows}


WORK: dict[str, Callable[..., dict[str, float]]] = {
    "load": load,
    "encode": encode,
    "keras": keras,
    "pad": pad,
    "table": write_table,
}


def in_a_process(name: str, *arguments: object) -> dict[str, float]:
    """Run one of `WORK` in a fresh process."""
    given = [str(one) if isinstance(one, Path) else one for one in arguments]
    command = [sys.executable, __file__, "--child", json.dumps([name, *given])]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return found


def child(given: str) -> None:
    name, *arguments = json.loads(given)
    paths = {"load": (1, 2), "keras": (0,), "pad": (1, 2), "table": (0,)}.get(name, ())
    values = [Path(one) if place in paths and one is not None else one for place, one in enumerate(arguments)]
    print(json.dumps(WORK[name](*values)))


def show(what: str, found: dict[str, float], *, memory: bool = True) -> None:
    line = f"{what:<52} {found['seconds']:9.4f} s"
    if memory:
        line += f"   peak {found['peak_mib']:6.0f} MiB, {found['peak_mib'] - found['before_mib']:6.0f} of them extra"
    print(line, flush=True)


def show_dataset(dataset: str, cache: Path, data: Path | None) -> None:
    show(f"{dataset}: first load", in_a_process("load", dataset, cache, data))
    again = [in_a_process("load", dataset, cache, data) for _ in range(_CACHED_LOADS)]
    show(
        f"{dataset}: load from the cache, median",
        {key: statistics.median(one[key] for one in again) for key in again[0]},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure loading, encoding and padding datasets.")
    parser.add_argument("--table", type=int, metavar="MEGABYTES", help="measure a CSV file of this size instead")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        if options.table:
            path = cache / "table.csv"
            # In a process of its own: a child's peak begins with what its parent had.
            rows = in_a_process("table", path, options.table)["rows"]
            print(f"a CSV file with {rows:,} rows, {path.stat().st_size:,} bytes")
            show_dataset("table", cache, path)
            return
        show("reviews: encoding alone, in memory", in_a_process("encode"))
        show_dataset("reviews", cache, None)
        show("reviews: pad 32 examples", in_a_process("pad", "reviews", cache, None, 32, 1000), memory=False)
        show("reviews: pad 14,985 examples", in_a_process("pad", "reviews", cache, None, 14_985, 5), memory=False)
        if "CROSSCHECK_DATA" in os.environ:
            data = Path(os.environ["CROSSCHECK_DATA"])
            show_dataset("imdb", cache, data)
            show("imdb: pad all of both splits", in_a_process("pad", "imdb", cache, data, 0, 3), memory=False)
            show("Keras: load_data and pad_sequences, every time", in_a_process("keras", data))


if __name__ == "__main__":
    main()
