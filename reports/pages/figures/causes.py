"""The figure on causes: how far runs stand apart, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rnn_crosscheck.reports.analysis.frames import grouped
from rnn_crosscheck.reports.pages.figures.style import DASHES, INK, lay_out, look, new_figure, short, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: smaller differences are drawn here
_LEAST = 1e-8


def divergence(curves: pd.DataFrame, courses: pd.DataFrame, horizons: pd.DataFrame, backends: Sequence[str]) -> str:
    """Draw how far runs stand apart against the step, a column of panels a model, both axes logarithmic.

    Dark and thick: matched pairs. Thin, in a backend's colour: its continuing twins; dashed: its initial twins. Below,
    on the same axis, gradient norm and loss of the backends' own runs, the largest of each stretch of steps.
    """
    models = list(curves["model"].unique())
    labelled: set[str] = set()
    with new_figure(max(9.0, 1.5 + 4 * len(models)), 6.4) as (figure, written):
        axes = figure.subplots(3, len(models), squeeze=False, sharex="col", height_ratios=(3.2, 1, 1))
        # From the right: what the last panel has a label for needs none in the others.
        for (top, norms, losses), model in reversed(list(zip(axes.T, models, strict=True))):
            panel = curves[curves["model"] == model]
            last = float(panel["step"].max())
            top.set_xscale("log")
            top.set_xlim(0.9, last * 1.1)
            labelled |= _divergence(top, panel, backends, labelled)
            for axis, measure in ((norms, "gradient_norm"), (losses, "loss")):
                for backend, course in grouped(courses[courses["model"] == model], "backend"):
                    axis.plot(course["step"], course[measure], color=look(backend, backends)[0], lw=1.1, alpha=0.8)
                axis.set_ylabel(measure.replace("_", "\n"))
            _decades(norms, courses.loc[courses["model"] == model, "gradient_norm"])
            mine = (horizons["model"] == model) & (horizons["kind"] == "continuing")
            past = horizons.loc[mine, "horizon"].min()
            if not np.isnan(past):
                for axis in (top, norms, losses):
                    axis.axvline(past, color=INK, lw=0.9, ls=(0, (1, 2)))
                late = past**2 > last  # right of the middle
                top.annotate(
                    f"horizon: step {past:,.0f}", (past, 1), (-4 if late else 4, 0), textcoords="offset points",
                    ha="right" if late else "left", va="center", fontsize=8,
                )  # fmt: skip
            top.set_xticks([10**power for power in range(int(np.log10(max(last, 1))) + 1)])
            top.set_title(str(model), loc="left", fontsize=10)
            losses.set_xlabel("updates")
            for axis in (top, norms, losses):
                axis.minorticks_off()
        axes[0, 0].set_ylabel("largest difference in probability")
        lay_out(figure, h_pad=0.8)
    return written.getvalue()


def _divergence(axis: Axes, panel: pd.DataFrame, backends: Sequence[str], labelled: set[str]) -> set[str]:
    """Draw one panel; give the names of the lines in it, of which those in `labelled` get no label."""
    ends: dict[str, float] = {}
    colours: dict[str, str] = {}
    last = panel["step"].max()
    several = panel.loc[panel["kind"] == "matched", ["a", "b"]].drop_duplicates().shape[0] > 1
    pairs = 0
    for (kind, a, b), lines in grouped(panel, "kind", "a", "b"):
        colour = look(a, backends)[0]
        style: dict[str, Any] = {"lw": 1, "alpha": 0.75, "ls": (0, (4, 2)) if kind == "initial" else "-"}
        name = f"{short(a)}, {kind} twins"
        if kind == "matched":
            colour, style = INK, {"lw": 2.6, "ls": DASHES[pairs % len(DASHES)], "zorder": 3}
            name = f"{short(a)} and {short(b)}" if several else "matched pair"
            pairs += 1
        for _, line in grouped(lines, "run_a", "run_b"):
            # No difference at all has no place on a logarithmic axis but its lower edge.
            axis.plot(line["step"], line["max"].clip(lower=_LEAST), color=colour, **style)
        final = lines.loc[lines["step"] == last, "max"].max()
        ends[name], colours[name] = float(np.log10(max(final, _LEAST))), colour
    axis.set_yscale("log")
    axis.set_ylim(_LEAST, 1.5)
    wanted = {name: end for name, end in ends.items() if name not in labelled}
    for name, place in spread(wanted, 0.42, np.log10(_LEAST), 0.0).items():
        axis.text(last * 1.2, 10**place, name, color=colours[name], va="center", fontsize=8)
    return set(ends)


def _decades(axis: Axes, values: pd.Series) -> None:
    """Give an axis whole powers of ten, so that it never is without a tick."""
    known = values[values > 0]
    axis.set_yscale("log")
    if len(known):
        low, high = np.floor(np.log10(known.min())), np.ceil(np.log10(known.max()))
        axis.set_ylim(10**low, 10 ** max(high, low + 1))
