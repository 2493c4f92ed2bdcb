"""Panels of survival, treatment and demand, each on axes of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from learning.demand import Demand
from learning.few import LEAST
from learning.intervals import Z, clipped
from learning.survival import Survival
from learning.survival_metrics import curves, kaplan_meier
from learning.task import FloatArray, FloatVector, IntVector
from learning.treatment import Treatment
from simulations.panel_style import COLOURS, colour, diagonal, dots, legend, name, title
from simulations.picture import INK, QUIET, STYLES, WARNING
from simulations.results import Shown

MOST_FORECASTS, THIRDS, FIFTHS = 120, 3, 5


def risk_groups(axes: Axes, task: Survival, one: Shown) -> None:
    """Survival of thirds by predicted survival: what came (steps), what was predicted (dashes)."""
    curve_NT = one.held_out.predicted_NC
    time_T = np.concatenate([[0.0], task.cuts])
    third_N = _parts(curve_NT[:, -1], THIRDS)
    for place, words in enumerate(("high risk", "middle", "low risk")):
        here_N = third_N == place
        if not here_N.any():
            continue
        observed_T = kaplan_meier(_outcomes(one, here_N))
        shade = COLOURS[(1, 4, 0)[place]]
        label = f"{words} ({here_N.sum()})"
        axes.step(time_T, [1.0, *observed_T], where="post", color=shade, lw=1.8, label=label)
        mean_T = curve_NT[here_N].mean(axis=0)
        axes.plot(time_T, [1.0, *mean_T], "--", color=shade, lw=1.2)
    target = task.schema.targets[0]
    along = target.name if target.unit in ("", target.name) else f"{target.name} ({target.unit})"
    name(axes, "Survival by predicted risk, dashed as predicted", along, "survival", square=False)
    axes.set_ylim(0, 1.03)
    legend(axes, "lower left")


def predicted_survival(axes: Axes, one: Shown) -> None:
    """Observed by predicted survival at the last cut, by fifths of the prediction."""
    diagonal(axes)
    last_N = one.held_out.predicted_NC[:, -1]
    fifth_N, found = _parts(last_N, FIFTHS), []
    for place in range(FIFTHS):
        here_N = fifth_N == place
        metric = curves(_outcomes(one, here_N), 0.0) if here_N.sum() >= LEAST else None
        if metric is not None:
            metric = clipped(metric)
            found.append((float(last_N[here_N].mean()), metric.value, metric.low, metric.high))
    dots(axes, found, COLOURS[0], "")
    name(axes, "Calibration at the last cut", "predicted survival", "observed survival")


def policies(axes: Axes, task: Treatment, shown: Sequence[Shown], one: Shown) -> None:
    """Better outcomes under each policy, with 95 % intervals: as treated, everybody, the rules."""
    y_N, predicted_NC = one.held_out.records.y_N, one.held_out.predicted_NC
    value_NA = task.everybody.values(predicted_NC, y_N)
    lines = [("as they were treated", np.asarray(y_N % 2, dtype=np.float64), QUIET)]
    lines += [(f"everybody: {arm}", value_NA[:, place], INK) for place, arm in enumerate(task.arms)]
    for other in shown:
        held_out = other.held_out
        value_N = task.everybody.rule_values(held_out.predicted_NC, held_out.records.y_N)
        lines.append((f"rule: {title(other)}", value_N, colour(other)))
    for place, (_, value_N, shade) in enumerate(lines):
        half = Z * float(value_N.std()) / max(len(value_N), 1) ** 0.5
        axes.errorbar(value_N.mean(), place, xerr=half, fmt="o", color=shade, capsize=3, lw=1.6)
    axes.set_yticks(range(len(lines)), [label for label, *_ in lines], fontsize=9, color=INK)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    told = "Patients with the better outcome, doubly robust where nobody was treated so"
    axes.set_title(told, loc="left", fontsize=10, color=INK)


def forecasts(axes: Axes, task: Demand, one: Shown) -> None:
    """What came, beside the band of the outer quantiles, in ascending order of the middle one."""
    levels = task.options.quantiles
    quantile_NK, y_N = one.held_out.predicted_NC[:, : len(levels)], one.held_out.records.y_N
    order_N = np.argsort(quantile_NK[:, len(levels) // 2], kind="stable")
    chosen_N = order_N[np.linspace(0, len(order_N) - 1, MOST_FORECASTS).astype(np.int64)]
    quantile_NK, y_N = quantile_NK[chosen_N], y_N[chosen_N]
    place_N = np.arange(len(chosen_N))
    band = f"{levels[0]:g} to {levels[-1]:g}"
    axes.fill_between(
        place_N,
        quantile_NK[:, 0],
        quantile_NK[:, -1],
        color=COLOURS[0],
        alpha=0.2,
        lw=0,
        label=band,
    )
    axes.plot(place_N, quantile_NK[:, len(levels) // 2], color=COLOURS[0], lw=1.6, label="middle")
    inside_N = (y_N >= quantile_NK[:, 0]) & (y_N <= quantile_NK[:, -1])
    for mask_N, shade, label in ((inside_N, INK, "came"), (~inside_N, WARNING, "came, outside")):
        axes.scatter(place_N[mask_N], y_N[mask_N], s=9, color=shade, lw=0, label=label, zorder=3)
    name(axes, "Forecasts", "records, by the forecast", task.schema.label.name, square=False)
    axes.set_xticks([])
    legend(axes, "upper left")


def coverage(axes: Axes, task: Demand, shown: Sequence[Shown]) -> None:
    """How often days stayed at or below each quantile, for every arm."""
    diagonal(axes)
    levels = task.options.quantiles
    for arm in shown:
        y_N = arm.held_out.records.y_N
        below_NK = y_N[:, None] <= arm.held_out.predicted_NC[:, : len(levels)]
        style = STYLES.get(arm.arm)
        marker = "o" if style is None else style.marker
        axes.plot(levels, below_NK.mean(axis=0), marker, ms=6, color=colour(arm), label=title(arm))
    name(axes, "Coverage", "level of the quantile", "share at or below it")
    legend(axes, "lower right")


def _parts(value_N: FloatVector, parts: int) -> IntVector:
    """Equally large groups, ascending."""
    rank_N = np.argsort(np.argsort(value_N, kind="stable"), kind="stable")
    group_N: IntVector = rank_N * parts // max(len(value_N), 1)
    return group_N


def _outcomes(one: Shown, here_N: FloatArray) -> FloatVector:
    """How many of some records have each outcome code."""
    code_N = np.asarray(one.held_out.records.y_N, dtype=np.int64)[here_N]
    width = 2 * one.held_out.predicted_NC.shape[1] + 1
    return np.bincount(code_N, minlength=width).astype(np.float64)
