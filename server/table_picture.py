"""The picture of a table: a panel for each column, and curves over time above them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from learning.table_one import Curve, Levels, Number, TableOne
from learning.task import Metric

INK, QUIET, RULE = "#1c2733", "#5b6875", "#dfe4e9"
# Okabe and Ito 2008, Color Universal Design; groups differ by line style, too.
COLOURS = ("#1c2733", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STYLES = ("-", "-", "--", "-.", ":")
FILL = "#8fb8d8"
WIDTH_IN, PANEL_IN, CURVES_IN, HEAD_IN = 9.6, 2.1, 3.6, 0.8
ACROSS, DPI = 3, 160


def picture(
    table: TableOne,
    title: str,
    truth: TableOne | None = None,
    against: tuple[str, TableOne] | None = None,
) -> bytes:
    """The picture as the bytes of a PNG file; equal tables give equal bytes.

    Args:
        table: What was released.
        title: What stands above it.
        truth: The same without noise, where somebody may know it: in a simulation.
        against: Name and table of a reference, whose bins are drawn for as many patients.
    """
    file = io.BytesIO()
    drawn = draw(table, title, truth, against)
    # The library would write its version into the file.
    drawn.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def draw(
    table: TableOne,
    title: str,
    truth: TableOne | None = None,
    against: tuple[str, TableOne] | None = None,
) -> Figure:
    """The picture as a figure, outside pyplot's global state."""
    known = (None,) * (len(table.columns) + 1) if truth is None else (*truth.columns, truth.label)
    panels = [
        (one, other)
        for one, other in zip((*table.columns, table.label), known, strict=True)
        if isinstance(one, Levels) or one.bins
    ]
    rows, tall = math.ceil(len(panels) / ACROSS), CURVES_IN if table.curves else 0.0
    height = HEAD_IN + (tall + rows * PANEL_IN or PANEL_IN)
    figure = Figure(figsize=(WIDTH_IN, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    ratios = [tall] * bool(table.curves) + [PANEL_IN] * rows
    if not ratios:
        return _nothing(figure, title)
    grid = figure.add_gridspec(len(ratios), ACROSS, height_ratios=ratios)
    if table.curves:
        _curves(_axes(figure.add_subplot(grid[0, :])), table, truth)
    for place, (one, other) in enumerate(panels):
        row, across = divmod(place, ACROSS)
        axes = _axes(figure.add_subplot(grid[row + bool(table.curves), across]))
        if isinstance(one, Levels):
            _levels(axes, one, other if isinstance(other, Levels) else None)
        else:
            _number(axes, one, other if isinstance(other, Number) else None)
    if against is not None and panels:
        name, reference = against
        _mark(figure, table, reference, name)
    told = f"bars: released counts from {table.fewer_than} on; "
    told += "whiskers: 95 % of what the noise may have done"
    if truth is not None:
        told += "; dots and thin lines: without noise"
    figure.suptitle(
        f"{title}\n{told}", x=0.01, ha="left", fontsize=10.5, color=INK, parse_math=False
    )
    return figure


def _nothing(figure: Figure, title: str) -> Figure:
    """The picture of a table of numbers alone that were counted in no bins."""
    told = f"{title}\nnothing to draw: the job counted in no bins (bins: 0) and has no curves"
    figure.suptitle(told, x=0.01, ha="left", fontsize=10.5, color=INK, parse_math=False)
    return figure


def _mark(figure: Figure, table: TableOne, reference: TableOne, name: str) -> None:
    """Lines over the bars of all columns that the reference has, too."""
    known = {one.name: one for one in (*reference.columns, reference.label)}
    panels = _panels(table)
    for axes, one in zip(figure.axes[-len(panels) :], panels, strict=True):
        cells, other = _cells(one), known.get(one.name)
        if other is None or len(_cells(other)) != len(cells):
            continue
        height_B, other_B = np.array(_heights(cells)[0]), np.array(_heights(_cells(other))[0])
        scaled_B = other_B * height_B.sum() / max(other_B.sum(), 1.0)
        bars = [bar for bar in axes.patches if isinstance(bar, Rectangle)]
        left_B = np.array([bar.get_x() for bar in bars])
        right_B = left_B + [bar.get_width() for bar in bars]
        axes.hlines(scaled_B, left_B, right_B, color=INK, lw=1.6, zorder=3)
    note = f"black lines: {name}, for as many patients"
    figure.text(0.99, 0.995, note, ha="right", va="top", fontsize=8.5, color=QUIET)


def _panels(table: TableOne) -> list[Number | Levels]:
    """The columns that have a panel."""
    columns = (*table.columns, table.label)
    return [one for one in columns if isinstance(one, Levels) or one.bins]


def _cells(one: Number | Levels) -> list[Metric | None]:
    """What has a bar."""
    if isinstance(one, Number):
        return [*one.bins]
    return [*one.levels.values(), *([one.missing] if one.optional else [])]


def _axes(axes: Axes) -> Axes:
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8, labelcolor=QUIET)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=RULE, lw=0.8)
    return axes


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=9, color=INK, parse_math=False)


def _heights(cells: Sequence[Metric | None]) -> tuple[list[float], list[list[float]]]:
    """Heights and whiskers; a count that is not shown has neither."""
    known = [Metric(0.0, 0.0, 0.0) if one is None else one for one in cells]
    below = [one.value - one.low for one in known]
    return [one.value for one in known], [below, [one.high - one.value for one in known]]


def _number(axes: Axes, one: Number, truth: Number | None) -> None:
    """A histogram and its mean."""
    edge_K = np.linspace(*one.bounds, len(one.bins) + 1)
    middle_B = (edge_K[1:] + edge_K[:-1]) / 2
    heights, whiskers = _heights(one.bins)
    axes.bar(middle_B, heights, width=0.94 * np.diff(edge_K), color=FILL)
    axes.errorbar(middle_B, heights, yerr=whiskers, fmt="none", ecolor=QUIET, elinewidth=0.8)
    if truth is not None:
        axes.plot(middle_B, _heights(truth.bins)[0], "o", ms=2.6, color=INK)
    for chosen, style in ((one, "-"), (truth, ":")):
        if chosen is not None and chosen.mean is not None:
            axes.axvline(chosen.mean.value, color="#d55e00", lw=1.2, ls=style)
    axes.set_ylim(bottom=0)
    unit = f" ({one.unit})" if one.unit else ""
    mean = "" if one.mean is None else f", mean {one.mean.value:.3g}"
    _title(axes, f"{one.name}{unit}{mean}")


def _levels(axes: Axes, one: Levels, truth: Levels | None) -> None:
    """A bar for each level, and one for those without."""
    names, cells = [*one.levels], [*one.levels.values()]
    true = [] if truth is None else [*truth.levels.values()]
    if one.optional:
        names, cells = [*names, "missing"], [*cells, one.missing]
        true += [] if truth is None else [truth.missing]
    heights, whiskers = _heights(cells)
    axes.bar(names, heights, width=0.7, color=FILL)
    axes.errorbar(names, heights, yerr=whiskers, fmt="none", ecolor=QUIET, elinewidth=0.8)
    if truth is not None:
        axes.plot(names, _heights(true)[0], "o", ms=3, color=INK)
    for place, cell in enumerate(cells):
        if cell is None:
            axes.text(place, 0, "few", ha="center", va="bottom", fontsize=7.5, color=QUIET)
    axes.set_ylim(bottom=0)
    _title(axes, one.name)


def _curves(axes: Axes, table: TableOne, truth: TableOne | None) -> None:
    """Steps of survival, each with the band that the noise leaves."""
    known: tuple[Curve | None, ...] = (None,) * len(table.curves)
    if truth is not None:
        known = truth.curves
    for place, (curve, other) in enumerate(zip(table.curves, known, strict=True)):
        colour, style = COLOURS[place % len(COLOURS)], STYLES[place % len(STYLES)]
        time_K = [0.0, *curve.times]
        axes.step(
            time_K,
            [1.0, *(one.value for one in curve.survival)],
            where="post",
            color=colour,
            ls=style,
            lw=1.8,
            label=curve.group,
        )
        axes.fill_between(
            time_K,
            [1.0, *(one.low for one in curve.survival)],
            [1.0, *(one.high for one in curve.survival)],
            step="post",
            color=colour,
            alpha=0.13,
            lw=0,
        )
        if other is not None:
            chances = [1.0, *(one.value for one in other.survival)]
            axes.step([0.0, *other.times], chances, where="post", color=colour, lw=0.7)
    axes.set_ylim(0, 1.02)
    axes.set_xlim(left=0)
    name, unit = table.time
    told = name if unit in ("", name) else f"{name} ({unit})"
    axes.set_xlabel(told, fontsize=8.5, color=QUIET)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    _title(axes, "Survival (Kaplan-Meier), bands: 95 % of what the noise may have done")
