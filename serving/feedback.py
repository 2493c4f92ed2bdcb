"""What came true of predictions, in the words of each task, as chances beside outcomes.

Whatever a task predicts, it gives a chance to something that is true or not once the label is
known: that a patient is of a class, has a label, dies within an interval that was reached, gets
better under the treatment that was given, that no more beds than a quantile are needed. Somebody
sends the prediction and the label; everything that follows needs the two numbers alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from learning.demand import Demand
from learning.survival import Survival
from learning.survival_times import encode
from learning.task import FloatArray, IntVector, Task
from learning.treatment import Treatment
from serving.fields import YES_NO, chances, group, numbers, places
from serving.refusal import Kind, Refusal, invalid


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """Predictions and what came true.

    Args:
        chance_NT: What was predicted of each of T outcomes.
        true_NT: 1 where it came true, 0 where not, NaN where nobody knows.
        groups: Of some columns each row's place among the column's values.
    """

    chance_NT: FloatArray  # noqa: N815 - the shape is part of the name
    true_NT: FloatArray  # noqa: N815
    groups: Mapping[str, IntVector]

    @property
    def rows(self) -> int:
        """How many labels there are."""
        return len(self.true_NT)


class Reader(Protocol):
    """Reads a task's feedback."""

    @property
    def outcomes(self) -> tuple[str, ...]:
        """What the T outcomes are; one that needs no name is empty."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of what a document has; the last one is `labels`."""

    def read(self, document: Mapping[str, Any], rows: int) -> tuple[FloatArray, FloatArray]:
        """Chances and what came true, both N x T.

        Raises:
            Refusal: A field is wrong.
        """


def reader_of(task: Task) -> Reader | None:
    """How a task's feedback is read; None for one whose predictions are none of the known ones."""
    if isinstance(task, Survival):
        return _Times(task)
    if isinstance(task, Treatment):
        return _Arms(task)
    if isinstance(task, Demand):
        return _Quantiles(task)
    schema, outputs = task.schema, {one.name: one.columns for one in task.outputs}
    names = outputs.get("probabilities", ())
    if names and names == schema.label.texts:
        return _Classes(names)
    if names and names == (schema.label.name, *(one.name for one in schema.targets)):
        return _Labels(names, schema.label.texts)
    return None


def read_feedback(task: Task, document: Mapping[str, Any], most_rows: int) -> Feedback:
    """Feedback from the body of a request.

    Raises:
        Refusal: It does not fit the task, or nothing can come true of the task's predictions; the
            message names the field and holds no value.
    """
    reader = reader_of(task)
    if reader is None:
        raise invalid(
            "feedback for this model",
            expected="one that predicts classes, labels, survival, outcomes of treatments, or "
            "quantiles",
        )
    fields = (*reader.fields, "groups")
    if set(document) - set(fields):
        raise invalid("feedback", expected=", ".join(fields[:-1]) + " and groups")
    labels = document.get("labels")
    if not isinstance(labels, list) or not labels:
        raise invalid("labels", expected="a list with one label or more")
    if len(labels) > most_rows:
        raise Refusal(Kind.TOO_LARGE, "labels of a request", expected=f"1 to {most_rows}")
    given = document.get("groups", {})
    if not isinstance(given, Mapping):
        raise invalid("groups", expected="columns with a text for each row")
    chance_NT, true_NT = reader.read(document, len(labels))
    return Feedback(
        chance_NT=chance_NT,
        true_NT=true_NT,
        groups={name: group(task.schema, name, given[name], len(labels)) for name in given},
    )


@dataclass(frozen=True)
class _Classes:
    """Of two classes the second one's chance, of more the chance of the likeliest."""

    classes: tuple[str, ...]
    outcomes: tuple[str, ...] = ("",)
    fields: tuple[str, ...] = ("probabilities", "labels")

    def read(self, document: Mapping[str, Any], rows: int) -> tuple[FloatArray, FloatArray]:
        """Chances and what came true, N x 1."""
        label_N = places(document["labels"], "labels", self.classes, rows)
        probs_NC = chances(document, "probabilities", rows, len(self.classes))
        if (np.abs(probs_NC.sum(axis=1) - 1) > 1e-6).any():
            raise invalid("probabilities", expected="rows that add up to 1")
        chosen_N = np.ones_like(label_N)
        if len(self.classes) > 2:
            chosen_N = probs_NC.argmax(axis=1)
        true_N = (label_N == chosen_N).astype(np.float64)
        return probs_NC[np.arange(rows), chosen_N][:, None], true_N[:, None]


@dataclass(frozen=True)
class _Labels:
    """Each label's chance; a label that nobody knows of a patient is null."""

    outcomes: tuple[str, ...]
    first: tuple[str, ...]
    fields: tuple[str, ...] = ("probabilities", "labels")

    def read(self, document: Mapping[str, Any], rows: int) -> tuple[FloatArray, FloatArray]:
        """Chances and what came true, N x L."""
        labels = document["labels"]
        if not all(isinstance(row, list) and len(row) == len(self.outcomes) for row in labels):
            raise invalid("labels", expected=f"{len(self.outcomes)} of each row, null if unknown")
        columns = []
        for place, name in enumerate(self.outcomes):
            allowed = self.first if place == 0 else YES_NO
            found = [row[place] for row in labels]
            known = [allowed[0] if one is None else one for one in found]
            code_N = places(known, f"labels: {name!r}", allowed, rows).astype(np.float64)
            code_N[[one is None for one in found]] = np.nan
            columns.append(code_N)
        return chances(document, "probabilities", rows, len(self.outcomes)), np.column_stack(
            columns
        )


class _Times:
    """Of each interval that a patient reached the chance of the event within it.

    Whoever is lost from sight before the end of an interval says nothing of it, as in training; so
    the numbers are right although some patients are not followed to the end.
    """

    fields: tuple[str, ...] = ("survival", "times", "labels")

    def __init__(self, task: Survival) -> None:
        self._cut_T = task.cuts
        self._events = task.schema.label.texts
        unit = task.schema.targets[0].unit
        self.outcomes = tuple(f"up to {cut:g} {unit}".strip() for cut in task.cuts.tolist())

    def read(self, document: Mapping[str, Any], rows: int) -> tuple[FloatArray, FloatArray]:
        """Chances and what came true, N x T."""
        size = len(self._cut_T)
        curve_NT = chances(document, "survival", rows, size)
        before_NT = np.column_stack([np.ones(rows), curve_NT[:, :-1]])
        if (curve_NT > before_NT + 1e-9).any():
            raise invalid("survival", expected="curves that never rise")
        died_N = places(document["labels"], "labels", self._events, rows)
        time_N = numbers(document, "times", (rows,))
        if (time_N < 0).any():
            raise invalid("times", expected=f"{rows} numbers from 0 on")
        code_N = encode(np.column_stack([died_N, time_N]), self._cut_T)
        place_T, end_N = np.arange(size), code_N // 2
        true_NT = np.where(place_T < end_N[:, None], 0.0, np.nan)
        last_N = np.flatnonzero(code_N % 2)
        true_NT[last_N, end_N[last_N]] = 1.0
        reached_NT = np.maximum(before_NT, np.finfo(np.float64).tiny)
        return np.clip(1 - curve_NT / reached_NT, 0.0, 1.0), true_NT


class _Arms:
    """The chance of the better outcome under the treatment that was given.

    It says nothing of what would have been under another one.
    """

    fields: tuple[str, ...] = ("outcomes", "arms", "labels")

    def __init__(self, task: Treatment) -> None:
        self.outcomes = task.arms
        self._label = task.schema.label.texts

    def read(self, document: Mapping[str, Any], rows: int) -> tuple[FloatArray, FloatArray]:
        """Chances and what came true, N x A."""
        better_N = places(document["labels"], "labels", self._label, rows)
        arm_N = places(document.get("arms"), "arms", self.outcomes, rows)
        true_NA = np.full((rows, len(self.outcomes)), np.nan)
        true_NA[np.arange(rows), arm_N] = better_N
        return chances(document, "outcomes", rows, len(self.outcomes)), true_NA


class _Quantiles:
    """The chance that no more is needed than a quantile says, which is the quantile's level."""

    fields: tuple[str, ...] = ("quantiles", "labels")

    def __init__(self, task: Demand) -> None:
        self._level_K = np.array(task.options.quantiles, dtype=np.float64)
        self.outcomes = tuple(f"{level:g}" for level in task.options.quantiles)

    def read(self, document: Mapping[str, Any], rows: int) -> tuple[FloatArray, FloatArray]:
        """Chances and what came true, N x K."""
        shape = rows, len(self._level_K)
        quantile_NK = numbers(document, "quantiles", shape)
        label_N = numbers(document, "labels", (rows,))
        true_NK = (label_N[:, None] <= quantile_NK).astype(np.float64)
        return np.broadcast_to(self._level_K, shape), true_NK
