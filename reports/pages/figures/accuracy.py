"""Figures on accuracy: every run, by length, by epoch, and what probabilities are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.pages.figures.style import DASHES, INK, PALE, lay_out, look, new_figure, short, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def accuracy(
    runs: pd.DataFrame,
    summaries: pd.DataFrame,
    backends: Sequence[str],
    source: Mapping[str, float],
    splits: pd.DataFrame,
) -> str:
    """Draw one dot a run, with the mean over seeds and its interval; `source` marks the source experiment.

    A dashed line, where it is in sight, is what always saying the larger class would get (`splits` has the classes).
    """
    good = runs[runs["status"] == "ok"]
    rows = list(each(summaries))
    with new_figure(9, 0.75 + 0.25 * len(rows) + 0.1 * summaries.groupby(["division", "model"]).ngroups) as (
        figure,
        written,
    ):
        axis = figure.subplots()
        place, ticks, names, before = 0.0, [], [], None
        for row in rows:
            if before not in (None, (row.division, row.model)):
                place += 0.4
                axis.axhline(place - 0.7, color=PALE, lw=0.6)
            before = (row.division, row.model)
            colour, marker = look(row.backend, backends)
            mine = good[
                (good["division"] == row.division) & (good["model"] == row.model) & (good["backend"] == row.backend)
            ]
            if row.seeds > 1:
                axis.plot(
                    [100 * row.low, 100 * row.high], [place] * 2, color=colour, lw=4, alpha=0.25, solid_capstyle="butt"
                )
                axis.plot([100 * row.mean], [place], color=colour, marker="|", ms=12, mew=2.2)
            places = [place] * len(mine)
            axis.plot(100 * mine["accuracy"], places, marker, color=colour, ms=6, alpha=0.75, mec="white")
            if row.model in source:
                axis.plot([100 * source[row.model]], [place], color=INK, marker="x", ls="none", ms=8, mew=1.6)
            ticks.append(place)
            names.append(f"{row.model}, {row.division}, {row.backend}")
            place += 1
        axis.set_yticks(ticks, names)
        for label, row in zip(axis.get_yticklabels(), rows, strict=True):
            label.set_color(look(row.backend, backends)[0])
        axis.invert_yaxis()
        shown = [*good["accuracy"], *(source[m] for m in set(summaries["model"]) & set(source))]
        # An interval over two seeds can be wider than the scale; the dots decide what is shown.
        pad = max(0.02, 0.35 * (max(shown) - min(shown)))
        axis.set_xlim(100 * max(0, min(shown) - pad), 100 * min(1, max(shown) + pad))
        positive = splits.set_index("split")["positive"].get("test", float("nan"))
        axis.axvline(100 * max(positive, 1 - positive), color=INK, lw=0.8, ls="--")
        axis.set_xlabel("accuracy on the test examples, %")
        axis.grid(axis="x", color=PALE, lw=0.5)
        axis.set_axisbelow(True)
        lay_out(figure)
    return written.getvalue()


def by_length(lengths: pd.DataFrame, backends: Sequence[str]) -> str:
    """Draw accuracy against the length of the examples: a panel a division, a line a backend x model.

    A colour a backend, a dash a model; the whiskers are intervals over seeds.
    """
    panels = list(grouped(lengths, "division"))
    models = list(lengths["model"].unique())
    places = lengths.drop_duplicates("bucket").sort_values("bucket")
    # An interval over two seeds can be wider than the scale; the means decide what is shown.
    low, high = 100 * lengths["mean"].min(), 100 * lengths["mean"].max()
    pad = max(2.0, 0.25 * (high - low))
    low, high = max(0.0, low - pad), min(100.0, high + pad)
    with new_figure(9, 0.6 + 3.6 * len(panels)) as (figure, written):
        axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axis, (division, panel) in zip(axes, panels, strict=True):
            ends: dict[str, float] = {}
            colours: dict[str, str] = {}
            lines = list(grouped(panel, "model", "backend"))
            for number, ((model, backend), line) in enumerate(lines):
                colour, marker = look(backend, backends)
                dash = DASHES[models.index(model) % len(DASHES)]
                # Beside each other, or the whiskers of one line hide those of another.
                x = line["bucket"] + 0.06 * (number - (len(lines) - 1) / 2)
                middle = 100 * line["mean"]
                axis.plot(x, middle, color=colour, marker=marker, ls=dash, lw=1.8, ms=5)
                known = line["low"].notna()
                axis.vlines(
                    x[known], 100 * line["low"][known], 100 * line["high"][known], color=colour, lw=1, alpha=0.5
                )
                name = f"{model}, {short(backend)}"
                ends[name], colours[name] = float(middle.iloc[-1]), colour
            last = float(places["bucket"].max())
            axis.set_xticks(
                places["bucket"], [f"{low:,} to {high:,}" for low, high in places[["low_tokens", "high_tokens"]].values]
            )
            axis.set_xlim(-0.3, last + 0.36 * max(last, 1.0))
            axis.spines["bottom"].set_bounds(-0.3, last + 0.3)
            axis.set_ylim(low, high)
            for name, place in spread(ends, (high - low) * 0.075, low, high).items():
                axis.text(
                    last + 0.3, place, name, color=colours[name], va="center", fontsize=9,
                    bbox={"color": "white", "pad": 1},
                )  # fmt: skip
            axis.set_title(str(division), loc="left", fontsize=10)
            axis.set_ylabel("accuracy, %")
            axis.grid(axis="y", color=PALE, lw=0.5)
            axis.set_axisbelow(True)
        axes[-1].set_xlabel("tokens of an example, in fifths of the test examples")
        lay_out(figure, h_pad=1.5)
    return written.getvalue()


def learning_curves(curves: pd.DataFrame, backends: Sequence[str]) -> str:
    """Draw accuracy and loss by epoch: a row of panels a division x model, a colour a backend.

    Solid is validation (thin: one seed; thick: their mean), dashed is training (mean over seeds).
    """
    panels = list(grouped(curves, "division", "model"))
    with new_figure(9, 0.5 + 2.3 * len(panels)) as (figure, written):
        axes = figure.subplots(len(panels), 2, squeeze=False)
        for row, ((division, model), panel) in zip(axes, panels, strict=True):
            for axis, measure, unit in ((row[0], "accuracy", 100), (row[1], "loss", 1)):
                _curves(axis, panel, measure, unit, backends)
                axis.set_title(f"{model}, {division}: {measure}", loc="left", fontsize=10)
                axis.set_ylabel("accuracy, %" if measure == "accuracy" else "loss")
        for axis in axes[-1]:
            axis.set_xlabel("epoch")
        lay_out(figure, h_pad=1.5, w_pad=2)
    return written.getvalue()


def _curves(axis: Axes, panel: pd.DataFrame, measure: str, unit: int, backends: Sequence[str]) -> None:
    ends: dict[str, float] = {}
    for backend in backends:
        mine = panel[panel["backend"] == backend]
        if mine.empty:
            continue
        colour, _ = look(backend, backends)
        # One line with gaps: hundreds of seeds take seconds as lines of their own.
        seeds = mine.pivot(index="seed", columns="epoch", values=f"valid_{measure}")
        seeds[np.nan] = np.nan
        axis.plot(np.tile(seeds.columns, len(seeds)), unit * seeds.to_numpy().ravel(), color=colour, lw=0.8, alpha=0.5)
        means = mine.groupby("epoch")[[f"valid_{measure}", f"train_{measure}"]].mean() * unit
        axis.plot(means.index, means[f"valid_{measure}"], color=colour, lw=2.2, marker=".")
        axis.plot(means.index, means[f"train_{measure}"], color=colour, lw=1.4, ls=(0, (4, 2)))
        ends[backend] = float(means[f"valid_{measure}"].iloc[-1])
    last, first = panel["epoch"].max(), panel["epoch"].min()
    axis.set_xticks(sorted(panel["epoch"].unique()))
    # Room for the labels to the right of the last epoch.
    axis.set_xlim(first - 0.1, last + 0.62 * max(last - first, 0.5))
    axis.spines["bottom"].set_bounds(first, last)
    low, high = axis.get_ylim()
    axis.set_ylim(low, high)
    for backend, place in spread(ends, (high - low) * 0.12, low, high).items():
        axis.text(
            last + 0.03 * max(last - first, 0.5) + 0.03,
            place,
            short(backend),
            color=look(backend, backends)[0],
            va="center",
            fontsize=9,
        )


def reliability(curves: pd.DataFrame, backends: Sequence[str]) -> str:
    """Draw the share of positive labels against the probability that was given, a panel a division x model."""
    panels = list(grouped(curves, "division", "model"))
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    with new_figure(9, 0.5 + 3.6 * down) as (figure, written):
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        for axis, ((division, model), panel) in zip(axes, panels, strict=False):
            axis.plot([0, 1], [0, 1], color=PALE, lw=1)
            ends = {}
            for backend, line in grouped(panel, "backend"):
                colour, marker = look(backend, backends)
                known = line[line["examples"] > 0]
                axis.plot(known["probability"], known["share"], color=colour, marker=marker, lw=1.8, ms=4)
                axis.vlines(known["probability"], known["low"], known["high"], color=colour, lw=1, alpha=0.5)
                ends[str(backend)] = float(known["share"].iloc[-1])
            for backend, place in spread(ends, 0.08, 0.0, 1.0).items():
                axis.text(1.03, place, short(backend), color=look(backend, backends)[0], va="center", fontsize=9)
            axis.set_xlim(0, 1.5)
            axis.set_xticks([0, 0.25, 0.5, 0.75, 1])
            axis.spines["bottom"].set_bounds(0, 1)
            axis.set_ylim(0, 1)
            axis.set_title(f"{model}, {division}", loc="left", fontsize=10)
            axis.set_ylabel("share of positive labels")
            axis.set_xlabel("probability of positive")
        lay_out(figure, h_pad=1.5, w_pad=2)
    return written.getvalue()
