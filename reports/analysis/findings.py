"""Everything that a report says, as DataFrames: computed once, then shown in Markdown, JSON and the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from rnn_crosscheck.harness.protocol import MarginSpec
from rnn_crosscheck.reports.analysis import (
    accuracy,
    calibration,
    dataset,
    disagreement,
    divergence,
    ladder,
    lengths,
    source,
    timing,
    verdicts,
)
from rnn_crosscheck.reports.analysis import examples as listing
from rnn_crosscheck.reports.analysis import stages as parity
from rnn_crosscheck.reports.analysis.changes import Changes
from rnn_crosscheck.reports.analysis.where import where
from rnn_crosscheck.reports.read.comparison import Comparison

#: with more backends, one example of each kind is enough to read
_TWO_EACH = 2


@dataclass(frozen=True)
class Examples:
    """Examples picked by what the two runs of a pair say; `counts`: how many of each kind the first pair has."""

    pair: pd.Series
    rows: pd.DataFrame
    counts: Mapping[str, int] = field(default_factory=dict)


def ids_of(examples: Iterable[Examples], mistakes: pd.DataFrame) -> list[str]:
    """Give the ids of the examples that are picked, those of mistakes among them."""
    rows = [*(one.rows for one in examples if len(one.rows)), mistakes]
    return [str(name) for frame in rows for name in frame["example_id"]]


@dataclass(frozen=True)
class Why:
    """The tables of "why they differ"; each is described where it is computed."""

    verdicts: pd.DataFrame
    curves: pd.DataFrame
    courses: pd.DataFrame
    horizons: pd.DataFrame
    ends: pd.DataFrame
    stages: pd.DataFrame
    records: pd.DataFrame
    effects: pd.DataFrame
    accuracy: pd.DataFrame
    causes: pd.DataFrame


@dataclass(frozen=True)
class Findings:
    """The tables of a report; each is described where it is computed."""

    model_names: tuple[str, ...]
    margin: MarginSpec
    verdicts: pd.DataFrame
    runs: pd.DataFrame
    accuracy: pd.DataFrame
    backends: pd.DataFrame
    models: pd.DataFrame
    curves: pd.DataFrame
    source: dict[str, float]
    beside_source: pd.DataFrame
    lengths: pd.DataFrame
    leads: pd.DataFrame
    growth: pd.DataFrame
    timings: pd.DataFrame
    again: pd.DataFrame
    single: pd.DataFrame
    sweep: pd.DataFrame
    drift: pd.DataFrame
    tuned: pd.DataFrame
    training: pd.DataFrame
    pairs: pd.DataFrame
    groups: pd.DataFrame
    dots: pd.DataFrame
    rungs: pd.DataFrame
    excesses: pd.DataFrame
    transplants: pd.DataFrame
    where: pd.DataFrame
    quality: pd.DataFrame
    reliability: pd.DataFrame
    examples: tuple[Examples, ...]
    read: tuple[Examples, ...]
    mistakes: pd.DataFrame
    splits: pd.DataFrame
    layers: pd.DataFrame
    environment: pd.DataFrame
    why: Why
    since: Changes | None = None

    @property
    def shown_examples(self) -> list[str]:
        """Ids of all examples that the report shows."""
        return ids_of((*self.examples, *self.read), self.mistakes)

    @property
    def good(self) -> pd.DataFrame:
        """Runs that went well."""
        return self.runs[self.runs["status"] == "ok"]


def _model_names(comparison: Comparison) -> tuple[str, ...]:
    """Name what was compared, in the order of the protocol: models with runs, stages or times; else all of it."""
    of = {*comparison.runs["model"], *(record.model for record in comparison.stages)}
    of |= {record.model for record in comparison.timings.records}
    known = [model.name for model in comparison.manifest.protocol.models]
    return tuple(name for name in (*known, *sorted(of.difference(known))) if name in of or not of)


def find(comparison: Comparison, since: Changes | None = None) -> Findings:
    """Compute every table of the report; `since` is what changed since an earlier comparison, if there is one."""
    runs = accuracy.run_table(comparison)
    pairs = disagreement.pairs(comparison)
    to_read = disagreement.pairs_to_read(pairs)
    each = _TWO_EACH if len(to_read) <= _TWO_EACH else 1
    dots = ladder.dots(comparison, pairs)
    protocol = comparison.manifest.protocol
    summaries, between = accuracy.summary(runs), accuracy.differences(comparison, runs, "backend")
    timings, again = timing.ratios(comparison), timing.again(comparison)
    return Findings(
        model_names=_model_names(comparison),
        margin=protocol.margin,
        verdicts=pd.concat(
            [
                verdicts.of_accuracy(between, summaries, protocol.margin),
                verdicts.of_speed(comparison, timings, again, protocol.margin),
            ]
        ),
        runs=runs,
        accuracy=summaries,
        backends=between,
        models=accuracy.differences(comparison, runs, "model"),
        curves=accuracy.learning_curves(comparison),
        source=source.source_accuracy(protocol),
        beside_source=source.beside_the_source(comparison),
        lengths=lengths.accuracy_by_length(comparison),
        leads=lengths.lead_by_length(comparison),
        growth=lengths.growth(comparison),
        timings=timings,
        again=again,
        single=timing.single_examples(comparison),
        sweep=timing.sweep(comparison),
        drift=timing.drift(comparison),
        tuned=timing.tuned(comparison),
        training=timing.training_times(comparison),
        pairs=pairs,
        groups=disagreement.groups(pairs),
        dots=dots,
        rungs=ladder.rungs(comparison, dots),
        excesses=ladder.excesses(comparison, dots),
        transplants=ladder.transplants(comparison),
        where=where(comparison),
        quality=calibration.quality(comparison),
        reliability=calibration.curves(comparison),
        examples=tuple(
            Examples(pair, listing.listed(comparison, pair, limits), {} if place else listing.counts(comparison, pair))
            for place, (pair, limits) in enumerate(listing.to_list(pairs))
        ),
        read=tuple(Examples(pair, disagreement.read_in_full(comparison, pair, each)) for _, pair in to_read.iterrows()),
        mistakes=disagreement.sure_mistakes(comparison),
        splits=dataset.splits(comparison),
        layers=dataset.layers(comparison),
        environment=dataset.environment(comparison),
        why=find_why(comparison),
        since=since,
    )


def find_why(comparison: Comparison) -> Why:
    """Compute every table about why backends differ; what was not recorded has no rows."""
    curves = divergence.curves(comparison)
    horizons = divergence.horizons(curves)
    effects, switched = parity.effects(comparison), parity.switched(comparison)
    return Why(
        verdicts=divergence.verdicts(comparison, curves, horizons),
        curves=curves,
        courses=divergence.courses(comparison),
        horizons=horizons,
        ends=divergence.ends(comparison, curves),
        stages=parity.stages(comparison),
        records=parity.records(comparison),
        effects=effects,
        accuracy=parity.accuracy_effects(switched),
        causes=parity.causes(comparison, effects, switched),
    )
