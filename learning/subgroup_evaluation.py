"""Counts that evaluate a model for subgroups of patients, behind those for all of them.

The vector is that of the task's evaluation, then a block for each value of each marked column. A
record raises cells in the whole and in one block of each column, or none where its value is not
known. So with M marks one patient moves the vector by at most the root of the whole's squared bound
and M times a block's: a patient with several records counts as their mean, and means of vectors
within a bound stay in it.

Blocks are coarse and cheap beside the whole (learning/subgroup_scores.py,
learning/subgroup_parts.py), so that a mark makes the noise of all counts only somewhat larger.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from learning.counting import Raised, patient_vectors, summed
from learning.result_names import of_gap, of_subgroup
from learning.schema import Schema
from learning.subgroups import Marked, gap, marked
from learning.task import Evaluation, FloatArray, FloatVector, IntVector, Metric
from protocol.errors import InputError


class Block(Protocol):
    """What is counted of one subgroup; cells and amounts as in learning.counting."""

    @property
    def length(self) -> int:
        """Number of cells."""

    @property
    def norm(self) -> float:
        """Largest L2 norm of one record's amounts."""

    @property
    def main(self) -> str:
        """The metric by which subgroups are compared."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Where that metric can lie."""

    def cells(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> Sequence[Raised]:
        """Which cells predictions and targets raise, in parts.

        Both fit: the whole's evaluation has looked at them before.
        """

    def metrics(self, counts_B: FloatVector, noise_std: float) -> dict[str, Metric]:
        """Metrics of one subgroup; those that may not be told are left out (learning.few)."""


@dataclass(frozen=True)
class SubgroupEvaluation:
    """An evaluation (learning.task.Evaluation) of everybody and of subgroups.

    What it counts are predictions followed by the subgroup of each marked column, see
    `learning.subgroups.beside`.

    Args:
        whole: How everybody is counted.
        block: How a subgroup is.
        columns: The marked columns.
    """

    whole: Evaluation
    block: Block
    columns: tuple[Marked, ...]

    @property
    def length(self) -> int:
        """E, the number of counts."""
        subgroups = sum(len(one.levels) for one in self.columns)
        return self.whole.length + subgroups * self.block.length

    @property
    def norm(self) -> float:
        """Largest L2 norm of one patient's counts."""
        parts = math.hypot(self.whole.norm, *(self.block.norm for _ in self.columns))
        # hypot errs by less than one unit in the last place.
        return math.nextafter(parts, math.inf)

    def vectors(
        self, probs_NC: FloatArray, y_N: npt.NDArray[Any], patient_N: IntVector
    ) -> FloatArray:
        """Each patient's counts, U x E, patients in ascending order.

        Guarantee: no row's L2 norm exceeds `norm`; entries are multiples of 2^-20.

        Raises:
            InputError: Predictions, subgroups or targets do not fit.
        """
        predicted_NC, code_NM = self._parts(probs_NC)
        whole_UE = self.whole.vectors(predicted_NC, y_N, patient_N)
        cells = self._cells(predicted_NC, y_N, code_NM)
        rest_UE = patient_vectors(cells, patient_N, self.length - self.whole.length)
        return np.hstack([whole_UE, rest_UE])

    def counts(
        self, probs_NC: FloatArray, y_N: npt.NDArray[Any], patient_N: IntVector
    ) -> FloatVector:
        """The sum over patients of `vectors`, E numbers, without building the table."""
        predicted_NC, code_NM = self._parts(probs_NC)
        whole_E = self.whole.counts(predicted_NC, y_N, patient_N)
        cells = self._cells(predicted_NC, y_N, code_NM)
        return np.concatenate([whole_E, summed(cells, patient_N, self.length - len(whole_E))])

    def metrics(self, counts_E: FloatVector, noise_std: float = 0.0) -> dict[str, Metric]:
        """Metrics of everybody, of each subgroup, and the gap of each marked column.

        Args:
            counts_E: Sum over patients and sites, noised or not.
            noise_std: Standard deviation of each count's noise, in counts; widens the intervals.

        Raises:
            InputError: The vector has another length, or is not finite.
        """
        if counts_E.shape != (self.length,) or not np.isfinite(counts_E).all():
            raise InputError("evaluation counts", expected=f"{self.length} finite numbers")
        found = self.whole.metrics(counts_E[: self.whole.length], noise_std)
        start = self.whole.length
        for column in self.columns:
            compared = []
            for level in column.levels:
                block_B = counts_E[start : start + self.block.length]
                told = self.block.metrics(block_B, noise_std)
                start += self.block.length
                found |= {
                    of_subgroup(name, column.column, level): metric for name, metric in told.items()
                }
                compared += [told[self.block.main]] if self.block.main in told else []
            largest = gap(compared, self.block.bounds)
            if largest is not None:
                found[of_gap(self.block.main, column.column)] = largest
        return found

    def _parts(self, probs_NC: FloatArray) -> tuple[FloatArray, IntVector]:
        """Predictions, and the code of each marked column N x M."""
        marks = len(self.columns)
        if probs_NC.ndim != 2 or probs_NC.shape[1] <= marks:
            raise InputError("predictions", expected="followed by each marked column's subgroup")
        code_NM = probs_NC[:, -marks:]
        levels = [len(one.levels) for one in self.columns]
        whole_numbers = np.isfinite(code_NM).all() and (code_NM == np.trunc(code_NM)).all()
        if not whole_numbers or not ((code_NM >= -1) & (code_NM < levels)).all():
            raise InputError("subgroups", expected="places of the marked columns' values, or -1")
        return probs_NC[:, :-marks], code_NM.astype(np.int64)

    def _cells(
        self, predicted_NC: FloatArray, y_N: npt.NDArray[Any], code_NM: IntVector
    ) -> Iterator[Raised]:
        """The cells of all blocks, numbered from the first block on."""
        parts, start = self.block.cells(predicted_NC, y_N), 0
        for place, column in enumerate(self.columns):
            for part in parts:
                code_S = code_NM[part.row_S, place]
                known_S = code_S >= 0
                first_S = start + code_S[known_S] * self.block.length
                yield Raised(
                    part.row_S[known_S], first_S + part.cell_S[known_S], part.amount_S[known_S]
                )
            start += len(column.levels) * self.block.length


def with_subgroups(schema: Schema, whole: Evaluation, block: Block) -> Evaluation:
    """The evaluation of a task whose schema may mark columns.

    Guarantee: without a mark it is `whole` itself, so that such a job stays what it was.
    """
    columns = marked(schema)
    return SubgroupEvaluation(whole, block, columns) if columns else whole
