from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnn_crosscheck.reports.analysis.disagreement import pairs
from rnn_crosscheck.reports.analysis.excess import between, excess
from rnn_crosscheck.reports.analysis.ladder import dots, excesses
from rnn_crosscheck.reports.analysis.where import where
from rnn_crosscheck.reports.read.comparison import Comparison, load
from tests.reports.folders import EXAMPLES, labels, probabilities, write_comparison

KERAS, PYTORCH = "keras-tensorflow", "pytorch"
GROUP = ["division", "model", "backend_a", "backend_b"]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Three seeds of each run."""
    seeds = (0, 1, 2)
    folder = write_comparison(tmp_path_factory.mktemp("where"), seeds={"native": seeds, "matched": seeds}, timed=False)
    return load(folder)


@pytest.fixture(scope="module")
def table(several: Comparison) -> pd.DataFrame:
    return where(several)


def test_every_example_is_in_one_bucket_of_each_kind(several: Comparison, table: pd.DataFrame) -> None:
    assert set(table["what"]) == {"length", "cut", "unknown words", "confidence", "label"}
    counted = table.groupby([*GROUP, "what"])["examples"].sum()
    assert len(counted) == 2 * 2 * 5
    assert (counted == EXAMPLES).all()
    assert (table["examples"] > 0).all()
    assert not table.duplicated([*GROUP, "what", "bucket"]).any()


def test_what_is_no_chance_is_what_is_left_above_the_floor(table: pd.DataFrame) -> None:
    np.testing.assert_allclose(table["floor"] + table["excess"], table["between"], atol=1e-12)
    assert (table["floor"] >= -1e-12).all()
    known = table.dropna(subset=["low"])
    assert len(known) > len(table) / 2
    assert (known["low"] <= known["excess"]).all()
    assert (known["excess"] <= known["high"]).all()
    assert known["low"].min() >= -1
    assert known["high"].max() <= 1


def test_buckets_average_to_the_excess_of_the_whole(several: Comparison, table: pd.DataFrame) -> None:
    whole = excesses(several, dots(several, pairs(several))).set_index(GROUP)
    for (*keys, _), rows in table.groupby([*GROUP, "what"], sort=False):
        for figure in ("between", "floor", "excess"):
            mean = np.average(rows[figure], weights=rows["examples"])
            assert mean == pytest.approx(whole.loc[tuple(keys), figure], abs=1e-12)


def test_a_bucket_is_what_its_examples_alone_give(table: pd.DataFrame) -> None:
    # Labels alternate, so the negative examples are the even ones.
    a, b = (
        np.stack([probabilities("native", backend, "rnn", seed)[labels() == 0] >= 0.5 for seed in range(3)], axis=1)
        for backend in (KERAS, PYTORCH)
    )
    expected = excess(a, b, seeds_shared=False).estimate()
    row = table.query("division == 'native' and model == 'rnn' and bucket == 'negative'").iloc[0]
    assert row["examples"] == 30
    assert row["between"] == pytest.approx(between(a, b, seeds_shared=False))
    assert tuple(row[["excess", "low", "high"]]) == pytest.approx(tuple(expected))


def test_buckets_are_named_by_what_is_in_them(table: pd.DataFrame) -> None:
    first = table.query(f"division == 'native' and model == 'rnn' and backend_b == '{PYTORCH}'")
    buckets = first.groupby("what", sort=False)["bucket"].agg(list)
    # Example i has 11 + 3 i tokens, is cut above 80, and has i modulo 20 hundredths of unknown words.
    assert buckets["length"] == ["11 to 44", "47 to 80", "83 to 116", "119 to 152", "155 to 188"]
    assert buckets["cut"] == ["whole", "cut"]
    assert first[first["what"] == "cut"]["examples"].tolist() == [24, 36]
    assert buckets["unknown words"] == [f"{4 * i}.0 to {4 * i + 3}.0 %" for i in range(5)]
    assert buckets["label"] == ["negative", "positive"]
    assert set(buckets["confidence"]) <= {"0 to 0.25", "0.25 to 0.5", "0.5 to 0.75", "0.75 to 1"}


def test_the_confidence_is_that_of_all_runs_of_the_two_together(several: Comparison, table: pd.DataFrame) -> None:
    names = [f"native-{backend}-lstm-seed{seed}" for backend in (KERAS, PYTORCH) for seed in range(3)]
    sure = (2 * several.probabilities[names].astype(float).mean(axis=1) - 1).abs()
    found = table.query("division == 'native' and model == 'lstm' and what == 'confidence'")
    for row in found.itertuples():
        low, high = map(float, row.bucket.split(" to "))
        assert row.examples == ((sure >= low) & (sure < high)).sum()


def test_the_surest_are_in_the_last_bucket(several: Comparison) -> None:
    certain = replace(several, probabilities=(several.probabilities >= 0.5).astype(np.float32))
    found = where(certain).query("what == 'confidence'")
    assert (found.groupby(GROUP)["examples"].sum() == EXAMPLES).all()
    assert (found.loc[found["bucket"] == "0.75 to 1", "excess"] == 0).all()  # all runs say one thing


def test_results_have_no_say_in_the_buckets_of_the_data(several: Comparison, table: pd.DataFrame) -> None:
    turned = where(replace(several, probabilities=several.probabilities**2))
    facts = ["what", "bucket", "examples"]
    of_data = [frame[frame["what"] != "confidence"][facts].reset_index(drop=True) for frame in (table, turned)]
    pd.testing.assert_frame_equal(*of_data)


def with_unknown_words(comparison: Comparison, shares: object) -> list[int]:
    """Examples in each bucket of unknown words, of the first pair of backends."""
    found = where(replace(comparison, test=comparison.test.assign(oov=shares))).query("what == 'unknown words'")
    return [] if found.empty else next(iter(found.groupby(GROUP, sort=False)))[1]["examples"].tolist()


def test_equal_shares_of_unknown_words_stay_together(several: Comparison) -> None:
    assert with_unknown_words(several, np.linspace(0, 0.2, 60)) == [12, 12, 12, 12, 12]
    assert with_unknown_words(several, np.repeat([0.0, 0.05, 0.1], 20)) == [20, 20, 20]
    # Most texts hold none: these are a bucket of their own, whatever the others hold.
    assert with_unknown_words(several, [0.0] * 40 + [0.4 + 0.01 * i for i in range(20)]) == [40, 8, 12]
    assert with_unknown_words(several, [0.0] * 50 + [0.1] * 10) == [50, 10]


def test_one_bucket_alone_is_left_out(several: Comparison) -> None:
    assert with_unknown_words(several, 0.0) == []
    assert with_unknown_words(several, np.nan) == []


def test_one_label_alone_is_no_kind_of_bucket(several: Comparison) -> None:
    assert "label" not in set(where(replace(several, test=several.test.assign(label=1)))["what"])


def test_sides_with_one_seed_have_no_floor_and_no_rows(comparison: Comparison, tmp_path: Path) -> None:
    # Of matched pytorch's rnn, one seed of two was killed.
    found = where(comparison)[["division", "model"]].drop_duplicates()
    assert found.to_numpy().tolist() == [["native", "rnn"], ["native", "lstm"], ["matched", "lstm"]]
    alone = where(load(write_comparison(tmp_path, seeds={"native": (0,), "matched": (0,)}, timed=False)))
    assert alone.empty
    assert alone.columns.tolist() == where(comparison).columns.tolist()
