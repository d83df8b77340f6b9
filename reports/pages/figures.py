"""DataFrames to figures: SVG that reads in light and in dark, the same bytes for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.writing import named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's palette, which people with any colour vision tell apart; yellow is left out (too pale on white)
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
#: smaller differences are drawn here
_LEAST = 1e-8
_INK, _PALE = "#333333", "#bbbbbb"

_STYLE: dict[str, Any] = {
    "svg.hashsalt": "rnn-crosscheck",  # ids inside the file would change with every run
    "svg.fonttype": "path",  # what was looked at is what everybody sees, whatever fonts they have
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "figure.facecolor": "white",  # opaque: dark ink on white reads on a dark page too
    "axes.facecolor": "white",
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.titley": 1.0,  # a place of its own; looking for one costs a fifth of the drawing
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def learning_curves(curves: pd.DataFrame, backends: Sequence[str]) -> str:
    """Draw accuracy and loss by epoch: a row of panels a division x model, a colour a backend.

    Solid is validation (thin: one seed; thick: their mean), dashed is training (mean over seeds).
    """
    panels = list(grouped(curves, "division", "model"))
    with _figure(9, 0.5 + 2.3 * len(panels)) as (figure, written):
        axes = figure.subplots(len(panels), 2, squeeze=False)
        for row, ((division, model), panel) in zip(axes, panels, strict=True):
            for axis, measure, unit in ((row[0], "accuracy", 100), (row[1], "loss", 1)):
                _curves(axis, panel, measure, unit, backends)
                axis.set_title(f"{model}, {division}: {measure}", loc="left", fontsize=10)
                axis.set_ylabel("accuracy, %" if measure == "accuracy" else "loss")
        for axis in axes[-1]:
            axis.set_xlabel("epoch")
        _lay_out(figure, h_pad=1.5, w_pad=2)
    return written.getvalue()


def _curves(axis: Axes, panel: pd.DataFrame, measure: str, unit: int, backends: Sequence[str]) -> None:
    ends: dict[str, float] = {}
    for backend in backends:
        mine = panel[panel["backend"] == backend]
        if mine.empty:
            continue
        colour, _ = _look(backend, backends)
        for _, seed in mine.groupby("seed"):
            axis.plot(seed["epoch"], unit * seed[f"valid_{measure}"], color=colour, lw=0.8, alpha=0.5)
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
    for backend, place in _spread(ends, (high - low) * 0.12, low, high).items():
        axis.text(
            last + 0.03 * max(last - first, 0.5) + 0.03,
            place,
            _short(backend),
            color=_look(backend, backends)[0],
            va="center",
            fontsize=9,
        )


def accuracy(runs: pd.DataFrame, summaries: pd.DataFrame, backends: Sequence[str], source: Mapping[str, float]) -> str:
    """Draw one dot a run, with the mean over seeds and its interval; `source` marks the source experiment."""
    good = runs[runs["status"] == "ok"]
    rows = list(each(summaries))
    with _figure(9, 1.2 + 0.42 * len(rows) + 0.25 * summaries.groupby(["division", "model"]).ngroups) as (
        figure,
        written,
    ):
        axis = figure.subplots()
        place, ticks, names, before = 0.0, [], [], None
        for row in rows:
            if before not in (None, (row.division, row.model)):
                place += 0.6
                axis.axhline(place - 0.8, color=_PALE, lw=0.6)
            before = (row.division, row.model)
            colour, marker = _look(row.backend, backends)
            mine = good[
                (good["division"] == row.division) & (good["model"] == row.model) & (good["backend"] == row.backend)
            ]
            if row.seeds > 1:
                axis.plot(
                    [100 * row.low, 100 * row.high], [place] * 2, color=colour, lw=5, alpha=0.25, solid_capstyle="butt"
                )
                axis.plot([100 * row.mean], [place], color=colour, marker="|", ms=17, mew=2.4)
            axis.plot(
                100 * mine["accuracy"],
                [place] * len(mine),
                color=colour,
                marker=marker,
                ls="none",
                ms=6,
                alpha=0.75,
                mec="white",
            )
            if row.model in source:
                axis.plot([100 * source[row.model]], [place], color=_INK, marker="x", ls="none", ms=8, mew=1.6)
            ticks.append(place)
            names.append(f"{row.model}, {row.division}, {row.backend}")
            place += 1
        axis.set_yticks(ticks, names)
        for label, row in zip(axis.get_yticklabels(), rows, strict=True):
            label.set_color(_look(row.backend, backends)[0])
        axis.invert_yaxis()
        shown = [*good["accuracy"], *(source[m] for m in set(summaries["model"]) & set(source))]
        # An interval over two seeds can be wider than the scale; the dots decide what is shown.
        pad = max(0.02, 0.35 * (max(shown) - min(shown)))
        axis.set_xlim(100 * max(0, min(shown) - pad), 100 * min(1, max(shown) + pad))
        axis.set_xlabel("accuracy on the test examples, %")
        axis.grid(axis="x", color=_PALE, lw=0.5)
        axis.set_axisbelow(True)
        _lay_out(figure)
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
    with _figure(9, 0.6 + 3.6 * len(panels)) as (figure, written):
        axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axis, (division, panel) in zip(axes, panels, strict=True):
            ends: dict[str, float] = {}
            colours: dict[str, str] = {}
            lines = list(grouped(panel, "model", "backend"))
            for number, ((model, backend), line) in enumerate(lines):
                colour, marker = _look(backend, backends)
                dash = _DASHES[models.index(model) % len(_DASHES)]
                # Beside each other, or the whiskers of one line hide those of another.
                x = line["bucket"] + 0.06 * (number - (len(lines) - 1) / 2)
                middle = 100 * line["mean"]
                axis.plot(x, middle, color=colour, marker=marker, ls=dash, lw=1.8, ms=5)
                known = line["low"].notna()
                axis.vlines(
                    x[known], 100 * line["low"][known], 100 * line["high"][known], color=colour, lw=1, alpha=0.5
                )
                name = f"{model}, {_short(backend)}"
                ends[name], colours[name] = float(middle.iloc[-1]), colour
            last = float(places["bucket"].max())
            axis.set_xticks(
                places["bucket"], [f"{low:,} to {high:,}" for low, high in places[["low_tokens", "high_tokens"]].values]
            )
            axis.set_xlim(-0.3, last + 0.36 * max(last, 1.0))
            axis.spines["bottom"].set_bounds(-0.3, last + 0.3)
            axis.set_ylim(low, high)
            for name, place in _spread(ends, (high - low) * 0.075, low, high).items():
                axis.text(
                    last + 0.3, place, name, color=colours[name], va="center", fontsize=9,
                    bbox={"color": "white", "pad": 1},
                )  # fmt: skip
            axis.set_title(str(division), loc="left", fontsize=10)
            axis.set_ylabel("accuracy, %")
            axis.grid(axis="y", color=_PALE, lw=0.5)
            axis.set_axisbelow(True)
        axes[-1].set_xlabel("tokens of an example, in fifths of the test examples")
        _lay_out(figure, h_pad=1.5)
    return written.getvalue()


def reliability(curves: pd.DataFrame, backends: Sequence[str]) -> str:
    """Draw the share of positive labels against the probability that was given, a panel a division x model."""
    panels = list(grouped(curves, "division", "model"))
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    with _figure(9, 0.5 + 3.6 * down) as (figure, written):
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        for axis, ((division, model), panel) in zip(axes, panels, strict=False):
            axis.plot([0, 1], [0, 1], color=_PALE, lw=1)
            ends = {}
            for backend, line in grouped(panel, "backend"):
                colour, marker = _look(backend, backends)
                known = line[line["examples"] > 0]
                axis.plot(known["probability"], known["share"], color=colour, marker=marker, lw=1.8, ms=4)
                axis.vlines(known["probability"], known["low"], known["high"], color=colour, lw=1, alpha=0.5)
                ends[str(backend)] = float(known["share"].iloc[-1])
            for backend, place in _spread(ends, 0.08, 0.0, 1.0).items():
                axis.text(1.03, place, _short(backend), color=_look(backend, backends)[0], va="center", fontsize=9)
            axis.set_xlim(0, 1.5)
            axis.set_xticks([0, 0.25, 0.5, 0.75, 1])
            axis.spines["bottom"].set_bounds(0, 1)
            axis.set_ylim(0, 1)
            axis.set_title(f"{model}, {division}", loc="left", fontsize=10)
            axis.set_ylabel("share of positive labels")
            axis.set_xlabel("probability of positive")
        _lay_out(figure, h_pad=1.5, w_pad=2)
    return written.getvalue()


def ladder(dots: pd.DataFrame, rungs: pd.DataFrame, backends: Sequence[str]) -> str:
    """Draw the noise ladder: a panel a model, a row a rung and division, a dot a pair of runs.

    Pairs of one backend have its colour, pairs of two are dark. The bar is the mean of a group with its interval;
    where a rung has more than `_MOST_BARS` groups, their dots alone are drawn.
    """
    models = list(dict.fromkeys([*rungs["model_a"], *rungs["model_b"]]))
    rows = list(each(rungs[["rung", "name", "division"]].drop_duplicates()))
    divisions = rungs.groupby("rung")["division"].nunique()
    several = set(divisions.index[divisions > 1])
    most = 100 * float(dots["disagreement"].max())
    with _figure(9, 0.7 + len(models) * (0.5 + 0.5 * len(rows))) as (figure, written):
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
            axis.grid(axis="x", color=_PALE, lw=0.5)
            axis.set_axisbelow(True)
        axes[-1].set_xlabel("predictions that differ, % of the test examples")
        # One that trains nothing has no pair of its own, and so no dot in its colour.
        alone = set(dots.loc[dots["backend_a"] == dots["backend_b"], "backend_a"])
        present = [name for name in backends if name in alone]
        names = [(_short(name), _look(name, backends)[0]) for name in present] + [("two backends", _INK)]
        for number, (name, colour) in enumerate(names):
            axes[0].annotate(
                name, (1, 1), (8, -14.0 * number), xycoords="axes fraction", textcoords="offset points",
                ha="left", va="top", color=colour, fontsize=9,
            )  # fmt: skip
        _lay_out(figure, h_pad=1)
    return written.getvalue()


#: groups of one row that have bars; more would lie on each other
_MOST_BARS = 6


def _rung(axis: Axes, place: int, dots: pd.DataFrame, groups: pd.DataFrame, backends: Sequence[str]) -> None:
    """Draw one row of the ladder, its groups beside each other."""
    bars = len(groups) <= _MOST_BARS
    for number, group in enumerate(each(groups)):
        same = group.backend_a == group.backend_b
        colour, marker = _look(group.backend_a, backends) if same else (_INK, "D")
        y = place + 0.7 * ((number + 0.5) / len(groups) - 0.5)
        mine = dots[
            (dots["backend_a"] == group.backend_a)
            & (dots["backend_b"] == group.backend_b)
            & (dots["model_a"] == group.model_a)
            & (dots["model_b"] == group.model_b)
        ]
        axis.plot(
            100 * mine["disagreement"], [y] * len(mine), color=colour, marker=marker, ls="none", ms=4.5, alpha=0.65,
            mec="white", mew=0.5,
        )  # fmt: skip
        if bars and not np.isnan(group.low):
            axis.plot(
                [100 * group.low, 100 * group.high], [y, y], color=colour, lw=5, alpha=0.22, solid_capstyle="butt"
            )
            axis.plot([100 * group.disagreement], [y], color=colour, marker="|", ms=9, mew=2)


def divergence(curves: pd.DataFrame, courses: pd.DataFrame, horizons: pd.DataFrame, backends: Sequence[str]) -> str:
    """Draw how far runs stand apart against the step, a column of panels a model, both axes logarithmic.

    Dark and thick: matched pairs. Thin, in a backend's colour: its continuing twins; dashed: its initial twins. Below,
    on the same axis, gradient norm and loss of the backends' own runs, the largest of each stretch of steps.
    """
    models = list(curves["model"].unique())
    labelled: set[str] = set()
    with _figure(max(9.0, 1.5 + 4 * len(models)), 6.4) as (figure, written):
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
                    axis.plot(course["step"], course[measure], color=_look(backend, backends)[0], lw=1.1, alpha=0.8)
                axis.set_ylabel(measure.replace("_", "\n"))
            _decades(norms, courses.loc[courses["model"] == model, "gradient_norm"])
            mine = (horizons["model"] == model) & (horizons["kind"] == "continuing")
            past = horizons.loc[mine, "horizon"].min()
            if not np.isnan(past):
                for axis in (top, norms, losses):
                    axis.axvline(past, color=_INK, lw=0.9, ls=(0, (1, 2)))
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
        _lay_out(figure, h_pad=0.8)
    return written.getvalue()


def _divergence(axis: Axes, panel: pd.DataFrame, backends: Sequence[str], labelled: set[str]) -> set[str]:
    """Draw one panel; give the names of the lines in it, of which those in `labelled` get no label."""
    ends: dict[str, float] = {}
    colours: dict[str, str] = {}
    last = panel["step"].max()
    several = panel.loc[panel["kind"] == "matched", ["a", "b"]].drop_duplicates().shape[0] > 1
    pairs = 0
    for (kind, a, b), lines in grouped(panel, "kind", "a", "b"):
        colour = _look(a, backends)[0]
        style: dict[str, Any] = {"lw": 1, "alpha": 0.75, "ls": (0, (4, 2)) if kind == "initial" else "-"}
        name = f"{_short(a)}, {kind} twins"
        if kind == "matched":
            colour, style = _INK, {"lw": 2.6, "ls": _DASHES[pairs % len(_DASHES)], "zorder": 3}
            name = f"{_short(a)} and {_short(b)}" if several else "matched pair"
            pairs += 1
        for _, line in grouped(lines, "run_a", "run_b"):
            # No difference at all has no place on a logarithmic axis but its lower edge.
            axis.plot(line["step"], line["max"].clip(lower=_LEAST), color=colour, **style)
        final = lines.loc[lines["step"] == last, "max"].max()
        ends[name], colours[name] = float(np.log10(max(final, _LEAST))), colour
    axis.set_yscale("log")
    axis.set_ylim(_LEAST, 1.5)
    wanted = {name: end for name, end in ends.items() if name not in labelled}
    for name, place in _spread(wanted, 0.42, np.log10(_LEAST), 0.0).items():
        axis.text(last * 1.2, 10**place, name, color=colours[name], va="center", fontsize=8)
    return set(ends)


def _decades(axis: Axes, values: pd.Series) -> None:
    """Give an axis whole powers of ten, so that it never is without a tick."""
    known = values[values > 0]
    axis.set_yscale("log")
    if len(known):
        low, high = np.floor(np.log10(known.min())), np.ceil(np.log10(known.max()))
        axis.set_ylim(10**low, 10 ** max(high, low + 1))


def ratios(timed: pd.DataFrame, backends: Sequence[str], noise: pd.DataFrame) -> str:
    """Draw each backend's time in times of the baseline's, with its interval, and the A/A band around 1."""
    rows = list(each(timed[~timed["baseline"] & timed["ratio"].notna()]))
    bands = {(row.model, row.operation): row for row in each(noise)}
    with _figure(9, 1.3 + 0.5 * len(rows)) as (figure, written):
        axis = figure.subplots()
        for place, row in enumerate(rows):
            colour, marker = _look(row.backend, backends)
            band = bands.get((row.model, row.operation))
            if band is not None:
                axis.fill_betweenx([place - 0.4, place + 0.4], band.band_low, band.band_high, color=_PALE, lw=0)
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
        axis.axvline(1, color=_INK, lw=1)
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
            label.set_color(_look(row.backend, backends)[0])
        axis.set_ylim(len(rows) - 0.4, -0.7)
        axis.set_xlabel(f"time in times of {timed.loc[timed['baseline'], 'backend'].iloc[0]} (left of 1 is faster)")
        _lay_out(figure)
    return written.getvalue()


def drift(rounds: pd.DataFrame, backends: Sequence[str]) -> str:
    """Draw each round in times of its worker's median, a panel a model, a line a worker.

    Solid: default settings; dashed: tuned; dotted: the baseline's second worker. Upright: workers were started afresh.
    """
    panels = list(grouped(rounds, "model", "operation"))
    # One disturbed round must not flatten all the others.
    quietest, busiest = np.quantile(rounds["value"], (0.002, 0.98))
    low, high = min(0.95, float(quietest) / 1.02), max(1.05, float(busiest) * 1.02)
    with _figure(9, 0.6 + 2.4 * len(panels)) as (figure, written):
        axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axis, ((model, operation), panel) in zip(axes, panels, strict=True):
            ends: dict[str, float] = {}
            looks: dict[str, str] = {}
            for (backend, setting, again), mine in grouped(panel, "backend", "setting", "again"):
                colour = _look(backend, backends)[0]
                style = ":" if again else "-" if setting == "default" else (0, (4, 2))
                axis.plot(mine["round"], mine["value"].clip(low, high), color=colour, ls=style, lw=1.2, alpha=0.85)
                name = f"{_short(backend)}, again" if again else named(_short(backend), setting)
                ends[name], looks[name] = float(np.clip(mine["value"].iloc[-1], low, high)), colour
            last = panel["round"].max()
            for first in panel.groupby("start")["round"].min().iloc[1:]:
                axis.axvline(first - 0.5, color=_PALE, lw=0.8, zorder=0)
            axis.set_ylim(low, high)
            axis.set_xlim(0.5, last * 1.25)
            axis.spines["bottom"].set_bounds(1, last)
            axis.axhline(1, color=_PALE, lw=0.8, xmax=0.8, zorder=0)
            for name, place in _spread(ends, (high - low) * 0.11, low, high).items():
                axis.text(last * 1.01, place, name, color=looks[name], va="center", fontsize=8)
            axis.set_xticks([tick for tick in axis.get_xticks() if 1 <= tick <= last])
            axis.set_ylabel("times the median")
            axis.set_title(f"{model}, {operation.replace('_', ' ')}", loc="left", fontsize=10)
        axes[-1].set_xlabel("round")
        _lay_out(figure, h_pad=1.2)
    return written.getvalue()


def sweep(swept: pd.DataFrame, backends: Sequence[str]) -> str:
    """Draw examples a second over batch sizes and over lengths: a row a model x operation, both axes logarithmic."""
    rows = list(grouped(swept, "model", "operation"))
    kinds = list(swept["axis"].unique())
    with _figure(4.7 * len(kinds), 0.5 + 2.5 * len(rows)) as (figure, written):
        axes = figure.subplots(len(rows), len(kinds), squeeze=False)
        for line, ((model, operation), panel) in zip(axes, rows, strict=True):
            for axis, kind in zip(line, kinds, strict=True):
                _throughput(axis, panel[panel["axis"] == kind], backends)
                axis.set_title(f"{model}, {operation.replace('_', ' ')}", loc="left", fontsize=10)
            line[0].set_ylabel("examples/s")
        for axis, kind in zip(axes[-1], kinds, strict=True):
            axis.set_xlabel(kind)
        _lay_out(figure, h_pad=1.2, w_pad=1.5)
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
        colour, marker = _look(backend, backends)
        curve = mine.sort_values("size")
        style = "-" if setting == "default" else (0, (4, 2))
        axis.plot(curve["size"], curve["examples_per_s"], color=colour, marker=marker, ms=4, ls=style, lw=1.4)
        name = named(_short(backend), setting)
        ends[name], looks[name] = float(np.log10(curve["examples_per_s"].iloc[-1])), colour
    low, high = np.log10(panel["examples_per_s"].min()) - 0.1, np.log10(panel["examples_per_s"].max()) + 0.15
    axis.set_ylim(10**low, 10**high)
    axis.set_xlim(sizes[0] / 1.15, sizes[-1] * (sizes[-1] / sizes[0]) ** 0.75)
    axis.spines["bottom"].set_bounds(sizes[0], sizes[-1])
    axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axis.minorticks_off()
    for name, place in _spread(ends, (high - low) * 0.1, low, high).items():
        axis.text(
            sizes[-1] * (sizes[-1] / sizes[0]) ** 0.04, 10**place, name, color=looks[name], va="center", fontsize=8
        )


def _look(backend: str, backends: Sequence[str]) -> tuple[str, str]:
    """Give the colour and the marker that a backend has in every figure."""
    place = list(backends).index(backend)
    return _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"


def _spread(ends: Mapping[str, float], gap: float, low: float, high: float) -> dict[str, float]:
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


def _lay_out(figure: Figure, *, h_pad: float | None = None, w_pad: float | None = None) -> None:
    """Fit the axes to their labels, as `Figure.tight_layout` does.

    That one leaves a layout engine behind, for whose sake everything would be drawn twice.
    """
    from matplotlib.layout_engine import TightLayoutEngine

    TightLayoutEngine(h_pad=h_pad, w_pad=w_pad).execute(figure)


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Figure, io.StringIO]]:
    """Give a figure that is written as SVG when the block ends."""
    import matplotlib
    from matplotlib.figure import Figure

    written = io.StringIO()
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]  # its keys are a Literal
        figure = Figure(figsize=(width, height))
        yield figure, written
        figure.savefig(written, format="svg", metadata={"Date": None})
