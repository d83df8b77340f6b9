from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from rnn_crosscheck.reports.analysis.calibration import MEASURES, curves, quality
from rnn_crosscheck.reports.analysis.statistics import reliability, wilson
from rnn_crosscheck.reports.read.comparison import Comparison, load
from tests.reports.folders import labels, probabilities, write_comparison

MODELS = [
    (division, model, backend)
    for division in ("native", "matched")
    for model in ("rnn", "lstm")
    for backend in ("keras-tensorflow", "pytorch")
]


def seeds_of(division: str, model: str, backend: str) -> list[np.ndarray]:
    """Probabilities of the runs that went well: one of the fixture's was killed."""
    killed = (division, model, backend) == ("matched", "rnn", "pytorch")
    return [probabilities(division, backend, model, seed).astype(float) for seed in ((0,) if killed else (0, 1))]


def test_measures_are_scikit_learns_averaged_over_seeds(comparison: Comparison) -> None:
    table = quality(comparison)
    assert table.columns.tolist() == ["division", "model", "backend", "seeds", *MEASURES]
    assert list(zip(table["division"], table["model"], table["backend"], strict=True)) == MODELS
    for row in table.itertuples():
        runs = seeds_of(row.division, row.model, row.backend)
        assert row.seeds == len(runs)
        for measure, theirs in (
            ("auc", metrics.roc_auc_score),
            ("brier", metrics.brier_score_loss),
            ("log_loss", metrics.log_loss),
        ):
            assert getattr(row, measure) == pytest.approx(np.mean([theirs(labels(), run) for run in runs]), abs=1e-9)


def test_the_calibration_error_is_what_the_curve_of_one_seed_is_off_by(comparison: Comparison) -> None:
    # The one model with a single good run has a curve of its own.
    one = ("matched", "rnn", "pytorch")
    table, curve = (
        frame.set_index(["division", "model", "backend"]).loc[[one]]
        for frame in (quality(comparison), curves(comparison))
    )
    used = curve.dropna()
    off = (used["examples"] * (used["probability"] - used["share"]).abs()).sum() / 60
    assert table["ece"].iloc[0] == pytest.approx(off)


def test_every_prediction_of_every_seed_is_in_one_bin(comparison: Comparison) -> None:
    for keys, rows in curves(comparison).groupby(["division", "model", "backend"], sort=False):
        runs = seeds_of(*keys)
        assert rows["examples"].sum() == 60 * len(runs)
        assert rows["low_edge"].tolist() == pytest.approx([i / 10 for i in range(10)])
        assert rows["high_edge"].tolist() == pytest.approx([i / 10 for i in range(1, 11)])
        # Counts, sums of probabilities and positive labels are those of the runs.
        used = rows[rows["examples"] > 0]
        assert (used["examples"] * used["probability"]).sum() == pytest.approx(np.sum(runs))
        assert (used["examples"] * used["share"]).sum() == pytest.approx(30 * len(runs))
        assert (used["probability"].between(used["low_edge"], used["high_edge"])).all()
        empty = rows.loc[rows["examples"] == 0, ["probability", "share", "low", "high"]]
        assert empty.isna().all(axis=None)


def test_seeds_see_the_same_examples_so_they_don_t_narrow_the_interval(comparison: Comparison) -> None:
    table = curves(comparison).set_index(["division", "model", "backend"])
    one = table.loc[[("matched", "rnn", "pytorch")]]
    low, high = wilson(one["share"] * one["examples"], one["examples"])
    np.testing.assert_allclose(one["low"], np.clip(low, 0, 1))
    np.testing.assert_allclose(one["high"], np.clip(high, 0, 1))
    two = table.loc[[("native", "lstm", "pytorch")]]
    low, high = wilson(two["share"] * two["examples"], two["examples"])
    inner = (two["low"] > 0) & (two["high"] < 1)  # cut nowhere
    assert inner.any()
    np.testing.assert_allclose((two["high"] - two["low"])[inner], (np.sqrt(2) * (high - low))[inner.to_numpy()])
    used = two[two["examples"] > 0]
    assert (used["low"] <= used["share"] + 1e-12).all()
    assert (used["share"] <= used["high"] + 1e-12).all()


def test_a_curve_is_that_of_the_seeds_end_to_end(comparison: Comparison) -> None:
    table = curves(comparison).set_index(["division", "model", "backend"]).loc[[("native", "rnn", "keras-tensorflow")]]
    found = reliability(np.concatenate(seeds_of("native", "rnn", "keras-tensorflow")), np.tile(labels(), 2))
    np.testing.assert_array_equal(table["examples"], found.examples)
    np.testing.assert_allclose(table["probability"], found.probability)
    np.testing.assert_allclose(table["share"], found.share)


def test_one_class_of_labels_has_no_curve_under_which_an_area_is(comparison: Comparison) -> None:
    table = quality(replace(comparison, test=comparison.test.assign(label=1)))
    assert table["auc"].isna().all()
    assert table[["log_loss", "brier", "ece"]].notna().all(axis=None)


def test_without_runs_there_is_nothing_to_calibrate(tmp_path: Path) -> None:
    run_ids = ["native-pytorch-lstm-seed0"]
    empty = load(
        write_comparison(tmp_path, backends=("pytorch",), models=("lstm",), seeds={"native": (0,)}, missing=run_ids)
    )
    assert quality(empty).empty
    assert curves(empty).empty
