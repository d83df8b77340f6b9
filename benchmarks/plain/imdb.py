"""What the plain scripts on IMDB have in common: their arguments, the data, and the line that they print."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

BEGUN = time.perf_counter()
WORDS = 5000


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("model", choices=("rnn", "lstm"))
    parser.add_argument("--data", type=Path, required=True, help="folder with imdb.npz")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves it to the framework")
    parser.add_argument("--deterministic", action="store_true")
    return parser


def load(folder: Path) -> tuple[tuple[list[list[int]], np.ndarray], tuple[list[list[int]], np.ndarray]]:
    """Ids and labels of the training and of the test split, as Keras' ``load_data(num_words=5000)`` gives them.

    Not by that function: it takes a file that it doesn't know for a broken download and deletes it.
    """
    with np.load(folder / "imdb.npz", allow_pickle=True) as file:
        arrays = {name: file[name] for name in file.files}
    random = np.random.RandomState(113)
    parts = []
    for name in ("train", "test"):
        order = np.arange(len(arrays[f"x_{name}"]))
        random.shuffle(order)
        # A start token in front, ids three higher, 2 for what isn't among the words.
        reviews = [[1, *(word + 3 for word in review)] for review in arrays[f"x_{name}"][order]]
        reviews = [[word if word < WORDS else 2 for word in review] for review in reviews]
        parts.append((reviews, arrays[f"y_{name}"][order]))
    return parts[0], parts[1]


def tell(name: str, accuracy: float, *, ready: float, trained: float) -> None:
    """Print the accuracy and the seconds of the parts; called when the predictions are there."""
    print(
        f"{name}: accuracy {accuracy:.4f}; ready {ready - BEGUN:.1f} s, train {trained - ready:.1f} s, "
        f"predict {time.perf_counter() - trained:.1f} s"
    )
