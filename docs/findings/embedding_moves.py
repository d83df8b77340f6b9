"""How far training moves an embedding from where it starts, in one backend (frameworks don't share a process).

    pytest --benchmark --crosscheck-protocol imdb --crosscheck-divisions native
    python docs/findings/embedding_moves.py comparison pytorch

Makes each native model of the comparison anew with its seed, and holds the weights that its run kept against it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnn_crosscheck.harness.registry import find
from rnn_crosscheck.harness.weights import read_weights
from rnn_crosscheck.reports.read.comparison import load


def length(rows: NDArray[np.float32]) -> float:
    """Give the mean over tokens of the length of their vectors."""
    return float(np.linalg.norm(rows, axis=1).mean())


def moves(folder: Path, name: str) -> pd.DataFrame:
    """Give a row a native run whose weights were kept."""
    backend = find(name).load()()
    backend.setup(threads=1, seed=0, setting="default", deterministic=True)
    rows = []
    for run_id, result in load(folder).results.items():
        spec, kept = result.spec, folder / "runs" / run_id / "weights.npz"
        if (spec.backend, spec.division) != (backend.name, "native") or not kept.exists():
            continue
        model = backend.create(spec.model, spec.training, weights=None, seed=spec.seed, device="cpu")
        start, end = model.get_weights()["embedding"], read_weights(kept)["embedding"]
        rows.append((spec.model.name, length(start), length(end - start)))
    return pd.DataFrame(rows, columns=["model", "length at the start", "moved by"])


if __name__ == "__main__":
    table = moves(Path(sys.argv[1]), sys.argv[2]).groupby("model", sort=False).agg("mean")
    print(table.assign(share=table["moved by"] / table["length at the start"]).to_markdown(floatfmt=".2g"))
