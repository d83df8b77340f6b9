"""DataFrames and sentences to Markdown: what a table looks like, and how hostile text is tamed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from tabulate import tabulate

from rnn_crosscheck.reports.writing import plain

#: longer words are cut: nothing breaks them but a hyphen, and they would stretch a table over the page's edge
LONGEST_WORD = 40
_LONG = re.compile(rf"[^\s-]{{{LONGEST_WORD + 1},}}")

# --- hostile text -------------------------------------------------------------------------------------------

_ACTIVE = re.compile(r"[\\`*_\[\]|~$]")
_LEADING = re.compile(r"^(?:[-+=#]|\d+(?=[.)](?: |$)))")
#: autolinks and mentions are made from plain text, where no escape helps: a look-alike character does
_LINKS = (("@", "\uff20"), ("://", "\uff1a//"))
_WWW = re.compile(r"\b(www)\.", re.IGNORECASE)


def escape(text: str) -> str:
    """Make any text safe to stand in a Markdown table or paragraph: it comes out as one line of the text alone.

    Control, bidirectional and zero-width characters and terminal sequences are dropped, line breaks become
    spaces, markup loses its meaning, addresses don't become links, and very long words are cut.
    """
    text = plain(text)
    text = _LONG.sub(lambda word: word[0][: LONGEST_WORD - 1] + "…", text)
    text = _WWW.sub("\\1\uff0e", text)
    for active, harmless in _LINKS:
        text = text.replace(active, harmless)
    leading = _LEADING.match(text)
    text = _ACTIVE.sub(r"\\\g<0>", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if leading:
        # At the start of a line these would begin a list, a heading or a rule.
        mark = leading.end() if leading.group()[0].isdigit() else 0
        text = f"{text[:mark]}\\{text[mark:]}"
    return text


def fenced(text: str) -> str:
    """Show a log as it is, in a block that nothing in it can close."""
    lines = [plain_line(line) for line in text.splitlines()]
    # Of what is left: a character that is dropped may have stood between two backquotes.
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}text", *lines, fence])


def plain_line(line: str) -> str:
    """Do as `plain`, and keep the indentation."""
    expanded = line.expandtabs()
    return " " * (len(expanded) - len(expanded.lstrip(" "))) + plain(expanded)


# --- tables -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """One column of a rendered table: its short head, the columns that it is made of, and how they are written."""

    head: str
    keys: tuple[str, ...]
    write: Callable[..., str]
    right: bool = True


def number(head: str, key: str, write: Callable[[float], str]) -> Column:
    """Give a column of numbers."""
    return Column(head, (key,), write)


def text(head: str, key: str) -> Column:
    """Give a column of texts; whatever they hold, they come out as text."""
    return Column(head, (key,), _text, right=False)


def _text(value: object) -> str:
    return escape(str(value))


def texts(*keys: str) -> list[Column]:
    """Give columns of texts that are called as they are."""
    return [text(key, key) for key in keys]


def cells(frame: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    """Write the cells of a table."""
    written = {
        column.head: [column.write(*values) for values in frame[list(column.keys)].itertuples(index=False, name=None)]
        for column in columns
    }
    return pd.DataFrame(written, columns=[column.head for column in columns], dtype=object)


def table(frame: pd.DataFrame, columns: Sequence[Column], *, padded: bool = True) -> str:
    """Render a DataFrame as a Markdown table.

    Parameters
    ----------
    padded
        Line the source up. Without, no row is longer than its own cells; for tables of texts.
    """
    heads = {column.head: escape(column.head) for column in columns}
    written = cells(frame, columns).rename(columns=heads)
    align = tuple("right" if column.right else "left" for column in columns)
    rendered: str = written.to_markdown(index=False, tablefmt="pipe", disable_numparse=True, colalign=align)
    if padded:
        return rendered
    head, rule, *rows = rendered.splitlines()
    return "\n".join(
        [re.sub(" {2,}", " ", head), re.sub("-{3,}", "--", rule), *(re.sub(" {2,}", " ", r) for r in rows)]
    )


def plain_table(frame: pd.DataFrame, columns: Sequence[Column]) -> str:
    """Render a DataFrame for a terminal."""
    # What Markdown would act on is left as it is; what a terminal would act on goes.
    unescaped = [
        replace(column, write=lambda value: plain(str(value))) if column.write is _text else column
        for column in columns
    ]
    written = cells(frame, unescaped)
    align = tuple("right" if column.right else "left" for column in columns)
    return tabulate(
        [list(row) for row in written.itertuples(index=False, name=None)],
        headers=list(written.columns),
        tablefmt="simple",
        disable_numparse=True,
        colalign=align,
    )


# --- document parts -----------------------------------------------------------------------------------------


def note(sentence: str) -> str:
    """Give the italic line that stands under a table."""
    return f"*{sentence}*"


def folded(title: str, *blocks: str) -> str:
    """Fold blocks away under a title."""
    return document([f"<details>\n<summary>{title}</summary>", *blocks, "</details>"])


def image(path: str, alt: str) -> str:
    """Show a figure; `alt` says what it shows to those who can't see it."""
    return f"![{escape(alt)}]({path})"


def code(text: str) -> str:
    """Show a command as code, whatever it holds; for paragraphs, not for tables."""
    text = plain(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    quotes = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{quotes}{space}{text or ' '}{space}{quotes}"


def document(blocks: Iterable[str]) -> str:
    """Put blocks under each other, leaving out empty ones."""
    return "\n\n".join(block for block in blocks if block)
