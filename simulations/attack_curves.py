"""The picture of guesses of membership: scores of members and others, and what guessing finds."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from simulations.attack_guesses import Guesses, bound_auroc, bound_detected
from simulations.attack_jobs import Defence
from simulations.attack_results import SEEDED_NOTE, Attacks
from simulations.output import png
from simulations.picture import DPI, INK, QUIET, RULE, WARNING

# Okabe and Ito 2008, Color Universal Design.
MEMBER, OTHER = "#d55e00", "#0072b2"
PANEL_IN, PANEL_HEIGHT_IN, GAP_IN, MARGIN_IN = 2.05, 1.25, 0.3, 0.72
HEAD_IN, ROW_IN, FOOT_IN = 1.5, 3.9, 0.42
BINS = 40
ALARMS = 12
"""False alarms at the left end of the axes: with fewer a rate is chance."""
HEADS = {"none": "no defence", "noise": "noise", "encryption": "encryption", "both": "both"}


def curves(attacks: Attacks) -> bytes:
    """The picture as the bytes of a PNG file; equal results give equal bytes."""
    return png(draw(attacks), DPI)


def draw(attacks: Attacks) -> Figure:
    """One block for each party that guesses: above the scores, below what guessing finds."""
    columns = len(attacks.told[0].guesses)
    width_in = 2 * MARGIN_IN + columns * PANEL_IN + (columns - 1) * GAP_IN
    height_in = HEAD_IN + ROW_IN * len(attacks.told) + FOOT_IN
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    _write_around(figure, attacks)
    for row, told in enumerate(attacks.told):
        top_in = HEAD_IN + row * ROW_IN
        title = (
            "by the coordinator alone"
            if not told.colluders
            else "by a hospital, which has the model"
        )
        _write(figure, MARGIN_IN, top_in, f"Guesses {title}", 11, weight="bold")
        for column, (defence, guesses) in enumerate(told.guesses.items()):
            left_in = MARGIN_IN + column * (PANEL_IN + GAP_IN)
            _write(figure, left_in, top_in + 0.3, _head(defence), 9.5, weight="bold")
            scores = _panel(figure, left_in, top_in + 0.52)
            _scores(scores, guesses)
            found = _panel(figure, left_in, top_in + 0.52 + PANEL_HEIGHT_IN + 0.28)
            _found(found, guesses, defence, attacks.config.delta, named=column == 0)
    return figure


def _write_around(figure: Figure, attacks: Attacks) -> None:
    title = "Guesses of who was among the training records"
    _write(figure, MARGIN_IN, 0.38, title, 14, weight="bold")
    told = attacks.told[0]
    models = len(next(iter(told.guesses.values())).scores_MN)
    facts = (
        f"{models} models, each trained on half of {told.pool} invented records, and each attacked "
        "with the others as shadows"
    )
    _write(figure, MARGIN_IN, 0.68, facts, 9.5, QUIET)
    left_in = MARGIN_IN
    for text, colour in (("members", MEMBER), ("not members", OTHER)):
        _write(figure, left_in, 0.98, f"■ {text}", 9.5, colour)
        left_in += 1.0
    legend = "- - -  chance      grey: what epsilon rules out for any attacker"
    _write(figure, left_in + 0.4, 0.98, legend, 9.5, QUIET)
    config = attacks.config
    foot = f"{config.name}: {config.hospitals} hospitals, mode {config.mode}, δ = {config.delta:g}"
    bottom_in = figure.get_size_inches()[1] - 0.22
    _write(figure, MARGIN_IN, bottom_in, foot, 8.5, QUIET)
    if config.seeded_noise:
        _write(figure, MARGIN_IN, bottom_in - 0.2, SEEDED_NOTE, 8.5, WARNING)


def _head(defence: Defence) -> str:
    head = HEADS[defence.kind]
    return head if defence.epsilon is None else f"{head}, epsilon {defence.epsilon:g}"


def _panel(figure: Figure, left_in: float, top_in: float) -> Axes:
    width_in, height_in = figure.get_size_inches()
    axes = figure.add_axes(
        (
            left_in / width_in,
            1 - (top_in + PANEL_HEIGHT_IN) / height_in,
            PANEL_IN / width_in,
            PANEL_HEIGHT_IN / height_in,
        )
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=7.5, labelcolor=QUIET)
    axes.set_axisbelow(True)
    return axes


def _scores(axes: Axes, guesses: Guesses) -> None:
    """Histograms of the middle 99 % of the scores; a score's unit means nothing across panels."""
    low, high = np.quantile(guesses.scores_MN, [0.005, 0.995])
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1).tolist()
    for score_N, colour in ((guesses.others, OTHER), (guesses.members, MEMBER)):
        axes.hist(score_N, edges, color=colour, alpha=0.45, lw=0, density=True)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.axhline(0, color=RULE, lw=1.2)
    axes.set_xlabel("score", fontsize=7.5, color=QUIET, labelpad=2)


def _found(axes: Axes, guesses: Guesses, defence: Defence, delta: float, *, named: bool) -> None:
    """Members found against false alarms, both as logarithms: the left end is what hurts."""
    lowest = min(0.1, ALARMS / len(guesses.others))
    rates = np.logspace(np.log10(lowest), 0, 80)
    axes.plot(rates, rates, color=QUIET, lw=1.0, ls="--")
    label = f"AUROC {guesses.auroc:.2f}"
    if defence.epsilon is not None:
        bound = bound_detected(defence.epsilon, delta, rates)
        axes.fill_between(rates, bound, 1.0, color=RULE, lw=0)
        label += f" (≤ {bound_auroc(defence.epsilon, delta):.2f})"
    axes.plot(rates, np.maximum(guesses.detected(rates), lowest), color=MEMBER, lw=1.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(lowest, 1.0)
    axes.set_ylim(lowest, 1.0)
    ticks = [tick for tick in (1e-3, 1e-2, 1e-1, 1.0) if tick >= lowest]
    names = [f"{100 * tick:g} %" for tick in ticks]
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, names if named else [""] * len(ticks))
    axes.minorticks_off()
    axes.grid(color=RULE, lw=0.7)
    axes.set_xlabel("false alarms", fontsize=7.5, color=QUIET, labelpad=2)
    if named:
        axes.set_ylabel("members found", fontsize=7.5, color=QUIET, labelpad=2)
    axes.text(0.97, 0.06, label, transform=axes.transAxes, ha="right", fontsize=9, color=INK)


def _write(
    figure: Figure,
    left_in: float,
    top_in: float,
    text: str,
    size: float,
    colour: str = INK,
    *,
    weight: str = "normal",
) -> None:
    width_in, height_in = figure.get_size_inches()
    figure.text(
        left_in / width_in,
        1 - top_in / height_in,
        text,
        fontsize=size,
        color=colour,
        weight=weight,
        va="baseline",
        parse_math=False,
    )
