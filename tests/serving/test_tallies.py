"""What is counted reads as what Prometheus' own library would have written."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.registry import Collector

from serving.tallies import Counts, Spread

BOUNDS = (1, 2, 4.5)
SEEN = [("a", 1.0), ("a", 0.3), ("b", 2.0), ("a", 2.1), ("b", 99.0), ("a", 4.5)]


def text(*collectors: Collector) -> list[str]:
    registry = CollectorRegistry()
    for one in collectors:
        registry.register(one)
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


def test_histograms_and_counters_are_those_of_the_library() -> None:
    spread = Spread("size", "Sizes", ("model",), BOUNDS)
    counts = Counts("asked", "Requests", ("model",))
    like = CollectorRegistry()
    own = Histogram("size", "Sizes", ["model"], buckets=BOUNDS, registry=like)
    often = Counter("asked", "Requests", ["model"], registry=like)
    for model, value in SEEN:
        spread.add((model,), value)
        counts.add((model,))
        own.labels(model).observe(value)
        often.labels(model).inc()
    assert text(spread, counts) == text(own, often)
    assert counts.found == {("a",): 4, ("b",): 2}
