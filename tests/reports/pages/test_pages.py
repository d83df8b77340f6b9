from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from rnn_crosscheck.harness.results import TimingResults
from rnn_crosscheck.reports.analysis.findings import Examples, Findings, find
from rnn_crosscheck.reports.build import pages
from rnn_crosscheck.reports.pages.examples import whole_examples
from rnn_crosscheck.reports.read.comparison import Comparison, load
from tests.reports.folders import HOSTILE, source_protocol, write_comparison
from tests.reports.rendering import all_pages, kinds_of, tables_of, tokens_of

FIGURES = ("accuracy", "lengths", "reliability", "learning", "ratios", "drift", "ladder")

#: what a statistical test can't show
NEVER = re.compile(r"identical|the same (accuracy|result)|as accurate as|no difference between (?!the two\.)", re.I)


@pytest.fixture(scope="module")
def findings(comparison: Comparison) -> Findings:
    return find(comparison)


@pytest.fixture(scope="module")
def report(comparison: Comparison, findings: Findings) -> str:
    return all_pages(comparison, findings, *FIGURES)


def test_each_page_is_as_kept(comparison: Comparison, findings: Findings, golden: Callable[[str, str], None]) -> None:
    _, details = pages(comparison, findings, frozenset(FIGURES))
    del details["reading-the-report.md"]
    assert list(details) == [
        "accuracy.md",
        "causes.md",
        "speed.md",
        "agreement.md",
        "examples.md",
        "data.md",
        "runs.md",
    ]
    for name, source in details.items():
        golden(f"pages/{name}", source)


def test_every_row_and_cell_of_every_table_is_there(report: str, findings: Findings) -> None:
    found = tables_of(report)
    assert all(len({len(row) for row in each.rows}) == 1 for each in found)
    sizes = {(tuple(each.rows[0][:2]), len(each.rows) - 1) for each in found}
    for heads, rows in (
        (("division", "runs"), len(findings.groups)),
        (("runs", "seeds"), len(findings.excesses)),
        (("rung", "the two"), len(findings.rungs)),
        (("run", "status"), len(findings.runs)),
        (("run", "epoch"), len(findings.curves)),
        (("model", "operation"), len(findings.timings)),
        (("split", "examples"), len(findings.splits)),
    ):
        assert (heads, rows) in sizes
    runs = next(each for each in found if each.rows[0][:2] == ["run", "status"])
    assert [row[0] for row in runs.rows[1:]] == findings.runs.index.tolist()


def test_no_review_reaches_the_renderer_as_markup(report: str) -> None:
    tokens = tokens_of(report)
    html = [token.content.strip() for token in tokens if token.type == "html_block"]
    allowed = re.compile(r"<details>\n<summary>[^<>]*</summary>|</details>")
    assert html
    assert all(allowed.fullmatch(block) for block in html)
    assert html.count("</details>") * 2 == len(html)
    for token in tokens:
        for child in token.children or []:
            assert child.type != "html_inline"
    assert {child for each in tables_of(report) for child in each.kinds} <= {
        "text", "text_special", "strong_open", "strong_close", "em_open", "em_close",
        "link_open", "link_close"}  # fmt: skip
    assert "bullet_list_open" in kinds_of(report)


def test_a_text_shown_in_full_is_a_quotation_and_nothing_else() -> None:
    row = {"outcome": "both wrong", "of": 1, "example_id": "x|y", "label": 1, "probability_a": 0.1,
           "probability_b": 0.2, "right_a": 0, "seeds_a": 2, "right_b": 1, "seeds_b": 2, "length": 9, "truncated": True,
           "left_out": 12}  # fmt: skip
    rows = pd.DataFrame([{**row, "text": text} for text in (*HOSTILE, "word " * 500)])
    pair = pd.Series({"model_a": "rnn", "model_b": "lstm"})
    blocks = list(whole_examples(Examples(pair, rows)))
    assert len(blocks) == 2 * len(rows)
    tokens = tokens_of("\n\n".join(blocks))
    assert {token.type for token in tokens} == {
        "paragraph_open", "paragraph_close", "inline", "blockquote_open", "blockquote_close"}  # fmt: skip
    kinds = {child.type for token in tokens for child in token.children or []}
    assert kinds <= {"text", "text_special", "strong_open", "strong_close"}
    assert "rnn 0.100 (right in 0 of 2 seeds) and lstm 0.200 (right in 1 of 2 seeds)" in blocks[0]
    assert "9 tokens, of which the models see the end only; 12 characters are not shown" in blocks[0]


def test_what_the_source_experiment_looked_at_is_there(report: str) -> None:
    for part in (
        "int32 (examples, time): train (12,000, 80), valid (2,000, 80), test (60, 80)",
        "One example as the models see it: example-train-1, label 1",
        "<summary>That one example in full: ids, words and label</summary>",
        "The shortest example: example-train-2, label 0, 3 tokens",
        "The longest example: example-train-3, label 1, 2,494 tokens, of which the models see the last 31",
        "<summary>Every epoch of every run: training and validation loss and accuracy (60 rows)</summary>",
        "Every prediction is kept",
    ):
        assert part in report
    assert "23 are shorter than 80 tokens and padded in front with the id 0, and 36 are longer" in report


def test_figures_have_words_for_those_who_can_t_see_them(report: str) -> None:
    images = [child for token in tokens_of(report) for child in token.children or [] if child.type == "image"]
    assert len(images) == len(FIGURES) + 1  # that of accuracy is on the front page too
    assert all(len(image.content) > 60 for image in images)


def test_a_large_p_is_never_read_as_alike(report: str, findings: Findings) -> None:
    assert (findings.pairs["p_holm"] > 0.9).any()
    assert not NEVER.search(report.replace("no difference between the two", ""))


def test_runs_that_agree_completely_are_not_called_alike(tmp_path: Path) -> None:
    comparison = load(write_comparison(tmp_path, seeds={"native": (0, 1)}))
    first = comparison.probabilities.iloc[:, 0]
    twins = replace(comparison, probabilities=comparison.probabilities.apply(lambda column: first))
    said = all_pages(twins)
    assert "there is no interval" in said
    assert not NEVER.search(said.replace("no difference between the two", ""))


ONE = {"native": (0,)}
NAMES = [f"native-{backend}-{model}-seed0" for model in ("rnn", "lstm") for backend in ("keras-tensorflow", "pytorch")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        {"seeds": ONE, "missing": NAMES},
        {"seeds": ONE, "failed": NAMES, "timed": False},
        {"seeds": ONE, "unavailable": NAMES[1::2]},
        {"backends": ("pytorch",)},
        {"backends": ("pytorch",), "models": ("rnn",), "seeds": ONE, "timed": False},
        {"models": ("lstm",)},
        {"seeds": {"matched": (0, 1, 2)}},
        {"seeds": {"native": ()}, "timed": False},
        {"timed": False},
        {"backends": ("a", "b", "c|d", "e"), "seeds": {"native": (0, 1, 2, 3, 4)}},
    ],
    ids=["no run", "all failed", "one backend missing", "one backend", "one run", "one model", "one division",
         "nothing asked for", "no timings", "many"],
)  # fmt: skip
def test_whatever_there_is_gives_a_document(tmp_path: Path, arguments: dict[str, object]) -> None:
    comparison = load(write_comparison(tmp_path, **arguments))  # type: ignore[arg-type]
    source = all_pages(comparison, None, *FIGURES)
    for each in tables_of(source):
        assert len({len(row) for row in each.rows}) == 1
    assert "nan" not in re.findall(r"\w+", source.lower())


def test_an_unavailable_backend_comes_with_its_command(tmp_path: Path) -> None:
    comparison = load(write_comparison(tmp_path, seeds=ONE, unavailable=NAMES[1::2]))
    source = all_pages(comparison)
    assert "pip install 'rnn-crosscheck\\[pytorch\\]'" in source
    assert "2 of 4 runs have no result** (2 unavailable)" in source


def test_backends_that_could_not_be_timed_are_named(comparison: Comparison) -> None:
    lost = replace(comparison, timings=TimingResults(failures={"pytorch": "The worker was killed."}))
    source = all_pages(lost)
    assert "- **pytorch was not timed**: The worker was killed." in source
    assert "Nothing was measured in turn" in source


def test_the_source_experiment_is_named_under_its_protocol_only(tmp_path: Path, report: str) -> None:
    imdb = load(write_comparison(tmp_path, of=source_protocol()))
    source = all_pages(imdb, None, *FIGURES)
    assert "Cross: the one seed" in source
    assert "rnn 61.8 % and lstm 81.0 %" in source
    assert "Cross:" not in report


@pytest.mark.slow
def test_many_pairs_fold_away_and_more_stay_in_the_json(tmp_path: Path) -> None:
    many = load(write_comparison(tmp_path / "many", seeds={"native": range(5)}))
    assert "(40 rows)</summary>" in all_pages(many)
    more = load(write_comparison(tmp_path / "more", seeds={"native": range(10)}, backends=("a", "b", "c")))
    source = all_pages(more)
    assert "Every single pair, with oracle accuracy, error consistency and Yule's Q, is a row of `pairs.csv`" in source
    assert "<summary>Across backends" not in source


def test_a_backend_that_trains_nothing_is_marked_at_the_top(comparison: Comparison) -> None:
    manifest = comparison.manifest.model_copy(
        update={"backends": (*comparison.manifest.backends, "onnx"), "inference": ("onnx",)}
    )
    told = replace(comparison, manifest=manifest)
    assert "onnx trains nothing: it predicts with the weights of the others" in all_pages(told)[:500]
