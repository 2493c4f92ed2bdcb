"""Counts that evaluate forecasts of quantiles: pinball losses, coverage, absolute errors.

Everything is a share of the label's range, so one record adds at most 1 to any of them. With K
quantiles one record adds its loss under each (scaled by 1 / sqrt(K)), whether it stayed below each
(likewise), the error of the middle quantile, that of the naive forecast where there is one, and 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.counting import Counting, Raised, raised
from learning.intervals import clipped, normal_interval, score_interval
from learning.task import FloatArray, FloatVector, Metric
from protocol.errors import InputError


@dataclass(frozen=True)
class DemandEvaluation(Counting):
    """Evaluation of K forecast quantiles.

    Args:
        quantiles: Their levels, ascending.
        low: Smallest value of the label.
        high: Largest value of the label.
        naive: Whether predictions end in a naive forecast.

    >>> evaluation = DemandEvaluation((0.1, 0.5, 0.9), 0.0, 40.0, naive=True)
    >>> evaluation.length, round(evaluation.norm, 9)
    (9, 2.236067977)
    """

    quantiles: tuple[float, ...]
    low: float
    high: float
    naive: bool

    @property
    def length(self) -> int:
        """E, the number of counts."""
        return 2 * len(self.quantiles) + 2 + int(self.naive)

    @property
    def norm(self) -> float:
        """Largest L2 norm of one patient's counts."""
        return math.nextafter(math.sqrt(4.0 + int(self.naive)), math.inf)

    def losses(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> FloatArray:
        """Pinball loss of each record and quantile as a share of the label's range, N x K.

        Source: Koenker, Bassett 1978, Regression Quantiles, section 3.
        """
        level_K = np.asarray(self.quantiles)
        over_NK = (y_N[:, None] - predicted_NC[:, : len(level_K)]) / (self.high - self.low)
        return np.asarray(np.maximum(level_K * over_NK, (level_K - 1.0) * over_NK))

    def _raised(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> list[Raised]:
        levels = len(self.quantiles)
        if predicted_NC.shape != (len(y_N), levels + int(self.naive)):
            raise InputError("forecasts", expected="one row a record, one column per quantile")
        if not (np.isfinite(predicted_NC).all() and np.isfinite(y_N).all()):
            raise InputError("forecasts and targets", expected="finite numbers")
        inside_NC = np.clip(predicted_NC, self.low, self.high)
        y_N = np.clip(y_N, self.low, self.high)
        scale, one_N1 = levels**-0.5, np.ones((len(y_N), 1))
        place_K = np.arange(levels)[None, :]
        loss_NK = self.losses(inside_NC, y_N)
        error_NC = np.abs(inside_NC - y_N[:, None]) / (self.high - self.low)
        middle = error_NC[:, [levels // 2]]
        found = [
            raised(np.ones_like(loss_NK), place_K, scale * loss_NK),
            raised(y_N[:, None] <= inside_NC[:, :levels], levels + place_K, np.array([[scale]])),
            raised(one_N1, np.array([[2 * levels]]), one_N1),
            raised(one_N1, np.array([[2 * levels + 1]]), middle),
        ]
        if self.naive:
            found.append(raised(one_N1, np.array([[2 * levels + 2]]), error_NC[:, [-1]]))
        return found

    def metrics(self, counts_E: FloatVector, noise_std: float = 0.0) -> dict[str, Metric]:
        """Metrics with 95 % intervals; those that the counts do not determine are left out.

        Args:
            counts_E: Sum over patients and sites, noised or not.
            noise_std: Standard deviation of each count's noise, in counts; widens the intervals.

        Raises:
            InputError: The vector has another length, or is not finite.
        """
        self.check(counts_E)
        levels = len(self.quantiles)
        total = float(counts_E[2 * levels])
        if total <= 0:
            return {}
        root = levels**0.5

        def mean(amount: float, noise: float) -> Metric:
            value = amount / total
            share = min(max(value, 0.0), 1.0)
            # A loss within [0, 1] varies most if it is always 0 or 1.
            sampling = share * (1.0 - share) / max(total, 1.0)
            variance = sampling + (noise_std / total) ** 2 * (noise + share**2)
            return clipped(normal_interval(value, variance))

        def proportion(amount: float) -> Metric:
            size, noise = max(total, 1.0), (noise_std / total) ** 2 * (levels + 1.0)
            return clipped(
                score_interval(amount / total, lambda theta: theta * (1 - theta) / size, noise)
            )

        found = {
            "pinball": mean(root * float(counts_E[:levels].sum()) / levels, 1.0),
            "absolute_error": mean(float(counts_E[2 * levels + 1]), 1.0),
        }
        if self.naive:
            found["absolute_error:naive"] = mean(float(counts_E[-1]), 1.0)
        for level, count in zip(
            self.quantiles, counts_E[levels : 2 * levels].tolist(), strict=True
        ):
            found[f"coverage:{level:g}"] = proportion(root * count)
        return found

    def explained(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> float:
        """1 - pinball loss over that of constant forecasts, put into [0, 1].

        Source: Koenker, Machado 1999, Goodness of Fit and Related Inference Processes for Quantile
        Regression, eq. 6 (R1), over all levels together.

        Raises:
            InputError: All targets are equal, or there are none.
        """
        if len(np.unique(y_N)) < 2:
            raise InputError("R1 needs targets that differ")
        constant_K = np.quantile(y_N, self.quantiles, method="inverted_cdf")
        constant = self.losses(np.broadcast_to(constant_K, (len(y_N), len(constant_K))), y_N)
        share = float(self.losses(predicted_NC, y_N).sum() / constant.sum())
        return min(max(1.0 - share, 0.0), 1.0)
