"""95 % confidence intervals from an estimate and the variance of its sampling and its noise."""

from __future__ import annotations

import math
from collections.abc import Callable

from learning.task import Metric

# Two-sided 95 % of the normal law.
Z = 1.959963984540054

# Halvings of [0, 1] until the limits stand still in double precision.
HALVINGS = 60


def limit(inside: float, edge: float, covered: Callable[[float], bool]) -> float:
    """The last covered value on the way from `inside`, which is covered, to `edge`."""
    if covered(edge):
        return edge
    for _ in range(HALVINGS):
        middle = (inside + edge) / 2
        inside, edge = (middle, edge) if covered(middle) else (inside, middle)
    return inside


def score_interval(
    value: float, variance: Callable[[float], float], noise_variance: float = 0.0
) -> Metric:
    """All truths in [0, 1] from which the estimate is at most 1.96 standard errors away.

    The standard error is taken at the candidate, so that an estimate of 0 or 1 still gets an
    interval of sensible length. With theta (1 - theta) / n it is Wilson's interval.

    Args:
        value: The estimate; outside [0, 1] it is set to the nearer end.
        variance: Sampling variance if the truth were theta.
        noise_variance: Variance of the noise of the counts, added to it.

    Source: Wilson 1927, Probable Inference; for the area under the curve Newcombe 2006,
    Confidence Intervals for an Effect Size Measure Based on the Mann-Whitney Statistic, Part 2.

    >>> metric = score_interval(0.5, lambda theta: theta * (1 - theta) / 96)
    >>> round(metric.low, 3), round(metric.high, 3)
    (0.402, 0.598)
    """
    value = min(max(value, 0.0), 1.0)

    def covered(theta: float) -> bool:
        return (value - theta) ** 2 <= Z**2 * (variance(theta) + noise_variance)

    return Metric(value, limit(value, 0.0, covered), limit(value, 1.0, covered))


def normal_interval(value: float, variance: float) -> Metric:
    """Estimate plus and minus 1.96 standard errors; `clipped` puts them into [0, 1]."""
    half = Z * math.sqrt(variance)
    return Metric(value, value - half, value + half)


def clipped(metric: Metric) -> Metric:
    """Estimate and limits put into [0, 1]; last of all, since means of clipped limits lie."""
    return Metric(
        *(min(max(number, 0.0), 1.0) for number in (metric.value, metric.low, metric.high))
    )
