"""What a person sees of the page, and does with it, in a real browser: from the disk, without a network."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnn_crosscheck.reports import from_predictions
from rnn_crosscheck.reports.analysis.disagreement import groups, pairs
from rnn_crosscheck.reports.analysis.examples import kinds, to_read
from rnn_crosscheck.reports.build import build
from rnn_crosscheck.reports.pages import browse
from rnn_crosscheck.reports.pages.browse import data
from rnn_crosscheck.reports.read.comparison import Predicted, load
from tests.browser import Browser
from tests.reports.folders import write_comparison, write_occlusions
from tests.reports.pages.browse.conftest import predicted

pytestmark = pytest.mark.slow

LSTM = "keras-tensorflow, pytorch: lstm"
EVIL = '</script><img src=x onerror="window.planted=1"><b>&lt;'
SIDES = {f"native-{backend}-lstm-seed0" for backend in ("keras-tensorflow", "pytorch")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a comparison with its report; read only."""
    folder = write_comparison(tmp_path_factory.mktemp("built"), timed=False)
    write_occlusions(folder, {run: names for run, names in to_read(folder).items() if run in SIDES})
    build(folder)
    return folder


@pytest.fixture(scope="module")
def page(built: Path) -> Path:
    return built / browse.PAGE


@pytest.fixture(scope="module")
def comparison(built: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((built / "comparison.json").read_text())
    return found


def write(folder: Path, of: Predicted, title: str = "made up") -> Path:
    browse.write(folder, title, of, groups(pairs(of)), [])
    return folder / browse.PAGE


def two_by_two(n: int = 8, **more: Any) -> Predicted:
    """Two backends, two seeds each: half of the examples are split."""
    generator = np.random.default_rng(5)
    values = {
        ("native", backend, "rnn", seed): np.where(np.arange(n) % 2, low, 1 - low) + generator.uniform(-0.05, 0.05, n)
        for backend, low in (("here", 0.2), ("there", 0.7))
        for seed in (0, 1)
    }
    return predicted(values, [number % 2 for number in range(n)], **more)


def shown(browser: Browser) -> list[str]:
    return browser.texts("#list .id")


def test_it_opens_with_the_figures_of_the_report(browser: Browser, page: Path, comparison: dict[str, Any]) -> None:
    browser.open(page)
    assert browser.text("#title") == "keras-tensorflow against pytorch: rnn and lstm on reviews · 60 test examples"
    for division in ("native", "matched"):
        for row in comparison["agreement"]:
            if row["kind"] == "seeds" or row["division"] != division:
                continue
            across = "backend" if row["kind"] == "backends" else "model"
            shared = row["model_a"] if row["kind"] == "backends" else row["backend_a"]
            browser.choose("division", division)
            browser.choose("compare", f"{row[f'{across}_a']}, {row[f'{across}_b']}: {shared}")
            assert browser.text("#said") == (
                f"They disagree on {100 * row['disagreement']:.1f} % of the examples; two seeds of one {across} on "
                f"{100 * row['floor']:.1f} %."
            )
    assert len(shown(browser)) == 30
    assert browser.text("#more") == "Show 30 more of 30"
    browser.click("#more")
    assert len(shown(browser)) == 60
    assert not browser.find("#more").is_displayed()


def test_counts_of_every_pair_of_runs_are_those_of_the_comparison(
    browser: Browser, page: Path, comparison: dict[str, Any]
) -> None:
    browser.open(page)
    for row in comparison["pairs"]:
        assert counts(browser, row) == [row[name] for name in ("both_right", "only_a", "only_b", "both_wrong")]


def counts(browser: Browser, pair: dict[str, Any]) -> list[int]:
    """Show two runs, and read who is right."""
    view = {"division": pair["division"], "compare": "two single runs", "a": pair["run_a"], "b": pair["run_b"]}
    cells = table(browser, view)
    return [cells[place] for place in (0, 2, 6, 8)]


def table(browser: Browser, view: dict[str, str]) -> list[int]:
    """Change the address, and read the nine counts of who is right, those that aren't shown as well."""
    said = browser.driver.execute_async_script(
        """
        const [view, done] = arguments;
        const before = location.hash;
        location.hash = new URLSearchParams(view);
        const read = () => done([...document.querySelectorAll("#outcomes button b")].map((b) => b.textContent));
        before === location.hash ? read() : addEventListener("hashchange", () => setTimeout(read), { once: true });
        """,
        view,
    )
    return [int(text.replace(",", "")) for text in said]


PROBABILITY = st.sampled_from([0.0, float(np.nextafter(np.float32(0.5), np.float32(0))), 0.5, 0.51, 1.0]) | st.floats(
    0, 1, width=32
)


@st.composite
def made_up(draw: st.DrawFn) -> Predicted:
    n = draw(st.integers(1, 12))
    some = st.lists(PROBABILITY, min_size=n, max_size=n)
    runs = {
        (division, backend, model, seed): draw(some)
        for division in ("native", "matched")[: draw(st.integers(1, 2))]
        for backend in ("one", "two", "three")[: draw(st.integers(1, 3))]
        for model in ("rnn", "lstm")[: draw(st.integers(1, 2))]
        for seed in range(draw(st.integers(1, 3)))
    }
    return predicted(runs, draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))


@given(of=made_up())
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_and_kinds_are_those_of_the_tables_whatever_was_predicted(
    browser: Browser, tmp_path: Path, of: Predicted
) -> None:
    found = pairs(of)
    browser.open(write(tmp_path, of))
    for row in found.to_dict("records"):
        expected = [row[name] for name in ("both_right", "only_a", "only_b", "both_wrong")]
        assert counts(browser, {str(key): value for key, value in row.items()}) == expected
    for _, pair in groups(found).query("kind != 'seeds'").iterrows():
        across, shared = ("backend", "model") if pair["kind"] == "backends" else ("model", "backend")
        title = f"{pair[f'{across}_a']}, {pair[f'{across}_b']}: {pair[f'{shared}_a']}"
        cells = table(browser, {"division": pair["division"], "compare": title})
        named = kinds(of, pair).value_counts().to_dict()
        split = named.get("stable split", 0) + named.get("split", 0)
        assert (cells[0], cells[8], cells[2] + cells[6]) == (
            named.get("both right", 0), named.get("both wrong", 0), split)  # fmt: skip
        assert sum(cells) - cells[0] - cells[8] - split == named.get("coin flip", 0)


def test_kinds_and_outcomes_filter_the_list(browser: Browser, page: Path, built: Path) -> None:
    comparison = load(built)
    table = pairs(comparison)
    pair = table[(table["kind"] == "backends") & (table["model_a"] == "lstm") & (table["division"] == "native")].iloc[0]
    expected = kinds(comparison, pair)
    browser.open(page, {"compare": LSTM})
    for kind in ("stable split", "coin flip", "both wrong"):
        browser.click(f"[value='{kind}']")
        assert set(shown(browser)) <= set(expected.index[expected == kind])
        assert browser.text("#count") == f"{(expected == kind).sum()} of 60 examples"
        assert set(browser.texts("#list h2 > [class^=kind]")) <= {kind}
        browser.click(f"[value='{kind}']")
    browser.click("#outcomes button[value='2']")
    only_a = browser.text("#outcomes button[value='2'] b")
    assert browser.text("#count") == f"{only_a} of 60 examples"
    assert browser.find("#outcomes button[value='2']").get_attribute("aria-pressed") == "true"
    browser.click("#clear")
    assert browser.text("#count") == "60 of 60 examples"
    assert not browser.find("#clear").is_displayed()


def test_facts_filter_the_list(browser: Browser, tmp_path: Path) -> None:
    of = two_by_two(9)
    browser.open(write(tmp_path, of))
    for name, title, wanted in (
        ("label", "positive", of.test["label"] == 1),
        ("cut", "its end only", of.test["truncated"]),
        ("cut", "all of it", ~of.test["truncated"]),
    ):
        browser.choose(name, title)
        assert sorted(shown(browser)) == sorted(of.test.index[wanted]), title
        browser.click("#clear")
    for name, value, wanted in (
        ("from", "6", of.test["length"] >= 6),
        ("to", "6", of.test["length"] <= 6),
        ("least", "20", 100 * of.test["oov"] >= 20),
        ("most", "20", 100 * of.test["oov"] <= 20),
    ):
        browser.type(name, value)
        assert sorted(shown(browser)) == sorted(of.test.index[wanted]), name
        browser.click("#clear")


def test_search_order_and_nothing_found(browser: Browser, page: Path, built: Path) -> None:
    test = load(built).test
    browser.open(page, {"compare": LSTM})
    browser.type("text", "REVIEW NUMBER 4")
    assert sorted(shown(browser)) == sorted(test.index[test["text"].str.contains("Review number 4")])
    browser.type("text", "example-007")
    assert shown(browser) == ["example-007"]
    browser.type("text", "no such words")
    assert browser.text("#count") == "0 of 60 examples"
    browser.click("#clear")
    browser.choose("order", "id")
    assert shown(browser) == sorted(test.index)[:30]
    browser.choose("order", "largest gap of A and B")
    means = [float(text) for text in browser.texts("#list .number b")]
    gaps = np.abs(np.array(means[::2]) - np.array(means[1::2]))
    assert (np.diff(gaps) < 0.011).all()
    browser.choose("order", "surest first")
    assert min(abs(float(text) - 0.5) for text in browser.texts("#list li:first-child .number b")) > 0.3


def test_an_example_shows_its_seeds_its_words_and_its_whole_text(browser: Browser, page: Path, built: Path) -> None:
    comparison = load(built)
    browser.open(page, {"compare": LSTM, "marked": "yes"})
    name = shown(browser)[0]
    runs = [run for run in comparison.probabilities if run.startswith("native-pytorch-lstm")]
    values = comparison.probabilities.loc[name, runs]
    said = browser.text("#list li:first-child .seeds.b .number")
    assert said == f"{values.mean():.2f} ({values.min():.2f} to {values.max():.2f})"
    dots = browser.find("#list li:first-child .seeds.b .line")
    assert dots.get_attribute("aria-label") == f"each seed: {', '.join(f'{value:.2f}' for value in values)}"
    marks = browser.texts("#list li:first-child mark")
    assert marks
    assert len(browser.text("#list li:first-child .text")) < len(comparison.test["text"][name])
    browser.click("#list li:first-child .id")
    assert browser.run("return document.querySelector('#list .text').textContent").startswith(
        comparison.test["text"][name]
    )
    words = browser.texts("#list li:first-child .words p")
    assert len(words) == 2
    assert words[0].startswith("A words of native-keras-tensorflow-lstm-seed0: ")
    for mark in marks:
        assert any(f"{mark.lower()} +" in line or f"{mark.lower()} -" in line for line in words), mark
    browser.click("#list li:first-child .id")
    assert browser.texts("#list li:first-child .words p") == []


def test_keys_lead_through_the_list(browser: Browser, page: Path) -> None:
    browser.open(page)
    focused = "return document.activeElement.textContent"
    names = shown(browser)
    browser.press("\ue015", "\ue015", "\ue015", "\ue013")  # down, down, down, up
    assert browser.run(focused) == names[1]
    browser.press("\ue007")  # Enter
    assert browser.run("return document.activeElement.ariaExpanded") == "true"
    browser.press("/")
    browser.press("number 33")
    assert shown(browser) == ["example-033"]


def test_the_address_holds_the_view(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.choose("division", "matched")
    browser.choose("compare", "two single runs")
    browser.choose("b", "matched-pytorch-lstm-seed1")
    browser.choose("order", "id")
    browser.click("[value='both right']")
    browser.type("text", "says")
    browser.click("#list li:nth-child(2) .id")
    seen = browser.text("body"), browser.text("#list .text")
    address = browser.driver.current_url
    browser.driver.get("about:blank")
    browser.driver.get(address)
    browser.wait(lambda: "Reading" not in browser.text("#said"))
    assert (browser.text("body"), browser.text("#list .text")) == seen
    browser.open(page, {"division": "none", "compare": "nobody", "order": "luck", "open": "nothing"})
    assert browser.text("#count") == "60 of 60 examples"


def test_what_is_seen_can_be_saved(browser: Browser, page: Path, downloads: Path, built: Path) -> None:
    browser.open(page, {"compare": LSTM, "kind": "stable split"})
    names = shown(browser)
    browser.click("#save")
    path = downloads / "examples.csv"
    browser.wait(path.exists)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    path.unlink()
    comparison = load(built)
    assert [row["example_id"] for row in rows] == names
    for row in rows:
        assert row["kind"] == "stable split"
        known = comparison.test["text"][row["example_id"]]
        assert row["text"].replace("\r\n", "\n").removeprefix("'") == known.replace("\r\n", "\n")
        run = "native-pytorch-lstm-seed1"
        assert abs(float(row[run]) - comparison.probabilities.loc[row["example_id"], run]) <= 0.0021


def test_the_scatter_filters_by_dragging_and_shows_an_example_by_a_click(browser: Browser, tmp_path: Path) -> None:
    of = two_by_two(8)
    browser.open(write(tmp_path, of))
    assert browser.text("#under") == "Drag to list a part, click a dot to see its example."
    browser.drag("#over", (0.05, 0.55), (0.45, 0.95))  # A says negative, B positive
    assert sorted(shown(browser)) == [f"example-{number}" for number in (1, 3, 5, 7)]
    assert browser.text("#under").startswith("Listed: A 0.0")
    browser.click("#clear")
    a, b = (
        of.probabilities[[f"native-{name}-rnn-{seed}" for seed in (0, 1)]].mean(axis=1) for name in ("here", "there")
    )
    place = (float(a["example-2"]), float(b["example-2"]))
    browser.drag("#over", place, place)
    assert len(shown(browser)) == 1
    assert browser.find("[name=text]").get_property("value") == shown(browser)[0]


def test_it_is_readable_on_small_screens_enlarged_in_light_and_in_dark(browser: Browser, page: Path) -> None:
    for width, scale in ((400, 1), (640, 2), (1280, 1)):
        for dark in (False, True):
            browser.resize(width, 800, dark=dark, scale=scale)
            browser.open(page, {"compare": LSTM, "open": "example-009"})
            assert browser.run("return document.documentElement.scrollWidth") <= width
            for selector in ("body", "header p", "label", ".facts", ".number", "small, td span", "mark", "#under"):
                assert contrast(browser, selector) >= 4.5, (selector, dark)


def contrast(browser: Browser, selector: str) -> float:
    """Compute how far a text stands out from what lies behind it, as WCAG 2 has it."""
    colours = browser.run(
        """
        const element = document.querySelector(arguments[0]);
        let behind = element;
        while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
        return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
        """,
        selector,
    )
    lights = []
    for colour in colours:
        parts = [int(part) / 255 for part in colour[4:-1].split(",")]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(lights) / min(lights)


def test_everything_that_can_be_used_has_a_name_for_those_who_don_t_see(browser: Browser, page: Path) -> None:
    browser.open(page, {"compare": "two single runs"})
    nodes = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    used = {"button", "checkbox", "combobox", "searchbox", "spinbutton", "textbox", "image", "table", "status"}
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored", False)
    ]
    found = [(role, name) for role, name in named if role in used]
    assert {role for role, _ in found} >= {"button", "checkbox", "combobox", "searchbox", "spinbutton", "image"}
    assert [role for role, name in found if not name.strip() and role != "status"] == []
    assert ("button", "A right, B wrong:") in [(role, name[:17]) for role, name in found]
    assert browser.find("#count").get_attribute("aria-live") == "polite"


def test_hostile_texts_names_and_labels_run_nothing_and_show_as_written(browser: Browser, tmp_path: Path) -> None:
    values = {("native", f"{EVIL}{letter}", EVIL, seed): [0.9 - 0.7 * (letter == "b")] * 2
              for letter in "ab" for seed in (0, 1)}  # fmt: skip
    of = predicted(values, [0, 1], texts=[EVIL, f"=1+1 {EVIL}"], ids=[f"{EVIL} 1", "$style {script} %s"])
    browser.open(write(tmp_path, of, title=f"{EVIL} $facts"))
    assert browser.text("#title") == f"{EVIL} $facts · 2 test examples"
    assert sorted(shown(browser)) == sorted(of.test.index)
    assert sorted(browser.texts("#list .text")) == sorted(of.test["text"])
    assert browser.text("#sides bdi") == f"{EVIL}a"
    browser.choose("compare", "two single runs")
    for button in browser.driver.find_elements("css selector", "#list .id"):
        button.click()
    browser.type("text", EVIL)
    assert len(shown(browser)) == 2
    assert browser.run("return [window.planted, document.images.length]") == [None, 0]


def test_a_script_that_got_into_the_page_would_not_run(browser: Browser, tmp_path: Path) -> None:
    path = write(tmp_path, two_by_two())
    planted = path.read_text().replace(
        "<body>", "<body><script>window.planted = 1</script><img src=x onerror='planted=1'>"
    )
    path.write_text(planted)
    browser.open(path)
    assert browser.run("return window.planted") is None
    assert any("Content Security Policy" in said for said in browser.complaints())


def test_extremes_are_shown(browser: Browser, tmp_path: Path) -> None:
    texts = [
        "wordy " * 170_000,
        "👩‍👩‍👧 🎬" * 300,
        "电影" * 500,  # not one space
        "فيلم رائع\u202e backwards",
        "",
        "\x00\x07 bells",
        "a\u2028b",
    ]
    n = len(texts)
    alike = {("native", backend, "rnn", 0): [0.9] * n for backend in ("one", "two")}
    of = predicted(alike, [1] * n, texts)
    browser.open(write(tmp_path / "alike", of))
    assert browser.text("#said") == (
        "They disagree on 0.0 % of the examples; what two seeds of one backend do isn't known."
    )
    assert [label.split("\n")[0] for label in browser.texts("#kinds label")] == ["split", "both wrong", "both right"]
    read = "return document.querySelectorAll('#list .text')[arguments[0]].textContent"
    for place, name in enumerate(shown(browser)):
        whole = of.test["text"][name]
        assert min(100, len(whole)) <= len(browser.run(read, place)) <= len(whole) + 300
        browser.click(f"#list li:nth-child({place + 1}) .id")
        assert browser.run(read, place) == whole
    assert browser.run("return document.documentElement.scrollWidth") <= 1280
    seeds = {("native", "one", "rnn", seed): [0.9, 0.4 + 0.2 * seed] for seed in (0, 1)}
    browser.open(write(tmp_path / "seeds", predicted(seeds, [1, 0])))
    assert browser.text("#said") == (
        "They disagree on 50.0 % of the examples; two seeds of one backend and model on 50.0 %."
    )
    browser.open(write(tmp_path / "one", predicted({("native", "one", "rnn", 0): [0.9, 0.2]}, [1, 1])))
    assert browser.text("#said") == "This is one run, so there is nothing to disagree with."
    assert browser.text("#count") == "2 of 2 examples"


def test_texts_beside_the_page_come_when_they_are_asked_for(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"Beginning {number}. {'Words and words. ' * 20} The end of {number}." for number in range(8)]
    monkeypatch.setattr(data, "INSIDE", 3)
    path = write(tmp_path, two_by_two(8, texts=texts))
    browser.open(path)
    assert browser.text("#covered") == (
        "Search reads ids and 3 whole texts; of 5 more it reads a few words. Load their texts"
    )
    browser.type("text", "The end of")
    assert len(shown(browser)) < 8
    browser.click("#covered button")
    browser.wait(lambda: len(shown(browser)) == 8)
    assert browser.text("#covered") == ""
    # Whoever opens an example asks for its text.
    browser.open(path)
    browser.choose("order", "id")
    for number in range(8):
        browser.click(f"#list li:nth-child({number + 1}) .id")
        browser.wait(lambda number=number: f"The end of {number}." in browser.text(f"#list li:nth-child({number + 1})"))
    beside = tmp_path / browse.TEXTS
    beside.write_text(beside.read_text().replace('takeTexts("', 'takeTexts("0'))
    browser.open(path)
    browser.click("#covered button")
    browser.wait(lambda: browser.text("#covered") == "This examples-texts.js is another report's.")
    beside.unlink()
    browser.open(path)
    browser.click("#covered button")
    browser.wait(lambda: browser.text("#covered") == "The other texts aren't here: examples-texts.js has them.")
    assert all("ERR_FILE_NOT_FOUND" in said for said in browser.complaints())


def test_predictions_from_elsewhere_have_a_page_too(browser: Browser, tmp_path: Path) -> None:
    frame = pd.DataFrame({"label": [0, 1, 1], "mine_prob": [0.2, 0.7, 0.4], "theirs_prob": [0.6, 0.7, 0.1]})
    frame.to_csv(tmp_path / "all.csv", index=False)
    report = from_predictions.build([tmp_path / "all.csv"], tmp_path / "out")
    assert f"]({browse.PAGE})" in report.read_text()
    browser.open(report.parent / browse.PAGE)
    assert browser.text("#said") == (
        "They disagree on 33.3 % of the examples; what two seeds of one model do isn't known."
    )
    assert browser.text("#list li:first-child .facts") == "labelled negative"
    assert not browser.find("[name=from]").is_displayed()
    assert not browser.find("[name=division]").is_displayed()
