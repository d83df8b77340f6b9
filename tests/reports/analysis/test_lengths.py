from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rnn_crosscheck.reports.analysis.findings import Findings, find
from rnn_crosscheck.reports.analysis.lengths import accuracy_by_length, buckets, growth, lead_by_length
from rnn_crosscheck.reports.pages.accuracy import remembering
from rnn_crosscheck.reports.read.comparison import Comparison, load
from tests.reports.folders import write_comparison


def with_lengths(comparison: Comparison, lengths: object) -> Comparison:
    return replace(comparison, test=comparison.test.assign(length=lengths))


def test_buckets_are_fifths_of_the_examples_and_the_cut(comparison: Comparison) -> None:
    table = buckets(comparison)
    fifths, cut = (table[table["scheme"] == scheme] for scheme in ("fifths", "cut"))
    assert fifths["examples"].tolist() == [12] * 5
    assert cut["examples"].tolist() == [24, 36]  # 11 + 3 i is more than 80 tokens from i = 24 on
    assert cut.iloc[1]["examples"] == comparison.test["truncated"].sum()
    for part in (fifths, cut):
        assert part["examples"].sum() == 60
        assert (part["low"].to_numpy()[1:] > part["high"].to_numpy()[:-1]).all()


def test_equal_lengths_stay_together(comparison: Comparison) -> None:
    table = buckets(with_lengths(comparison, [5] * 50 + list(range(6, 16))))
    assert table["scheme"].unique().tolist() == ["fifths"]  # nothing is cut at 80 tokens
    assert table["examples"].tolist() == [50, 10]
    assert buckets(with_lengths(comparison, 7)).empty


def test_results_have_no_say_in_the_buckets(comparison: Comparison) -> None:
    turned = replace(comparison, probabilities=1 - comparison.probabilities)
    assert buckets(turned).equals(buckets(comparison))


def test_accuracies_by_length_add_up_to_the_accuracy(comparison: Comparison) -> None:
    table = accuracy_by_length(comparison)
    right = pd.DataFrame(comparison.right(), columns=comparison.probabilities.columns)
    for keys, group in table.groupby(["scheme", "division", "model", "backend"]):
        _, division, model, backend = keys
        names = [name for name in right.columns if name.startswith(f"{division}-{backend}-{model}-")]
        assert (group["mean"] * group["examples"]).sum() / 60 == pytest.approx(right[names].to_numpy().mean())
        assert set(group["seeds"]) == {len(names)}


def shares(comparison: Comparison, model: str, low: int, high: int) -> np.ndarray:
    inside = comparison.test["length"].between(low, high).to_numpy()
    names = [f"native-pytorch-{model}-seed{seed}" for seed in (0, 1)]
    place = comparison.probabilities.columns.get_indexer(names)
    return np.asarray(comparison.right()[inside][:, place].mean(axis=0))


def test_the_lead_and_its_growth_have_welch_s_interval(comparison: Comparison) -> None:
    known = buckets(comparison)
    known = known[known["scheme"] == "fifths"]
    ends = [(row.low, row.high) for row in known.iloc[[0, -1]].itertuples()]
    lstm, rnn = ([shares(comparison, model, *end) for end in ends] for model in ("lstm", "rnn"))
    leads = lead_by_length(comparison)
    mine = leads[(leads["division"] == "native") & (leads["backend"] == "pytorch") & (leads["scheme"] == "fifths")]
    row = mine.iloc[-1]
    assert (row["a"], row["b"], row["over"]) == ("lstm", "rnn", "seeds")
    assert row["difference"] == pytest.approx(lstm[1].mean() - rnn[1].mean())
    expected = stats.ttest_ind(lstm[1], rnn[1], equal_var=False).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((max(expected.low, -1), min(expected.high, 1)))
    grown = growth(comparison).set_index(["division", "backend", "scheme"]).loc[("native", "pytorch", "fifths")]
    rise = [side[1] - side[0] for side in (lstm, rnn)]
    assert grown["difference"] == pytest.approx(rise[0].mean() - rise[1].mean())
    assert grown["difference"] == pytest.approx(mine.iloc[-1]["difference"] - mine.iloc[0]["difference"])
    expected = stats.ttest_ind(*rise, equal_var=False).confidence_interval(0.95)
    assert (grown["low"], grown["high"]) == pytest.approx((max(expected.low, -1), min(expected.high, 1)))


def test_one_seed_has_an_interval_over_examples_and_no_growth(tmp_path: Path) -> None:
    comparison = load(write_comparison(tmp_path, seeds={"native": (0,)}))
    assert set(lead_by_length(comparison)["over"]) == {"examples"}
    assert growth(comparison)["low"].isna().all()
    said = remembering(growth(comparison))
    assert len(said) == 2
    assert all("with one seed, nothing can be said about whether it grows" in sentence for sentence in said)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.05, "it grows with the length, as the claim would have it"),
        (-0.05, -0.01, "it shrinks with the length, against the claim"),
        (-0.01, 0.05, "neither show that it grows nor that it doesn't"),
        (np.nan, np.nan, "there is no interval"),
    ],
)
def test_the_sentence_says_no_more_than_the_interval(
    comparison: Comparison, low: float, high: float, verdict: str
) -> None:
    findings: Findings = find(comparison)
    known = findings.growth[findings.growth["division"] == "native"]
    said = remembering(known.assign(low=low, high=high))
    assert len(said) == 2
    assert all(sentence.endswith(f"{verdict}.") for sentence in said)


def test_without_two_cells_nothing_is_claimed(tmp_path: Path) -> None:
    comparison = load(write_comparison(tmp_path, models=("lstm",)))
    assert lead_by_length(comparison).empty
    assert growth(comparison).empty
    assert len(accuracy_by_length(comparison)) == 4 * 7
