"""Every installed task at least once, as jobs would name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from learning.task import (
    FloatVector,
    Records,
    Task,
    load_task,
)
from protocol.jobs import Named

COLUMNS: list[dict[str, Any]] = [
    {"name": "age", "kind": "number", "unit": "years", "low": 0, "high": 120, "centre": 60},
    {"name": "crp", "kind": "number", "low": 0, "high": 500, "spread": 50, "may_be_missing": True},
    {"name": "sex", "kind": "category", "categories": ["female", "male"], "may_be_missing": True},
    {"name": "smoker", "kind": "flag"},
]

MARKED = [
    {**column, "subgroup": True} if column["kind"] in {"category", "flag"} else column
    for column in COLUMNS
]


@dataclass(frozen=True)
class Case:
    """A task as a job would name it."""

    name: str
    schema: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Task:
        return load_task(Named(name=self.name, options=self.options), self.schema)


TWO = {"columns": COLUMNS, "label": {"name": "ill", "classes": ["no", "yes"]}}
TIMED = {
    "columns": COLUMNS,
    "label": {"name": "died", "classes": ["no", "yes"]},
    "targets": [{"name": "months", "kind": "number", "low": 0, "high": 24}],
}
TREATED = {
    "columns": COLUMNS,
    "label": {"name": "better", "classes": ["no", "yes"]},
    "targets": [{"name": "drug", "kind": "category", "categories": ["old", "new", "none"]}],
}
LOTS = {"propensities": {"old": 0.25, "new": 0.5, "none": 0.25}}
COUNTED = {"columns": COLUMNS, "label": {"name": "beds", "low": 0, "high": 40}}
FLAGS = [{"name": "stroke", "kind": "flag"}, {"name": "fall", "kind": "flag"}]
MANY = {**TWO, "targets": FLAGS}
FOUR = {"columns": COLUMNS, "label": {"name": "stage", "classes": [1, 2, 3, 4]}}
NOTE = {"name": "note", "kind": "text", "length": 6, "may_be_missing": True}
NOTED = {**TWO, "columns": [NOTE, *COLUMNS, {**NOTE, "name": "plan", "length": 3}]}
SMALL = {"buckets": 24, "width": 4}
IMAGE = {"name": "image", "kind": "array", "shape": [1, 5, 4], "low": 0, "high": 255}
SERIES = {"name": "series", "kind": "array", "shape": [7, 2], "low": -5, "high": 5}
IMAGED = {**TWO, "columns": [COLUMNS[0], {**IMAGE, "may_be_missing": True}, *COLUMNS[1:]]}
TRACED = {**TWO, "columns": [*COLUMNS, SERIES]}

CASES = {
    "logistic": Case("diagnosis", TWO),
    "logistic of patients": Case("diagnosis", {**TWO, "patient": "pid"}),
    "weighted logistic": Case(
        "diagnosis", TWO, {"model": "logistic", "class_weights": {"no": 1, "yes": 7.5}}
    ),
    "many classes": Case("diagnosis", FOUR),
    "network": Case("diagnosis", {**TWO, "patient": "pid"}, {"model": "mlp", "hidden": [6, 5]}),
    "survival": Case("survival", TIMED),
    "survival of patients": Case("survival", {**TIMED, "patient": "pid"}, {"intervals": 3}),
    "survival by a network": Case(
        "survival", TIMED, {"model": "mlp", "hidden": [5], "cuts": [3, 24]}
    ),
    "treatment": Case("treatment", TREATED),
    "treatment by lots": Case("treatment", {**TREATED, "patient": "pid"}, LOTS),
    "treatment by a network": Case("treatment", TREATED, {"model": "mlp", "hidden": [5]}),
    "demand": Case("demand", COUNTED, {"quantiles": [0.25, 0.5, 0.75]}),
    "demand of wards": Case("demand", {**COUNTED, "patient": "pid"}),
    "demand by a network": Case("demand", COUNTED, {"model": "mlp", "hidden": [4]}),
    "labels": Case("labels", MANY, {"positive_weights": {"stroke": 4.0}}),
    "labels of patients": Case(
        "labels", {**MANY, "patient": "pid"}, {"model": "mlp", "hidden": [4]}
    ),
    "text": Case("text", NOTED, {"buckets": 24}),
    "text of patients": Case(
        "text", {**NOTED, "patient": "pid", "targets": FLAGS}, {"model": "bag", **SMALL}
    ),
    "text by a transformer": Case("text", NOTED, {"model": "transformer", **SMALL}),
    "network of many classes": Case("diagnosis", FOUR, {"model": "mlp", "hidden": [4]}),
    "imaging": Case("imaging", IMAGED, {"widths": [2, 4], "centres": [99], "spreads": [40]}),
    "signals of patients": Case(
        "signals",
        {**TRACED, "patient": "pid", "targets": FLAGS},
        {"widths": [2, 4], "kernel": 3},
    ),
    "signals by a gated unit": Case(
        "signals", TRACED, {"model": "recurrent", "frame": 2, "state": 3}
    ),
}

# Many cases share what a property is tried on.
EXAMPLES = settings().max_examples // 2

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

# What is counted of predictions does not ask where they came from: the first case of each kind.
FIRST = [*{case.build().evaluation: name for name, case in reversed(CASES.items())}.values()]
# A mark changes what is counted, and nothing else.
MARKED_CASES = {
    "marked diagnosis of patients": Case("diagnosis", {**TWO, "columns": MARKED, "patient": "pid"}),
    "marked many classes": Case("diagnosis", {**FOUR, "columns": MARKED}),
    "marked labels": Case("labels", {**MANY, "columns": MARKED}),
    "marked survival": Case("survival", {**TIMED, "columns": MARKED}, {"intervals": 3}),
    "marked treatment": Case("treatment", {**TREATED, "columns": MARKED}, LOTS),
    "marked demand": Case("demand", {**COUNTED, "columns": MARKED}),
}
COUNTING = {name: CASES[name] for name in FIRST} | MARKED_CASES
every_evaluation = pytest.mark.parametrize("case", COUNTING.values(), ids=COUNTING)

# Tasks whose weights are no model: they read records and have a layout, and predict nothing.
TABLES = {
    "statistics": Case("statistics", TWO),
    "statistics of patients": Case("statistics", {**COUNTED, "patient": "pid"}, {"bins": 0}),
    "curves": Case("statistics", TIMED, {"curves": {"time": "months", "group": "sex"}}),
}
ALL = {**CASES, **TABLES}
every_table_too = pytest.mark.parametrize("case", ALL.values(), ids=ALL)


def random_weights(task: Task, seed: int = 0) -> FloatVector:
    return np.random.default_rng(seed).normal(size=task.layout().size)


def invented(task: Task, n: int, seed: int = 0) -> Records:
    return task.generate(n, np.random.default_rng(seed))
