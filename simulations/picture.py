"""The picture of a simulation: one line per arm, every model a dot."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from simulations.output import png
from simulations.results import Result, Row
from simulations.wording import delta, label, ordered, private, score, seeds

INK, QUIET, RULE, WARNING = "#1c2733", "#5b6875", "#dfe4e9", "#a63c00"
WIDTH_IN, ROW_IN, DPI = 9.6, 0.52, 160
HEAD_IN, FOOT_IN, NOTE_IN = 0.95, 0.75, 0.24
MARGIN_IN, LEFT_IN, RIGHT_IN = 0.32, 2.95, 1.45
NOTE_COLUMNS = 110
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class _Style:
    """How an arm is drawn; arms differ by marker too, for who sees no colours."""

    colour: str
    marker: str
    size: float = 9.0


# Colours of Okabe and Ito 2008, Color Universal Design, which stay apart in colour blindness.
STYLES = {
    "local_only": _Style("#7a7a7a", "o"),
    "pooled": _Style("#000000", "D", 7.8),
    "clear": _Style("#0072b2", "s", 8.2),
    "encrypted": _Style("#cc79a7", "p", 10.0),
    "distributed": _Style("#009e73", "^", 10.0),
    "local": _Style("#d55e00", "v", 10.0),
}
_OTHER = _Style(INK, "o")


def picture(result: Result) -> bytes:
    """The picture as the bytes of a PNG file; equal results give equal bytes."""
    return png(draw(result), DPI)


def draw(result: Result) -> Figure:
    """The picture as a figure, outside pyplot's global state."""
    rows = ordered(result.rows)
    notes = [line for note in result.notes for line in textwrap.wrap(note, NOTE_COLUMNS)]
    height = HEAD_IN + ROW_IN * len(rows) + FOOT_IN + NOTE_IN * len(notes)
    figure = Figure(figsize=(WIDTH_IN, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes(
        (
            LEFT_IN / WIDTH_IN,
            (FOOT_IN + NOTE_IN * len(notes)) / height,
            (WIDTH_IN - LEFT_IN - RIGHT_IN) / WIDTH_IN,
            ROW_IN * len(rows) / height,
        )
    )
    for place, row in enumerate(rows):
        _arm(axes, place, row)
    _frame(axes, rows)
    _text(figure, result, notes)
    return figure


def _arm(axes: Axes, place: int, row: Row) -> None:
    """One arm: faint dots for models, a bar of one standard deviation, the mean on top."""
    style = STYLES.get(row.arm, _OTHER)
    value_M = np.asarray(row.scores)
    if len(value_M) > 1:
        # Multiples of the golden ratio lie apart from their neighbours, so ties stay visible.
        lift_M = 0.5 * (np.arange(len(value_M)) * GOLDEN % 1.0 - 0.5)
        axes.scatter(value_M, place + lift_M, s=16, color=style.colour, alpha=0.38, lw=0)
        axes.errorbar(row.mean, place, xerr=row.sd, color=style.colour, lw=1.8, capsize=4)
    axes.plot(
        row.mean,
        place,
        style.marker,
        ms=style.size,
        color=style.colour,
        mec="white",
        mew=1.3,
        zorder=3,
    )
    axes.text(
        1.03,
        place,
        score(row),
        transform=axes.get_yaxis_transform(),
        va="center_baseline",
        fontsize=10,
        color=INK,
    )


def _frame(axes: Axes, rows: list[Row]) -> None:
    """Axis, grid and names of the arms, best read from the top."""
    values = [value for row in rows for value in (*row.scores, row.mean)]
    spread = [row.mean + sign * row.sd for row in rows for sign in (-1, 1)]
    low, high = min(values + spread), max(values + spread)
    margin = max(0.06 * (high - low), 0.004)
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_yticks(range(len(rows)), [label(row) for row in rows], fontsize=10, color=INK)
    axes.tick_params(axis="y", length=0, pad=72 * (LEFT_IN - MARGIN_IN))
    for name in axes.get_yticklabels():
        name.set_horizontalalignment("left")
    axes.tick_params(axis="x", length=0, pad=6, labelsize=9, labelcolor=QUIET)
    axes.grid(axis="x", color=RULE, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    _rules(axes, rows)


def _rules(axes: Axes, rows: list[Row]) -> None:
    """Between arms without and with a guarantee, and down from what pooled data would reach."""
    width = WIDTH_IN - LEFT_IN - RIGHT_IN
    ends = ((MARGIN_IN - LEFT_IN) / width, 1 + (RIGHT_IN - MARGIN_IN) / width)
    for place in range(1, len(rows)):
        if (rows[place].epsilon is None) != (rows[place - 1].epsilon is None):
            axes.plot(
                ends,
                (place - 0.5, place - 0.5),
                transform=axes.get_yaxis_transform(),
                color=RULE,
                lw=1.2,
                clip_on=False,
            )
    for place, row in enumerate(rows):
        if row.arm == "pooled":
            axes.plot([row.mean] * 2, [place, len(rows) - 0.45], ":", color=QUIET, lw=1.1)


def _text(figure: Figure, result: Result, notes: list[str]) -> None:
    """Title, what the axis means, and notes where nobody overlooks them.

    A dollar sign in a name or a note begins no formula.
    """
    height = figure.get_figheight()
    left = MARGIN_IN / WIDTH_IN
    figure.text(
        left,
        1 - 0.36 / height,
        result.name,
        parse_math=False,
        fontsize=14,
        weight="bold",
        color=INK,
    )
    figure.text(
        left,
        1 - 0.62 / height,
        f"{result.measure.title}, on the held-out patients of all hospitals",
        fontsize=10,
        color=QUIET,
    )
    figure.text(
        left,
        (0.22 + NOTE_IN * len(notes)) / height,
        _legend(result),
        fontsize=8.5,
        color=QUIET,
    )
    for index, line in enumerate(notes):
        figure.text(
            left,
            (0.2 + NOTE_IN * (len(notes) - 1 - index)) / height,
            line,
            parse_math=False,
            fontsize=9.5,
            weight="bold",
            color=WARNING,
        )


def _legend(result: Result) -> str:
    parts = [seeds(result)]
    if any(len(row.scores) > 1 for row in result.rows):
        parts = ["dot: one model", "bar: standard deviation", *parts]
    if any(row.arm == "pooled" for row in result.rows):
        parts.insert(-1, "dotted line: all data in one place")
    if private(result):
        parts.append(f"δ = {delta(result)}")
    return "  ·  ".join(parts)
