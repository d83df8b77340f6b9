"""Figures of the report, by the name of their file; drawn here, or side by side with the rest of a report."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pandas as pd

from rnn_crosscheck.reports.pages.figures import accuracy, agreement, causes, speed

#: draws a figure from findings and the backends, in their order
Draw = Callable[[Any, Sequence[str]], str]

#: whether there are numbers for a figure, and what draws it
_FIGURES: Mapping[str, tuple[Callable[[Any], bool], Draw]] = {
    "accuracy": (
        lambda found: len(found.accuracy) > 0,
        lambda found, backends: accuracy.accuracy(found.runs, found.accuracy, backends, found.source, found.splits),
    ),
    "lengths": (
        lambda found: _fifths(found)["bucket"].nunique() > 1,
        lambda found, backends: accuracy.by_length(_fifths(found), backends),
    ),
    "learning": (
        lambda found: len(found.curves) > 0,
        lambda found, backends: accuracy.learning_curves(found.curves, backends),
    ),
    "reliability": (
        lambda found: bool(found.reliability["examples"].any()),
        lambda found, backends: accuracy.reliability(found.reliability, backends),
    ),
    "ratios": (
        lambda found: bool((~found.timings["baseline"] & found.timings["ratio"].notna()).any()),
        lambda found, backends: speed.ratios(found.timings, backends, found.again),
    ),
    "drift": (lambda found: len(found.drift) > 0, lambda found, backends: speed.drift(found.drift, backends)),
    "sweep": (lambda found: len(found.sweep) > 0, lambda found, backends: speed.sweep(found.sweep, backends)),
    "ladder": (
        lambda found: len(found.rungs) > 0,
        lambda found, backends: agreement.ladder(found.dots, found.rungs, backends),
    ),
    "divergence": (
        lambda found: len(found.why.curves) > 0,
        lambda found, backends: causes.divergence(found.why.curves, found.why.courses, found.why.horizons, backends),
    ),
}


def _fifths(found: Any) -> Any:  # noqa: ANN401 - findings, or what of them is drawn
    return found.lengths[found.lengths["scheme"] == "fifths"]


def _is_drawn(value: object) -> bool:
    return isinstance(value, pd.DataFrame | dict)


def names() -> set[str]:
    """Give the names of all figures that there may be."""
    return set(_FIGURES)


def wanted(found: Any) -> list[str]:  # noqa: ANN401 - findings, or what of them is drawn
    """Give the names of the figures that there are numbers for."""
    return [name for name, (there, _) in _FIGURES.items() if there(found)]


def draw(backends: Sequence[str], found: Any) -> dict[str, str]:  # noqa: ANN401 - as in `wanted`
    """Draw the figures that there are numbers for: name to SVG."""
    return {name: _FIGURES[name][1](found, backends) for name in wanted(found)}


class Drawing:
    """Draws in a process of its own, which starts at once, so that matplotlib is there when the findings are."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        with suppress(OSError):
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", f"from {__name__} import answer; answer()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )

    def __enter__(self) -> Drawing:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no process and no pipe behind, whatever went wrong."""
        if self._process is not None:
            self._process.kill()
            for pipe in (self._process.stdin, self._process.stdout):
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()
            self._process.wait()

    def begin(self, backends: Sequence[str], found: Any) -> None:  # noqa: ANN401 - findings
        """Hand over what is to be drawn."""
        self._work = (backends, found)
        # Tables alone: what holds them would bring half of the report's code with it.
        drawn, why = (
            {key: value for key, value in vars(one).items() if _is_drawn(value)} for one in (found, found.why)
        )
        sent = pickle.dumps((tuple(backends), drawn, why))
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.write(sent)
                self._process.stdin.close()

    def end(self) -> dict[str, str]:
        """Wait for the figures; what the process didn't draw is drawn here."""
        said = b""
        if self._process is not None and self._process.stdout is not None:
            with self._process.stdout as pipe:
                said = pipe.read()
            self._process.wait()
        try:
            drawn: dict[str, str] = json.loads(said)
        except ValueError:
            return draw(*self._work)
        return drawn


def answer() -> None:
    """Draw what comes on standard input, and write it as JSON: what the process of `Drawing` does."""
    import matplotlib.figure  # noqa: F401 - takes its time, which nobody waits for yet

    backends, drawn, why = pickle.load(sys.stdin.buffer)
    json.dump(draw(backends, SimpleNamespace(**drawn, why=SimpleNamespace(**why))), sys.stdout)
