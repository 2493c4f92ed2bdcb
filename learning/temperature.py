"""By how much a classifier is too sure of itself, and its probabilities set right.

One number T divides the log-odds: above 1 the model was too sure, below 1 not sure enough. It
follows from the pooled histograms that evaluate a model anyway, so it costs no privacy. The order
of patients stays as it is.

Source: Guo, Pleiss, Sun, Weinberger 2017, On Calibration of Modern Neural Networks, section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from learning.forward import sigmoid
from learning.histogram import MIDPOINTS, leaf_variance, leaves
from learning.intervals import Z, limit
from learning.task import FloatArray, FloatVector, Metric

NAME = "temperature"

# A model that is wrong by more is not one to be set right by a number.
_LEAST, _MOST = 1 / 8, 8.0
_LOGIT_B = np.log(MIDPOINTS) - np.log1p(-MIDPOINTS)


def temperature(trees_2T: FloatArray, noise_std: float) -> Metric | None:
    """The temperature of two classes' scores; None where the counts do not determine it.

    The likelihood's slope is linear in the counts, so noise leaves it unbiased; the interval holds
    every temperature at which the slope is within 1.96 of its standard errors. A score counts as
    its bin's middle, and no log-odds beyond the outermost bins' is known: of a model that is far
    too sure the number comes out too small (2.4 for 2.5), which corrects too little, not too much.

    Args:
        trees_2T: Trees of the scores of negative and of positive records.
        noise_std: Standard deviation of each node's noise, in counts.

    >>> sure_2T = np.zeros((2, 62))
    >>> sure_2T[:, 30 + 8], sure_2T[:, 30 + 23] = (70, 30), (30, 70)
    >>> round(temperature(sure_2T, 0.0).value, 2)
    1.83
    """
    leaf_2B = leaves(trees_2T, noise_std)
    total_B = leaf_2B.sum(axis=0)

    def slope(sharpness: float) -> float:
        return float(_LOGIT_B @ (leaf_2B[1] - total_B * sigmoid(sharpness * _LOGIT_B)))

    def covered(sharpness: float) -> bool:
        share_B = sigmoid(sharpness * _LOGIT_B)
        sampling = np.maximum(total_B, 0.0) @ (share_B * (1 - share_B) * _LOGIT_B**2)
        noise = leaf_variance(_LOGIT_B * np.stack([-share_B, 1 - share_B]), noise_std)
        return slope(sharpness) ** 2 <= Z**2 * (float(sampling) + noise)

    if not slope(_LEAST) > 0 > slope(_MOST):
        return None
    if covered(_LEAST) or covered(_MOST):
        return None
    value = limit(_LEAST, _MOST, lambda sharpness: slope(sharpness) >= 0)
    least, most = limit(value, _LEAST, covered), limit(value, _MOST, covered)
    return Metric(1 / value, 1 / most, 1 / least)


def chosen(metrics: Mapping[str, Metric], columns: Sequence[str]) -> FloatVector | None:
    """The temperature of each column of probabilities, C numbers; None where all are 1.

    A temperature whose interval holds 1 is not taken: chance alone may have made it.

    Args:
        metrics: A card's: `temperature` of two classes, or `temperature:LABEL` of several labels.
        columns: Classes or labels.
    """
    found = [metrics.get(f"{NAME}:{column}") or metrics.get(NAME) for column in columns]
    value_C = np.array(
        [1.0 if one is None or one.low <= 1 <= one.high else one.value for one in found]
    )
    return None if (value_C == 1).all() else value_C


def calibrated(probs_NC: FloatArray, temperature_C: FloatVector) -> FloatArray:
    """Probabilities N x C whose log-odds were divided by the temperature of their column.

    >>> calibrated(np.array([[0.2, 0.8], [0.0, 1.0]]), np.array([2.0, 2.0])).round(3).tolist()
    [[0.333, 0.667], [0.0, 1.0]]
    """
    with np.errstate(divide="ignore"):
        logit_NC = np.log(probs_NC) - np.log1p(-probs_NC)
    set_right_NC: FloatArray = sigmoid(logit_NC / temperature_C)
    return set_right_NC
