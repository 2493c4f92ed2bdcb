"""Whether predicted probabilities come true: observed shares in bands of predicted probability.

The curve follows from the histograms that evaluate a classifier anyway, so it costs no privacy. Its
points are metrics like others, so that it travels, is signed and is kept with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from learning.few import enough, told
from learning.histogram import BINS, EDGES, MIDPOINTS, leaf_variance, leaves
from learning.intervals import normal_interval
from learning.metrics import proportion
from learning.result_names import OBSERVED, PREDICTED
from learning.scores import CALIBRATION_GROUPS
from learning.task import FloatArray, FloatVector, Metric

_WIDTH: Final = BINS // CALIBRATION_GROUPS

BANDS: Final = tuple(
    f"{low:.2f}-{high:.2f}"
    for low, high in zip(EDGES[:-1:_WIDTH], EDGES[_WIDTH::_WIDTH], strict=True)
)
"""Names of the bands of predicted probability, ascending."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a calibration curve.

    Args:
        band: Its band of predicted probability, or what else the patients have in common.
        predicted: What was predicted in the mean.
        observed: Share that came true.
    """

    band: str
    predicted: Metric
    observed: Metric


def calibration(trees_2T: FloatArray, noise_std: float) -> dict[str, Metric]:
    """Mean prediction and observed share in each band, `predicted BAND` and `observed BAND`.

    A band with too few patients is left out.

    Args:
        trees_2T: Trees of the scores of negative and of positive records.
        noise_std: Standard deviation of each node's noise, in counts.

    >>> sure_2T = np.zeros((2, 62))
    >>> sure_2T[:, 30 + 16] = 25, 75
    >>> [f"{name}: {one.value:.2f}" for name, one in calibration(sure_2T, 0.0).items()]
    ['predicted 0.50-0.68: 0.52', 'observed 0.50-0.68: 0.75']
    """
    leaf_2B = leaves(trees_2T, noise_std)
    found: dict[str, Metric] = {}
    for place, band in enumerate(BANDS):
        inside_B = np.zeros(BINS)
        inside_B[place * _WIDTH : (place + 1) * _WIDTH] = 1.0
        found |= _band(leaf_2B, inside_B, noise_std, band)
    return found


def _band(
    leaf_2B: FloatArray, inside_B: FloatVector, noise_std: float, band: str
) -> dict[str, Metric]:
    """Both numbers of one band, or nothing."""

    def noise(gradient_2B: FloatArray) -> float:
        return leaf_variance(gradient_2B, noise_std)

    whole_2B = np.stack([inside_B, inside_B])
    size = float((leaf_2B * whole_2B).sum())
    if not enough(size, noise(whole_2B) ** 0.5):
        return {}
    value = float((leaf_2B * whole_2B) @ MIDPOINTS @ np.ones(2)) / size
    low, high = (float(one) for one in EDGES[[inside_B.argmax(), BINS - inside_B[::-1].argmax()]])
    value = min(max(value, low), high)
    # Nothing in a band is farther from its mean than the band is wide.
    sampling = (high - low) ** 2 / (4 * size)
    noisy = noise(whole_2B * (MIDPOINTS - value) / size)
    observed = proportion(leaf_2B, np.stack([0 * inside_B, inside_B]), whole_2B, noise)
    pair = told(
        {
            PREDICTED + band: normal_interval(value, sampling + noisy),
            OBSERVED + band: observed,
        }
    )
    return pair if len(pair) == 2 else {}


def points(metrics: Mapping[str, Metric], title: str = "") -> tuple[Point, ...]:
    """The calibration curve among a model's metrics, empty where there is none.

    Args:
        metrics: Such as a card's.
        title: The class or label whose curve it is, empty with two classes.
    """
    behind = f":{title}" if title else ""
    return tuple(
        Point(
            band=band,
            predicted=metrics[f"{PREDICTED}{band}{behind}"],
            observed=metrics[f"{OBSERVED}{band}{behind}"],
        )
        for band in BANDS
        if {f"{PREDICTED}{band}{behind}", f"{OBSERVED}{band}{behind}"} <= metrics.keys()
    )
