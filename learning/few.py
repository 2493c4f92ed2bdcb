"""Whether counts suffice for a statement about the patients that they are of.

Small groups are not told: without noise their numbers would come close to single patients, and with
noise they would be the noise's. A caller leaves out what does not suffice, and pages say `TOO_FEW`.
"""

from __future__ import annotations

from collections.abc import Mapping

from learning.intervals import Z, clipped
from learning.task import Metric

# What pages say in the place of such a number.
TOO_FEW = "too few"

# Patients, as many as must be surely there; of a served model labels that are known.
LEAST = 10

# A wider interval says hardly more than that there is a number.
WIDEST = 0.5


def enough(size: float, deviation: float) -> bool:
    """Whether at least `LEAST` patients are there, the noise taken off.

    Args:
        size: How many were counted.
        deviation: Standard deviation of the noise of that number.

    >>> enough(10.0, 0.0), enough(20.0, 6.0)
    (True, False)
    """
    return size - Z * deviation >= LEAST


def told(metrics: Mapping[str, Metric | None]) -> dict[str, Metric]:
    """Those that are there and say something, put into [0, 1].

    >>> told({"recall": Metric(0.9, 0.8, 1.1), "auroc": Metric(0.7, 0.3, 1.0), "brier": None})
    {'recall': Metric(value=0.9, low=0.8, high=1.0)}
    """
    inside = {name: clipped(metric) for name, metric in metrics.items() if metric is not None}
    return {name: metric for name, metric in inside.items() if narrow(metric)}


def narrow(metric: Metric) -> bool:
    """Whether an interval is short enough to be told."""
    return metric.high - metric.low <= WIDEST
