from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rnn_crosscheck.harness.protocol import Architecture
from rnn_crosscheck.reports.analysis.findings import find
from rnn_crosscheck.reports.analysis.statistics import UNDECIDED
from rnn_crosscheck.reports.build import build, pages
from rnn_crosscheck.reports.pages.front import _seeds_in_all, in_short, terminal
from rnn_crosscheck.reports.pages.page import whole
from rnn_crosscheck.reports.pages.verdict import _growing, _speed, leads_that_grow
from rnn_crosscheck.reports.read.comparison import load
from tests.reports.folders import (
    protocol,
    write_comparison,
    write_effects,
    write_everything,
    write_occlusions,
    write_stages,
    write_traces,
    write_transplants,
)
from tests.reports.rendering import tables_of, tokens_of

SIX = ("a", "b", "c|d", "e", "f", "a-backend-with-a-long-name")
THREE = tuple(Architecture(name=cell, cell=cell, units=16) for cell in ("rnn", "lstm", "gru"))  # type: ignore[arg-type]
NAMES = [f"native-{backend}-{model}-seed0" for model in ("rnn", "lstm") for backend in ("keras-tensorflow", "pytorch")]
NOTHING: dict[str, Any] = {"native": (), "matched": ()}


def quick(folder: Path) -> None:
    write_comparison(folder, failed=["matched-pytorch-rnn-seed1"])
    write_traces(folder)
    write_stages(folder)
    write_effects(folder)
    write_transplants(folder)
    write_occlusions(folder, {f"native-{name}-rnn-seed0": ["example-013"] for name in ("keras-tensorflow", "pytorch")})


def six(folder: Path) -> None:
    seeds: dict[Any, Any] = {"native": range(10), "matched": range(10)}
    names = [model.name for model in THREE]
    write_comparison(folder, backends=SIX, models=names, seeds=seeds, of=protocol(models=THREE))


def stages_alone(folder: Path) -> None:
    write_comparison(folder, seeds=NOTHING, timed=False)
    write_stages(folder, wrong={("keras-tensorflow", "lstm"): {("update", "embedding"): 1.3e-2}})


CASES: dict[str, Callable[[Path], object]] = {
    "quick": quick,
    "six": six,
    "one-backend": lambda folder: write_comparison(folder, backends=("pytorch",)),
    "one-seed": lambda folder: write_comparison(folder, seeds={"native": (0,), "matched": (0,)}),
    "all-failed": lambda folder: write_comparison(folder, seeds={"native": (0,)}, failed=NAMES, timed=False),
    "times-alone": lambda folder: write_comparison(folder, seeds=NOTHING),
    "stages-alone": stages_alone,
    "everything": write_everything,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder of a case, its report built; each is made once."""

    @cache
    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        CASES[name](folder)
        build(folder)
        return folder

    return make


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.long) if name == "six" else name for name in CASES],
)
def built(request: pytest.FixtureRequest, made: Callable[[str], Path]) -> tuple[str, Path]:
    return request.param, made(request.param)


@pytest.mark.slow
def test_the_front_page_is_as_kept(built: tuple[str, Path], golden: Callable[[str, str], None]) -> None:
    name, folder = built
    golden(f"front/{name}.md", (folder / "report.md").read_text())


@pytest.mark.slow
def test_the_front_page_is_one_screen_and_no_table_is_wide(built: tuple[str, Path]) -> None:
    source = (built[1] / "report.md").read_text()
    assert len(source.splitlines()) <= 130
    assert len(source.encode()) <= 16_000
    for page in pages_of(built[1]):
        for found in tables_of(page.read_text()):
            assert len(found.rows[0]) <= 9, (page.name, found.rows[0])


@pytest.mark.slow
def test_every_link_leads_somewhere(built: tuple[str, Path]) -> None:
    parts = {page.resolve(): anchors(page.read_text()) for page in pages_of(built[1])}
    for page in pages_of(built[1]):
        for target in links(page.read_text()):
            path, _, part = target.partition("#")
            place = (page.parent / path).resolve() if path else page.resolve()
            assert place.is_file(), f"{page.name}: {target}"
            assert not part or part in parts[place], f"{page.name}: {target}"


def pages_of(folder: Path) -> list[Path]:
    return [folder / "report.md", *(folder / "details").iterdir()]


def links(source: str) -> Iterator[str]:
    for token in tokens_of(source):
        for child in token.children or []:
            if child.type in ("link_open", "image"):
                yield str(child.attrs.get("href") or child.attrs.get("src"))


def anchors(source: str) -> set[str]:
    """Give the anchors that a page's headings have, as GitHub makes them."""
    tokens = tokens_of(source)
    heads = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_times_alone_and_stages_alone_say_their_news_first(tmp_path: Path) -> None:
    times = in_short(find(load(write_comparison(tmp_path / "times", seeds=NOTHING))))
    assert times[0].startswith("**pytorch is faster**: a training step takes 0.71 (rnn) and 0.71 (lstm)")
    stages_alone(tmp_path / "stages")
    stages = in_short(find(load(tmp_path / "stages")))
    assert stages[0] == "**keras-tensorflow computes something else**: lstm (first update)."
    for said in (times, stages):
        assert said[-1] == "No run was trained, so nothing can be concluded about accuracy and predictions."


def test_one_seed_decides_nothing_and_more_seeds_are_named_with_their_command(tmp_path: Path) -> None:
    one = load(write_comparison(tmp_path / "one", seeds={"native": (0,)}))
    assert in_short(find(one))[0] == "With their own defaults (*native*) one seed can't decide (rnn and lstm)."
    two = load(write_comparison(tmp_path / "two", seeds={"native": (0, 1)}))
    source, _ = pages(two, find(two))
    said = re.search(r"- (\d+) native seeds would probably decide lstm, about (\S+ min) here: `(.*)`", source)
    assert said
    assert said[3] == f"pytest --benchmark --crosscheck-protocol quick --crosscheck-set seeds.native={said[1]}"


@pytest.mark.parametrize(
    ("low", "p", "said"),
    [
        (0.99, 0.2, "undecided: b against a 1.04"),
        (1.01, 0.2, "undecided (chosen of 3 pairs): b against a 1.04"),
        (1.01, 0.01, "undecided (inside A/A): b against a 1.04"),
    ],
)
def test_an_interval_that_looks_decided_says_why_it_isn_t(low: float, p: float, said: str) -> None:
    row = {"question": "speed", "model": "rnn", "verdict": UNDECIDED, "best": "b", "second": "a", "value": 1.04,
           "low": low, "high": 1.07, "p": p, "pairs": 3}  # fmt: skip
    assert _speed(pd.DataFrame([row]))["rnn"].plain().strip().startswith(said)


def test_leads_that_grow_with_the_length_are_counted() -> None:
    rows = [("fifths", 0.01), ("fifths", -0.01), ("fifths", float("nan")), ("whole", 0.02)]
    growth = pd.DataFrame(rows, columns=["scheme", "low"])
    assert leads_that_grow(growth) == (1, 2)
    assert "grows with the length of the examples in 1 of 2 comparisons" in _growing(growth)
    assert _growing(growth[1:2]).strip().startswith("No lead")
    assert _growing(growth[2:]) == ""


@pytest.mark.slow
def test_lost_runs_stand_above_the_verdict(made: Callable[[str], Path]) -> None:
    above, _, _ = (made("quick") / "report.md").read_text().partition("- With their own defaults")
    assert "**1 of 16 runs has no result** (1 failed): matched-pytorch-rnn-seed1. See [runs](details/runs.md)." in above


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quick", pytest.param("six", marks=pytest.mark.long)])
def test_the_terminal_shows_the_verdict_in_a_hundred_columns(
    name: str, made: Callable[[str], Path], golden: Callable[[str, str], None]
) -> None:
    ((title, shown),) = terminal(find(load(made(name))))
    assert title == "verdict"
    assert max(map(len, shown.splitlines())) <= 100
    golden(f"terminal-{name}.txt", f"{shown}\n")


@pytest.mark.parametrize(
    ("there", "wanted", "written"), [([0, 1], 5, "5"), ([10, 11], 4, "[10,11,0,1]"), ([0, 2], 3, "[0,2,1]")]
)
def test_seeds_that_are_there_stay_among_those_that_are_advised(there: list[int], wanted: int, written: str) -> None:
    assert _seeds_in_all(there, wanted) == written


def test_a_command_that_adds_something_selects_no_tests() -> None:
    command = "pytest --benchmark -k 'not timing' --crosscheck-data='my reviews.csv' --lf"
    assert whole(command, "--crosscheck-set", "seeds.native=5") == (
        "pytest --benchmark '--crosscheck-data=my reviews.csv' --crosscheck-set seeds.native=5"
    )


def test_hostile_names_reach_no_terminal(tmp_path: Path) -> None:
    names = ("ev\x1b]0;owned\x07il", "my_backend")
    for shown in (("my_backend",), names):
        folder = write_comparison(tmp_path / str(len(shown)), backends=shown, seeds={"native": (0, 1)}, timed=False)
        text = "".join(table for _, table in terminal(find(load(folder))))
        assert "my_backend" in text or "evil" in text
        assert "\x1b" not in text
        assert "\\" not in text
