"""Counters and histograms that cost a microsecond a request, as Prometheus reads them.

Those of the client library take locks for threads; here one event loop counts, and tells.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


class Counts(Collector):
    """How often something happened, by labels.

    Args:
        name: Of the metric.
        told: One line for people.
        labels: Names of the labels.
    """

    def __init__(self, name: str, told: str, labels: Labels) -> None:
        self._name, self._told, self._labels = name, told, labels
        self.found: dict[Labels, int] = {}

    def add(self, labels: Labels) -> None:
        """Count one."""
        self.found[labels] = self.found.get(labels, 0) + 1

    def collect(self) -> Iterator[Metric]:
        """What was counted."""
        family = CounterMetricFamily(self._name, self._told, labels=self._labels)
        for labels, count in self.found.items():
            family.add_metric(labels, count)
        yield family


class Spread(Collector):
    """How large something was, by labels: how often up to each bound, and the sum.

    Args:
        name: Of the metric.
        told: One line for people.
        labels: Names of the labels.
        bounds: Upper bounds, ascending.
    """

    def __init__(self, name: str, told: str, labels: Labels, bounds: tuple[float, ...]) -> None:
        self._name, self._told, self._labels, self._bounds = name, told, labels, bounds
        self._found: dict[Labels, list[float]] = {}

    def add(self, labels: Labels, value: float) -> None:
        """Count one value."""
        cells = self._found.get(labels)
        if cells is None:
            # A cell for each bound, one for what is above them, and the sum.
            cells = self._found[labels] = [0.0] * (len(self._bounds) + 2)
        cells[bisect_left(self._bounds, value)] += 1
        cells[-1] += value

    def collect(self) -> Iterator[Metric]:
        """What was counted, each bound with all below it."""
        family = HistogramMetricFamily(self._name, self._told, labels=self._labels)
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        for labels, cells in self._found.items():
            buckets = [*zip(bounds, accumulate(cells[:-1]), strict=True)]
            family.add_metric(labels, buckets=buckets, sum_value=cells[-1])
        yield family
