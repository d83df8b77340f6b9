"""Figures of the report, by the name of their file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rnn_crosscheck.reports.analysis.findings import Findings
from rnn_crosscheck.reports.pages.figures import accuracy, agreement, causes, speed


def _accuracy(found: Findings, backends: Sequence[str]) -> str:
    return accuracy.accuracy(found.runs, found.accuracy, backends, found.source) if len(found.accuracy) else ""


def _lengths(found: Findings, backends: Sequence[str]) -> str:
    fifths = found.lengths[found.lengths["scheme"] == "fifths"]
    return accuracy.by_length(fifths, backends) if fifths["bucket"].nunique() > 1 else ""


def _learning(found: Findings, backends: Sequence[str]) -> str:
    return accuracy.learning_curves(found.curves, backends) if len(found.curves) else ""


def _reliability(found: Findings, backends: Sequence[str]) -> str:
    return accuracy.reliability(found.reliability, backends) if found.reliability["examples"].any() else ""


def _ratios(found: Findings, backends: Sequence[str]) -> str:
    known = ~found.timings["baseline"] & found.timings["ratio"].notna()
    return speed.ratios(found.timings, backends, found.again) if known.any() else ""


def _drift(found: Findings, backends: Sequence[str]) -> str:
    return speed.drift(found.drift, backends) if len(found.drift) else ""


def _sweep(found: Findings, backends: Sequence[str]) -> str:
    return speed.sweep(found.sweep, backends) if len(found.sweep) else ""


def _ladder(found: Findings, backends: Sequence[str]) -> str:
    return agreement.ladder(found.dots, found.rungs, backends) if len(found.rungs) else ""


def _divergence(found: Findings, backends: Sequence[str]) -> str:
    why = found.why
    return causes.divergence(why.curves, why.courses, why.horizons, backends) if len(why.curves) else ""


#: draws a figure, or gives nothing where there are no numbers for it
_DRAWN: Mapping[str, Callable[[Findings, Sequence[str]], str]] = {
    "accuracy": _accuracy,
    "lengths": _lengths,
    "learning": _learning,
    "reliability": _reliability,
    "ratios": _ratios,
    "drift": _drift,
    "sweep": _sweep,
    "ladder": _ladder,
    "divergence": _divergence,
}


def names() -> set[str]:
    """Give the names of all files that `draw` may give."""
    return {f"{name}.svg" for name in _DRAWN}


def draw(backends: Sequence[str], findings: Findings) -> dict[str, str]:
    """Draw the figures that there are numbers for: name to SVG."""
    return {name: drawn for name, make in _DRAWN.items() if (drawn := make(findings, backends))}
