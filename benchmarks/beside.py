"""Lay finished comparisons side by side: what a change of the protocol does to horizon, spread and disagreement.

    pytest --benchmark --crosscheck-protocol imdb --crosscheck-divisions matched --crosscheck-output plain
    pytest --benchmark --crosscheck-protocol imdb-clipped --crosscheck-divisions matched --crosscheck-output clipped
    python benchmarks/beside.py "not clipped=plain" "clipped to 1=clipped"

Prints a Markdown table of the matched runs: one row a model, comparison and backend.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from rnn_crosscheck.reports.analysis import disagreement, divergence
from rnn_crosscheck.reports.analysis.accuracy import run_table
from rnn_crosscheck.reports.read.comparison import Comparison, load


def _range(values: pd.Series) -> str:
    if values.empty:
        return "-"
    return f"{100 * values.mean():.1f} [{100 * values.min():.1f}, {100 * values.max():.1f}]"


def rows(name: str, comparison: Comparison) -> list[dict[str, object]]:
    """Give the figures of one comparison, a row a model and backend."""
    runs = run_table(comparison)
    runs = runs[(runs["division"] == "matched") & (runs["status"] == "ok")]
    curves = divergence.curves(comparison)
    horizons = divergence.horizons(curves)
    ends = divergence.ends(comparison, curves)
    pairs = disagreement.pairs(comparison)
    pairs = pairs[pairs["division"] == "matched"]
    found = []
    for (model, backend), mine in runs.groupby(["model", "backend"], sort=False):
        twins = ends[(ends["model"] == model) & (ends["kind"] == "continuing") & (ends["a"] == backend)]
        seeds = pairs[(pairs["kind"] == "seeds") & (pairs["model_a"] == model) & (pairs["backend_a"] == backend)]
        others = pairs[(pairs["kind"] == "backends") & (pairs["model_a"] == model)]
        horizon = horizons[
            (horizons["model"] == model) & (horizons["kind"] == "continuing") & (horizons["backend"] == backend)
        ]["horizon"]
        reached = horizon.dropna()
        found.append(
            {
                "model": model,
                "gradients": name,
                "backend": backend,
                "accuracy, %": _range(mine["accuracy"]),
                "sd": 100 * mine["accuracy"].std(ddof=1),
                "seeds": len(mine),
                "horizon, step": int(reached.min()) if len(reached) else "none",
                "twins disagree, %": _range(twins["disagreement"]),
                "twins": len(twins),
                "seeds disagree, %": _range(seeds["disagreement"]),
                "backends disagree, %": _range(others["disagreement"]),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Lay finished comparisons side by side.")
    parser.add_argument("comparisons", nargs="+", metavar="NAME=FOLDER")
    table: list[dict[str, object]] = []
    for given in parser.parse_args().comparisons:
        name, _, folder = given.partition("=")
        table += rows(name, load(Path(folder)))
    frame = pd.DataFrame(table).sort_values(["model", "backend"], kind="stable")
    print(frame.to_markdown(index=False, floatfmt=".1f"))
    print()
    print(
        "*Mean [least, most]. Horizon: first recorded step at which a continuing twin moves some probability by more "
        f"than {divergence.HORIZON:g}. Twins disagree: predictions that a continuing twin changes at the end of "
        "training; seeds disagree: between two seeds of one backend; backends disagree: between two backends with "
        "the same seed.*"
    )


if __name__ == "__main__":
    main()
