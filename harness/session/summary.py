"""The last lines of a session: tables, gates, and where the report is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Summary:
    """What the terminal shows at the end.

    Attributes
    ----------
    tables
        Title and text of each.
    report
        Path of the report.
    breaches
        Gates that are broken, a sentence each: the session fails.
    remarks
        What else is to be said of the gates.
    """

    tables: Sequence[tuple[str, str]]
    report: Path
    breaches: Sequence[str] = ()
    remarks: Sequence[str] = ()


def tell(reporter: pytest.TerminalReporter, summary: Summary | None, note: str, *, gated: bool) -> None:
    """Write a note, and the tables and the report if there are any."""
    if note:
        reporter.section("comparison")
        reporter.write_line(note)
    if summary is None:
        return
    for title, table in summary.tables:
        reporter.section(title)
        for line in table.splitlines():
            reporter.write_line(line)
    if gated:
        reporter.section("--crosscheck-fail-if")
    for sentence in summary.breaches:
        reporter.write_line(f"FAILED {sentence}", red=True)
    for sentence in summary.remarks:
        reporter.write_line(sentence)
    reporter.section("report")
    reporter.write_line(str(summary.report))
