"""Metrics of a classifier, with 95 % intervals, from pooled and possibly noised counts.

Counts are used as they are, negative ones included, and the result is put into [0, 1]; the noise
widens the interval. A metric that the counts do not determine (no positive patient, say) is left
out. learning/scores.py has the metrics that need more of the scores than one threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from learning.histogram import BINS, leaf_variance, leaves
from learning.intervals import clipped, score_interval
from learning.scores import ranked
from learning.task import FloatArray, FloatVector, Metric
from protocol.errors import InputError

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


def proportion(
    count: FloatArray, part: FloatArray, whole: FloatArray, noise: Callable[[FloatArray], float]
) -> Metric | None:
    """Wilson's interval of a quotient of counts, widened by their noise.

    Args:
        count: Counts, of any shape.
        part: Of the counts' shape; 1 in the numerator (and in the denominator), else 0.
        whole: Of the counts' shape; 1 in the denominator, else 0.
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
    jaccard = proportion(count, hit, hit + wrong, noise)
    if jaccard is None:
        return None
    return Metric(*(2 * j / (1 + j) for j in (jaccard.value, jaccard.low, jaccard.high)))


def _defined(metrics: Mapping[str, Metric | None]) -> dict[str, Metric]:
    return {name: clipped(metric) for name, metric in metrics.items() if metric is not None}


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
            **ranked(leaf_2B, noise_std),
            "accuracy": proportion(leaf_2B, hit + clear, np.ones_like(leaf_2B), noise),
            "recall": proportion(leaf_2B, hit, hit + missed, noise),
            "specificity": proportion(leaf_2B, clear, clear + alarm, noise),
            "precision": proportion(leaf_2B, hit, hit + alarm, noise),
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
        "recall": proportion(confusion_CC, hit, truly, noise),
        "precision": proportion(confusion_CC, hit, called, noise),
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
            **ranked(leaves(trees_C2T[index], noise_std), noise_std),
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
    accuracy = proportion(confusion_CC, diagonal, ones, noise)
    return _defined({"accuracy": accuracy, **means, **named})


def _mean(metrics: Sequence[Metric | None]) -> Metric | None:
    values = [(one.value, one.low, one.high) for one in metrics if one is not None]
    if len(values) < len(metrics):
        return None
    return Metric(*(float(mean) for mean in np.mean(values, axis=0)))
