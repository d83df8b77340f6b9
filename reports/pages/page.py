"""What all pages share: a title, one finding, and blocks of Markdown below it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pandas as pd

from rnn_crosscheck.reports.analysis.findings import Findings
from rnn_crosscheck.reports.pages.markdown import Column, code, document, folded, image, table
from rnn_crosscheck.reports.read.comparison import Comparison

#: the page that explains every word once; lies beside the others
WORDS = "reading-the-report.md"

#: tables with more rows fold away
LONG = 24

Blocks = Iterator[str]


@dataclass(frozen=True)
class Shown:
    """What a page is made of: the `figures` that there are, and its way (`root`) to the folder of the comparison."""

    comparison: Comparison
    findings: Findings
    figures: frozenset[str] = frozenset()
    root: str = ""

    def figure(self, name: str, alt: str) -> str:
        """Show a figure if it was drawn; `alt` says what it shows to those who can't see it."""
        return image(f"{self.root}figures/{name}.svg", alt) if name in self.figures else ""

    def page(self, name: str) -> str:
        """Give the way to a page of details, or to a part of one (``accuracy#by-length``)."""
        page, _, part = name.partition("#")
        folder = "" if self.root else "details/"
        return f"{folder}{page}.md{'#' if part else ''}{part}"

    def command(self, *more: str) -> str:
        """Give the command that makes the comparison whole, with more words added to it."""
        return code(whole(self.comparison.manifest.command, *more))


def whole(command: str, *more: str) -> str:
    """Give the command that makes a comparison whole, with more words added to it."""
    try:
        words = iter(shlex.split(command))
    except ValueError:  # a quotation without its end
        words = iter(command.split())
    # What selected tests of the session would leave out what is to be added.
    kept = [word for word in words if not (word in ("-k", "-m") and next(words, ""))]
    return shlex.join([*(word for word in kept if word not in ("--lf", "--ff")), *more])


@dataclass(frozen=True)
class Page:
    """One page of details, by the name of its file: its finding, and the blocks below that.

    Without a finding there is nothing to show, and no page.
    """

    name: str
    title: str
    finding: Callable[[Shown], str]
    blocks: Callable[[Shown], Blocks]


def render(page: Page, shown: Shown) -> str:
    """Write a page of details."""
    below = replace(shown, root="../")
    return document([f"# {page.title}", page.finding(below), *page.blocks(below), "[Back to the report](../report.md)"])


def how_to_read(part: str) -> str:
    """Lead to what explains a table or a figure."""
    return f"[How to read this]({WORDS}#{part})"


def shown_table(title: str, rows: pd.DataFrame, columns: list[Column], part: str = "") -> Blocks:
    """Show a table and the way to its explanation; fold it away under its title if nobody would read all of it."""
    written = table(rows, columns)
    yield folded(f"{title} ({len(rows)} rows)", written) if len(rows) > LONG else written
    if part:
        yield how_to_read(part)


def folded_table(title: str, rows: pd.DataFrame, columns: list[Column], part: str = "") -> str:
    """Fold a table away with the way to its explanation; nothing if it has no rows."""
    explained = how_to_read(part) if part else ""
    return folded(f"{title} ({len(rows)} rows)", table(rows, columns), explained) if len(rows) else ""
