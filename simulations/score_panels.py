"""Panels of classifiers: curves of hits by false alarms, and of calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from learning.calibration import BANDS
from learning.few import LEAST
from learning.histogram import EDGES
from learning.intervals import score_interval
from learning.label_evaluation import UNKNOWN, states
from learning.task import FloatVector, IntVector
from simulations.panel_style import (
    COLOURS,
    DASHES,
    colour,
    diagonal,
    dots,
    legend,
    name,
    title,
)
from simulations.results import Shown

MOST_CURVES = 7
_PER_BAND = (len(EDGES) - 1) // len(BANDS)


def roc(axes: Axes, shown: Sequence[Shown], one: Shown) -> None:
    """Sensitivity by false alarms.

    Args:
        axes: Where.
        shown: The arms, each of which is a curve where there are two classes.
        one: The arm whose classes or labels are curves otherwise.
    """
    diagonal(axes)
    if len(_pairs(one)) == 1:
        lines = [(title(arm), *_pairs(arm)[0][1:], colour(arm)) for arm in shown]
    else:
        lines = [(*pair, COLOURS[place]) for place, pair in enumerate(_pairs(one))]
    for place, (label, score_N, positive_N, shade) in enumerate(lines):
        wrong, right = _rates(score_N, positive_N)
        dashes = DASHES[place % len(DASHES)]
        axes.plot(wrong, right, dashes, color=shade, lw=1.8, label=label)
    name(axes, "ROC curve", "1 - specificity", "sensitivity")
    legend(axes, "lower right")


def calibration(axes: Axes, one: Shown) -> None:
    """Share that came true by predicted probability, with 95 % intervals."""
    diagonal(axes)
    for place, (label, score_N, positive_N) in enumerate(_pairs(one)):
        band_N = np.searchsorted(EDGES[_PER_BAND:-1:_PER_BAND], score_N, side="right")
        found = [
            (float(score_N[here_N].mean()), *_share(positive_N[here_N]))
            for here_N in (band_N == band for band in range(len(BANDS)))
            if here_N.sum() >= LEAST
        ]
        dots(axes, found, COLOURS[place], label)
    name(axes, "Calibration", "predicted probability", "share that came true")
    if len(_pairs(one)) > 1:
        legend(axes, "upper left")


def _pairs(one: Shown) -> list[tuple[str, FloatVector, IntVector]]:
    """Name, score and outcome of two classes, or of each class or label where it is known."""
    schema, predicted_NC = one.held_out.task.schema, one.held_out.predicted_NC
    y_N = np.asarray(one.held_out.records.y_N, dtype=np.int64)
    if schema.targets:
        names = (schema.label.name, *(column.name for column in schema.targets))
        state_NL = states(y_N, len(names))
        found = []
        for place, label in enumerate(names[:MOST_CURVES]):
            known_N = state_NL[:, place] != UNKNOWN
            found.append((label, predicted_NC[known_N, place], state_NL[known_N, place]))
        return found
    texts = schema.label.texts
    if len(texts) == 2:
        return [(texts[1], predicted_NC[:, 1], y_N)]
    return [
        (text, predicted_NC[:, place], (y_N == place).astype(np.int64))
        for place, text in enumerate(texts[:MOST_CURVES])
    ]


def _rates(score_N: FloatVector, positive_N: IntVector) -> tuple[FloatVector, FloatVector]:
    """False alarms and hits at every threshold, from none to all."""
    order_N = np.argsort(-score_N, kind="stable")
    hit_N = np.cumsum(positive_N[order_N])
    miss_N = np.cumsum(1 - positive_N[order_N])
    # Equal scores are one threshold.
    last_N = np.diff(score_N[order_N], append=-np.inf) != 0
    right = np.concatenate([[0.0], hit_N[last_N] / max(int(positive_N.sum()), 1)])
    wrong = np.concatenate([[0.0], miss_N[last_N] / max(int((1 - positive_N).sum()), 1)])
    return wrong, right


def _share(positive_N: IntVector) -> tuple[float, float, float]:
    """Wilson's interval of the share of positives."""
    size = len(positive_N)
    found = score_interval(float(positive_N.mean()), lambda theta: theta * (1 - theta) / size)
    return found.value, found.low, found.high
