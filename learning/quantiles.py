"""Quantiles of a histogram whose counts bear noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from learning.histogram import without_negatives
from learning.intervals import Z
from learning.task import FloatVector, Metric


def quantiles(
    bins_B: FloatVector, bounds: tuple[float, float], noise: float, levels: Sequence[float]
) -> dict[float, Metric]:
    """Value at each level, interpolated within its bin; nothing of an empty histogram.

    The partial sums S_k are first made to rise (least squares under order). The interval holds the
    values at which S_k is within 1.96 standard deviations of p S_B. That of S_k - p S_B, with k of
    B bins below, is noise times sqrt(k (1 - p)^2 + (B - k) p^2). Rounding to bins is no part of it.

    Args:
        bins_B: Patients in B bins of equal width, noised or not.
        bounds: Where the first begins and the last ends.
        noise: Standard deviation of the noise of one bin.
        levels: Ascending, between 0 and 1.

    Source: Woodruff 1952, Confidence Intervals for Medians and Other Position Measures (the
    interval, by inversion of partial sums).

    >>> quantiles(np.array([0.0, 10.0, 10.0, 0.0]), (0.0, 8.0), 0.0, (0.25, 0.5))
    {0.25: Metric(value=3.0, low=3.0, high=3.0), 0.5: Metric(value=4.0, low=4.0, high=4.0)}
    """
    sum_K = np.concatenate([[0.0], np.cumsum(without_negatives(bins_B))])
    total = float(sum_K[-1])
    if total <= 0:
        return {}
    edge_K, below_K = np.linspace(*bounds, len(sum_K)), np.arange(len(sum_K))
    found = {}
    for level in levels:
        variance_K = below_K * (1 - level) ** 2 + (len(bins_B) - below_K) * level**2
        error_K = Z * noise * np.sqrt(variance_K)
        middle = _reached(sum_K, edge_K, level * total)
        error = float(np.interp(middle, edge_K, error_K))
        near_K = edge_K[np.abs(sum_K - level * total) <= error_K]
        ends = [_reached(sum_K, edge_K, level * total + side) for side in (-error, error)]
        found[level] = Metric(
            middle, min([*ends, *near_K.tolist()]), max([*ends, *near_K.tolist()])
        )
    return found


def _reached(sum_K: FloatVector, edge_K: FloatVector, target: float) -> float:
    """Where the partial sums reach a target; in the middle where they stand still at it."""
    target = min(max(target, 0.0), float(sum_K[-1]))
    left = int(np.searchsorted(sum_K, target, side="left"))
    right = int(np.searchsorted(sum_K, target, side="right"))
    if left < right:
        return float(edge_K[left] + edge_K[right - 1]) / 2
    share = (target - sum_K[left - 1]) / (sum_K[left] - sum_K[left - 1])
    return float(edge_K[left - 1] + share * (edge_K[left] - edge_K[left - 1]))
