"""Subgroups of patients, by columns that a job's schema marks, and how their results are named.

A mark costs privacy or accuracy: learning/subgroup_evaluation.py says what is counted. Results are
metrics like others, `auroc@sex=male` for a subgroup and `gap:auroc@sex` for a whole column, so that
they travel, are signed and are kept with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from learning.cells import levels_of
from learning.intervals import Z
from learning.schema import Schema
from learning.task import FloatArray, IntVector, Metric

NONE = -1
"""The code of a record that is in no subgroup, since its value is not known."""


@dataclass(frozen=True, kw_only=True)
class Marked:
    """A marked column, and where it stands among the features.

    Args:
        column: Its name.
        levels: The values by which patients are told apart.
        start: Its first feature.
        single: Whether that is its only one, 1 for the second level; else there is one a level.
        indicator: The feature that says that the value is missing, None where there is none.
    """

    column: str
    levels: tuple[str, ...]
    start: int
    single: bool
    indicator: int | None

    def codes(self, x_NF: FloatArray) -> IntVector:
        """Each record's place among the levels, (N,), `NONE` where its value is not known."""
        if self.single:
            code_N = (x_NF[:, self.start] >= 0.5).astype(np.int64)
        else:
            one_hot_NK = x_NF[:, self.start : self.start + len(self.levels)]
            code_N = np.where(one_hot_NK.any(axis=1), one_hot_NK.argmax(axis=1), NONE)
        if self.indicator is not None:
            code_N = np.where(x_NF[:, self.indicator] >= 0.5, NONE, code_N)
        return code_N.astype(np.int64)


def marked(schema: Schema) -> tuple[Marked, ...]:
    """The marked columns, in the schema's order."""
    found = []
    for column, start in schema.others:
        if column.subgroup:
            end = start + column.num_features
            found.append(
                Marked(
                    column=column.name,
                    levels=levels_of(column),
                    start=start,
                    single=column.kind == "flag",
                    indicator=end - 1 if column.may_be_missing else None,
                )
            )
    return tuple(found)


def beside(schema: Schema, predicted_NC: FloatArray, x_NF: FloatArray) -> FloatArray:
    """What a task's evaluation counts: predictions, then each marked column's subgroup.

    Guarantee: without a mark these are the predictions themselves.

    Args:
        schema: The job's schema.
        predicted_NC: Predictions.
        x_NF: The features that they were made of.

    Returns:
        N x (C + marked columns).
    """
    columns = marked(schema)
    if not columns:
        return predicted_NC
    return np.column_stack([predicted_NC, *(one.codes(x_NF) for one in columns)])


def gap(values: Sequence[Metric], bounds: tuple[float, float]) -> Metric | None:
    """The largest difference between subgroups; None where fewer than two are told.

    All intervals are widened until they hold together with 95 % (Bonferroni); then so does what
    follows from them, whichever subgroups turn out to be the farthest apart.

    Args:
        values: What is compared, one for each subgroup.
        bounds: Where such a value can lie.

    >>> found = gap([Metric(0.9, 0.89, 0.91), Metric(0.7, 0.69, 0.71)], (0.0, 1.0))
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.2, 0.177, 0.223)
    """
    if len(values) < 2:
        return None
    factor = NormalDist().inv_cdf(1 - 0.025 / len(values)) / Z
    lows = [max(bounds[0], one.value - factor * (one.value - one.low)) for one in values]
    highs = [min(bounds[1], one.value + factor * (one.high - one.value)) for one in values]
    middles = [one.value for one in values]
    return Metric(
        max(middles) - min(middles), max(0.0, max(lows) - min(highs)), max(highs) - min(lows)
    )
