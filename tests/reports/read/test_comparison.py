from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnn_crosscheck.harness.errors import ResultsError
from rnn_crosscheck.reports.read.comparison import load
from tests.reports.folders import (
    INPUTS,
    example_ids,
    labels,
    probabilities,
    protocol,
    retable,
    rewrite,
    spec_of,
    write_comparison,
    write_example_run,
)

RUN = "native-pytorch-lstm-seed0"
SPEC = spec_of(protocol(), "pytorch", "native", "lstm", 0)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_comparison(tmp_path, seeds={"native": (0,)}, models=("lstm",))


def test_a_folder_gives_everything_by_example_id(small: Path) -> None:
    comparison = load(small)
    assert comparison.runs.index.tolist() == ["native-keras-tensorflow-lstm-seed0", RUN]
    assert comparison.runs.loc[RUN].to_list() == ["pytorch", "lstm", "native", 0, "ok"]
    assert comparison.probabilities.index.tolist() == comparison.test.index.tolist() == example_ids()
    np.testing.assert_array_equal(
        comparison.probabilities[RUN].to_numpy(), probabilities("native", "pytorch", "lstm", 0)
    )
    assert len(comparison.timings.records) == 24
    assert comparison.right().shape == (60, 2)


def test_runs_without_a_result_are_not_run(small: Path) -> None:
    (small / "runs" / RUN / "result.json").unlink()
    comparison = load(small)
    assert comparison.runs.loc[RUN].to_list() == ["pytorch", "lstm", "native", 0, "not run"]
    assert RUN not in comparison.probabilities


def test_a_result_under_another_key_belongs_to_another_comparison(small: Path) -> None:
    manifest = json.loads((small / "manifest.json").read_text())
    manifest["keys"][RUN] = "a newer key"
    rewrite(small / "manifest.json", manifest)
    assert load(small).runs.loc[RUN, "status"] == "not run"


def test_missing_timings_are_fine(small: Path) -> None:
    (small / "timings.json").unlink()
    assert load(small).timings.records == ()


def test_timings_of_another_protocol_are_left_out(small: Path) -> None:
    timings = json.loads((small / "timings.json").read_text())
    timings["records"][-1]["key"] = "another"
    rewrite(small / "timings.json", timings)
    assert len(load(small).timings.records) == len(timings["records"]) - 1


def test_other_inputs_are_refused_with_both_hashes(small: Path) -> None:
    write_example_run(small, SPEC, inputs_hash="another hash")
    with pytest.raises(ResultsError, match=rf"{RUN} saw other test examples.*another hash against {INPUTS}"):
        load(small)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda ids: ids[::-1], "the ids are shuffled"),
        (lambda ids: [*ids[:-1], ids[0]], "ids are duplicated, such as 'example-000'"),
        (lambda ids: [*ids[:-1], "stranger"], "1 ids are foreign, such as 'stranger'"),
    ],
)
def test_other_ids_are_refused_with_both_hashes(
    small: Path, change: Callable[[list[str]], list[str]], what: str
) -> None:
    write_example_run(small, SPEC, example_ids=change(example_ids()))
    with pytest.raises(ResultsError, match=rf"{what}; hash of the ids \w{{16}} against \w{{16}}") as caught:
        load(small)
    first, second = str(caught.value).split("hash of the ids ")[1].split(".")[0].split(" against ")
    assert first != second


def test_missing_examples_are_refused(small: Path) -> None:
    write_example_run(small, SPEC, examples=59)
    with pytest.raises(ResultsError, match="1 ids are missing, such as 'example-059'"):
        load(small)


def test_other_labels_are_refused(small: Path) -> None:
    turned = labels()
    turned[3] = 1 - turned[3]
    write_example_run(small, SPEC, labels=turned)
    with pytest.raises(
        ResultsError, match=r"another label than test\.parquet for 1 of 60 examples, first 'example-003'"
    ):
        load(small)


def test_a_run_whose_values_are_no_probabilities_is_left_out_by_name(small: Path) -> None:
    run = small / "runs" / RUN
    retable(run / "predictions.parquet", run / "result.json", lambda table: table.assign(probability=1.5))
    comparison = load(small)
    assert comparison.runs.loc[RUN, "status"] == "damaged"
    assert comparison.left_out == {
        RUN: "predictions.parquet is damaged: a value isn't in 0 to 1 in the column 'probability'."
    }


def test_scores_that_don_t_follow_from_the_predictions_are_refused(small: Path) -> None:
    path = small / "runs" / RUN / "result.json"
    content = json.loads(path.read_text())
    content["scores"]["accuracy"] = 0.99
    rewrite(path, content)
    with pytest.raises(ResultsError, match=r"but result\.json beside it says 0\.99"):
        load(small)


def test_repeated_test_examples_are_refused(small: Path) -> None:
    retable(small / "test.parquet", small / "dataset.json", lambda table: pd.concat([table, table.head(1)]))
    with pytest.raises(ResultsError, match="'example-000' more than once"):
        load(small)


@pytest.mark.parametrize("name", ["manifest.json", "dataset.json", "test.parquet"])
def test_a_missing_file_is_named(small: Path, name: str) -> None:
    (small / name).unlink()
    with pytest.raises(ResultsError, match=f"There is no .*{name}"):
        load(small)


@pytest.mark.parametrize("name", ["manifest.json", "test.parquet"])
def test_a_damaged_file_is_named(small: Path, name: str) -> None:
    path = small / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ResultsError, match=f"{name} is damaged"):
        load(small)


def test_a_run_that_fits_no_backend_is_named(small: Path) -> None:
    manifest = json.loads((small / "manifest.json").read_text())
    manifest["runs"].append("native-nobody-lstm-seed0")
    rewrite(small / "manifest.json", manifest)
    with pytest.raises(ResultsError, match="'native-nobody-lstm-seed0'"):
        load(small)
