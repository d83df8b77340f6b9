"""How often the verdict's words are wrong, by simulation: seeds are drawn, and the report's own rule judges them.

python benchmarks/margins.py

Accuracies of seeds are normal with a standard deviation of 1.5 points, as LSTMs have on full IMDB, and the margin is 1
point. `truth` is by how many points the first backend really is better. Prints the table of docs/reading-the-report.md.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from tabulate import tabulate

from rnn_crosscheck.harness.protocol import MarginSpec
from rnn_crosscheck.reports.analysis.accuracy import summary
from rnn_crosscheck.reports.analysis.statistics import UNDECIDED, p_of_means, welch
from rnn_crosscheck.reports.analysis.verdicts import BETTER, SAME, of_accuracy

SPREAD = 1.5
CASES = [(truth, seeds, 2) for truth in (0.0, 0.5, 2.0, 5.0) for seeds in (3, 5, 20)]
CASES += [(0.0, 5, 6)]


def judged(accuracies: np.ndarray, margin: MarginSpec) -> tuple[str, str]:
    """Judge accuracies in points, (backends, seeds), as a report would; gives the word and the best backend."""
    backends = [f"b{number}" for number in range(len(accuracies))]
    runs = pd.DataFrame(
        {
            "division": "native",
            "model": "lstm",
            "backend": np.repeat(backends, accuracies.shape[1]),
            "accuracy": accuracies.ravel() / 100,
            "status": "ok",
            "loss": 0.0,
        }
    )
    rows = []
    for one in range(len(backends)):
        for other in range(one + 1, len(backends)):
            a, b = accuracies[one] / 100, accuracies[other] / 100
            rows.append(
                {
                    "division": "native", "model": "lstm", "a": backends[one], "b": backends[other],
                    "seeds_a": len(a), "seeds_b": len(b), "difference": a.mean() - b.mean(), "over": "seeds",
                    "p": p_of_means(a, b, paired=False), "spread": ((a.var(ddof=1) + b.var(ddof=1)) / 2) ** 0.5,
                    **dict(zip(("low", "high"), welch(a, b), strict=True)),
                }
            )  # fmt: skip
    row = of_accuracy(pd.DataFrame(rows), summary(runs), margin).iloc[0]
    return str(row["verdict"]), str(row["best"])


def simulated(truth: float, seeds: int, backends: int, repeats: int) -> list[str]:
    """Give one row of the table."""
    generator = np.random.default_rng(0)
    words = []
    for _ in range(repeats):
        means = np.array([85 + truth, *([85.0] * (backends - 1))])
        words.append(judged(generator.normal(means[:, None], SPREAD, (backends, seeds)), MarginSpec()))
    better = [best for word, best in words if word == BETTER]
    wrong = len(better) if truth == 0 else sum(best != "b0" for best in better)
    shares = [len(better), wrong, *(sum(word == said for word, _ in words) for said in (SAME, UNDECIDED))]
    return [f"{truth:g}", str(backends), str(seeds), *(f"{100 * share / repeats:.1f} %" for share in shares)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000, help="comparisons for each row")
    repeats = parser.parse_args().repeats
    rows = [simulated(*case, repeats) for case in CASES]
    heads = ["truth, points", "backends", "seeds", "better", "better, wrongly", "same", "undecided"]
    print(tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
