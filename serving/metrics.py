"""Metrics for Prometheus: how fast, how much, how well. No value of a patient is among them."""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import TracebackType

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import ClientDisconnect

from serving.monitor import Monitor, Watched
from serving.refusal import Refusal
from serving.tallies import Counts, Spread

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
# Clients that went away, whose requests nobody refused and nothing failed.
_GONE = (CancelledError, ClientDisconnect)
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
        asked, model = ("model", "protocol"), ("model",)
        self._seconds = Spread("fedward_answer_seconds", "Time of an answer", asked, _SECONDS)
        told = "Requests answered together"
        self._batch_requests = Spread("fedward_batch_requests", told, model, _SIZES)
        told = "Rows answered together"
        self._batch_rows = Spread("fedward_batch_rows", told, model, _SIZES)
        told = "Requests by how they ended"
        self._requests = Counts("fedward_requests", told, (*asked, "result"))
        watching = _Watching(monitor, waiting, under_way)
        own = (self._seconds, self._batch_requests, self._batch_rows, self._requests)
        for collector in (*own, watching):
            self._registry.register(collector)

    def batch(self, model: str) -> Callable[[int, int], None]:
        """What takes note of the batches of a model."""
        labels = (model,)

        def told(number: int, total: int) -> None:
            self._batch_requests.add(labels, number)
            self._batch_rows.add(labels, total)

        return told

    def metered(self, model: str, protocol: str) -> Meter:
        """Take note of a request, however it ends.

        Args:
            model: A model that is served, or `unknown`: clients must not choose what is counted.
            protocol: `rest` or `grpc`.
        """
        return Meter(self._requests, self._seconds, (model, protocol))

    def results(self) -> dict[str, dict[str, int]]:
        """Requests by model and by how they ended."""
        found: dict[str, dict[str, int]] = {}
        for (model, _, result), count in self._requests.found.items():
            of_model = found.setdefault(model, {})
            of_model[result] = of_model.get(result, 0) + count
        return found

    def text(self, visible: Callable[[str], bool] = lambda _: True) -> bytes:
        """All metrics in Prometheus' text format.

        Args:
            visible: Whether the reader may know of a model; `unknown` are those that are none.
        """
        return generate_latest(_Visible(self._registry, cache(visible)))


class Meter:
    """Times a request, and counts how it ended."""

    __slots__ = ("_ended", "_labels", "_seconds", "_start")

    def __init__(self, ended: Counts, seconds: Spread, labels: tuple[str, str]) -> None:
        self._ended, self._seconds, self._labels = ended, seconds, labels
        self._start = time.perf_counter()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        result = "ok" if error is None else "defect"
        if isinstance(error, Refusal):
            result = error.kind.value
        elif isinstance(error, _GONE):
            result = "cancelled"
        self._ended.add((*self._labels, result))
        self._seconds.add(self._labels, time.perf_counter() - self._start)


@dataclass(frozen=True)
class _Visible(Collector):
    """The metrics that a reader may know of."""

    every: Collector
    visible: Callable[[str], bool]

    def collect(self) -> Iterator[Metric]:
        """Those of visible models, and those of no model."""
        for family in self.every.collect():
            family.samples = [
                one
                for one in family.samples
                if "model" not in one.labels or self.visible(one.labels["model"].partition("/")[0])
            ]
            yield family


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
