from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnn_crosscheck.harness.folder import write_json
from rnn_crosscheck.harness.results import RunResult, TransplantsRecord, read_record
from rnn_crosscheck.reports.analysis.disagreement import pairs
from rnn_crosscheck.reports.analysis.ladder import RUNGS, dots, excesses, rungs, sides, transplants
from rnn_crosscheck.reports.read.comparison import Comparison, load
from tests.reports.folders import probabilities, rewrite, write_comparison, write_traces, write_transplants
from tests.reports.rendering import all_pages

KERAS, PYTORCH = "keras-tensorflow", "pytorch"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A comparison with twins and transplants, and three seeds of each run."""
    folder = write_comparison(
        tmp_path_factory.mktemp("ladder"), seeds={"native": (0, 1, 2), "matched": (0, 1, 2)}, timed=False
    )
    write_traces(folder)
    write_transplants(folder, changed={"lstm": 3})
    return load(folder)


@pytest.fixture(scope="module")
def whole_dots(whole: Comparison) -> pd.DataFrame:
    return dots(whole, pairs(whole))


def said(division: str, backend: str, model: str, seed: int) -> np.ndarray:
    return np.asarray(probabilities(division, backend, model, seed) >= 0.5)


def differ(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean(a != b))


# --- dots ---------------------------------------------------------------------------------------------------


def test_every_pair_stands_on_the_rung_of_what_it_shares(whole_dots: pd.DataFrame) -> None:
    assert whole_dots["rung"].is_monotonic_increasing
    for row in whole_dots.itertuples():
        across_backends, across_models = row.backend_a != row.backend_b, row.model_a != row.model_b
        if across_models:
            expected = "architecture"
        elif across_backends and " in " in row.run_b:
            expected = "transplanted"
        elif across_backends:
            expected = "matched" if row.division == "matched" else "native pair"
        else:
            expected = "twin" if "-continuing" in row.run_b else "reseeded"
        assert RUNGS[row.rung] == expected
    # Two models and two divisions of three seeds and two backends; 3 continuing twins of each backend and model;
    # transplants both ways.
    assert whole_dots["rung"].value_counts().to_dict() == {0: 8, 1: 12, 2: 6, 3: 6, 4: 24, 5: 12}


def test_transplants_of_one_backend_into_another_are_on_the_lowest_rung(whole_dots: pd.DataFrame) -> None:
    found = whole_dots[whole_dots["rung"] == 0]
    assert (found["backend_a"] != found["backend_b"]).all()  # its own weights are no pair
    assert found.groupby("model_a")["disagreement"].unique().map(list).to_dict() == {"rnn": [0.0], "lstm": [3 / 60]}
    native = found[found["division"] == "native"]
    assert f"native-{KERAS}-lstm-seed0 in {PYTORCH}" in native["run_b"].tolist()


def test_twins_stand_against_the_run_that_they_are_twins_of(whole: Comparison, whole_dots: pd.DataFrame) -> None:
    found = whole_dots[whole_dots["rung"] == 1].set_index(["run_a", "run_b"])["disagreement"]
    run = f"matched-{PYTORCH}-rnn-seed0"
    twin = whole.variants.probabilities[f"{run}-continuing2"] >= 0.5
    assert found[run, f"{run}-continuing2"] == differ(twin.to_numpy(), said("matched", PYTORCH, "rnn", 0))
    assert found.between(0, 1, inclusive="neither").all()


def test_a_twin_whose_own_run_is_missing_stands_nowhere(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, timed=False)
    write_traces(folder)
    (folder / "runs" / f"matched-{PYTORCH}-rnn-seed0" / "result.json").unlink()
    comparison = load(folder)
    found = dots(comparison, pairs(comparison))
    twins = found[found["rung"] == 1]
    assert twins.groupby(["model_a", "backend_a"]).size().to_dict() == {
        ("lstm", KERAS): 3,
        ("lstm", PYTORCH): 3,
        ("rnn", KERAS): 3,
    }


def test_the_plain_pairs_are_those_of_the_table_of_pairs(comparison: Comparison) -> None:
    table = pairs(comparison)
    found = dots(comparison, table)
    assert len(found) == len(table)
    merged = found.merge(table, on=["run_a", "run_b"], suffixes=("", "_of_pair"))
    assert len(merged) == len(table)
    assert (merged["disagreement"] == merged["disagreement_of_pair"]).all()
    assert set(found["rung"]) == {2, 3, 4, 5}


def test_nothing_to_compare_has_no_dots(tmp_path: Path) -> None:
    comparison = load(write_comparison(tmp_path, backends=(KERAS,), models=("lstm",), seeds={"native": (0,)}))
    found = dots(comparison, pairs(comparison))
    assert found.empty
    assert rungs(comparison, found).empty
    assert excesses(comparison, found).empty
    assert transplants(comparison).empty


# --- rungs --------------------------------------------------------------------------------------------------


def test_a_rung_has_a_row_for_each_group_of_its_dots(whole: Comparison, whole_dots: pd.DataFrame) -> None:
    table = rungs(whole, whole_dots)
    assert table["pairs"].sum() == len(whole_dots)
    assert table["name"].tolist() == [RUNGS[number] for number in table["rung"]]
    keys = ["rung", "division", "model_a", "model_b", "backend_a", "backend_b"]
    assert not table.duplicated(keys).any()
    by_hand = whole_dots.groupby(keys, sort=False)["disagreement"].agg(["mean", "min", "max"])
    np.testing.assert_allclose(table[["disagreement", "least", "most"]], by_hand)


def test_intervals_of_a_rung(whole: Comparison, whole_dots: pd.DataFrame) -> None:
    table = rungs(whole, whole_dots)
    single = table["rung"] <= 1
    assert table.loc[single, ["low", "high"]].isna().all(axis=None)
    several = table[~single]
    assert several[["low", "high"]].notna().all(axis=None)
    assert (several["low"] <= several["disagreement"]).all()
    assert (several["disagreement"] <= several["high"]).all()
    assert several["low"].min() >= 0


def test_the_reseeded_rung_is_the_mean_over_a_backends_own_pairs(whole: Comparison, whole_dots: pd.DataFrame) -> None:
    table = rungs(whole, whole_dots).set_index(["name", "division", "model_a", "backend_a"])
    own = [
        differ(said("native", KERAS, "rnn", i), said("native", KERAS, "rnn", j)) for i, j in combinations(range(3), 2)
    ]
    row = table.loc[("reseeded", "native", "rnn", KERAS)]
    assert row["pairs"] == 3
    assert row["disagreement"] == pytest.approx(np.mean(own))


def test_a_group_of_one_pair_has_no_interval(comparison: Comparison) -> None:
    # One seed of four was killed, so matched rnn has one pair across backends; two seeds make one pair of seeds.
    table = rungs(comparison, dots(comparison, pairs(comparison)))
    one = table["pairs"] == 1
    assert {"matched", "reseeded", "architecture"} <= set(table.loc[one, "name"])
    assert table.loc[one, ["low", "high"]].isna().all(axis=None)
    assert table.loc[~one, ["low", "high"]].notna().all(axis=None)
    assert (table.loc[one, "least"] == table.loc[one, "most"]).all()


# --- excess -------------------------------------------------------------------------------------------------


def test_excess_of_a_pair_of_backends_by_hand(whole: Comparison, whole_dots: pd.DataFrame) -> None:
    table = excesses(whole, whole_dots).set_index(["division", "model"])
    assert table.index.tolist() == list(product(("native", "matched"), ("rnn", "lstm")))
    for (division, model), row in table.iterrows():
        a, b = ([said(division, backend, model, seed) for seed in range(3)] for backend in (KERAS, PYTORCH))
        # Matched runs of one seed start from the same weights: such pairs don't count.
        across = [differ(a[i], b[j]) for i, j in product(range(3), range(3)) if division == "native" or i != j]
        floor = np.mean([[differ(x, y) for x, y in combinations(side, 2)] for side in (a, b)])
        assert (row["backend_a"], row["backend_b"]) == (KERAS, PYTORCH)
        assert (row["seeds_a"], row["seeds_b"]) == (3, 3)
        assert row["between"] == pytest.approx(np.mean(across))
        assert row["floor"] == pytest.approx(floor)
        assert row["excess"] == pytest.approx(np.mean(across) - floor)
        assert row["low"] < row["excess"] < row["high"]


def test_the_floor_is_the_mean_of_the_two_reseeded_rungs(whole: Comparison, whole_dots: pd.DataFrame) -> None:
    reseeded = rungs(whole, whole_dots)
    reseeded = reseeded[reseeded["name"] == "reseeded"].groupby(["division", "model_a"])["disagreement"].mean()
    for row in excesses(whole, whole_dots).itertuples():
        assert row.floor == pytest.approx(reseeded[row.division, row.model])


def test_twins_beside_the_excess_are_the_continuing_ones(whole: Comparison, whole_dots: pd.DataFrame) -> None:
    table = excesses(whole, whole_dots).set_index(["division", "model"])
    run = f"matched-{KERAS}-rnn-seed0"
    continuing = whole_dots[(whole_dots["rung"] == 1) & whole_dots["run_b"].str.contains("-continuing")]
    assert len(continuing[continuing["run_a"] == run]) == 3
    for side, backend in (("a", KERAS), ("b", PYTORCH)):
        mine = continuing[(continuing["model_a"] == "rnn") & (continuing["backend_a"] == backend)]
        assert table.loc[("matched", "rnn"), f"twins_{side}"] == pytest.approx(mine["disagreement"].mean())
    # Twins are of matched runs: what rounding does to native ones was not measured.
    assert table.loc["native", ["twins_a", "twins_b"]].isna().all(axis=None)


def test_without_twins_there_is_nothing_beside_the_excess(comparison: Comparison) -> None:
    table = excesses(comparison, dots(comparison, pairs(comparison)))
    assert table[["twins_a", "twins_b"]].isna().all(axis=None)
    # Of matched pytorch's rnn one seed of two is left: it can't be held against itself.
    assert list(zip(table["division"], table["model"], strict=True)) == [
        ("native", "rnn"),
        ("native", "lstm"),
        ("matched", "lstm"),
    ]


def test_matched_seeds_that_one_side_lacks_are_left_out(tmp_path: Path) -> None:
    seeds = (0, 1, 2, 3)
    folder = write_comparison(
        tmp_path,
        models=("lstm",),
        seeds={"native": seeds, "matched": seeds},
        missing=[
            f"{division}-{backend}-lstm-seed{seed}"
            for division in ("native", "matched")
            for backend, seed in ((KERAS, 1), (PYTORCH, 0))
        ],
    )
    comparison = load(folder)
    names = comparison.probabilities.columns
    native, matched = sides(comparison)
    assert not native.shared
    assert [names[place] for place in native.columns_a] == [f"native-{KERAS}-lstm-seed{seed}" for seed in (0, 2, 3)]
    assert [names[place] for place in native.columns_b] == [f"native-{PYTORCH}-lstm-seed{seed}" for seed in (1, 2, 3)]
    assert matched.shared
    assert [names[place] for place in matched.columns_a] == [f"matched-{KERAS}-lstm-seed{seed}" for seed in (2, 3)]
    assert [names[place] for place in matched.columns_b] == [f"matched-{PYTORCH}-lstm-seed{seed}" for seed in (2, 3)]
    table = excesses(comparison, dots(comparison, pairs(comparison))).set_index("division")
    assert table.loc["native", ["seeds_a", "seeds_b"]].tolist() == [3, 3]
    assert table.loc["matched", ["seeds_a", "seeds_b"]].tolist() == [2, 2]
    a, b = ([said("matched", backend, "lstm", seed) for seed in (2, 3)] for backend in (KERAS, PYTORCH))
    assert table.loc["matched", "between"] == pytest.approx((differ(a[0], b[1]) + differ(a[1], b[0])) / 2)


def test_three_backends_make_three_pairs(tmp_path: Path) -> None:
    comparison = load(write_comparison(tmp_path, backends=("a", "b", "c"), models=("lstm",), timed=False))
    table = excesses(comparison, dots(comparison, pairs(comparison)))
    assert list(zip(table["division"], table["backend_a"], table["backend_b"], strict=True)) == [
        (division, *pair) for division in ("native", "matched") for pair in combinations("abc", 2)
    ]


# --- transplants and sets of runs ---------------------------------------------------------------------------


def test_transplants_say_whose_weights_are_in_whom(whole: Comparison) -> None:
    table = transplants(whole)
    assert len(table) == 2 * 2 * 2 * 2  # divisions, models, sources and targets
    across = table["source"] != table["target"]
    assert (table.loc[~across, "max_difference"] == 0).all()
    assert (table.loc[across, "max_difference"] == 3e-7).all()
    assert table.loc[across & (table["model"] == "lstm"), "changed"].eq(3).all()
    row = table[across & (table["target"] == PYTORCH) & (table["model"] == "rnn")].iloc[0]
    assert (row["run_id"], row["seed"], row["examples"]) == (f"native-{KERAS}-rnn-seed0", 0, 60)


def _damage(folder: Path) -> None:
    (folder / "transplants" / f"{KERAS}.json").write_text("{")


def _make_stale(folder: Path) -> None:
    path = folder / "transplants" / f"{KERAS}.json"
    record = json.loads(path.read_text())
    record["keys"][f"native-{PYTORCH}-rnn-seed0"] = "of a run that was trained again"
    rewrite(path, record)


@pytest.mark.parametrize("spoil", [_damage, _make_stale])
def test_transplants_that_are_damaged_or_of_other_runs_are_left_out(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    folder = write_comparison(tmp_path, timed=False)
    write_transplants(folder)
    spoil(folder)
    assert transplants(load(folder))["target"].unique().tolist() == [PYTORCH]


def test_equal_runs_agree_on_everything(whole: Comparison) -> None:
    one = whole.probabilities.iloc[:, [0]].to_numpy()
    alike = whole.probabilities.copy()
    alike[:] = np.broadcast_to(one, alike.shape)
    same = replace(whole, probabilities=alike)
    assert (rungs(same, dots(same, pairs(same))).query("rung > 1")["disagreement"] == 0).all()


def _said_of_transplants(folder: Path) -> str:
    return all_pages(load(folder))


@pytest.mark.slow
def test_without_a_direction_nothing_is_said_of_predicting(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, timed=False)
    write_transplants(folder)
    assert "(8 transplants, one seed each; at most 1e-4 is allowed), so no disagreement comes from predicting." in (
        _said_of_transplants(folder)
    )
    (folder / "transplants" / f"{PYTORCH}.json").unlink()
    report = _said_of_transplants(folder)
    assert "so no disagreement comes from predicting" not in report
    assert f"**Not there**: trained weights of {KERAS} in {PYTORCH} (rnn, native)" in report


@pytest.mark.slow
def test_weights_that_predict_otherwise_at_home_are_said_in_bold(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, timed=False, backends=(KERAS,))
    write_transplants(folder, backends=(KERAS,))
    path = folder / "transplants" / f"{KERAS}.json"
    record = read_record(path, TransplantsRecord)
    off = tuple(found.model_copy(update={"max_difference": 0.3}) for found in record.transplants)
    write_json(path, record.model_copy(update={"transplants": off}))
    assert f"**Trained weights of {KERAS}, loaded into {KERAS}, predict otherwise**" in _said_of_transplants(folder)


def test_what_was_made_of_a_run_that_was_trained_again_is_not_shown(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, timed=False)
    write_transplants(folder)
    path = folder / "transplants" / f"{PYTORCH}.json"
    record = read_record(path, TransplantsRecord)
    source = record.transplants[0].source
    ended = read_record(folder / "runs" / source / "result.json", RunResult).finished
    write_json(path, record.model_copy(update={"finished": {source: ended}}))
    assert len(load(folder).transplants) == 2
    write_json(path, record.model_copy(update={"finished": {source: "some other day"}}))
    assert [found.backend for found in load(folder).transplants] == [KERAS]
