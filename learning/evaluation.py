"""Counts that evaluate a classifier: hierarchical histograms of its scores, by class.

A site releases one vector per evaluation. It adds up over patients and hospitals and has a bound
per patient; learning/histogram.py says why it counts in several resolutions at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.calibration import calibration
from learning.histogram import LEVELS, TREE, tree_nodes
from learning.metrics import binary_metrics, many_class_metrics
from learning.task import FloatArray, FloatVector, IntVector, Metric
from learning.temperature import NAME, temperature
from protocol.errors import InputError

# What a confusion cell counts a record as. With 5 C tree nodes of one beside it, three gives the
# C x C table, from which accuracy comes, the smaller noise at little cost to the trees.
CONFUSION_WEIGHT = 3

# Shares of a patient with several records are multiples of this, rounded down: then sums over
# patients are exact in double precision and the bound holds without a margin.
GRAIN = 2.0**-20


@dataclass(frozen=True)
class ClassEvaluation:
    """Evaluation of a classifier with C classes.

    Two classes: one tree of the positive class' score for negative and one for positive records.
    More: such a pair for every class against the rest, then C x C confusion cells (true class by
    predicted class).

    >>> two, three = ClassEvaluation(("no", "yes")), ClassEvaluation(("a", "b", "c"))
    >>> two.length, round(two.norm**2, 9), three.length, round(three.norm**2, 9)
    (124, 5.0, 381, 24.0)
    """

    classes: tuple[str, ...]

    @property
    def _pairs(self) -> int:
        return 1 if len(self.classes) == 2 else len(self.classes)

    @property
    def length(self) -> int:
        """E, the number of counts."""
        confusion = 0 if self._pairs == 1 else len(self.classes) ** 2
        return 2 * TREE * self._pairs + confusion

    @property
    def norm(self) -> float:
        """Largest L2 norm of one patient's counts."""
        square = LEVELS * self._pairs + (0 if self._pairs == 1 else CONFUSION_WEIGHT**2)
        return math.nextafter(math.sqrt(square), math.inf)

    def _cells(self, probs_NC: FloatArray, y_N: npt.NDArray[Any]) -> IntVector:
        """The counts that each record raises, N x K, without repetition within a row."""
        if self._pairs == 1:
            return y_N[:, None] * TREE + tree_nodes(probs_NC[:, 1])
        blocks = [
            (2 * index + (y_N == index))[:, None] * TREE + tree_nodes(probs_NC[:, index])
            for index in range(len(self.classes))
        ]
        confusion_N = y_N * len(self.classes) + probs_NC.argmax(axis=1)
        return np.hstack([*blocks, 2 * TREE * self._pairs + confusion_N[:, None]])

    def _shares(
        self, probs_NC: FloatArray, y_N: npt.NDArray[Any], patient_N: IntVector
    ) -> tuple[int, IntVector, IntVector, FloatVector]:
        """Number of patients, then patient, count and amount of everything they raise.

        A patient with k records gives 1/k for each: every patient weighs the same and, the vector
        being a mean of vectors within the bound, stays within it.
        """
        if probs_NC.shape != (len(y_N), len(self.classes)) or not np.isfinite(probs_NC).all():
            raise InputError("probabilities", expected="finite, one row a record, one per class")
        if len(y_N) and not (y_N.min() >= 0 and y_N.max() < len(self.classes)):
            raise InputError("targets", expected="integers that number the classes")
        _, row_N, size_U = np.unique(patient_N, return_inverse=True, return_counts=True)
        cells_NK = self._cells(probs_NC, y_N.astype(np.int64))
        keys, times = np.unique(row_N[:, None] * self.length + cells_NK, return_counts=True)
        patient_S, cell_S = keys // self.length, keys % self.length
        parts_S = (times << 20) // size_U[patient_S]
        weight_S = np.where(cell_S < 2 * TREE * self._pairs, 1, CONFUSION_WEIGHT)
        return len(size_U), patient_S, cell_S, parts_S * weight_S * GRAIN

    def vectors(
        self, probs_NC: FloatArray, y_N: npt.NDArray[Any], patient_N: IntVector
    ) -> FloatArray:
        """Each patient's counts, U x E, patients in ascending order.

        Guarantee: no row's L2 norm exceeds `norm`; entries are multiples of 2^-20, so that sums of
        fewer than 2^31 rows are exact.

        Raises:
            InputError: Probabilities or targets do not fit the classes.
        """
        num_patients, patient_S, cell_S, amount_S = self._shares(probs_NC, y_N, patient_N)
        vectors_UE = np.zeros((num_patients, self.length))
        vectors_UE[patient_S, cell_S] = amount_S
        return vectors_UE

    def counts(
        self, probs_NC: FloatArray, y_N: npt.NDArray[Any], patient_N: IntVector
    ) -> FloatVector:
        """The sum over patients of `vectors`, E numbers, without building the table."""
        _, _, cell_S, amount_S = self._shares(probs_NC, y_N, patient_N)
        counts_E = np.bincount(cell_S, weights=amount_S, minlength=self.length)
        return counts_E.astype(np.float64)

    def metrics(self, counts_E: FloatVector, noise_std: float = 0.0) -> dict[str, Metric]:
        """Metrics with 95 % intervals; those that the counts do not determine are left out.

        Args:
            counts_E: Sum over patients and sites, noised or not.
            noise_std: Standard deviation of each count's noise, in counts; widens the intervals.

        Raises:
            InputError: The vector has another length, or is not finite.
        """
        if counts_E.shape != (self.length,) or not np.isfinite(counts_E).all():
            raise InputError("evaluation counts", expected=f"{self.length} finite numbers")
        trees_C2T = counts_E[: 2 * TREE * self._pairs].reshape(-1, 2, TREE)
        if self._pairs == 1:
            found = temperature(trees_C2T[0], noise_std)
            metrics = binary_metrics(trees_C2T[0], noise_std) | calibration(trees_C2T[0], noise_std)
            return metrics if found is None else {**metrics, NAME: found}
        confusion_CC = counts_E[trees_C2T.size :].reshape(len(self.classes), -1)
        metrics = many_class_metrics(
            self.classes,
            trees_C2T,
            confusion_CC / CONFUSION_WEIGHT,
            noise_std,
            noise_std / CONFUSION_WEIGHT,
        )
        for text, trees_2T in zip(self.classes, trees_C2T, strict=True):
            points = calibration(trees_2T, noise_std)
            metrics |= {f"{name}:{text}": metric for name, metric in points.items()}
        return metrics
