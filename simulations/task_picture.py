"""What a task is about, as a picture: curves, values or forecasts of the models of a simulation.

Nothing here is noised: a simulation sees all held-out patients. Plots of real jobs are on a model's
card (learning/card_results.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from learning.classification import Classifier
from learning.demand import Demand
from learning.survival import Survival
from learning.treatment import Treatment
from simulations import score_panels, task_panels
from simulations.output import png
from simulations.panel_style import frame, title
from simulations.picture import DPI, INK, QUIET, WIDTH_IN
from simulations.results import Result, Shown

HEIGHT_IN, HEAD_IN = 4.8, 0.95
Panel = Callable[[Axes, Sequence[Shown], Shown], None]


def task_picture(result: Result) -> bytes | None:
    """The picture as the bytes of a PNG file; None where the task has none, or no arm one model.

    Args:
        result: With the models that it is made of.
    """
    figure = draw(result)
    return None if figure is None else png(figure, DPI)


def draw(result: Result) -> Figure | None:
    """The picture as a figure, outside pyplot's global state."""
    if not result.shown:
        return None
    one = representative(result.shown)
    drawn = panels_of(one.held_out.task)
    if not drawn:
        return None
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    top, left = 1 - HEAD_IN / HEIGHT_IN, 0.075
    # Names of policies stand where other panels have numbers.
    margin = 0.24 if len(drawn) == 1 else 0.0
    width = (1 - left - 0.02) / len(drawn)
    for place, panel in enumerate(drawn):
        axes = figure.add_axes(
            (left + margin + place * width, 0.13, width - margin - 0.05, top - 0.13)
        )
        frame(axes)
        panel(axes, result.shown, one)
    _head(figure, result, one)
    return figure


def representative(shown: Sequence[Shown]) -> Shown:
    """The model that stands for all: of the arm with noise on the sum, or else of the last one."""
    private = [one for one in shown if one.arm == "distributed"]
    return (private or list(shown))[-1]


@singledispatch
def panels_of(task: object) -> tuple[Panel, ...]:  # noqa: ARG001 - for others
    """What is drawn for a task; nothing unless another function is registered for its class."""
    return ()


@panels_of.register
def _(task: Classifier) -> tuple[Panel, ...]:  # noqa: ARG001 - its class is what counts
    return score_panels.roc, lambda axes, _, one: score_panels.calibration(axes, one)


@panels_of.register
def _(task: Survival) -> tuple[Panel, ...]:
    return (
        lambda axes, _, one: task_panels.risk_groups(axes, task, one),
        lambda axes, _, one: task_panels.predicted_survival(axes, one),
    )


@panels_of.register
def _(task: Treatment) -> tuple[Panel, ...]:
    return (lambda axes, shown, one: task_panels.policies(axes, task, shown, one),)


@panels_of.register
def _(task: Demand) -> tuple[Panel, ...]:
    return (
        lambda axes, _, one: task_panels.forecasts(axes, task, one),
        lambda axes, shown, _: task_panels.coverage(axes, task, shown),
    )


def _head(figure: Figure, result: Result, one: Shown) -> None:
    """Title and what it is of; a dollar sign begins no formula."""
    height, size = figure.get_figheight(), len(one.held_out.records)
    figure.text(
        0.033,
        1 - 0.36 / height,
        result.name,
        parse_math=False,
        fontsize=14,
        weight="bold",
        color=INK,
    )
    about = f"{size} held-out records of all hospitals, seed {result.seeds[0]}"
    told = f"{about}; where there is one model: {title(one)}"
    figure.text(0.033, 1 - 0.62 / height, told, fontsize=10, color=QUIET)
