"""How panels look: their frame, titles, legends and dots, and what an arm is called in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from simulations.picture import INK, QUIET, RULE, STYLES
from simulations.results import Shown
from simulations.wording import ARMS, epsilon

# Okabe and Ito 2008, Color Universal Design; lines differ by their dashes, too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1c2733")
DASHES = ("-", "--", "-.", ":")


def title(one: Shown) -> str:
    """An arm in words, with its epsilon."""
    words = ARMS[one.arm].label if one.arm in ARMS else one.arm
    return words if one.epsilon is None else f"{words}, ε = {epsilon(one.epsilon)}"


def frame(axes: Axes) -> None:
    """The look that all panels share."""
    axes.grid(color=RULE, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=9, labelcolor=QUIET)


def colour(one: Shown) -> str:
    """An arm's colour, the same as in the comparison of arms."""
    style = STYLES.get(one.arm)
    return INK if style is None else style.colour


def diagonal(axes: Axes) -> None:
    """Where what came is what was predicted."""
    axes.plot([0, 1], [0, 1], ":", color=QUIET, lw=1)


def dots(
    axes: Axes, found: Sequence[tuple[float, float, float, float]], shade: str, label: str
) -> None:
    """Dots at x and value with their intervals."""
    if found:
        x_B, value_B, low_B, high_B = np.array(found).T
        reach = np.maximum([value_B - low_B, high_B - value_B], 0.0)
        axes.errorbar(
            x_B, value_B, yerr=reach, fmt="o", ms=5, color=shade, capsize=2, lw=1.3, label=label
        )


def name(axes: Axes, text: str, along: str, up: str, *, square: bool = True) -> None:
    """Title and what stands along the axes, which go from 0 to 1 where that is all there is."""
    axes.set_title(text, loc="left", fontsize=10, color=INK, parse_math=False)
    axes.set_xlabel(along, fontsize=9, color=QUIET, parse_math=False)
    axes.set_ylabel(up, fontsize=9, color=QUIET, parse_math=False)
    if square:
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)


def legend(axes: Axes, place: Literal["lower right", "lower left", "upper left"]) -> None:
    """What the lines are, where there are any."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc=place, fontsize=8, frameon=False)
