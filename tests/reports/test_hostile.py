"""Whatever text stands in a record, no page passes it on as markup, and no terminal acts on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from rnn_crosscheck.harness.errors import ResultsError
from rnn_crosscheck.reports.analysis.findings import find
from rnn_crosscheck.reports.build import pages
from rnn_crosscheck.reports.pages.front import terminal
from rnn_crosscheck.reports.read.comparison import load
from tests.reports.folders import (
    rewrite,
    write_comparison,
    write_effects,
    write_occlusions,
    write_stages,
    write_transplants,
)

TEXT = "<script>alert(1)</script>\x1b]0;owned\x07 | `a`\n# b"
RUNS = [f"native-{backend}-lstm-seed0" for backend in ("keras-tensorflow", "pytorch")]

Tree = dict[str, Any] | list[Any]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_comparison(
        tmp_path_factory.mktemp("source"),
        models=("lstm",),
        seeds={"native": (0, 1), "matched": (0,)},
        failed=["matched-pytorch-lstm-seed0"],
    )
    write_stages(folder, models=("lstm",))
    write_effects(folder, models=("lstm",))
    write_transplants(folder)
    write_occlusions(folder, {run_id: ["example-000", "example-020"] for run_id in RUNS})
    return folder


def strings(tree: Tree, way: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Callable[[], None]]]:
    """Each text in a record, and each name in a mapping of names: where, and what puts `TEXT` in its place."""
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        here = (*way, str(key) if isinstance(tree, dict) else "*")
        if isinstance(value, dict | list):
            yield from strings(value, here)
        elif isinstance(value, str):
            yield here, lambda key=key: tree.__setitem__(key, TEXT)  # type: ignore[misc]
        if isinstance(tree, dict):
            yield (*here, "its name"), lambda key=key: tree.__setitem__(TEXT, tree.pop(key))  # type: ignore[misc]


def planted(record: Path) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """A record with one text after another replaced, each kind of text once."""
    text = record.read_text()  # which is another as soon as somebody has written what is given here
    ways = [way for way, _ in strings(json.loads(text))]
    for number, way in enumerate(ways):
        if way not in ways[:number]:
            content = json.loads(text)
            [put for _, put in strings(content)][number]()
            yield way, content


def is_inert(text: str) -> bool:
    """Whether a terminal shows it as it is, and a browser does when it is rendered."""
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    return "\x1b" not in text and "\x07" not in text and "<script" not in rendered


@pytest.mark.long
def test_no_text_of_a_record_is_markup_on_a_page(source: Path, tmp_path: Path) -> None:
    folder, shown = tmp_path / "comparison", 0
    shutil.copytree(source, folder)
    accepted: dict[Path, set[tuple[str, ...]]] = {}
    for record in sorted(folder.rglob("*.json")):
        whole = record.read_bytes()
        for way, content in planted(record):
            rewrite(record, content)
            try:
                left_out = load(folder).left_out
            except ResultsError:
                continue
            if not left_out:
                accepted.setdefault(record, set()).add(way)
        record.write_bytes(whole)
    for record, ways in accepted.items():
        content = json.loads(record.read_text())
        for way, put in strings(content):
            if way in ways and way[-1] != "its name":
                put()
        rewrite(record, content)
        shown += len(ways)
    assert shown > 40
    comparison = load(folder)
    findings = find(comparison)
    front, details = pages(comparison, findings)
    for name, page in {"report.md": front, **details}.items():
        assert is_inert(page), name
    assert not any("\x1b" in text or "\x07" in text for _, text in terminal(findings))


def test_the_name_and_the_reason_of_what_is_left_out_are_text_too(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "<script>"
    shutil.copytree(source, folder)
    (folder / "timings.json").write_text(TEXT)
    comparison = load(folder)
    assert comparison.left_out
    assert is_inert(pages(comparison, find(comparison))[0])
