from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnn_crosscheck.reports.analysis.findings import find
from rnn_crosscheck.reports.pages.figures import Drawing, draw
from rnn_crosscheck.reports.pages.figures.agreement import ladder
from rnn_crosscheck.reports.pages.figures.style import spread
from rnn_crosscheck.reports.read.comparison import load
from tests.reports.folders import source_protocol, timing_results, write_comparison


@pytest.mark.slow
def test_a_backend_has_one_colour_in_every_figure(tmp_path: Path) -> None:
    comparison = load(write_comparison(tmp_path))
    for svg in draw(comparison.manifest.backends, find(comparison)).values():
        assert "#d55e00" in svg  # the second backend's, here the one that isn't the baseline
        assert "fill: #ffffff" in svg  # an opaque ground, for dark pages


@pytest.mark.long
def test_one_run_and_many_backends_are_drawn(tmp_path: Path) -> None:
    one = load(write_comparison(tmp_path / "one", backends=("pytorch",), models=("rnn",), seeds={"native": (0,)}))
    # No pair of runs; the tuned setting is timed against the default one.
    assert sorted(draw(one.manifest.backends, find(one))) == [
        "accuracy",
        "drift",
        "learning",
        "lengths",
        "ratios",
        "reliability",
    ]
    names = tuple("abcdefgh")
    many = load(write_comparison(tmp_path / "many", backends=names, of=source_protocol()))
    assert sorted(draw(many.manifest.backends, find(many))) == [
        "accuracy",
        "drift",
        "ladder",
        "learning",
        "lengths",
        "ratios",
        "reliability",
    ]


def test_labels_move_apart_and_stay_in_order() -> None:
    places = spread({"a": 0.5, "b": 0.51, "c": 0.9}, 0.1, 0, 1)
    assert places["b"] - places["a"] > 0.099
    assert places["c"] == 0.9
    assert spread({}, 0.1, 0, 1) == {}
    crowded = spread({"a": 0.99, "b": 1.0}, 0.1, 0, 1)
    assert crowded["b"] <= 1.0001


@pytest.mark.slow
def test_a_sweep_is_drawn_over_both_axes(tmp_path: Path) -> None:
    comparison = load(write_comparison(tmp_path))
    of = comparison.manifest.protocol
    swept = replace(comparison, timings=timing_results(of, comparison.manifest.backends, sweep=True))
    findings = find(swept)
    assert set(findings.sweep["axis"]) == {"batch size", "length"}
    sizes = findings.sweep.groupby("axis")["size"].unique()
    assert sizes["batch size"].tolist() == [8, 32, 128]
    assert sizes["length"].tolist() == [80, 250]
    # The protocol's own size is on both axes, with the same figures.
    by_axis = {
        axis: group[group["size"].isin([32, 80])]["ms"].tolist() for axis, group in findings.sweep.groupby("axis")
    }
    assert by_axis["batch size"] == by_axis["length"]
    assert draw(swept.manifest.backends, findings)["sweep"].startswith("<?xml")
    # The main table is about the protocol's own sizes alone.
    assert len(findings.timings) == len(find(comparison).timings)


@pytest.mark.slow
def test_the_ladder_names_the_backends_that_have_dots_of_their_own(tmp_path: Path) -> None:
    comparison = load(write_comparison(tmp_path))
    found = find(comparison)
    names = list(comparison.manifest.backends)
    of_one = found.dots["backend_a"] == found.dots["backend_b"]
    some = found.dots[~of_one | (found.dots["backend_a"] == names[0])]
    assert {*some["backend_a"], *some["backend_b"]} == set(names)
    drawn = ladder(some, found.rungs, names)
    assert [name for name in names if f"<!-- {name} -->" in drawn] == names[:1]


@pytest.mark.slow
def test_of_many_pairs_the_ladder_draws_a_hundred_from_the_least_to_the_most(tmp_path: Path) -> None:
    comparison = load(write_comparison(tmp_path))
    found, names = find(comparison), list(comparison.manifest.backends)
    group = ["rung", "division", "model_a", "model_b", "backend_a", "backend_b"]
    one = found.dots[(found.dots[group] == found.dots[group].iloc[0]).all(axis=1)].iloc[:1]
    many = one.loc[one.index.repeat(1000)].assign(disagreement=np.linspace(0.2, 0.4, 1000)[::-1])
    drawn = [ladder(many[:dots], found.rungs, names) for dots in (100, 101, 1000)]
    assert len({each.count("<use ") for each in drawn}) == 1
    both = ladder(many.iloc[[0, -1]], found.rungs, names)
    assert set(re.findall(r'<use [^>]*style="[^"]*opacity[^>]*>', both)) <= set(re.findall("<use [^>]*>", drawn[2]))


@pytest.mark.long
def test_what_is_drawn_apart_is_what_is_drawn_here(tmp_path: Path) -> None:
    comparison = load(write_comparison(tmp_path, seeds={"native": (0,)}))
    findings = find(comparison)
    backends = comparison.manifest.backends
    here = draw(backends, findings)
    apart = Drawing()
    apart.begin(backends, findings)
    assert apart.end() == here
    lost = Drawing()
    assert lost._process is not None
    lost._process.kill()
    lost.begin(backends, findings)
    assert lost.end() == here
