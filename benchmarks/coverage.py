"""How often the interval of the excess disagreement holds the truth, on simulated runs whose excess is known.

python benchmarks/coverage.py

A run says positive where a latent value of the example, an effect of the run's seed, and noise add up to more than
0. Effects of a seed are in units of that noise: with 1, whole seeds fail.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rnn_crosscheck.reports.analysis.excess import excess, within

EXAMPLES, SPREAD, APART = 1000, 1.5, 0.7


def share(values: NDArray[np.float64], effect: float) -> NDArray[np.float64]:
    """Share of all seeds that say positive of examples with these latent values."""
    return np.asarray(stats.norm.cdf(values / np.hypot(1, effect)))


def says(
    values: NDArray[np.float64], effects: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Give what one run for each effect says of each example."""
    return values[:, None] + effects + generator.normal(size=(len(values), len(effects))) > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=400)
    simulations = parser.parse_args().simulations
    generator = np.random.default_rng(0)
    many, moved = generator.normal(size=1_000_000) * SPREAD, generator.normal(size=1_000_000) * APART
    print(f"{simulations} simulations each, {EXAMPLES} examples: share of 95 % intervals that hold the truth")
    for effect in (0.3, 0.6, 1.0):
        p_a, p_b = share(many, effect), share(many + moved, effect)
        truth, own = float(((p_a - p_b) ** 2).mean()), float((2 * p_a * (1 - p_a)).mean())
        for seeds in (3, 5, 10):
            held = dict.fromkeys(("excess, native", "excess, matched", "reseeded"), 0)
            for _ in range(simulations):
                a = generator.normal(size=EXAMPLES) * SPREAD
                b = a + generator.normal(size=EXAMPLES) * APART
                first, second = (generator.normal(size=seeds) * effect for _ in range(2))
                one, other = says(a, first, generator), says(b, second, generator)
                same = says(b, first, generator)
                for name, found, true in (
                    ("excess, native", excess(one, other, seeds_shared=False).estimate(), truth),
                    ("excess, matched", excess(one, same, seeds_shared=True).estimate(), truth),
                    ("reseeded", within(one).estimate((0.0, 1.0)), own),
                ):
                    held[name] += found.low <= true <= found.high
            said = ", ".join(f"{name} {count / simulations:.3f}" for name, count in held.items())
            print(f"effect of a seed {effect}, {seeds} seeds: {said}", flush=True)


if __name__ == "__main__":
    main()
