"""Figures on speed: ratios, rounds, and other sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.pages.figures.style import INK, PALE, lay_out, look, new_figure, short, spread
from rnn_crosscheck.reports.writing import named

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def ratios(timed: pd.DataFrame, backends: Sequence[str], noise: pd.DataFrame) -> str:
    """Draw each backend's time in times of the baseline's, with its interval, and the A/A band around 1."""
    rows = list(each(timed[~timed["baseline"] & timed["ratio"].notna()]))
    bands = {(row.model, row.operation): row for row in each(noise)}
    with new_figure(9, 1.3 + 0.5 * len(rows)) as (figure, written):
        axis = figure.subplots()
        for place, row in enumerate(rows):
            colour, marker = look(row.backend, backends)
            band = bands.get((row.model, row.operation))
            if band is not None:
                axis.fill_betweenx([place - 0.4, place + 0.4], band.band_low, band.band_high, color=PALE, lw=0)
            axis.plot([row.low, row.high], [place] * 2, color=colour, lw=2)
            axis.plot([row.ratio], [place], color=colour, marker=marker, ms=7)
            axis.annotate(
                f"{row.ratio:.2f}",
                (row.ratio, place),
                (0, 8),
                textcoords="offset points",
                color=colour,
                ha="center",
                fontsize=9,
            )
        axis.axvline(1, color=INK, lw=1)
        axis.set_xscale("log")
        edges = [1.0, *(row.low for row in rows), *(row.high for row in rows)]
        low, high = min(edges) / 1.25, max(edges) * 1.25
        axis.set_xlim(low, high)
        fine = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1, 1.2, 1.5, 2, 3, 4) if high < 5 * low else ()
        ticks = [tick for tick in fine or (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if low <= tick <= high]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set_yticks(
            range(len(rows)),
            [f"{r.model}, {r.operation.replace('_', ' ')}, {named(r.backend, r.setting)}" for r in rows],
        )
        for label, row in zip(axis.get_yticklabels(), rows, strict=True):
            label.set_color(look(row.backend, backends)[0])
        axis.set_ylim(len(rows) - 0.4, -0.7)
        axis.set_xlabel(f"time in times of {timed.loc[timed['baseline'], 'backend'].iloc[0]} (left of 1 is faster)")
        lay_out(figure)
    return written.getvalue()


def drift(rounds: pd.DataFrame, backends: Sequence[str]) -> str:
    """Draw each round in times of its worker's median, a panel a model, a line a worker.

    Solid: default settings; dashed: tuned; dotted: the baseline's second worker. Upright: workers were started afresh.
    """
    panels = list(grouped(rounds, "model", "operation"))
    # One disturbed round must not flatten all the others.
    quietest, busiest = np.quantile(rounds["value"], (0.002, 0.98))
    low, high = min(0.95, float(quietest) / 1.02), max(1.05, float(busiest) * 1.02)
    with new_figure(9, 0.6 + 2.4 * len(panels)) as (figure, written):
        axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axis, ((model, operation), panel) in zip(axes, panels, strict=True):
            ends: dict[str, float] = {}
            looks: dict[str, str] = {}
            for (backend, setting, again), mine in grouped(panel, "backend", "setting", "again"):
                colour = look(backend, backends)[0]
                style = ":" if again else "-" if setting == "default" else (0, (4, 2))
                axis.plot(mine["round"], mine["value"].clip(low, high), color=colour, ls=style, lw=1.2, alpha=0.85)
                name = f"{short(backend)}, again" if again else named(short(backend), setting)
                ends[name], looks[name] = float(np.clip(mine["value"].iloc[-1], low, high)), colour
            last = panel["round"].max()
            for first in panel.groupby("start")["round"].min().iloc[1:]:
                axis.axvline(first - 0.5, color=PALE, lw=0.8, zorder=0)
            axis.set_ylim(low, high)
            axis.set_xlim(0.5, last * 1.25)
            axis.spines["bottom"].set_bounds(1, last)
            axis.axhline(1, color=PALE, lw=0.8, xmax=0.8, zorder=0)
            for name, place in spread(ends, (high - low) * 0.11, low, high).items():
                axis.text(last * 1.01, place, name, color=looks[name], va="center", fontsize=8)
            axis.set_xticks([tick for tick in axis.get_xticks() if 1 <= tick <= last])
            axis.set_ylabel("times the median")
            axis.set_title(f"{model}, {operation.replace('_', ' ')}", loc="left", fontsize=10)
        axes[-1].set_xlabel("round")
        lay_out(figure, h_pad=1.2)
    return written.getvalue()


def sweep(swept: pd.DataFrame, backends: Sequence[str]) -> str:
    """Draw examples a second over batch sizes and over lengths: a row a model x operation, both axes logarithmic."""
    rows = list(grouped(swept, "model", "operation"))
    kinds = list(swept["axis"].unique())
    with new_figure(4.7 * len(kinds), 0.5 + 2.5 * len(rows)) as (figure, written):
        axes = figure.subplots(len(rows), len(kinds), squeeze=False)
        for line, ((model, operation), panel) in zip(axes, rows, strict=True):
            for axis, kind in zip(line, kinds, strict=True):
                _throughput(axis, panel[panel["axis"] == kind], backends)
                axis.set_title(f"{model}, {operation.replace('_', ' ')}", loc="left", fontsize=10)
            line[0].set_ylabel("examples/s")
        for axis, kind in zip(axes[-1], kinds, strict=True):
            axis.set_xlabel(kind)
        lay_out(figure, h_pad=1.2, w_pad=1.5)
    return written.getvalue()


def _throughput(axis: Axes, panel: pd.DataFrame, backends: Sequence[str]) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    if panel.empty:
        axis.set_axis_off()
        return
    ends: dict[str, float] = {}
    looks: dict[str, str] = {}
    sizes = sorted(panel["size"].unique())
    for (backend, setting), mine in grouped(panel, "backend", "setting"):
        colour, marker = look(backend, backends)
        curve = mine.sort_values("size")
        style = "-" if setting == "default" else (0, (4, 2))
        axis.plot(curve["size"], curve["examples_per_s"], color=colour, marker=marker, ms=4, ls=style, lw=1.4)
        name = named(short(backend), setting)
        ends[name], looks[name] = float(np.log10(curve["examples_per_s"].iloc[-1])), colour
    low, high = np.log10(panel["examples_per_s"].min()) - 0.1, np.log10(panel["examples_per_s"].max()) + 0.15
    axis.set_ylim(10**low, 10**high)
    axis.set_xlim(sizes[0] / 1.15, sizes[-1] * (sizes[-1] / sizes[0]) ** 0.75)
    axis.spines["bottom"].set_bounds(sizes[0], sizes[-1])
    axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axis.minorticks_off()
    for name, place in spread(ends, (high - low) * 0.1, low, high).items():
        axis.text(
            sizes[-1] * (sizes[-1] / sizes[0]) ** 0.04, 10**place, name, color=looks[name], va="center", fontsize=8
        )
