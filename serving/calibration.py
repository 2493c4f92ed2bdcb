"""Whether predictions come true, for all patients and for groups of them, once labels are known.

Whoever knows a label sends it with the prediction that was made; sums are kept, nothing else. Of
two classes the second one's probability is compared with how often it was right, of more the
likeliest class' probability with how often that was the class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from learning.schema import Schema
from learning.task import FloatArray, IntVector, Task
from serving.drift import Window
from serving.refusal import Kind, Refusal, invalid

BINS = 10
_SUMS = 4  # rows, predictions p, their spread p (1 - p), and what came true
_SURE = 3.29
_LEAST = 100
# Fewer labels are not told: the gap of one would be that patient's label and prediction.
FEWEST = 10


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """Labels of predictions that were made.

    Args:
        probs_NC: What was predicted.
        label_N: Which class it was.
        groups: Of some columns each row's place among the column's values.
    """

    probs_NC: FloatArray  # noqa: N815 - the shape is part of the name
    label_N: IntVector  # noqa: N815
    groups: Mapping[str, IntVector]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """How far a group's outcomes are from what was predicted.

    Args:
        rows: Labels known of the group.
        predicted: Mean prediction.
        observed: Share that came true.
        sure: Whether the difference is beyond chance.
    """

    rows: int
    predicted: float
    observed: float
    sure: bool


def read_feedback(task: Task, document: Mapping[str, Any], most_rows: int) -> Feedback:
    """Feedback from the body of a request.

    Raises:
        Refusal: It does not fit the task; the message names the field and holds no value.
    """
    classes = task.schema.label.texts
    if {one.name: one.columns for one in task.outputs}.get("probabilities") != classes:
        raise invalid("feedback", expected="a model that predicts one of several classes")
    if set(document) - {"probabilities", "labels", "groups"}:
        raise invalid("feedback", expected="probabilities, labels and groups")
    label_N = _places(document.get("labels"), "labels", classes)
    if len(label_N) > most_rows:
        raise Refusal(Kind.TOO_LARGE, "labels of a request", expected=f"1 to {most_rows}")
    given = document.get("groups", {})
    if not isinstance(given, Mapping):
        raise invalid("groups", expected="columns with a text for each row")
    return Feedback(
        probs_NC=_probabilities(document.get("probabilities"), len(label_N), len(classes)),
        label_N=label_N,
        groups={name: _group(task.schema, name, given[name], len(label_N)) for name in given},
    )


def _probabilities(values: object, rows: int, classes: int) -> FloatArray:
    expected = f"what the model answered: {rows} rows of {classes} numbers"
    try:
        probs_NC = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise invalid("probabilities", expected=expected) from None
    if probs_NC.shape != (rows, classes):
        raise invalid("probabilities", expected=expected)
    if not ((np.abs(probs_NC.sum(axis=1) - 1) < 1e-6).all() and (probs_NC >= 0).all()):
        raise invalid("probabilities", expected=expected)
    return probs_NC


def _group(schema: Schema, name: str, values: object, rows: int) -> IntVector:
    labels = group_labels(schema).get(name)
    if labels is None:
        expected = ", ".join(map(repr, group_labels(schema))) or "none: no column has few values"
        raise invalid("groups", expected=expected)
    place_N = _places(values, f"groups of {name!r}", labels)
    if len(place_N) != rows:
        raise invalid(f"groups of {name!r}", expected=f"{rows} texts", found=str(len(place_N)))
    return place_N


def group_labels(schema: Schema) -> dict[str, tuple[str, ...]]:
    """The columns whose values are groups, and these."""
    return {
        one.name: one.labels or ("no", "yes")
        for one in schema.columns
        if one.kind in {"category", "flag"}
    }


def _places(values: object, what: str, allowed: Sequence[str]) -> IntVector:
    expected = "a list of " + ", ".join(map(repr, allowed))
    if not isinstance(values, list) or not values:
        raise invalid(what, expected=expected)
    places = {text: place for place, text in enumerate(allowed)}
    if not all(type(one) is str and one in places for one in values):
        raise invalid(what, expected=expected)
    return np.array([places[one] for one in values], dtype=np.int64)


@dataclass(eq=False)
class Calibration:
    """Sums over the last predictions whose labels are known.

    Args:
        schema: Of the model; its categories and flags are the groups.
        window_rows: How many are remembered.
    """

    schema: Schema
    window_rows: int
    rows: int = 0
    groups: tuple[tuple[str, str], ...] = field(init=False)
    recent: Window = field(init=False)

    def __post_init__(self) -> None:
        columns = group_labels(self.schema).items()
        self.groups = (("", ""), *((name, one) for name, labels in columns for one in labels))
        length = (BINS + len(self.groups)) * _SUMS
        self.recent = Window(length, max(self.window_rows // 2, 1))

    def add(self, feedback: Feedback) -> None:
        """Take labels into account."""
        probs_NC, label_N = feedback.probs_NC, feedback.label_N
        chosen_N = probs_NC.argmax(axis=1) if probs_NC.shape[1] > 2 else np.ones_like(label_N)
        p_N = probs_NC[np.arange(len(label_N)), chosen_N]
        sums_N4 = np.column_stack([np.ones_like(p_N), p_N, p_N * (1 - p_N), label_N == chosen_N])
        cells = np.zeros((BINS + len(self.groups), _SUMS))
        np.add.at(cells, np.minimum((p_N * BINS).astype(np.int64), BINS - 1), sums_N4)
        cells[BINS] = sums_N4.sum(axis=0)
        for name, place_N in feedback.groups.items():
            first = BINS + self.groups.index((name, group_labels(self.schema)[name][0]))
            np.add.at(cells, first + place_N, sums_N4)
        self.recent.add(cells.reshape(-1), len(label_N))
        self.rows += len(label_N)

    def error(self) -> float | None:
        """Expected calibration error over ten bins, None below `FEWEST` labels."""
        cells = self.recent.total.reshape(-1, _SUMS)[:BINS]
        rows = cells[:, 0].sum()
        return float(np.abs(cells[:, 1] - cells[:, 3]).sum() / rows) if rows >= FEWEST else None

    def gaps(self) -> dict[tuple[str, str], Gap]:
        """Of all (under two empty names) and of each group with `FEWEST` known labels or more."""
        cells = self.recent.total.reshape(-1, _SUMS)[BINS:].tolist()
        return {
            group: _gap(*sums)
            for group, sums in zip(self.groups, cells, strict=True)
            if sums[0] >= FEWEST
        }


def _gap(rows: float, predicted: float, spread: float, right: float) -> Gap:
    """A test of the mean: outcomes vary by p (1 - p) around predictions that are right.

    Source: Spiegelhalter 1986, Probabilistic Prediction in Patient Management, section 3.
    """
    sure = rows >= _LEAST and abs(right - predicted) > _SURE * math.sqrt(max(spread, 1e-12))
    return Gap(rows=round(rows), predicted=predicted / rows, observed=right / rows, sure=sure)
