"""Metrics for Prometheus: how fast, how much, how well. No value of a patient is among them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.monitor import Monitor, Watched
from serving.refusal import Refusal

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """All metrics of one server.

    Args:
        monitor: What is watched.
        waiting: Requests that wait for a batch, by model.
        under_way: Requests that are being answered.
    """

    def __init__(
        self,
        monitor: Monitor,
        waiting: Callable[[], Mapping[str, int]],
        under_way: Callable[[], int],
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        asked = ["model", "protocol"]
        self._seconds = self._histogram("answer_seconds", "Time of an answer", asked, _SECONDS)
        self._batch_requests = self._histogram(
            "batch_requests", "Requests answered together", ["model"], _SIZES
        )
        self._batch_rows = self._histogram(
            "batch_rows", "Rows answered together", ["model"], _SIZES
        )
        self._requests = Counter(
            "fedward_requests", "Requests by how they ended", [*asked, "result"],
            registry=self._registry,
        )  # fmt: skip
        self._registry.register(_Watching(monitor, waiting, under_way))

    def _histogram(
        self, name: str, told: str, labels: list[str], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(f"fedward_{name}", told, labels, buckets=buckets, registry=self._registry)

    def batch(self, model: str) -> Callable[[int, int], None]:
        """What takes note of the batches of a model."""
        requests, rows = self._batch_requests.labels(model), self._batch_rows.labels(model)

        def told(number: int, total: int) -> None:
            requests.observe(number)
            rows.observe(total)

        return told

    @contextmanager
    def metered(self, model: str, protocol: str) -> Iterator[None]:
        """Take note of a request, however it ends.

        Args:
            model: A model that is served, or `unknown`: clients must not choose what is counted.
            protocol: `rest` or `grpc`.
        """
        start, result = time.perf_counter(), "defect"
        try:
            yield
            result = "ok"
        except Refusal as refusal:
            result = refusal.kind.value
            raise
        finally:
            self._requests.labels(model, protocol, result).inc()
            self._seconds.labels(model, protocol).observe(time.perf_counter() - start)

    def results(self) -> dict[str, dict[str, int]]:
        """Requests by model and by how they ended."""
        found: dict[str, dict[str, int]] = {}
        for metric in self._requests.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    model, result = sample.labels["model"], sample.labels["result"]
                    of_model = found.setdefault(model, {})
                    of_model[result] = of_model.get(result, 0) + round(sample.value)
        return found

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _Watching(Collector):
    """What is computed when somebody asks."""

    def __init__(
        self,
        monitor: Monitor,
        waiting: Callable[[], Mapping[str, int]],
        under_way: Callable[[], int],
    ) -> None:
        self._monitor = monitor
        self._waiting = waiting
        self._under_way = under_way

    def collect(self) -> Iterator[Metric]:
        """Gauges of this moment."""
        yield _gauge("under_way", "Requests being answered", (), {(): self._under_way()})
        waiting: dict[tuple[str, ...], float] = {
            (name,): count for name, count in self._waiting().items()
        }
        yield _gauge("waiting", "Requests that wait for a batch", ("model",), waiting)
        yield from _watched(list(self._monitor.watched.items()))


def _watched(versions: list[tuple[str, Watched]]) -> Iterator[Metric]:
    """Gauges of what is watched, in steps that no single row shows in."""
    rows, alerts, references, psi, bounds, gaps, errors = (
        dict[tuple[str, ...], float]() for _ in range(7)
    )
    for label, one in versions:
        alerts |= {(label, alert): 1 for alert in one.look()}
        for name, column in one.drift.columns().items():
            named = one.reference_of(name)
            references[label, named] = references.get((label, named), 0) + 1
            if (found := column.stability) is not None:
                psi[label, name] = found.index
                bounds |= {(label, name, "low"): found.low, (label, name, "high"): found.high}
        for place, gap in one.calibration.gaps().items():
            gaps[label, *place] = gap.observed - gap.predicted
        errors |= {(label, name): error for name, error in one.calibration.errors().items()}
        rows[label, "asked"], rows[label, "labelled"] = one.drift.rows, one.calibration.rows
    yield _gauge("rows", "Rows asked, and rows whose label is known", ("model", "which"), rows)
    told = "Columns that are watched, by what they are compared with"
    yield _gauge("drift_reference", told, ("model", "reference"), references)
    yield _gauge("drift_psi", "Stability index of a column", ("model", "column"), psi)
    told = "95 % interval of the index, by chance and noise"
    yield _gauge("drift_psi_bound", told, ("model", "column", "bound"), bounds)
    told = "Share that came true minus mean prediction"
    yield _gauge("calibration_gap", told, ("model", "outcome", "column", "group"), gaps)
    yield _gauge("calibration_error", "Over ten bins", ("model", "outcome"), errors)
    yield _gauge("alert", "What is wrong now", ("model", "alert"), alerts)


def _gauge(
    name: str, told: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], float]
) -> Metric:
    family = GaugeMetricFamily(f"fedward_{name}", told, labels=labels)
    for place, value in values.items():
        family.add_metric(place, value)
    return family
