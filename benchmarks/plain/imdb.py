"""IMDB as Keras' ``load_data(num_words=5000)`` gives it, for the plain scripts.

Not by that function: it takes a file that it doesn't know for a broken download and deletes it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

WORDS = 5000


def load(folder: Path) -> tuple[tuple[list[list[int]], np.ndarray], tuple[list[list[int]], np.ndarray]]:
    """Read imdb.npz, and nothing else: ids and labels of the training and of the test split, shuffled as Keras does."""
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
