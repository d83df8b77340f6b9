"""The figure on agreement: the noise ladder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rnn_crosscheck.reports.analysis.frames import each
from rnn_crosscheck.reports.pages.figures.style import INK, PALE, lay_out, look, new_figure, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

#: groups of one row that have bars, and pairs of a group that have dots; more would lie on each other
_MOST_BARS, _MOST_DOTS = 6, 100


def ladder(dots: pd.DataFrame, rungs: pd.DataFrame, backends: Sequence[str]) -> str:
    """Draw the noise ladder: a panel a model, a row a rung and division, a dot a pair of runs.

    Pairs of one backend have its colour, pairs of two are dark; of more than `_MOST_DOTS` of a group, as many stand
    for all. The bar is the mean of a group with its interval;
    where a rung has more than `_MOST_BARS` groups, their dots alone are drawn.
    """
    models = list(dict.fromkeys([*rungs["model_a"], *rungs["model_b"]]))
    rows = list(each(rungs[["rung", "name", "division"]].drop_duplicates()))
    divisions = rungs.groupby("rung")["division"].nunique()
    several = set(divisions.index[divisions > 1])
    most = 100 * float(dots["disagreement"].max())
    with new_figure(9, 0.7 + len(models) * (0.5 + 0.5 * len(rows))) as (figure, written):
        axes = figure.subplots(len(models), 1, squeeze=False, sharex=True)[:, 0]
        for axis, model in zip(axes, models, strict=True):
            for place, row in enumerate(rows):
                of_pairs, of_groups = (
                    frame[
                        (frame["rung"] == row.rung)
                        & (frame["division"] == row.division)
                        & ((frame["model_a"] == model) | (frame["model_b"] == model))
                    ]
                    for frame in (dots, rungs)
                )
                _rung(axis, place, of_pairs, of_groups, backends)
            axis.set_yticks(
                range(len(rows)),
                [f"{row.rung} {row.name}{f', {row.division}' if row.rung in several else ''}" for row in rows],
            )
            axis.set_ylim(len(rows) - 0.4, -0.6)
            axis.set_xlim(-0.02 * max(most, 1), 1.06 * max(most, 1))
            axis.set_title(str(model), loc="left", fontsize=10)
            axis.grid(axis="x", color=PALE, lw=0.5)
            axis.set_axisbelow(True)
        axes[-1].set_xlabel("predictions that differ, % of the test examples")
        # One that trains nothing has no pair of its own, and so no dot in its colour.
        alone = set(dots.loc[dots["backend_a"] == dots["backend_b"], "backend_a"])
        present = [name for name in backends if name in alone]
        names = [(short(name), look(name, backends)[0]) for name in present] + [("two backends", INK)]
        for number, (name, colour) in enumerate(names):
            axes[0].annotate(
                name, (1, 1), (8, -14.0 * number), xycoords="axes fraction", textcoords="offset points",
                ha="left", va="top", color=colour, fontsize=9,
            )  # fmt: skip
        lay_out(figure, h_pad=1)
    return written.getvalue()


def _spread_out(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of many values, some that lie as all of them do, the least and the most among them."""
    if len(values) <= _MOST_DOTS:
        return values
    return np.asarray(np.quantile(values, np.linspace(0, 1, _MOST_DOTS), method="nearest"))


def _rung(axis: Axes, place: int, dots: pd.DataFrame, groups: pd.DataFrame, backends: Sequence[str]) -> None:
    """Draw one row of the ladder, its groups beside each other."""
    bars = len(groups) <= _MOST_BARS
    for number, group in enumerate(each(groups)):
        same = group.backend_a == group.backend_b
        colour, marker = look(group.backend_a, backends) if same else (INK, "D")
        y = place + 0.7 * ((number + 0.5) / len(groups) - 0.5)
        mine = dots[
            (dots["backend_a"] == group.backend_a)
            & (dots["backend_b"] == group.backend_b)
            & (dots["model_a"] == group.model_a)
            & (dots["model_b"] == group.model_b)
        ]
        shown = 100 * _spread_out(mine["disagreement"].to_numpy())
        axis.plot(
            shown, [y] * len(shown), color=colour, marker=marker, ls="none", ms=4.5, alpha=0.65,
            mec="white", mew=0.5,
        )  # fmt: skip
        if bars and not np.isnan(group.low):
            axis.plot(
                [100 * group.low, 100 * group.high], [y, y], color=colour, lw=5, alpha=0.22, solid_capstyle="butt"
            )
            axis.plot([100 * group.disagreement], [y], color=colour, marker="|", ms=9, mew=2)
