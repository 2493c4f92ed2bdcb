"""The picture of a privacy budget: both epsilons over time, against the hospital's caps."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

from privacy.ledger_audit import Budget, Point
from protocol.errors import InputError


def draw(history: Mapping[Budget, Sequence[Point]]) -> bytes:
    """Both epsilons over time against their caps, one panel for each budget.

    Returns:
        A picture in PNG.

    Raises:
        InputError: Nothing was ever reserved.
    """
    if not history:
        raise InputError("nothing to plot", expected="a ledger with at least one reservation")
    from matplotlib.figure import Figure  # noqa: PLC0415 - a second that no other command pays

    figure = Figure(figsize=(8, 3.2 * len(history)), layout="constrained")
    panels = figure.subplots(len(history), 1, squeeze=False)[:, 0]
    for axes, ((population, partition), points) in zip(
        panels, sorted(history.items()), strict=True
    ):
        times = [point.at for point in points]
        for name, colour, values, caps in _curves(points):
            axes.step(times, values, where="post", color=colour, marker="o", ms=3, label=name)
            axes.step(
                times,
                caps,
                where="post",
                color=colour,
                ls="--",
                lw=1,
                marker="_",
                ms=9,
                label=f"cap, {name}",
            )
        axes.set(title=f"{population}, {partition}", ylabel="epsilon", ylim=(0, None))
        axes.tick_params(axis="x", labelrotation=30)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()


def _curves(
    points: Sequence[Point],
) -> tuple[tuple[str, str, list[float], list[float]], ...]:
    """Name, colour, values and caps of each curve; what is infinite leaves a gap."""
    return (
        (
            "epsilon",
            "tab:blue",
            [_finite(point.epsilon) for point in points],
            [_finite(point.caps.epsilon) for point in points],
        ),
        (
            "worst case",
            "tab:red",
            [_finite(point.epsilon_worst) for point in points],
            [_finite(point.caps.epsilon_worst) for point in points],
        ),
    )


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan
