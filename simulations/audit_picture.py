"""The picture of an audit: scores of canaries, epsilon claimed and found, and every check."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import stats

from simulations.audit import Audit
from simulations.audit_evidence import ALARM, CONFIDENCE, Check
from simulations.output import png
from simulations.picture import DPI, INK, QUIET, RULE, WARNING

# Okabe and Ito 2008, Color Universal Design.
INSIDE, OUTSIDE = "#d55e00", "#0072b2"
WIDTH_IN, HEIGHT_IN = 9.6, 7.75
LEFT_IN = 0.42
TOP_IN, SCORES_IN, GAP_IN, FOOT_IN = 1.78, 2.3, 1.0, 0.8
VERDICT_COLUMNS, VERDICT_LINES = 108, 4
SMALLEST_SHOWN = 1e-12
BINS = 48


def picture(audit: Audit) -> bytes:
    """The picture as the bytes of a PNG file; equal audits give equal bytes."""
    return png(draw(audit), DPI)


def draw(audit: Audit) -> Figure:
    """The picture as a figure, outside pyplot's global state."""
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    lower_in = HEIGHT_IN - TOP_IN - SCORES_IN - GAP_IN - FOOT_IN
    _scores(_panel(figure, LEFT_IN, FOOT_IN + lower_in + GAP_IN, 8.76, SCORES_IN), audit)
    _epsilons(_panel(figure, LEFT_IN, FOOT_IN, 3.1, lower_in - 0.28), audit)
    _checks(_panel(figure, 6.05, FOOT_IN, 2.55, lower_in - 0.28), audit)
    _text(figure, audit, FOOT_IN + lower_in)
    return figure


def _panel(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches, without a frame."""
    axes = figure.add_axes(
        (left / WIDTH_IN, bottom / HEIGHT_IN, width / WIDTH_IN, height / HEIGHT_IN)
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=QUIET)
    axes.set_axisbelow(True)
    return axes


def _scores(axes: Axes, audit: Audit) -> None:
    """Histograms of both kinds of canary over the densities that the claim promises."""
    weights, claim, inside_M = audit.weights, audit.claim, audit.evidence.inside_M
    score_M = weights.scores_M / claim.noise
    shift = claim.signal / claim.noise
    low = min(-4.0, float(score_M.min()) - 0.5)
    high = max(shift + 4.0, float(score_M.max()) + 0.5)
    edges = np.linspace(low, high, BINS + 1)
    x = np.linspace(low, high, 600)
    for chosen_M, centre, colour, name in (
        (~inside_M, 0.0, OUTSIDE, "not in the data"),
        (inside_M, shift, INSIDE, "in the data"),
    ):
        kind = f"{int(chosen_M.sum())} canaries {name}"
        axes.hist(score_M[chosen_M], edges.tolist(), color=colour, alpha=0.33, lw=0, label=kind)
        expected = stats.norm.pdf(x, centre, _claimed_spread(audit, centre)) * chosen_M.sum()
        axes.plot(x, expected * (edges[1] - edges[0]), color=colour, lw=1.6, label="as claimed")
    axes.set_xlim(low, high)
    axes.set_yticks([])
    axes.axhline(0, color=RULE, lw=1.2)
    axes.set_xlabel(
        "how far a canary's own weights moved, in standard deviations of the claimed noise",
        fontsize=8.5,
        color=QUIET,
    )
    axes.legend(
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        loc="lower left",
        bbox_to_anchor=(-0.008, 1.0),
        ncols=4,
        columnspacing=1.6,
        handlelength=1.4,
    )


def _claimed_spread(audit: Audit, centre: float) -> float:
    """Standard deviation of scores in units of the noise: sampling widens those in the data."""
    claim = audit.claim
    if centre == 0:
        return 1.0
    sampled = claim.rounds * claim.rate * (1 - claim.rate) * claim.step**2
    return math.sqrt(1 + sampled / claim.noise**2)


def _epsilons(axes: Axes, audit: Audit) -> None:
    """Epsilon as claimed, as noise and influence imply it, and as guesses bound it."""
    claimed, bound = audit.claim.epsilon, audit.weights.one_run_bound
    low, middle, high = audit.weights.epsilon_interval()
    finite = [value for value in (claimed, bound, low, middle, high) if math.isfinite(value)]
    end = 1.25 * max(finite)
    low, middle, high = (min(value, end) for value in (low, middle, high))
    axes.axvline(claimed, ymax=0.97, color=QUIET, lw=1.1, ls=":")
    axes.plot(claimed, 0, "D", ms=8, color="black", mec="white", mew=1.2)
    axes.plot([low, high], [1, 1], color="#009e73", lw=2.2, solid_capstyle="butt")
    marker = "o" if middle < end else ">"
    axes.plot(middle, 1, marker, ms=8.5, color="#009e73", mec="white", mew=1.2, clip_on=False)
    axes.annotate(
        "", (end, 2), (bound, 2), arrowprops={"arrowstyle": "->", "color": "#cc79a7", "lw": 2.0}
    )
    axes.plot(bound, 2, "|", ms=14, mew=2.6, color="#cc79a7")
    for place, name, value in (
        (0, "claimed by the job", f"{claimed:.2f}"),
        (1, "implied by noise and influence", _range_text(audit)),
        (2, f"proven at {CONFIDENCE:.0%} by guessing who was in", f"≥ {bound:.2f}"),
    ):
        axes.text(0, place - 0.3, name, fontsize=8.5, color=QUIET, va="bottom")
        axes.text(1.04 * end, place, value, fontsize=9.5, color=INK, va="center_baseline")
    axes.set_xlim(0, end)
    axes.set_ylim(2.4, -0.75)
    axes.set_yticks([])
    axes.grid(axis="x", color=RULE, lw=0.8)


def _range_text(audit: Audit) -> str:
    low, middle, high = audit.weights.epsilon_interval()
    if not math.isfinite(middle):
        return "none that is finite"
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def _checks(axes: Axes, audit: Audit) -> None:
    """Every check's p-value on its way to the alarm."""
    for place, check in enumerate(audit.checks):
        colour = QUIET if check.passed else WARNING
        if check.p_value is not None:
            shown = min(1.0, max(check.p_value, SMALLEST_SHOWN))
            axes.plot([1.0, shown], [place, place], color=RULE, lw=1.4, zorder=1)
            marker = "o" if check.passed else "X"
            axes.plot(shown, place, marker, ms=8, color=colour, mec="white", mew=1.0, clip_on=False)
        axes.text(
            1.04,
            place,
            _word(check),
            transform=axes.get_yaxis_transform(),
            fontsize=8.5,
            va="center_baseline",
            color=colour,
            weight="normal" if check.passed else "bold",
        )
    axes.axvline(ALARM, color=WARNING, lw=1.3)
    axes.text(ALARM, -0.72, "alarm ", fontsize=8.5, color=WARNING, ha="center", va="bottom")
    axes.set_xscale("log")
    axes.set_xlim(2.0, SMALLEST_SHOWN / 3)
    axes.set_xticks([1, 1e-3, 1e-6, 1e-9, 1e-12])
    axes.minorticks_off()
    axes.set_ylim(len(audit.checks) - 0.5, -0.6)
    axes.set_yticks(
        range(len(audit.checks)),
        [check.name for check in audit.checks],
        fontsize=9.5,
        color=INK,
    )
    axes.tick_params(axis="y", pad=6)
    axes.grid(axis="x", color=RULE, lw=0.8)


def _word(check: Check) -> str:
    return "ok" if check.passed else "ALARM"


def _text(figure: Figure, audit: Audit, lower_in: float) -> None:
    """Title, verdict and headings; a dollar sign in a name begins no formula."""

    def write(x_in: float, y_in: float, text: str, size: float, **style: Any) -> None:
        x, y = x_in / WIDTH_IN, y_in / HEIGHT_IN
        figure.text(x, y, text, fontsize=size, parse_math=False, linespacing=1.35, **style)

    verdict = textwrap.wrap(
        audit.verdict, VERDICT_COLUMNS, max_lines=VERDICT_LINES, placeholder=" ..."
    )
    tone = {"color": "#00694d"} if audit.passed else {"color": WARNING, "weight": "bold"}
    title = {"color": INK, "weight": "bold"}
    write(LEFT_IN, HEIGHT_IN - 0.4, f"Privacy audit: {audit.config.name}", 14, **title)
    write(LEFT_IN, HEIGHT_IN - 0.6, "\n".join(verdict), 10, va="top", **tone)
    write(LEFT_IN, lower_in, f"Epsilon at delta {audit.claim.delta:g}", 10, **title)
    write(5.15, lower_in, "Chance of such evidence without a fault", 10, **title)
    write(LEFT_IN, 0.36, _facts(audit), 8.5, color=QUIET)
    write(LEFT_IN, 0.16, "  ·  ".join(audit.notes), 8.5, color=WARNING, weight="bold")


def _facts(audit: Audit) -> str:
    config = audit.config
    return (
        f"mode {config.privacy.mode}  ·  {config.hospitals} hospitals  ·  {config.rounds} rounds"
        f"  ·  sampling rate {config.privacy.sampling_rate:g}"
        f"{'  ·  encrypted' if audit.encrypted else ''}"
    )
