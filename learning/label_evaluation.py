"""Counts that evaluate several yes-or-no labels at once: a pair of score trees for each.

A record whose label is not known raises nothing for it, so a patient's counts have an L2 norm of at
most the root of 5 L with L labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.calibration import calibration
from learning.counting import Counting, Raised, raised
from learning.histogram import LEVELS, TREE, tree_nodes
from learning.metrics import binary_metrics
from learning.task import FloatArray, FloatVector, IntVector, Metric
from learning.temperature import NAME, temperature
from protocol.errors import InputError

UNKNOWN = 2


def states(y_N: npt.NDArray[Any], labels: int) -> IntVector:
    """Each label's state N x L, 0, 1 or `UNKNOWN`, from codes: the first in base 2, others in 3.

    >>> states(np.array([0, 1 + 2 * (1 + 3 * 2)]), 3).tolist()
    [[0, 0, 0], [1, 1, 2]]
    """
    rest_N = np.asarray(y_N, dtype=np.int64)
    found = [rest_N % 2]
    rest_N = rest_N // 2
    for _ in range(labels - 1):
        found.append(rest_N % 3)
        rest_N = rest_N // 3
    return np.column_stack(found)


@dataclass(frozen=True)
class LabelEvaluation(Counting):
    """Evaluation of L labels.

    >>> round(LabelEvaluation(("sepsis", "stroke")).norm ** 2, 9)
    10.0
    """

    labels: tuple[str, ...]

    @property
    def length(self) -> int:
        """E, the number of counts."""
        return 2 * TREE * len(self.labels)

    @property
    def norm(self) -> float:
        """Largest L2 norm of one patient's counts."""
        return math.nextafter(math.sqrt(LEVELS * len(self.labels)), math.inf)

    def _raised(self, probs_NL: FloatArray, y_N: npt.NDArray[Any]) -> list[Raised]:
        if probs_NL.shape != (len(y_N), len(self.labels)) or not np.isfinite(probs_NL).all():
            raise InputError("probabilities", expected="finite, one row a record, one per label")
        state_NL = states(y_N, len(self.labels))
        return [
            raised(
                np.repeat(state_NL[:, [label]] != UNKNOWN, LEVELS, axis=1),
                (2 * label + state_NL[:, [label]]) * TREE + tree_nodes(probs_NL[:, label]),
                np.ones((1, 1)),
            )
            for label in range(len(self.labels))
        ]

    def metrics(self, counts_E: FloatVector, noise_std: float = 0.0) -> dict[str, Metric]:
        """Each label's metrics as `name:label`, and their unweighted mean as `name`.

        Args:
            counts_E: Sum over patients and sites, noised or not.
            noise_std: Standard deviation of each count's noise, in counts; widens the intervals.

        Raises:
            InputError: The vector has another length, or is not finite.
        """
        self.check(counts_E)
        trees_L2T = counts_E.reshape(len(self.labels), 2, TREE)
        each = [binary_metrics(trees_2T, noise_std) for trees_2T in trees_L2T]
        found: dict[str, Metric] = {}
        for name in each[0]:
            ones = [metrics[name] for metrics in each if name in metrics]
            if len(ones) == len(each):
                rows = np.array([(one.value, one.low, one.high) for one in ones])
                found[name] = Metric(*(float(mean) for mean in rows.mean(axis=0)))
        for label, metrics in zip(self.labels, each, strict=True):
            found |= {f"{name}:{label}": metric for name, metric in metrics.items()}
        for label, trees_2T in zip(self.labels, trees_L2T, strict=True):
            if (one := temperature(trees_2T, noise_std)) is not None:
                found[f"{NAME}:{label}"] = one
            points = calibration(trees_2T, noise_std)
            found |= {f"{name}:{label}": metric for name, metric in points.items()}
        return found
