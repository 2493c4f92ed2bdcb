"""Bounded counts that add up over patients and hospitals, free of rounding.

A record raises some cells by public amounts. A patient with k records gives 1/k of each, so every
patient weighs the same and a patient's vector, being a mean of vectors within a bound, stays in it.
Amounts are multiples of 2^-20, rounded towards zero: sums of fewer than 2^31 patients are then
exact in double precision, and the bound holds without a margin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.task import FloatArray, FloatVector, IntVector
from protocol.errors import InputError

GRAIN_BITS = 20


@dataclass(frozen=True)
class Raised:
    """Which cells records raise, and by how much.

    Args:
        row_S: The record.
        cell_S: The cell.
        amount_S: The amount; all those of one record within the evaluation's bound.
    """

    row_S: IntVector  # noqa: N815 - the shape is part of the name
    cell_S: IntVector  # noqa: N815
    amount_S: FloatVector  # noqa: N815


def raised(mask_NK: npt.NDArray[Any], cell_NK: IntVector, amount_NK: FloatArray) -> Raised:
    """The entries of an N x K table of cells and amounts that the mask selects.

    >>> raised(np.array([[1, 0]]), np.array([[4, 5]]), np.array([[0.5, 0.5]])).cell_S.tolist()
    [4]
    """
    chosen_NK = np.asarray(mask_NK, dtype=np.bool_)
    row_S = np.nonzero(chosen_NK)[0].astype(np.int64)
    shape = chosen_NK.shape
    cells = np.broadcast_to(cell_NK, shape)[chosen_NK].astype(np.int64)
    amounts = np.broadcast_to(amount_NK, shape)[chosen_NK].astype(np.float64)
    return Raised(row_S, cells, amounts)


def shared(parts: Iterable[Raised], patient_N: IntVector) -> Iterator[Raised]:
    """The cells that each patient raises, by patient instead of record, part by part.

    All parts of many columns at once would take ten times the memory of the records.
    """
    _, unit_N, size_U = np.unique(patient_N, return_inverse=True, return_counts=True)
    for part in parts:
        unit_S = unit_N[part.row_S].astype(np.int64)
        grains_S = np.trunc(part.amount_S * 2.0**GRAIN_BITS).astype(np.int64)
        share_S = np.abs(grains_S) // size_U[unit_S] * np.sign(grains_S)
        amount_S = (share_S * 2.0**-GRAIN_BITS).astype(np.float64)
        yield Raised(unit_S, part.cell_S, amount_S)


def patient_vectors(parts: Iterable[Raised], patient_N: IntVector, length: int) -> FloatArray:
    """Each patient's counts U x E, patients in ascending order."""
    vectors_UE = np.zeros((len(np.unique(patient_N)), length))
    for part in shared(parts, patient_N):
        np.add.at(vectors_UE, (part.row_S, part.cell_S), part.amount_S)
    return vectors_UE


def summed(parts: Iterable[Raised], patient_N: IntVector, length: int) -> FloatVector:
    """The sum of `patient_vectors` over patients, `length` numbers, without the table, (E,)."""
    counts_E = np.zeros(length)
    for part in shared(parts, patient_N):
        counts_E += np.bincount(part.cell_S, weights=part.amount_S, minlength=length)
    return counts_E


class Counting(ABC):
    """An evaluation (learning.task.Evaluation) by cells that records raise.

    What it leaves open is which cells, how many there are, and what they say.
    """

    @property
    @abstractmethod
    def length(self) -> int:
        """Number E of counts."""

    @abstractmethod
    def _raised(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> Iterable[Raised]:
        """Which cells predictions N x C and targets raise, in parts.

        Raises:
            InputError: Predictions or targets do not fit.
        """

    def vectors(
        self, probs_NC: FloatArray, y_N: npt.NDArray[Any], patient_N: IntVector
    ) -> FloatArray:
        """Each patient's counts, U x E, patients in ascending order.

        Guarantee: no row's L2 norm exceeds `norm`; entries are multiples of 2^-20.

        Raises:
            InputError: Predictions or targets do not fit.
        """
        return patient_vectors(self._raised(probs_NC, y_N), patient_N, self.length)

    def counts(
        self, probs_NC: FloatArray, y_N: npt.NDArray[Any], patient_N: IntVector
    ) -> FloatVector:
        """The sum over patients of `vectors`, E numbers, without building the table."""
        return summed(self._raised(probs_NC, y_N), patient_N, self.length)

    def check(self, counts_E: FloatVector) -> None:
        """Refuse what is no pooled counts of this evaluation.

        Raises:
            InputError: The vector has another length, or is not finite.
        """
        if counts_E.shape != (self.length,) or not np.isfinite(counts_E).all():
            raise InputError("evaluation counts", expected=f"{self.length} finite numbers")
