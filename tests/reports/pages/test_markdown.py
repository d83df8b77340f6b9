from __future__ import annotations

import unicodedata

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rnn_crosscheck.reports.pages.markdown import code, escape, fenced, number, plain_table, table, text
from rnn_crosscheck.reports.writing import (
    count,
    decimals,
    interval,
    listing,
    megabytes,
    p_value,
    percent,
    plain,
    scientific,
    significant,
)
from tests.reports.folders import HOSTILE
from tests.reports.rendering import kinds_of, tables_of, tokens_of

markup = st.sampled_from(
    ["|", "\\", "`", "```", "*", "_", "~~", "<b>", "</details>", "<!--", "&amp;", "&#124;", "[a](b)", "![a](b)", "\n",
     "\r", "\n\n", "# ", "- ", "1. ", "> ", "\t", "    ", "|---|", "http://a.bc", "www.a.bc", "a@b.cd", "\x00",
     "\x1b[1m", "\u202e", "\u200b", "\ufeff", "$x$", "[^1]", "===", "---", "+ ",
     "word", " ", "\u2028", "\ud800", "x" * 50]
)  # fmt: skip
hostile = st.lists(markup, max_size=12).map("".join) | st.text(max_size=60)
TEXT_ONLY = {"inline", "text", "text_special", "paragraph_open", "paragraph_close"}


@given(hostile)
@example("\\|")
@example("1.")
def test_no_text_becomes_markup_in_a_paragraph(source: str) -> None:
    assert kinds_of(escape(source)) <= TEXT_ONLY


@given(st.lists(st.tuples(hostile, hostile), min_size=1, max_size=5))
def test_no_text_breaks_a_table(rows: list[tuple[str, str]]) -> None:
    frame = pd.DataFrame(rows, columns=["a", "b"], dtype=object).assign(n=range(len(rows)))
    for padded in (True, False):
        source = table(frame, [text("first", "a"), number("n", "n", count), text("last", "b")], padded=padded)
        (found,) = tables_of(source + "\n\nafter")
        assert [len(row) for row in found.rows] == [3] * (len(rows) + 1)
        assert set(found.kinds) <= {"text", "text_special"}
        for row, (a, b) in zip(found.rows[1:], rows, strict=True):
            for cell, original in ((row[0], a), (row[2], b)):
                assert cell.split() == shown(original).split()


def shown(original: str) -> str:
    """What a reader should see of a text."""
    words = [
        "-".join(part if len(part) <= 40 else part[:39] + "…" for part in word.split("-"))
        for word in plain(original).split(" ")
    ]
    seen = " ".join(words).replace("@", "\uff20").replace("://", "\uff1a//")
    parts = seen.split(".")
    for i, part in enumerate(parts[:-1]):
        if part.lower().endswith("www") and not (len(part) > 3 and (part[-4].isalnum() or part[-4] == "_")):
            parts[i] = part + "\uff0e"
        else:
            parts[i] = part + "."
    return "".join(parts)


@given(hostile)
def test_nothing_unseen_is_left(source: str) -> None:
    for character in escape(source):
        assert not unicodedata.category(character).startswith("C")
        assert character == " " or not character.isspace()


@pytest.mark.parametrize("source", HOSTILE)
def test_addresses_don_t_become_links(source: str) -> None:
    shown = escape(source)
    assert "://" not in shown
    assert "www." not in shown
    assert "@" not in shown


def test_ordinary_text_stays_readable_in_the_source() -> None:
    ordinary = 'I didn\'t like it (at all): 3.5 stars - "dull", 100% so!'
    assert escape(ordinary) == ordinary
    assert escape("0.71") == "0.71"
    assert escape("native-keras-tensorflow-rnn-seed0") == "native-keras-tensorflow-rnn-seed0"


@given(hostile)
@example("`\x00```")  # what is dropped may have stood between two backquotes
def test_nothing_closes_a_log_block(source: str) -> None:
    found = [token.type for token in tokens_of(fenced(source) + "\n\nafter")]
    assert found == ["fence", "paragraph_open", "inline", "paragraph_close"]


@given(hostile)
def test_a_command_is_one_piece_of_code(source: str) -> None:
    assert kinds_of(f"Run {code(source)} now") <= TEXT_ONLY | {"code_inline"}


def test_a_log_keeps_its_lines_and_their_indentation() -> None:
    assert fenced("one\n    two\x1b[0m\n") == "```text\none\n    two\n```"


@pytest.mark.parametrize(
    ("value", "written"),
    [(1234.5, "1,230"), (12.345, "12.3"), (1.2345, "1.23"), (0.012345, "0.0123"), (9.996, "10.0"), (999.7, "1,000"),
     (0, "0"), (float("nan"), "-"), (float("inf"), "-"), (-1.5, "-1.50"), (123456789, "123,000,000")],
)  # fmt: skip
def test_three_significant_digits_and_never_an_exponent(value: float, written: str) -> None:
    assert significant(value) == written


def test_numbers_follow_the_conventions() -> None:
    assert percent(0.61804) == "61.8"
    assert percent(float("nan")) == "-"
    assert interval(percent)(0.031, 0.087) == "[3.1, 8.7]"
    assert interval(percent)(float("nan"), float("nan")) == "-"
    assert p_value(0.0004) == "< 0.001"
    assert p_value(0.05) == "0.050"
    assert p_value(float("nan")) == "-"
    assert count(12848) == "12,848"
    assert decimals(2)(0.705) in ("0.70", "0.71")
    assert megabytes(1.5e9) == "1,500"
    assert (listing([]), listing(["a"]), listing(["a", "b"]), listing("abc")) == ("", "a", "a and b", "a, b and c")


def test_numbers_are_right_aligned_and_kept_as_written() -> None:
    frame = pd.DataFrame({"name": ["1e5", "007"], "value": [0.5, 0.25]})
    source = table(frame, [text("name", "name"), number("value, %", "value", percent)])
    assert source.splitlines() == [
        "| name   |   value, % |",
        "|:-------|-----------:|",
        "| 1e5    |       50.0 |",
        "| 007    |       25.0 |",
    ]


def test_a_terminal_gets_plain_text() -> None:
    frame = pd.DataFrame({"name": ["1e5", "a_*b*"], "value": [0.5, 0.5]})
    shown = plain_table(frame, [text("name", "name"), number("value, %", "value", percent)])
    assert [line.split() for line in shown.splitlines()[-2:]] == [["1e5", "50.0"], ["a_*b*", "50.0"]]
    assert "|" not in shown


def test_a_long_name_is_whole_where_hyphens_break_it() -> None:
    name = "native-crosscheck_mine.MineWithALongName-gru-seed12-continuing1"
    assert escape(name).replace("\\", "") == name
    assert escape("x" * 41) == "x" * 39 + "…"


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.0, "0"), (1.26e-6, "1.3e-6"), (1e-6, "1e-6"), (9.96e-7, "1e-6"), (0.5912, "0.59"), (5000.0, "5,000"),
     (1.3e7, "1.3e7"), (-2e-8, "-2e-8"), (float("inf"), "infinite"), (float("nan"), "-")],
)  # fmt: skip
def test_two_significant_digits_of_any_size(value: float, written: str) -> None:
    assert scientific(value) == written
