"""Metrics and their 95 % intervals from pooled, possibly noised, score histograms.

Everything that is linear in the counts, or a product of two classes' counts, uses unbiased counts,
negative ones included, and only the result is put into [0, 1]; the area under the precision-recall
curve uses the nearest counts without negatives. The noise enters an interval through the metric's
gradient. A metric that the counts do not determine (no positive patient, say) is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from learning.histogram import BINS, MIDPOINTS, leaf_variance, leaves, without_negatives
from learning.intervals import Z, normal_interval, score_interval
from learning.task import FloatArray, FloatVector, Metric
from protocol.errors import InputError

# Neighbouring bins pooled for the calibration error; 32 groups would mostly measure their noise.
CALIBRATION_GROUPS = 8

_HALF = BINS // 2


def auroc(score_N: FloatVector, label_N: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> float:
    """Exact area under the ROC curve of raw scores, ties counted half.

    Raises:
        InputError: One of the two classes is absent.

    Source: Hanley, McNeil 1982, The Meaning and Use of the Area under a ROC Curve, eq. 1.

    >>> auroc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1]))
    0.875
    """
    positive_N = np.asarray(label_N) == 1
    positives = int(positive_N.sum())
    negatives = len(positive_N) - positives
    if positives == 0 or negatives == 0:
        raise InputError("the area under the curve needs records of both classes")
    _, place_N, count_V = np.unique(score_N, return_inverse=True, return_counts=True)
    rank_V = np.cumsum(count_V) - (count_V - 1) / 2
    ranks = float(rank_V[place_N][positive_N].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def _hanley_mcneil(theta: float, positives: float, negatives: float) -> float:
    """Variance of the area under the curve if it is theta (Hanley, McNeil 1982, eq. 2)."""
    q1, q2 = theta / (2 - theta), 2 * theta**2 / (1 + theta)
    spread = (positives - 1) * (q1 - theta**2) + (negatives - 1) * (q2 - theta**2)
    return (theta * (1 - theta) + spread) / (positives * negatives)


def _binned_auroc(leaf_2B: FloatArray, noise_std: float) -> Metric | None:
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
        lambda theta: _hanley_mcneil(theta, *sizes),
        leaf_variance(gradient_2B, noise_std),
    )


def _binned_auprc(leaf_2B: FloatArray, noise_std: float) -> Metric | None:
    """Average precision, records of one bin taken together, as scikit-learn does with ties.

    Source: Boyd, Eng, Page 2013, Area under the Precision-Recall Curve, section 3.1 (binomial
    interval with the number of positives), in Wilson's form.
    """
    negative_B, positive_B = (without_negatives(row_B)[::-1] for row_B in leaf_2B)
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


def _proportion(
    count: FloatArray, part: FloatArray, whole: FloatArray, noise: Callable[[FloatArray], float]
) -> Metric | None:
    """Wilson's interval of a quotient of counts, widened by their noise.

    Args:
        count: Counts, of any shape.
        part: 1 for counts in the numerator (and in the denominator), else 0.
        whole: 1 for counts in the denominator, else 0.
        noise: Variance of the noise of a quantity, from its gradient in the counts.
    """
    size = float((count * whole).sum())
    if size <= 0:
        return None
    value = float((count * part).sum()) / size
    return score_interval(
        value,
        lambda theta: theta * (1 - theta) / max(size, 1.0),
        noise((part - min(max(value, 0.0), 1.0) * whole) / size),
    )


def _f1(
    count: FloatArray, hit: FloatArray, wrong: FloatArray, noise: Callable[[FloatArray], float]
) -> Metric | None:
    """F1 by way of J = hits / (hits + wrong ones), a proportion, of which it is 2 J / (1 + J)."""
    jaccard = _proportion(count, hit, hit + wrong, noise)
    if jaccard is None:
        return None
    return Metric(*(2 * j / (1 + j) for j in (jaccard.value, jaccard.low, jaccard.high)))


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
    value = min(value, 1.0)
    return Metric(value, max(value - chance, 0.0), min(value + Z * math.sqrt(square), 1.0))


def _ranked(leaf_2B: FloatArray, noise_std: float) -> dict[str, Metric | None]:
    """Metrics of the scores of one class against the rest."""
    return {
        "auroc": _binned_auroc(leaf_2B, noise_std),
        "auprc": _binned_auprc(leaf_2B, noise_std),
        "brier": _brier(leaf_2B, noise_std),
        "calibration_error": _calibration(leaf_2B, noise_std),
    }


def _defined(metrics: Mapping[str, Metric | None]) -> dict[str, Metric]:
    return {name: metric for name, metric in metrics.items() if metric is not None}


def binary_metrics(trees_2T: FloatArray, noise_std: float) -> dict[str, Metric]:
    """Metrics of two classes; positive means a score of at least 1/2.

    Args:
        trees_2T: Trees of the scores of negative and of positive records.
        noise_std: Standard deviation of each node's noise, in counts.
    """
    leaf_2B = leaves(trees_2T, noise_std)
    called_B = (np.arange(BINS) >= _HALF).astype(np.float64)
    zero_B = np.zeros(BINS)
    hit, missed = np.stack([zero_B, called_B]), np.stack([zero_B, 1 - called_B])
    alarm, clear = np.stack([called_B, zero_B]), np.stack([1 - called_B, zero_B])

    def noise(gradient_2B: FloatArray) -> float:
        return leaf_variance(gradient_2B, noise_std)

    return _defined(
        {
            **_ranked(leaf_2B, noise_std),
            "accuracy": _proportion(leaf_2B, hit + clear, np.ones_like(leaf_2B), noise),
            "recall": _proportion(leaf_2B, hit, hit + missed, noise),
            "specificity": _proportion(leaf_2B, clear, clear + alarm, noise),
            "precision": _proportion(leaf_2B, hit, hit + alarm, noise),
            "f1": _f1(leaf_2B, hit, missed + alarm, noise),
        }
    )


def _one_class(
    confusion_CC: FloatArray, index: int, noise: Callable[[FloatArray], float]
) -> dict[str, Metric | None]:
    """Recall, precision and F1 of one class, from the table of true by predicted classes."""
    truly, called = np.zeros_like(confusion_CC), np.zeros_like(confusion_CC)
    truly[index], called[:, index] = 1.0, 1.0
    hit = truly * called
    return {
        "recall": _proportion(confusion_CC, hit, truly, noise),
        "precision": _proportion(confusion_CC, hit, called, noise),
        "f1": _f1(confusion_CC, hit, truly + called - 2 * hit, noise),
    }


def many_class_metrics(
    classes: Sequence[str],
    trees_C2T: FloatArray,
    confusion_CC: FloatArray,
    noise_std: float,
    confusion_noise_std: float,
) -> dict[str, Metric]:
    """Accuracy, each class' metrics as `name:class`, and their unweighted mean as `name`.

    The interval of a mean is the mean of the intervals: right if the classes' errors are fully
    correlated, too wide otherwise. A mean is left out where one class has no value.
    """

    def noise(gradient_CC: FloatArray) -> float:
        return confusion_noise_std**2 * float((gradient_CC**2).sum())

    each = [
        {
            **_ranked(leaves(trees_C2T[index], noise_std), noise_std),
            **_one_class(confusion_CC, index, noise),
        }
        for index in range(len(classes))
    ]
    means = {name: _mean([metrics[name] for metrics in each]) for name in each[0]}
    named = {
        f"{name}:{text}": metric
        for text, metrics in zip(classes, each, strict=True)
        for name, metric in metrics.items()
    }
    diagonal, ones = np.eye(len(classes)), np.ones_like(confusion_CC)
    accuracy = _proportion(confusion_CC, diagonal, ones, noise)
    return _defined({"accuracy": accuracy, **means, **named})


def _mean(metrics: Sequence[Metric | None]) -> Metric | None:
    values = [(one.value, one.low, one.high) for one in metrics if one is not None]
    if len(values) < len(metrics):
        return None
    return Metric(*(float(mean) for mean in np.mean(values, axis=0)))
