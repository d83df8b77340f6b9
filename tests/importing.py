"""A backend that imports what it computes with as soon as somebody looks at it."""

from __future__ import annotations

from typing import ClassVar

import tabulate

from tests.conforming import Good

assert tabulate


class ImportsAtOnce(Good):
    """check_nothing_is_imported_before_use"""

    distributions: ClassVar[tuple[str, ...]] = ("tabulate",)
