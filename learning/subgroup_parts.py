"""What is counted of one subgroup where predictions are no scores: curves, forecasts, rules.

Amounts that lie between 0 and 1 are counted less one half, which a count of patients gives back:
they then add a quarter to the square of a block's L2 norm, and not 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.counting import Raised, raised
from learning.demand_evaluation import DemandEvaluation
from learning.few import enough, narrow, told
from learning.intervals import Z, normal_interval, score_interval
from learning.survival_metrics import curves
from learning.task import FloatArray, FloatVector, Metric
from learning.treatment_evaluation import TreatmentEvaluation

_HALF = 0.5


@dataclass(frozen=True)
class SurvivalBlock:
    """Survival at the last cut, as it was predicted and as it was.

    One record raises its outcome's cell, and the predicted survival less one half.

    Args:
        intervals: T.

    >>> block = SurvivalBlock(8)
    >>> block.length, round(block.norm**2, 9)
    (18, 1.25)
    """

    intervals: int

    @property
    def length(self) -> int:
        """Number of cells."""
        return 2 * self.intervals + 2

    @property
    def norm(self) -> float:
        """Largest L2 norm of one record's amounts."""
        return math.nextafter(math.sqrt(1.25), math.inf)

    @property
    def main(self) -> str:
        """Predicted minus observed survival."""
        return "difference"

    @property
    def bounds(self) -> tuple[float, float]:
        """Where such a difference can lie."""
        return -1.0, 1.0

    def cells(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> Sequence[Raised]:
        """The outcome's cell, and the last column of the curves in the last one."""
        one_N1 = np.ones((len(y_N), 1))
        predicted_N1 = np.clip(predicted_NC[:, -1:], 0.0, 1.0) - _HALF
        return (
            raised(one_N1, np.asarray(y_N, dtype=np.int64)[:, None], one_N1),
            raised(one_N1, np.array([[self.length - 1]]), predicted_N1),
        )

    def metrics(self, counts_B: FloatVector, noise_std: float) -> dict[str, Metric]:
        """Predicted and observed survival, and their difference."""
        table_O, amount = counts_B[:-1], float(counts_B[-1])
        total = float(table_O.sum())
        counted = noise_std * math.sqrt(len(table_O))
        if not enough(total, counted):
            return {}
        observed = curves(table_O, noise_std)
        mean = amount / total + _HALF
        share, common = min(max(mean, 0.0), 1.0), counted * abs(mean - _HALF) / total
        own = share * (1 - share) / total + (noise_std / total) ** 2
        predicted = normal_interval(mean, own + common**2)
        found = told({"predicted": predicted, "survival": observed})
        if observed is None or len(found) < 2:
            return found
        # The table's noise moves both; how much together is not worked out, so it adds up.
        moved = math.sqrt(_variance(observed)) + common
        difference = normal_interval(mean - observed.value, own + moved**2)
        inside = Metric(
            *(
                min(max(one, -1.0), 1.0)
                for one in (difference.value, difference.low, difference.high)
            )
        )
        return found | ({"difference": inside} if narrow(inside) else {})


@dataclass(frozen=True)
class DemandBlock:
    """Pinball loss and coverage of forecasts.

    One record raises 1, its mean loss over K quantiles less one half, and for each quantile whether
    it stayed below, less one half and over the root of K.

    Args:
        of: How everybody is counted.

    >>> block = DemandBlock(DemandEvaluation((0.1, 0.5, 0.9), 0.0, 40.0, naive=True))
    >>> block.length, round(block.norm**2, 9)
    (5, 1.5)
    """

    of: DemandEvaluation

    @property
    def length(self) -> int:
        """Number of cells."""
        return 2 + len(self.of.quantiles)

    @property
    def norm(self) -> float:
        """Largest L2 norm of one record's amounts."""
        return math.nextafter(math.sqrt(1.5), math.inf)

    @property
    def main(self) -> str:
        """Mean loss as a share of the label's range."""
        return "pinball"

    @property
    def bounds(self) -> tuple[float, float]:
        """Where it can lie."""
        return 0.0, 1.0

    def cells(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> Sequence[Raised]:
        """The count, the loss and the coverages."""
        levels, one_N1 = len(self.of.quantiles), np.ones((len(y_N), 1))
        inside_NK = np.clip(predicted_NC[:, :levels], self.of.low, self.of.high)
        y_N = np.clip(y_N, self.of.low, self.of.high)
        loss_N1 = self.of.losses(inside_NK, y_N).mean(axis=1, keepdims=True)
        below_NK = (y_N[:, None] <= inside_NK) - _HALF
        return (
            raised(one_N1, np.array([[0]]), one_N1),
            raised(one_N1, np.array([[1]]), loss_N1 - _HALF),
            raised(np.ones_like(below_NK), 2 + np.arange(levels)[None, :], below_NK / levels**0.5),
        )

    def metrics(self, counts_B: FloatVector, noise_std: float) -> dict[str, Metric]:
        """Mean loss, and how often days stayed at or below each quantile."""
        total, levels = float(counts_B[0]), len(self.of.quantiles)
        if not enough(total, noise_std):
            return {}

        def mean(amount: float, scale: float) -> Metric:
            value = scale * amount / total + _HALF
            noise = (noise_std / total) ** 2 * (scale**2 + (value - _HALF) ** 2)
            return score_interval(value, lambda theta: theta * (1 - theta) / total, noise)

        found: dict[str, Metric | None] = {"pinball": mean(float(counts_B[1]), 1.0)}
        for level, amount in zip(self.of.quantiles, counts_B[2:].tolist(), strict=True):
            found[f"coverage:{level:g}"] = mean(amount, levels**0.5)
        return told(found)


@dataclass(frozen=True)
class TreatmentBlock:
    """Doubly robust value of the rule.

    One record raises 1, its value over 1 + W, and the squared error of the prediction for the
    treatment given, less one half.

    Args:
        of: How everybody is counted.

    >>> block = TreatmentBlock(TreatmentEvaluation(("old", "new"), cap=2.0, scarce=0.05))
    >>> block.length, round(block.norm**2, 9)
    (3, 2.25)
    """

    of: TreatmentEvaluation

    @property
    def length(self) -> int:
        """Number of cells."""
        return 3

    @property
    def norm(self) -> float:
        """Largest L2 norm of one record's amounts."""
        return math.nextafter(1.5, math.inf)

    @property
    def main(self) -> str:
        """Better outcomes if everybody of the subgroup got the recommendation."""
        return "value"

    @property
    def bounds(self) -> tuple[float, float]:
        """Where it can lie."""
        return 0.0, 1.0

    def cells(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> Sequence[Raised]:
        """The count, the value and the error."""
        one_N1 = np.ones((len(y_N), 1))
        value_N1 = self.of.rule_values(predicted_NC, y_N)[:, None] / (1.0 + self.of.cap)
        hit_N = np.clip(predicted_NC[np.arange(len(y_N)), y_N.astype(np.int64) // 2], 0.0, 1.0)
        error_N: FloatVector = np.square(y_N % 2 - hit_N)
        return (
            raised(one_N1, np.array([[0]]), one_N1),
            raised(one_N1, np.array([[1]]), value_N1),
            raised(one_N1, np.array([[2]]), error_N[:, None] - _HALF),
        )

    def metrics(self, counts_B: FloatVector, noise_std: float) -> dict[str, Metric]:
        """The value, with every weight taken for the cap."""
        total = float(counts_B[0])
        if not enough(total, noise_std):
            return {}
        value = (1.0 + self.of.cap) * float(counts_B[1]) / total
        share = min(max(value, 0.0), 1.0)
        error = min(max(float(counts_B[2]) / total + _HALF, 0.0), 1.0)
        sampling = (share * (1.0 - share) + self.of.cap * error) / total
        noise = (noise_std / total) ** 2 * ((1.0 + self.of.cap) ** 2 + value**2)
        return told({"value": normal_interval(value, sampling + noise)})


def _variance(metric: Metric) -> float:
    """Of a value whose interval is a normal one that nothing has cut."""
    return ((metric.high - metric.low) / (2 * Z)) ** 2
