"""What one patient adds to a table of pooled statistics, and by how much at most.

A record adds to these cells, and to no others:

- `patients`: 1;
- a number: 1 to `missing`, or v and v^2 - 1/2 to `moments` and 1 to one of its `bins`, v being the
  value scaled to [-1, 1] by the schema's bounds. As v^2 + (v^2 - 1/2)^2 = v^4 + 1/4 <= 5/4, both
  moments together have a norm of sqrt(5/4); v and v^2 would have one of sqrt(2);
- a category, flag or class: 1 to its `levels`, of which the last is `missing`;
- an outcome over time, where curves are asked for: 1 to its group's cell of `curves`.

So the square of a record's L2 norm is at most the sum of the blocks' `square`, whatever the values
are. docs/statistics.md has the argument step by step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from learning.cells import Entry, LevelCells, NumberCells, codes, levels_of
from learning.counting import Counting, Raised, raised
from learning.schema import Schema
from learning.task import FloatArray, FloatVector, IntVector, Metric
from protocol.errors import InputError

PATIENTS: Final = "patients"
CURVES: Final = "curves"


@dataclass(frozen=True, kw_only=True)
class Description(Counting):
    """The vector of pooled statistics of a schema's records.

    It stands where other tasks have the evaluation of predictions: what is counted is the records'
    own features, so they come in place of predictions.

    Args:
        schema: Numbers are scaled to [-1, 1] by it, and every column says whether it is missing.
        bins: B, of each number; 0 for none.
        intervals: T, of curves over time; 0 for none.
        group: Column that curves are kept apart by.

    >>> from learning.schema import Column, Label
    >>> age = Column(name="age", kind="number", low=0, high=120, spread=60, may_be_missing=True)
    >>> schema = Schema(columns=(age,), label=Label(name="ill", classes=("no", "yes")))
    >>> description = Description(schema=schema, bins=4)
    >>> description.length, round(description.norm**2, 9)
    (10, 4.25)
    >>> description.counts(np.array([[0.5, 0.0]]), np.array([1]), np.array([0])).tolist()
    [1.0, 0.0, 0.5, -0.25, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0]
    """

    schema: Schema
    bins: int
    intervals: int = 0
    group: str | None = None

    @cached_property
    def columns(self) -> tuple[NumberCells | LevelCells, ...]:
        """The columns' cells, in the schema's order."""
        return tuple(
            NumberCells(name=f"column/{column.name}", bins=self.bins)
            if column.kind == "number"
            else LevelCells(name=f"column/{column.name}", levels=len(levels_of(column)))
            for column in self.schema.columns
        )

    @property
    def label(self) -> NumberCells | LevelCells:
        """The label's cells; it is never missing."""
        label = self.schema.label
        if label.classes:
            levels = len(label.classes)
            return LevelCells(name=f"label/{label.name}", levels=levels, optional=False)
        return NumberCells(name=f"label/{label.name}", bins=self.bins, optional=False)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups of curves."""
        chosen = (one for one in self.schema.columns if one.name == self.group)
        return tuple(level for one in chosen for level in levels_of(one))

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Names and shapes of all cells, in order.

        Patients whose group is missing have a row of curves after all groups.
        """
        blocks = (*self.columns, self.label)
        found = [(PATIENTS, (1,)), *(entry for block in blocks for entry in block.entries)]
        if self.intervals:
            found.append((CURVES, (len(self.groups) + 1, 2 * self.intervals + 1)))
        return tuple(found)

    @cached_property
    def length(self) -> int:
        """E, the number of cells."""
        return sum(math.prod(shape) for _, shape in self.entries)

    @cached_property
    def norm(self) -> float:
        """Largest L2 norm of one patient's part."""
        square = 1.0 + sum(block.square for block in (*self.columns, self.label))
        return math.nextafter(math.sqrt(square + (1.0 if self.intervals else 0.0)), math.inf)

    def _raised(self, x_NF: FloatArray, y_N: npt.NDArray[Any]) -> Iterator[Raised]:
        rows, width = len(y_N), self.schema.num_features
        if x_NF.shape != (rows, width) or not (np.isfinite(x_NF).all() and np.isfinite(y_N).all()):
            raise InputError("records", expected=f"finite, one row a record, {width} features")
        one_11 = np.ones((1, 1))
        yield raised(np.ones((rows, 1)), np.zeros((1, 1), dtype=np.int64), one_11)
        start, place, features = 1, 0, {}
        for column, block in zip(self.schema.columns, self.columns, strict=True):
            features[column.name] = x_NF[:, place : place + column.num_features]
            yield from block.raised(features[column.name], start)
            place += column.num_features
            start += sum(math.prod(shape) for _, shape in block.entries)
        yield from self.label.raised(self._label(y_N), start)
        if self.intervals:
            group_N = np.zeros(rows, dtype=np.int64)
            if self.group is not None:
                group_N = codes(features[self.group], len(self.groups))
            yield self._outcomes(y_N, group_N)

    def _label(self, y_N: npt.NDArray[Any]) -> FloatArray:
        """The label as a column's features would be."""
        label = self.schema.label
        if label.classes:
            code_N = np.asarray(y_N, dtype=np.int64) % len(label.classes)
            one_hot_NK = code_N[:, None] == np.arange(len(label.classes) + 1)
            return np.asarray(one_hot_NK, dtype=np.float64)
        low, high = float(label.low or 0.0), float(label.high or 0.0)
        scaled_N = (y_N - (low + (high - low) / 2)) / ((high - low) / 2)
        return np.column_stack([scaled_N, np.zeros(len(y_N))])

    def _outcomes(self, y_N: npt.NDArray[Any], group_N: IntVector) -> Raised:
        """Cells of outcomes over time; who has no time has no cell."""
        size = 2 * self.intervals + 1
        code_N = np.asarray(y_N, dtype=np.int64) // 2 - 1
        if len(code_N) and not (code_N.min() >= -1 and code_N.max() < size):
            raise InputError("targets", expected="codes of survived intervals and events")
        start = self.length - (len(self.groups) + 1) * size
        cell_N1 = (start + group_N * size + np.maximum(code_N, 0))[:, None]
        return raised(code_N[:, None] >= 0, cell_N1, np.ones((1, 1)))

    def metrics(self, counts_E: FloatVector, noise_std: float = 0.0) -> dict[str, Metric]:
        """None: nothing is predicted; `learning.tables` reads the sums."""
        del counts_E, noise_std
        return {}
