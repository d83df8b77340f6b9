"""How numbers and names are written, the same in pages, terminal, figures and JSON."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

#: stands where there is no value
NONE = "-"

_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def percent(share: float) -> str:
    """Write a share in per cent with one decimal: 0.618 is ``61.8``."""
    return NONE if math.isnan(share) else f"{100 * share:z.1f}"  # z: no minus in front of 0.0


def decimals(digits: int) -> Callable[[float], str]:
    """Give a writer of numbers with so many decimals."""
    return lambda value: NONE if math.isnan(value) else f"{value:z.{digits}f}"


def significant(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits and never an exponent: 1234.5 is ``1,230``."""
    if not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    rounded = round(value, digits - 1 - size)
    size = math.floor(math.log10(abs(rounded)))  # 9.996 has become 10.0
    return f"{rounded:,.{max(0, digits - 1 - size)}f}"


def scientific(value: float) -> str:
    """Write a number of any size with two significant digits: 0.0000013 is ``1.3e-6``, 0.591 is ``0.59``."""
    if not math.isfinite(value):
        return "infinite" if math.isinf(value) else NONE
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return significant(value, 2)
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def count(value: float) -> str:
    """Write a whole number with thousands separated."""
    return NONE if math.isnan(value) else f"{int(value):,}"


def interval(write: Callable[[float], str]) -> Callable[[float, float], str]:
    """Give a writer of intervals ``[low, high]``."""
    return lambda low, high: NONE if math.isnan(low) or math.isnan(high) else f"[{write(low)}, {write(high)}]"


def p_value(p: float) -> str:
    """Write a p value with three decimals; smaller ones are ``< 0.001``, which Markdown reads as text."""
    if math.isnan(p):
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def megabytes(size: float) -> str:
    """Write bytes as MB, three significant digits."""
    return significant(size / 1e6)


def plain(text: str) -> str:
    """Drop what a terminal or a renderer would act on, and put everything on one line."""
    text = _ESCAPE_SEQUENCE.sub("", text)
    kept = (
        " " if character.isspace() else character
        for character in text
        # C: control, format (bidirectional, zero-width), surrogate, private, unassigned.
        if character.isspace() or not unicodedata.category(character).startswith("C")
    )
    return " ".join("".join(kept).split())


def listing(names: Sequence[Any]) -> str:
    """Write ``a``, ``a and b`` or ``a, b and c``."""
    *first, last = [str(name) for name in names] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def named(backend: str, setting: str) -> str:
    """Name a backend with its setting, unless that is what its users get."""
    return backend if setting == "default" else f"{backend} ({setting})"
