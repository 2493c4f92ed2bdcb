"""Histograms of released tables: where a bin begins, and which columns can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from learning.cells import bins_of
from learning.pooled_statistics import Statistics
from learning.schema import Schema
from learning.table_histograms import drift, edges, shapes
from protocol.config import parse
from protocol.errors import InputError

SCHEMA: dict[str, Any] = {
    "columns": [
        {"name": "age", "kind": "number", "unit": "years", "low": 0, "high": 100},
        {"name": "ward", "kind": "category", "categories": ["a", "b"]},
    ],
    "label": {"name": "ill", "classes": ["no", "yes"]},
}
DEMAND = {**SCHEMA, "label": {"name": "beds", "low": 0, "high": 40}}


def task(schema: dict[str, Any] = SCHEMA, bins: int = 4) -> Statistics:
    return Statistics.from_options({"bins": bins}, parse(Schema, schema, "schema"))


def sums(task: Statistics, label: list[Any]) -> Any:
    table: dict[str, Any] = {"age": [0, 25, 74.9, 100, None], "ward": ["a", "b", "b", "x", ""]}
    records, _ = task.records({**table, task.schema.label.name: label})
    return task.evaluation.counts(records.x_NF, np.asarray(records.y_N), records.patient_N)


def test_every_column_has_its_bins_and_those_without_a_value_last() -> None:
    found = shapes(task(), sums(task(), ["no", "yes", "yes", "no", "no"]), 0.5)
    assert {name: one.histogram.count_B.tolist() for name, one in found.items()} == {
        "age": [1, 1, 1, 1, 1], "ward": [1, 2, 2], "ill": [3, 2],
    }  # fmt: skip
    assert {one.histogram.noise for one in found.values()} == {0.5}
    beds = shapes(task(DEMAND), sums(task(DEMAND), [0, 9, 10, 40, 39]), 0.0)["beds"]
    assert beds.histogram.count_B.tolist() == [2, 1, 0, 2]
    without = shapes(task(bins=0), sums(task(bins=0), ["no"] * 5), 0.0)
    assert [*without] == ["ward", "ill"]


@pytest.mark.parametrize(
    ("bounds", "bins"), [((0.0, 120.0), 16), ((-3.7, 19.1), 7), ((1e-3, 1e6), 64), ((-1, 1), 2)]
)
def test_edges_are_exactly_where_counting_begins_another_bin(
    bounds: tuple[float, float], bins: int
) -> None:
    low, high = bounds
    edge_K = edges(bounds, bins)
    near_N = np.concatenate([edge_K, np.nextafter(edge_K, -np.inf), np.nextafter(edge_K, np.inf)])
    whole_N = np.arange(np.ceil(low), min(high, low + 500) + 1)
    value_N = np.clip(np.concatenate([near_N, whole_N, np.linspace(low, high, 997)]), low, high)
    middle, half = low + (high - low) / 2, (high - low) / 2
    counted_N = bins_of((value_N - middle) / half, bins)
    assert np.searchsorted(edge_K, value_N, side="right").tolist() == counted_N.tolist()


def test_tables_are_compared_by_the_columns_that_both_have() -> None:
    one = shapes(task(), 400 * sums(task(), ["no"] * 5), 0.0)
    other = dict(one)
    del other["ward"]
    told = drift(one, other)
    assert [*told] == ["age", "ill"]
    assert told["age"] is not None
    assert not told["age"].sure
    with pytest.raises(InputError, match="without a column in common; expected age, ward, ill"):
        drift(one, {})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"unit": "months"},
            "'age'; expected a number in years from 0 to 100 in 4 bins; found .*months",
        ),
        ({"high": 90}, "found a number in years from 0 to 90 in 4 bins"),
        ({"kind": "flag", "unit": "", "low": None, "high": None}, "found one of no, yes"),
    ],
)
def test_what_was_counted_otherwise_is_not_compared(change: dict[str, Any], told: str) -> None:
    age = {
        key: value for key, value in {**SCHEMA["columns"][0], **change}.items() if value is not None
    }
    other = task({**SCHEMA, "columns": [age]})
    found = shapes(other, other.initial(0), 0.0)
    with pytest.raises(InputError, match=told):
        drift(shapes(task(), task().initial(0), 0.0), found)


def test_a_label_is_not_compared_with_an_input_that_may_be_missing() -> None:
    """Whoever lacks it was counted in one table only."""
    flag = {"name": "ill", "kind": "flag"}
    other = task({"columns": [flag], "label": {"name": "died", "classes": ["no", "yes"]}})
    found = shapes(other, other.initial(0), 0.0)
    with pytest.raises(InputError, match="one of no, yes, of those who have one; found one of"):
        drift(shapes(task(), task().initial(0), 0.0), found)
