"""Everything that a report says, as DataFrames: computed once, then shown in Markdown, JSON and the terminal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports import accuracy, dataset, disagreement, timing
from reports.load import Comparison

#: where the bootstraps start, so that one folder always gives one report
SEED = 0


@dataclass(frozen=True)
class Examples:
    """Examples on which the two runs of a pair disagree."""

    pair: pd.Series
    rows: pd.DataFrame


@dataclass(frozen=True)
class Findings:
    """The tables of a report; each is described where it is computed."""

    runs: pd.DataFrame
    accuracy: pd.DataFrame
    backends: pd.DataFrame
    models: pd.DataFrame
    curves: pd.DataFrame
    source: dict[str, float]
    timings: pd.DataFrame
    again: pd.DataFrame
    training: pd.DataFrame
    pairs: pd.DataFrame
    groups: pd.DataFrame
    examples: tuple[Examples, ...]
    mistakes: pd.DataFrame
    splits: pd.DataFrame
    layers: pd.DataFrame
    environment: pd.DataFrame

    @property
    def good(self) -> pd.DataFrame:
        """Runs that went well."""
        return self.runs[self.runs["status"] == "ok"]


def find(comparison: Comparison) -> Findings:
    """Compute every table of the report."""
    runs = accuracy.run_table(comparison)
    pairs = disagreement.pairs(comparison)
    chosen = [pair for _, pair in disagreement.example_pairs(pairs).iterrows()]
    return Findings(
        runs=runs,
        accuracy=accuracy.summary(runs),
        backends=accuracy.differences(comparison, runs, "backend"),
        models=accuracy.differences(comparison, runs, "model"),
        curves=accuracy.learning_curves(comparison),
        source=accuracy.source_accuracy(comparison),
        timings=timing.ratios(comparison, np.random.default_rng(SEED)),
        again=timing.again(comparison, np.random.default_rng(SEED)),
        training=timing.training_times(comparison),
        pairs=pairs,
        groups=disagreement.groups(pairs),
        examples=tuple(Examples(pair, disagreement.split_examples(comparison, pair)) for pair in chosen),
        mistakes=disagreement.sure_mistakes(comparison),
        splits=dataset.splits(comparison),
        layers=dataset.layers(comparison),
        environment=dataset.environment(comparison),
    )
