"""Hold the excess disagreement against itself: halves of the seeds of one backend must not differ from each other.

    pytest --benchmark --crosscheck-backends pytorch --crosscheck-models rnn --crosscheck-seeds 8 -k training
    python benchmarks/halvings.py comparison

For every division, model and backend with six seeds or more: in how many of all halvings the 95 % interval of the
excess covers 0, which is the truth.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np

from rnn_crosscheck.reports.analysis.excess import FEWEST_SEEDS, excess
from rnn_crosscheck.reports.analysis.frames import grouped
from rnn_crosscheck.reports.read.comparison import THRESHOLD, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("comparison", type=Path, help="folder of a comparison")
    comparison = load(parser.parse_args().comparison)
    positive = comparison.probabilities.to_numpy() >= THRESHOLD
    place = comparison.probabilities.columns.get_indexer
    covered: list[bool] = []
    for (division, model, backend), runs in grouped(comparison.ok, "division", "model", "backend"):
        columns = place(runs.index).tolist()
        half = len(columns) // 2
        if half < FEWEST_SEEDS:
            continue
        mine = []
        for chosen in combinations(columns, half):
            rest = [column for column in columns if column not in chosen]
            # With an even number each halving comes twice, once from either side.
            if len(rest) > half or columns[0] in chosen:
                found = excess(positive[:, list(chosen)], positive[:, rest], seeds_shared=False).estimate()
                mine.append(found.low <= 0 <= found.high)
        covered += mine
        print(
            f"{division} {model} {backend}: {np.mean(mine):.1%} of {len(mine)} halvings of {len(columns)} seeds cover 0"
        )
    if not covered:
        raise SystemExit(f"No recipe has {2 * FEWEST_SEEDS} seeds; train more with --crosscheck-seeds.")
    print(f"together: {np.mean(covered):.1%} of {len(covered)}")


if __name__ == "__main__":
    main()
