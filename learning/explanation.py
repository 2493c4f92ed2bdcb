"""What moved a prediction, column by column, from a public starting point: integrated gradients.

The starting point is a record of the schema's neutral values, none of them missing: no patient and
no statistic of patients is in it. What the columns are given adds up to the difference between the
prediction and that of the starting point; where it does not, more steps are taken, and what is left
is said. Words of notes are numbers without a slope: models that read some get Shapley values.

Source: Sundararajan, Taly, Yan 2017, Axiomatic Attribution for Deep Networks, section 3 and eq. 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from learning.artefact import Model
from learning.readouts import answer, scale_of, whole
from learning.schema import Column, Schema
from learning.shapley import orders_of, shapley
from learning.task import Cells, FloatArray, FloatVector, IntVector, Task
from protocol.errors import InputError

FIRST_STEPS, MOST_STEPS = 32, 1024
TOLERANCE = 1e-3
_AT_ONCE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What moved the predictions of N rows.

    Args:
        columns_NK: What each of the schema's K columns adds to the answer, in the answer's unit.
        maps: Of each column that is an array, what each of its numbers adds, N x its shape.
        answer_N: Which of the prediction's columns is explained.
        start_N: The answer of the starting point.
        gap_N: What the columns leave unexplained: the answer minus the start minus their sum.
        steps_N: Steps from the starting point to the row; of Shapley values, orders of columns.
    """

    columns_NK: FloatArray  # noqa: N815 - the shape is part of the name
    maps: Mapping[str, FloatArray]
    answer_N: IntVector  # noqa: N815
    start_N: FloatVector  # noqa: N815
    gap_N: FloatVector  # noqa: N815
    steps_N: IntVector  # noqa: N815


def start_of(task: Task) -> FloatArray:
    """Features 1 x F of the starting point.

    A number is its neutral value, or its centre; a flag its neutral value, or no; a category its
    neutral one, or none of them. Indicators say that nothing is missing.
    """
    schema = task.schema
    x_1F = task.features({column.name: _neutral(column) for column in schema.columns})[0]
    for column, part in _parts(schema):
        if column.may_be_missing:
            x_1F[:, part.stop - 1] = 0.0
    return x_1F


def _neutral(column: Column) -> Cells:
    if column.kind in {"number", "array"}:
        value = column.middle if column.neutral is None else float(column.neutral)
        return np.full((1, *column.shape), value)
    return [column.neutral]


def _parts(schema: Schema) -> list[tuple[Column, slice]]:
    """Each column's features."""
    parts, first = [], 0
    for column in schema.columns:
        parts.append((column, slice(first, first + column.num_features)))
        first += column.num_features
    return parts


@dataclass(eq=False)
class Explainer:
    """Explains predictions of a finished model.

    Args:
        model: The model.

    Raises:
        InputError: The extra `explain` is not installed, which models of notes do not need.
    """

    model: Model
    _start: Any = field(init=False)
    _reads: bool = field(init=False)
    _integrated: Any = field(init=False)

    def __post_init__(self) -> None:
        self._start = torch.from_numpy(start_of(self.model.task))
        self._reads = any(column.kind == "text" for column in self.model.task.schema.columns)
        if self._reads:
            return
        try:
            from captum.attr import IntegratedGradients  # noqa: PLC0415 - an optional extra
        except ImportError:
            raise InputError(
                "explanations need captum", remedy="pip install 'fedward[explain]'"
            ) from None
        self._integrated = IntegratedGradients(whole(self.model), multiply_by_inputs=True)

    def explain(self, x_NF: FloatArray) -> Explanation:
        """What moved the predictions of rows.

        Args:
            x_NF: Features.
        """
        predicted_NC, task = self.model.predict(x_NF), self.model.task
        answer_N = answer(task, predicted_NC)
        start_N = self.model.predict(self._start.numpy())[0, answer_N]
        moved_N = predicted_NC[np.arange(len(x_NF)), answer_N] - start_N
        if self._reads:
            return self._by_orders(x_NF, answer_N, start_N, moved_N)
        given_NF, gap_N = np.zeros_like(x_NF), moved_N.copy()
        steps_N = np.zeros(len(x_NF), dtype=np.int64)
        steps, left_N = FIRST_STEPS, np.ones(len(x_NF), dtype=np.bool_)
        while left_N.any() and steps <= MOST_STEPS:
            given_NF[left_N] = self._attributed(x_NF[left_N], answer_N[left_N], steps)
            gap_N[left_N] = moved_N[left_N] - given_NF[left_N].sum(axis=1)
            steps_N[left_N] = steps
            left_N = np.abs(gap_N) > TOLERANCE * scale_of(task)
            steps *= 2
        return Explanation(
            columns_NK=np.column_stack(
                [given_NF[:, part].sum(axis=1) for _, part in _parts(task.schema)]
            ),
            maps=_maps(task.schema, given_NF),
            answer_N=answer_N,
            start_N=start_N,
            gap_N=gap_N,
            steps_N=steps_N,
        )

    def _by_orders(
        self, x_NF: FloatArray, answer_N: IntVector, start_N: FloatVector, moved_N: FloatVector
    ) -> Explanation:
        """Shapley values of the columns; numbers of an array are not told apart."""
        parts = [part for _, part in _parts(self.model.task.schema)]
        columns_NK = np.empty((len(x_NF), len(parts)))
        for row, column in enumerate(answer_N.tolist()):
            columns_NK[row] = shapley(
                partial(self._answers, column), x_NF[row], self._start.numpy()[0], parts
            )
        return Explanation(
            columns_NK=columns_NK,
            maps={},
            answer_N=answer_N,
            start_N=start_N,
            gap_N=moved_N - columns_NK.sum(axis=1),
            steps_N=np.full(len(x_NF), len(orders_of(len(parts))), dtype=np.int64),
        )

    def _answers(self, column: int, x_NF: FloatArray) -> FloatVector:
        return self.model.predict(x_NF)[:, column]

    def _attributed(self, x_NF: FloatArray, answer_N: IntVector, steps: int) -> FloatArray:
        """What each feature adds, N x F."""
        given = self._integrated.attribute(
            torch.from_numpy(x_NF),
            baselines=self._start,
            target=torch.from_numpy(answer_N),
            n_steps=steps,
            method="riemann_middle",
            internal_batch_size=max(_AT_ONCE // x_NF.shape[1], len(x_NF)),
        )
        found: npt.NDArray[np.float64] = given.detach().numpy()
        return found


def _maps(schema: Schema, given_NF: FloatArray) -> Mapping[str, FloatArray]:
    """What each number of an array adds; its indicator belongs to the column alone."""
    return {
        column.name: given_NF[:, part.start : part.start + int(np.prod(column.shape))].reshape(
            -1, *column.shape
        )
        for column, part in _parts(schema)
        if column.kind == "array"
    }
