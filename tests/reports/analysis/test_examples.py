from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnn_crosscheck.harness.errors import ResultsError
from rnn_crosscheck.harness.protocol import DIVISIONS
from rnn_crosscheck.reports.analysis.disagreement import example_pairs, pairs
from rnn_crosscheck.reports.analysis.examples import (
    FIRST,
    FLIP,
    GAP,
    KINDS,
    OTHERS,
    STABLE,
    WRONG,
    every_example,
    kinds,
    listed,
    to_list,
    to_read,
)
from rnn_crosscheck.reports.read.comparison import Comparison, Predicted, load
from tests.reports.folders import EXAMPLES, retable, text_of, write_comparison

KERAS, PYTORCH = "keras-tensorflow", "pytorch"

#: more than there are of any kind
ALL = dict.fromkeys(KINDS, 1000)


def predicted(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], labels: Sequence[int]) -> Predicted:
    """Make up runs of two backends: a row an example, a column a seed of A and of B."""
    names = [f"example-{number}" for number in range(len(labels))]
    test = pd.DataFrame(
        {
            "label": labels,
            "text": [f"Text of {name}." for name in names],
            "length": [10 + number for number in range(len(labels))],
            "oov": 0.1,
            "truncated": False,
        },
        index=pd.Index(names, name="example_id", dtype=object),
    )
    sides = {"A": np.array(a, np.float32), "B": np.array(b, np.float32)}
    runs = pd.DataFrame(
        [
            (f"{name}{seed}", name, "lstm", "native", seed, "ok")
            for name, values in sides.items()
            for seed in range(values.shape[1])
        ],
        columns=["run_id", "backend", "model", "division", "seed", "status"],
    ).set_index("run_id")
    return Predicted(test, runs, pd.DataFrame(np.hstack([*sides.values()]), index=test.index, columns=runs.index))


def first_pair(of: Predicted) -> pd.Series:
    return example_pairs(pairs(of)).iloc[0]


def chosen(of: Predicted, limits: Mapping[str, int] = ALL) -> dict[str, list[str]]:
    """Ids that are listed, by kind."""
    rows = listed(of, first_pair(of), dict(limits))
    return {str(kind): group["example_id"].tolist() for kind, group in rows.groupby("kind", sort=False)}


# --- kinds --------------------------------------------------------------------------------------------------


def test_every_kind_there_is() -> None:
    of = predicted(
        a=[(0.9, 0.8), (0.1, 0.2), (0.9, 0.4), (0.8, 0.7), (0.6, 0.9), (0.9, 0.9), (0.1, 0.3), (0.2, 0.2)],
        b=[(0.2, 0.1), (0.5, 0.7), (0.9, 0.9), (0.3, 0.6), (0.6, 0.9), (0.9, 0.6), (0.4, 0.4), (0.1, 0.49)],
        labels=[1, 1, 1, 0, 1, 0, 0, 1],
    )
    assert kinds(of, first_pair(of)).to_dict() == {
        "example-0": STABLE,  # all of A positive, all of B negative
        "example-1": STABLE,  # the other way; 0.5 is positive
        "example-2": FLIP,  # A's seeds differ
        "example-3": FLIP,  # B's do
        "example-4": "both right",
        "example-5": "both wrong",
        "example-6": "both right",
        "example-7": "both wrong",
    }


def test_with_a_single_seed_nobody_can_tell_whether_a_split_is_stable() -> None:
    of = predicted(a=[(0.9,), (0.9,), (0.9,)], b=[(0.1, 0.2), (0.1, 0.9), (0.8, 0.9)], labels=[1, 1, 1])
    assert kinds(of, first_pair(of)).tolist() == ["split", FLIP, "both right"]
    one = predicted(a=[(0.9,), (0.9,)], b=[(0.1,), (0.9,)], labels=[1, 0])
    assert kinds(one, first_pair(one)).tolist() == ["split", "both wrong"]
    assert chosen(one) == {"split": ["example-0"], WRONG: ["example-1"]}


def test_only_runs_of_the_pairs_own_division_and_models_count(comparison: Comparison) -> None:
    for _, pair in example_pairs(pairs(comparison)).iterrows():
        names = {
            side: [
                run_id
                for run_id in comparison.probabilities
                if run_id.startswith(f"{pair['division']}-{pair[f'backend_{side}']}-{pair[f'model_{side}']}-")
            ]
            for side in ("a", "b")
        }
        positive = {side: comparison.probabilities[runs] >= 0.5 for side, runs in names.items()}
        settled = {
            side: said.all(axis=1) | ~said.any(axis=1)  # a single seed is always of one mind
            for side, said in positive.items()
        }
        found = kinds(comparison, pair)
        assert ((found == FLIP) == ~(settled["a"] & settled["b"])).all()
        split = settled["a"] & settled["b"] & (positive["a"].iloc[:, 0] != positive["b"].iloc[:, 0])
        expected = "split" if min(map(len, names.values())) == 1 else STABLE
        assert (found[split] == expected).all()
        assert not found[~split].isin(["split", STABLE]).any()


# --- what is listed -----------------------------------------------------------------------------------------


def test_each_kind_has_an_order_of_its_own() -> None:
    of = predicted(
        a=[
            (0.9, 0.9),
            (0.6, 0.6),
            (0.9, 0.45),
            (0.1, 0.9),
            (0.1, 0.2),
            (0.4, 0.3),
            (0.99, 0.9),
            (0.5, 0.6),
            (0.9, 0.8),
        ],
        b=[(0.4, 0.4), (0.0, 0.0), (0.9, 0.9), (0.6, 0.7), (0.2, 0.3), (0.4, 0.1), (0.9, 0.8), (0.9, 1.0), (0.7, 0.6)],
        labels=[1, 1, 1, 1, 1, 1, 0, 1, 1],
    )
    assert chosen(of) == {
        STABLE: ["example-1", "example-0"],  # mean probabilities 0.6 and 0.5 apart
        GAP: ["example-7", "example-8"],  # 0.4 and 0.2 apart, and nothing else
        FLIP: ["example-3", "example-2"],  # the seeds of A are 0.8 and 0.45 apart
        WRONG: ["example-6", "example-4", "example-5"],  # the least sure run is wrong by 0.8, 0.7 and 0.6
    }


def test_kinds_come_in_one_order_and_limits_are_kept(comparison: Comparison) -> None:
    for pair, limits in to_list(pairs(comparison)):
        rows = listed(comparison, pair, limits)
        assert not rows["example_id"].duplicated().any()
        counted = rows["kind"].value_counts()
        assert all(counted[kind] <= limits[STABLE if kind == "split" else kind] for kind in counted.index)
        order = [KINDS.index(kind) for kind in rows["kind"]]
        assert order == sorted(order)


def test_an_example_is_listed_once_and_a_gap_is_none_of_what_is_listed_already() -> None:
    of = predicted(
        a=[(0.9, 0.9), (0.9, 0.9), (0.9, 0.1), (0.9, 0.2), (0.7, 0.9)],
        b=[(0.1, 0.1), (0.2, 0.2), (0.1, 0.1), (0.3, 0.4), (0.6, 0.6)],
        labels=[1, 1, 1, 1, 1],
    )
    limits = {STABLE: 1, GAP: 2, FLIP: 1, WRONG: 1}
    # A second stable split isn't listed as a gap: it would read as less than it is.
    assert chosen(of, limits) == {STABLE: ["example-0"], GAP: ["example-3", "example-4"], FLIP: ["example-2"]}
    assert chosen(of, {STABLE: 2, GAP: 0, FLIP: 0, WRONG: 0}) == {STABLE: ["example-0", "example-1"]}
    assert chosen(of, dict.fromkeys(KINDS, 0)) == {}


def test_a_listed_example_stands_with_its_own_facts(comparison: Comparison) -> None:
    pair = first_pair(comparison)
    rows = listed(comparison, pair, FIRST)
    for row in rows.itertuples():
        number = int(row.example_id.removeprefix("example-"))
        a, b = (
            comparison.probabilities.loc[row.example_id, [f"native-{backend}-rnn-seed{seed}" for seed in (0, 1)]]
            for backend in (KERAS, PYTORCH)
        )
        a, b = a.astype(float), b.astype(float)
        for side, values in (("a", a), ("b", b)):
            assert getattr(row, f"mean_{side}") == pytest.approx(values.mean())
            assert getattr(row, f"least_{side}") == pytest.approx(values.min())
            assert getattr(row, f"most_{side}") == pytest.approx(values.max())
            assert getattr(row, f"positive_{side}") == (values >= 0.5).sum()
            assert getattr(row, f"seeds_{side}") == 2
        assert row.gap == pytest.approx(abs(a.mean() - b.mean()))
        assert (row.label, row.length, row.truncated) == (number % 2, 11 + 3 * number, 11 + 3 * number > 80)
        assert row.oov == pytest.approx(0.01 * (number % 20))
        shown = row.snippet.strip("… ")
        assert shown in " ".join(text_of(number).split())


def test_what_both_get_wrong_is_listed_with_the_surest_first(comparison: Comparison) -> None:
    # The folder has two examples that every run is sure and wrong about.
    rows = listed(comparison, first_pair(comparison), FIRST)
    assert set(rows.loc[rows["kind"] == WRONG, "example_id"]) == {"example-020", "example-037"}


def test_the_first_pair_has_more_examples_than_the_others(comparison: Comparison) -> None:
    found = to_list(pairs(comparison))
    assert [limits for _, limits in found] == [FIRST] + [OTHERS] * (len(found) - 1)
    assert all(OTHERS[kind] <= FIRST[kind] for kind in FIRST)
    assert found[0][0]["kind"] == "backends"


# --- what is read -------------------------------------------------------------------------------------------


def test_both_runs_of_each_pair_are_read_on_what_is_listed_of_it(folder: Path, comparison: Comparison) -> None:
    wanted = to_read(folder)
    expected: dict[str, set[str]] = {}
    for pair, limits in to_list(pairs(comparison)):
        names = set(listed(comparison, pair, limits)["example_id"])
        for side in ("a", "b"):
            expected[pair[f"run_{side}"]] = expected.get(pair[f"run_{side}"], set()) | names
    assert {run_id: set(names) for run_id, names in wanted.items()} == expected
    assert all(len(set(names)) == len(names) for names in wanted.values())
    assert set(wanted) <= set(comparison.probabilities)
    # A run is in a pair of backends and in one of models: it is read on what is listed of both.
    assert len(wanted[f"native-{KERAS}-rnn-seed0"]) > sum(FIRST.values()) - FIRST[GAP]


def test_nothing_is_read_where_there_is_nothing_to_compare(tmp_path: Path) -> None:
    assert to_read(write_comparison(tmp_path, backends=(KERAS,), models=("lstm",), seeds={"native": (0, 1)})) == {}


def test_a_run_that_lacks_an_example_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, models=("lstm",), seeds={"native": (0,)}, timed=False)
    path = folder / "runs" / f"native-{PYTORCH}-lstm-seed0" / "predictions.parquet"
    retable(path, path.with_name("result.json"), lambda frame: frame.iloc[1:])
    with pytest.raises(ResultsError, match=r"such as 'example-000'; hash of the ids \w{16} against \w{16}\.") as caught:
        to_read(folder)
    assert len(set(re.findall(r"\b[0-9a-f]{16}\b", str(caught.value)))) == 2


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"There is no .*manifest\.json"):
        to_read(tmp_path)


# --- every example ------------------------------------------------------------------------------------------


def test_every_example_is_one_row_with_all_that_is_known_of_it(comparison: Comparison, tmp_path: Path) -> None:
    table = pairs(comparison)
    every_example(comparison, table).to_parquet(tmp_path / "examples.parquet", index=False)
    found = pd.read_parquet(tmp_path / "examples.parquet")
    assert found["example_id"].tolist() == comparison.test.index.tolist()
    assert len(found) == EXAMPLES
    splits = [f"{division}-{model}-{KERAS}-{PYTORCH}_split" for division in DIVISIONS for model in ("rnn", "lstm")]
    of_runs = [f"{run_id}_{what}" for run_id in comparison.probabilities for what in ("prob", "pred")]
    facts = ["example_id", "label", "text", "length", "oov", "truncated"]
    assert sorted(found.columns) == sorted([*facts, *splits, *of_runs])
    assert found.columns[: len(facts)].tolist() == facts
    for column in facts[1:]:
        assert found[column].tolist() == comparison.test[column].tolist()
    for run_id in comparison.probabilities:
        np.testing.assert_array_equal(found[f"{run_id}_prob"], comparison.probabilities[run_id])
        np.testing.assert_array_equal(found[f"{run_id}_pred"], found[f"{run_id}_prob"] >= 0.5)


def test_every_example_has_its_kind_for_each_pair_of_backends(comparison: Comparison) -> None:
    table = pairs(comparison)
    found = every_example(comparison, table).set_index("example_id")
    for _, pair in example_pairs(table).query("kind == 'backends'").iterrows():
        column = f"{pair['division']}-{pair['model_a']}-{pair['backend_a']}-{pair['backend_b']}_split"
        assert found[column].astype(str).to_dict() == kinds(comparison, pair).to_dict()


def test_runs_that_failed_have_no_columns(comparison: Comparison) -> None:
    names = every_example(comparison, pairs(comparison)).columns
    assert not [name for name in names if name.startswith(f"matched-{PYTORCH}-rnn-seed1")]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    # Of four backends two pairs spell the same: a with b-c, and a-b with c.
    comparison = load(
        write_comparison(
            tmp_path, backends=("a", "a-b", "b-c", "c"), models=("lstm",), seeds={"native": (0,)}, timed=False
        )
    )
    with pytest.raises(ResultsError, match="native-lstm-a-b-c_split"):
        every_example(comparison, pairs(comparison))
