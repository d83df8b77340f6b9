"""What all figures share: SVG that reads in light and in dark, the same bytes for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Okabe and Ito's palette, which people with any colour vision tell apart; yellow is left out (too pale on white)
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
INK, PALE = "#333333", "#bbbbbb"

_STYLE: dict[str, Any] = {
    "svg.hashsalt": "rnn-crosscheck",  # ids inside the file would change with every run
    "svg.fonttype": "path",  # what was looked at is what everybody sees, whatever fonts they have
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "figure.facecolor": "white",  # opaque: dark ink on white reads on a dark page too
    "axes.facecolor": "white",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.titley": 1.0,  # a place of its own; looking for one costs a fifth of the drawing
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def look(backend: str, backends: Sequence[str]) -> tuple[str, str]:
    """Give the colour and the marker that a backend has in every figure."""
    place = list(backends).index(backend)
    return _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]


def short(name: str) -> str:
    """Cut a name that has no room on a line."""
    return name if len(name) <= 18 else name[:17] + "…"


def spread(ends: Mapping[str, float], gap: float, low: float, high: float) -> dict[str, float]:
    """Move labels apart that would lie on each other, as little as it takes, and keep them between low and high."""
    names = sorted(ends, key=lambda name: ends[name])
    places = np.array([ends[name] for name in names])
    for _ in range(100):
        close = np.diff(places) < gap * 0.999
        if not close.any():
            break
        for i in np.flatnonzero(close):
            middle = (places[i] + places[i + 1]) / 2
            places[i], places[i + 1] = middle - gap / 2, middle + gap / 2
    if len(places):
        places += max(0, low - places[0]) - max(0, places[-1] - high)
    return dict(zip(names, places, strict=True))


def lay_out(figure: Figure, *, h_pad: float | None = None, w_pad: float | None = None) -> None:
    """Fit the axes to their labels, as `Figure.tight_layout` does.

    That one leaves a layout engine behind, for whose sake everything would be drawn twice.
    """
    from matplotlib.layout_engine import TightLayoutEngine

    TightLayoutEngine(h_pad=h_pad, w_pad=w_pad).execute(figure)


@contextmanager
def new_figure(width: float, height: float) -> Iterator[tuple[Figure, io.StringIO]]:
    """Give a figure that is written as SVG when the block ends."""
    import matplotlib
    from matplotlib.figure import Figure

    written = io.StringIO()
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]  # its keys are a Literal
        figure = Figure(figsize=(width, height))
        yield figure, written
        figure.savefig(written, format="svg", metadata={"Date": None})
