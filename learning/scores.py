"""Metrics of scores against outcomes, with 95 % intervals, from two classes' score histograms.

Everything that is linear in the counts, or a product of two classes' counts, uses unbiased counts,
negative ones included, and only the result is put into [0, 1]; the area under the precision-recall
curve uses the nearest counts without negatives. The noise enters an interval through the metric's
gradient in the counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from learning.histogram import BINS, MIDPOINTS, leaf_variance, without_negatives
from learning.intervals import Z, normal_interval, score_interval
from learning.task import FloatArray, Metric

# Neighbouring bins pooled for the calibration error; 32 groups would mostly measure their noise.
CALIBRATION_GROUPS = 8


def hanley_mcneil(theta: float, positives: float, negatives: float) -> float:
    """Variance of the area under the curve if it is theta (Hanley, McNeil 1982, eq. 2)."""
    q1, q2 = theta / (2 - theta), 2 * theta**2 / (1 + theta)
    spread = (positives - 1) * (q1 - theta**2) + (negatives - 1) * (q2 - theta**2)
    return (theta * (1 - theta) + spread) / (positives * negatives)


def binned_auroc(leaf_2B: FloatArray, noise: Callable[[FloatArray], float]) -> Metric | None:
    """Area under the ROC curve, ties within a bin counted half.

    Args:
        leaf_2B: Negative and positive records by bin of their score, ascending; any bins.
        noise: Variance of the noise of a quantity, from its gradient in the counts.
    """
    negative_B, positive_B = leaf_2B
    negatives, positives = negative_B.sum(), positive_B.sum()
    if negatives <= 0 or positives <= 0:
        return None
    below_B = (np.cumsum(negative_B) - negative_B / 2) / negatives
    above_B = (positives - np.cumsum(positive_B) + positive_B / 2) / positives
    value = float(positive_B @ below_B / positives)
    gradient_2B = np.stack([(above_B - value) / negatives, (below_B - value) / positives])
    sizes = max(float(positives), 1.0), max(float(negatives), 1.0)
    return score_interval(
        value,
        lambda theta: hanley_mcneil(theta, *sizes),
        noise(gradient_2B),
    )


def _binned_auprc(leaf_2B: FloatArray, noise_std: float) -> Metric | None:
    """Average precision, records of one bin taken together, as scikit-learn does with ties.

    Source: Boyd, Eng, Page 2013, Area under the Precision-Recall Curve, section 3.1 (binomial
    interval with the number of positives), in Wilson's form.
    """
    negative_B, positive_B = (without_negatives(row_B[::-1]) for row_B in leaf_2B)
    positives = positive_B.sum()
    if positives <= 0:
        return None
    true_B = np.cumsum(positive_B)
    called_B = true_B + np.cumsum(negative_B)
    safe_B = np.where(called_B > 0, called_B, 1.0)
    precision_B = true_B / safe_B
    value = float(positive_B @ precision_B / positives)
    # A record in a bin moves the precision of its own bin and of all below it.
    gain_B = np.cumsum((positive_B * (called_B - true_B) / safe_B**2)[::-1])[::-1]
    loss_B = np.cumsum((positive_B * true_B / safe_B**2)[::-1])[::-1]
    gradient_2B = np.stack([-loss_B, precision_B - value + gain_B])[:, ::-1] / positives
    size = max(float(positives), 1.0)
    return score_interval(
        value,
        lambda theta: theta * (1 - theta) / size,
        leaf_variance(gradient_2B, noise_std),
    )


def _brier(leaf_2B: FloatArray, noise_std: float) -> Metric | None:
    """Mean squared distance of the score (its bin's midpoint) from the outcome."""
    total = float(leaf_2B.sum())
    if total <= 0:
        return None
    square_2B = np.stack([MIDPOINTS**2, (1 - MIDPOINTS) ** 2])
    value = float((leaf_2B * square_2B).sum()) / total
    spread = float((leaf_2B * (square_2B - value) ** 2).sum()) / total
    sampling = max(spread, 0.0) / max(total, 1.0)
    return normal_interval(value, sampling + leaf_variance((square_2B - value) / total, noise_std))


def _calibration(leaf_2B: FloatArray, noise_std: float) -> Metric | None:
    """Expected calibration error: mean distance of outcomes from scores over groups of scores.

    The sum of absolute errors is too large by chance alone, so the lower limit goes down by what
    errors of that size add up to, the upper one by the spread only.

    Source: Naeini, Cooper, Hauskrecht 2015, Obtaining Well Calibrated Probabilities Using Bayesian
    Binning, eq. 2; the mean and variance of |N(0, s)| are s sqrt(2/pi) and s^2 (1 - 2/pi).
    """
    total = float(leaf_2B.sum())
    if total <= 0:
        return None
    error_2B = np.stack([-MIDPOINTS, 1 - MIDPOINTS]) / total
    sampling_B = MIDPOINTS * (1 - MIDPOINTS) * np.maximum(leaf_2B.sum(axis=0), 0.0) / total**2
    value, deviations = 0.0, []
    for group in np.split(np.arange(BINS), CALIBRATION_GROUPS):
        gradient_2B = np.zeros_like(leaf_2B)
        gradient_2B[:, group] = error_2B[:, group]
        value += abs(float((leaf_2B * gradient_2B).sum()))
        variance = sampling_B[group].sum() + leaf_variance(gradient_2B, noise_std)
        deviations.append(math.sqrt(variance))
    square = sum(deviation**2 for deviation in deviations)
    chance = math.sqrt(2 / math.pi) * sum(deviations) + Z * math.sqrt((1 - 2 / math.pi) * square)
    return Metric(value, value - chance, value + Z * math.sqrt(square))


def ranked(leaf_2B: FloatArray, noise_std: float) -> dict[str, Metric | None]:
    """Metrics of the scores of one class against the rest; limits may lie outside [0, 1]."""
    return {
        "auroc": binned_auroc(leaf_2B, lambda gradient_2B: leaf_variance(gradient_2B, noise_std)),
        "auprc": _binned_auprc(leaf_2B, noise_std),
        "brier": _brier(leaf_2B, noise_std),
        "calibration_error": _calibration(leaf_2B, noise_std),
    }
