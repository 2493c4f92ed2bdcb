"""What moves a model over its schema, held against variances that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from learning import importance as module
from learning.importance import ROWS, importance, rows_for
from learning.schema import Schema
from learning.task import load_task
from protocol.config import parse
from protocol.jobs import Named
from tests.contracts.cases import CASES, invented

SCHEMA: dict[str, Any] = {
    "columns": [
        {"name": name, "kind": "number", "low": -2, "high": 2, "spread": 1} for name in "abc"
    ],
    "label": {"name": "beds", "low": -1000, "high": 1000},
}
TASK = load_task(Named(name="demand", options={"quantiles": [0.5], "scale": 1.0}), SCHEMA)


def test_of_a_straight_line_a_share_is_the_square_of_the_slope(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ROWS", 20_000)
    found = importance(TASK, np.array([3.0, 4.0, 0.0, 7.0]))
    assert list(found) == ["a", "b", "c"]
    assert found["a"] == pytest.approx(9 / 25, rel=0.05)
    assert found["b"] == pytest.approx(16 / 25, rel=0.05)
    assert found["c"] == 0


def test_it_is_the_same_everywhere_and_asks_for_no_record() -> None:
    task = CASES["network"].build()
    weights_P = np.random.default_rng(0).normal(size=task.layout().size)
    found = importance(task, weights_P)
    assert found == importance(CASES["network"].build(), weights_P)
    assert list(found) == [column.name for column in task.schema.columns]
    assert all(one >= 0 for one in found.values())
    assert sum(found.values()) > 0.9


def test_nothing_is_said_of_a_model_with_so_many_columns_that_a_job_would_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights_P = np.array([3.0, 4.0, 0.0, 7.0])
    monkeypatch.setattr(module, "MOST_COLUMNS", 3)
    assert importance(TASK, weights_P)
    monkeypatch.setattr(module, "MOST_COLUMNS", 2)
    assert importance(TASK, weights_P) == {}


def test_nothing_is_said_of_a_model_that_says_nothing_or_reads_one_column() -> None:
    task = CASES["logistic"].build()
    assert importance(task, task.initial(0)) == {}
    one = {**SCHEMA, "columns": SCHEMA["columns"][:1]}
    single = load_task(Named(name="demand", options={}), one)
    weights_P = np.random.default_rng(0).normal(size=single.layout().size)
    assert importance(single, weights_P) == {}


@pytest.mark.parametrize(
    ("shape", "rows"), [([4], 256), ([100, 100], 16), ([64, 8], 31), ([1000, 1000], 0)]
)
def test_large_arrays_are_asked_for_fewer_rows(shape: list[int], rows: int) -> None:
    scan = {"name": "scan", "kind": "array", "shape": shape, "low": 0, "high": 1}
    schema = parse(Schema, {**SCHEMA, "columns": [*SCHEMA["columns"], scan]}, "schema")
    assert rows_for(schema) == rows
    assert rows_for(TASK.schema) == ROWS


def test_invented_rows_differ_from_each_other() -> None:
    """Otherwise every effect would be measured against the same row."""
    x_NF = invented(CASES["network"].build(), 50).x_NF
    assert len(np.unique(x_NF, axis=0)) == 50


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nothing_is_said_of_a_model_that_has_diverged() -> None:
    # What is said stands on the card, which takes no number that is none.
    assert importance(TASK, np.array([1e308, -1e308, 1e308, 0.0])) == {}
    task = CASES["network"].build()
    signs_P = np.where(np.arange(task.layout().size) % 2 == 0, 1.0, -1.0)
    assert importance(task, 1e200 * signs_P) == {}
