"""Reads rendered Markdown back, to see what a reader would get."""

from __future__ import annotations

from dataclasses import dataclass, field

from markdown_it import MarkdownIt
from markdown_it.token import Token

from rnn_crosscheck.reports.analysis.findings import Findings, find
from rnn_crosscheck.reports.build import pages
from rnn_crosscheck.reports.pages.page import Page, Shown, render
from rnn_crosscheck.reports.read.comparison import Comparison


def all_pages(comparison: Comparison, findings: Findings | None = None, *figures: str) -> str:
    """Write the front page and all pages of details, but for the words."""
    front, details = pages(comparison, findings or find(comparison), frozenset(figures))
    return "\n".join([front, *(text for name, text in details.items() if name != "reading-the-report.md")])


def page(of: Page, comparison: Comparison, findings: Findings | None = None, *figures: str) -> str:
    """Write one page of details."""
    return render(of, Shown(comparison, findings or find(comparison), frozenset(figures))) + "\n"


@dataclass
class Table:
    """A table as the renderer understood it: texts of its cells, and the inline tokens in them."""

    rows: list[list[str]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)


def tokens_of(source: str) -> list[Token]:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(source)


def tables_of(source: str) -> list[Table]:
    found: list[Table] = []
    inside = False
    for token in tokens_of(source):
        if token.type == "table_open":
            found.append(Table())
            inside = True
        elif token.type == "table_close":
            inside = False
        elif token.type == "tr_open" and inside:
            found[-1].rows.append([])
        elif token.type == "inline" and inside:
            children = token.children or []
            found[-1].rows[-1].append("".join(child.content for child in children if child.type.startswith("text")))
            found[-1].kinds += [child.type for child in children]
    return found


def kinds_of(source: str) -> set[str]:
    """All kinds of tokens, block and inline."""
    kinds = set()
    for token in tokens_of(source):
        kinds.add(token.type)
        kinds.update(child.type for child in token.children or [])
    return kinds
