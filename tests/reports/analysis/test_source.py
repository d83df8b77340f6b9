from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rnn_crosscheck.harness.protocol import TrainingSpec
from rnn_crosscheck.reports.analysis.source import (
    SOURCE_COUNTS,
    SOURCE_EXAMPLES,
    applies,
    beside_the_source,
    source_accuracy,
)
from rnn_crosscheck.reports.read.comparison import Comparison, load
from tests.reports.folders import labels, probabilities, protocol, source_protocol, write_comparison
from tests.reports.rendering import all_pages


@pytest.fixture(scope="module")
def imdb(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("imdb")
    return load(write_comparison(folder, of=source_protocol(), seeds={"native": (0, 1, 2), "matched": (0,)}))


def right(model: str, seed: int) -> np.ndarray:
    return np.asarray((probabilities("native", "keras-tensorflow", model, seed) >= 0.5) == (labels() == 1))


def test_the_notebook_s_counts_are_those_of_all_its_examples() -> None:
    assert sum(SOURCE_COUNTS.values()) == SOURCE_EXAMPLES
    assert (SOURCE_COUNTS["both_right"] + SOURCE_COUNTS["only_rnn"]) / SOURCE_EXAMPLES == pytest.approx(0.61804)
    assert (SOURCE_COUNTS["both_right"] + SOURCE_COUNTS["only_lstm"]) / SOURCE_EXAMPLES == pytest.approx(0.80996)


def test_it_stands_beside_its_own_protocol_only(comparison: Comparison, imdb: Comparison) -> None:
    assert source_accuracy(comparison.manifest.protocol) == {}
    assert beside_the_source(comparison).empty
    assert source_accuracy(imdb.manifest.protocol) == {"rnn": 0.61804, "lstm": 0.80996}
    other = imdb.manifest.protocol.model_copy(update={"training": TrainingSpec(epochs=1)})
    assert not applies(other)
    assert not applies(protocol(name="imdb"))  # another length


def test_ours_are_the_native_runs_of_keras(imdb: Comparison) -> None:
    rows = beside_the_source(imdb).set_index("what")
    assert set(rows["backend"]) == {"keras-tensorflow"}
    mine = [right("lstm", seed).mean() for seed in (0, 1, 2)]
    row = rows.loc["accuracy of the lstm"]
    assert (row["mean"], row["sd"]) == pytest.approx((np.mean(mine), np.std(mine, ddof=1)))
    assert (row["least"], row["most"]) == pytest.approx((min(mine), max(mine)))
    assert row["below"] == sum(value < 0.80996 for value in mine)
    alone = [(right("lstm", seed) & ~right("rnn", seed)).mean() for seed in (0, 1, 2)]
    assert rows.loc["only the lstm right", "mean"] == pytest.approx(np.mean(alone))
    assert rows.loc["only the lstm right", "source"] == pytest.approx(7401 / 25_000)
    parts = rows.loc[["both right", "only the rnn right", "only the lstm right", "both wrong"], "mean"]
    assert parts.sum() == pytest.approx(1)


def test_the_table_and_what_it_means_are_as_kept(imdb: Comparison, golden: Callable[[str, str], None]) -> None:
    part = all_pages(imdb).partition("## Beside the notebook\n")[2].partition("\n#")[0]
    golden("beside_notebook.md", part.strip() + "\n")


def test_one_seed_has_no_spread_to_hold_anything_against(tmp_path: Path) -> None:
    source = all_pages(load(write_comparison(tmp_path, of=source_protocol(), seeds={"native": (0,)})))
    assert "which is a single seed." in source
    assert "there is no spread to hold its figures against" in source
