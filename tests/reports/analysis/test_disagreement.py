from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnn_crosscheck.reports.analysis.disagreement import (
    FULL_TEXT,
    OUTCOMES,
    example_pairs,
    groups,
    pairs,
    pairs_to_read,
    read_in_full,
    snippet,
    split_examples,
    sure_mistakes,
)
from rnn_crosscheck.reports.read.comparison import Comparison, load
from tests.reports.folders import HOSTILE, labels, probabilities, text_of, write_comparison


def test_pairs_differ_in_one_thing_and_none_is_left_out(comparison: Comparison) -> None:
    table = pairs(comparison)
    # 4 model x division groups: 2 seeds each across backends, less the killed run; likewise across models; seeds.
    assert table["kind"].value_counts().to_dict() == {"backends": 7, "models": 7, "seeds": 7}
    for row in table.itertuples():
        differ = [
            name for name in ("model", "backend", "seed") if getattr(row, f"{name}_a") != getattr(row, f"{name}_b")
        ]
        assert differ == [row.kind.removesuffix("s")]
        assert row.run_a != row.run_b
    assert not table.duplicated(["run_a", "run_b"]).any()


def test_figures_of_a_pair_are_those_of_its_runs(comparison: Comparison) -> None:
    table = pairs(comparison).set_index(["run_a", "run_b"])
    row = table.loc[("native-keras-tensorflow-lstm-seed0", "native-pytorch-lstm-seed0")]
    a, b = (probabilities("native", name, "lstm", 0) >= 0.5 for name in ("keras-tensorflow", "pytorch"))
    truth = labels() == 1
    assert row["both_right"] == ((a == truth) & (b == truth)).sum()
    assert row["only_a"] == ((a == truth) & (b != truth)).sum()
    assert row["only_b"] == ((a != truth) & (b == truth)).sum()
    assert row["both_wrong"] == ((a != truth) & (b != truth)).sum()
    assert row["disagreement"] == pytest.approx(np.mean(a != b))
    assert row["difference"] == pytest.approx(np.mean(a == truth) - np.mean(b == truth))
    assert (table["p_holm"] >= table["p"]).all()


def test_the_floor_is_the_mean_of_both_sides_own_disagreement(comparison: Comparison) -> None:
    table = groups(pairs(comparison))
    own = table[table["kind"] == "seeds"].set_index(["division", "model_a", "backend_a"])["disagreement"]
    row = table[(table["kind"] == "backends") & (table["division"] == "native") & (table["model_a"] == "rnn")].iloc[0]
    expected = (own[("native", "rnn", "keras-tensorflow")] + own[("native", "rnn", "pytorch")]) / 2
    assert row["floor"] == pytest.approx(expected)
    assert row["pairs"] == 2
    assert row[["both_right", "only_a", "only_b", "both_wrong"]].sum() == pytest.approx(1)
    alone = table[(table["kind"] == "backends") & (table["division"] == "matched") & (table["model_a"] == "rnn")]
    assert np.isnan(alone["floor"].iloc[0])  # one side has a single seed


def test_every_example_stands_beside_its_own_text(comparison: Comparison) -> None:
    # The source experiment joined texts of the training split to predictions on the test split.
    for _, pair in example_pairs(pairs(comparison)).iterrows():
        for row in split_examples(comparison, pair, limit=60).itertuples():
            number = int(row.example_id.removeprefix("example-"))
            assert row.label == labels()[number]
            assert row.probability_a == comparison.probabilities.loc[row.example_id, pair["run_a"]]
            assert row.snippet == snippet(text_of(number), 11 + 3 * number > 80)
            if number >= len(HOSTILE):
                assert f"word{number}x" in row.snippet


def test_examples_follow_their_ids_whatever_the_order_of_the_test_table(comparison: Comparison) -> None:
    pair = example_pairs(pairs(comparison)).iloc[0]
    turned = replace(comparison, test=comparison.test.iloc[::-1])
    expected = split_examples(comparison, pair).set_index("example_id")[["label", "snippet"]]
    found = split_examples(turned, pair).set_index("example_id")[["label", "snippet"]]
    assert found.equals(expected)


def test_listed_examples_are_those_that_the_pair_disagrees_on(comparison: Comparison) -> None:
    pair = example_pairs(pairs(comparison)).iloc[0]
    listed = split_examples(comparison, pair, limit=60)
    a, b = (comparison.probabilities[pair[f"run_{side}"]] for side in ("a", "b"))
    assert set(listed["example_id"]) == set(comparison.test.index[(a >= 0.5) != (b >= 0.5)])
    assert len(listed) == pair["only_a"] + pair["only_b"]
    assert len(split_examples(comparison, pair, limit=3)) == 3


def test_the_largest_gap_comes_first(comparison: Comparison) -> None:
    pair = pairs(comparison).iloc[0]
    listed = split_examples(comparison, pair, limit=50)
    assert len(listed)
    assert listed["gap"].tolist() == sorted(listed["gap"], reverse=True)
    assert ((listed["probability_a"] >= 0.5) != (listed["probability_b"] >= 0.5)).all()


def test_mistakes_are_wrong_in_every_run_and_the_surest_lead(comparison: Comparison) -> None:
    listed = sure_mistakes(comparison, limit=60)
    wrong = ~comparison.right().any(axis=1)
    assert set(listed["example_id"]) == set(comparison.test.index[wrong])
    sureness = np.where(listed["label"] == 0, listed["least"], 1 - listed["most"])
    assert (np.diff(sureness) <= 0).all()
    assert (sureness > 0.5).all()


def test_each_outcome_is_drawn_by_the_hash_of_the_ids(comparison: Comparison) -> None:
    pair = pairs_to_read(pairs(comparison)).iloc[0]
    assert (pair["kind"], pair["division"], pair["model_a"], pair["model_b"]) == ("models", "native", "rnn", "lstm")
    table = read_in_full(comparison, pair)
    assert table["outcome"].unique().tolist() == list(OUTCOMES)
    right = pd.DataFrame(comparison.right(), index=comparison.test.index, columns=comparison.probabilities.columns)
    a, b = right[pair["run_a"]], right[pair["run_b"]]
    counts = [pair["both_right"], pair["only_a"], pair["only_b"], pair["both_wrong"]]
    for outcome, mine, size in zip(OUTCOMES, (a & b, a & ~b, ~a & b, ~a & ~b), counts, strict=True):
        drawn = table[table["outcome"] == outcome]
        ids = sorted(right.index[mine], key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        assert drawn["example_id"].tolist() == ids[:2]
        assert set(drawn["of"]) == {size}
    for row in table.itertuples():
        number = int(row.example_id.removeprefix("example-"))
        assert row.text == " ".join(text_of(number).split())
        assert row.label == labels()[number]
        assert row.probability_a == comparison.probabilities.loc[row.example_id, pair["run_a"]]
        seeds = [name.replace("seed0", f"seed{seed}") for name in (pair["run_a"],) for seed in (0, 1)]
        assert (row.right_a, row.seeds_a) == (right.loc[row.example_id, seeds].sum(), 2)


def test_very_long_texts_keep_the_end_that_the_models_saw(comparison: Comparison) -> None:
    pair = pairs_to_read(pairs(comparison)).iloc[0]
    long = comparison.test.assign(text=["start " + "x" * 4000 + " end"] * 60)
    whole = read_in_full(replace(comparison, test=long.assign(truncated=False)), pair)
    assert all(text.startswith("start ") and text.endswith("x …") for text in whole["text"])
    cut = read_in_full(replace(comparison, test=long.assign(truncated=True)), pair)
    assert all(text.startswith("… x") and text.endswith(" end") for text in cut["text"])
    assert set(cut["left_out"]) == {4010 - FULL_TEXT}


def test_without_runs_there_are_no_pairs_and_no_examples(tmp_path: Path) -> None:
    seeds = {"native": (0,)}
    names = [
        f"native-{backend}-{model}-seed0" for backend in ("keras-tensorflow", "pytorch") for model in ("rnn", "lstm")
    ]
    comparison = load(write_comparison(tmp_path, seeds=seeds, missing=names))
    assert pairs(comparison).empty
    assert groups(pairs(comparison)).empty
    assert example_pairs(pairs(comparison)).empty
    assert pairs_to_read(pairs(comparison)).empty
    assert sure_mistakes(comparison).empty


@pytest.mark.parametrize(
    ("text", "truncated", "expected"),
    [
        ("short\n text ", True, "short text"),
        ("a" + " word" * 100, False, "a" + " word" * 31 + " …"),
        ("word " * 100 + "end", True, "… " + "word " * 31 + "end"),
        ("x" * 500, False, "x" * 160 + " …"),
        ("x" * 500, True, "… " + "x" * 160),
        ("", False, ""),
    ],
)
def test_a_snippet_is_the_part_that_the_models_saw(text: str, truncated: bool, expected: str) -> None:
    assert snippet(text, truncated) == expected
