"""Counts that evaluate a rule for choosing treatments on patients who were treated otherwise.

Predictions are N x 2A: the chance of the better outcome under each of A treatments, then the chance
that a patient like this one was given each. A record's target is 2 a + y. One patient raises

- one cell of the table of treatments given by treatments recommended;
- if these agree, the patient's weight 1 / e (e: chance of having been given it) for its outcome;
- doubly robust values of the rule and of each treatment for everybody;
- a flag for each treatment that such patients hardly ever get, scaled by 1 / sqrt(A);
- the squared error of the prediction for the treatment given.

Weights end at a public cap W, which keeps every part bounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.counting import Counting, Raised, raised
from learning.intervals import clipped, normal_interval, score_interval
from learning.task import FloatArray, FloatVector, IntVector, Metric
from protocol.errors import InputError


@dataclass(frozen=True)
class TreatmentEvaluation(Counting):
    """Evaluation of the rule "the treatment with the best predicted outcome".

    Args:
        arms: Names of the A treatments; effects are measured against the first.
        cap: W, the largest weight.
        scarce: Chance below which a treatment counts as hardly ever given.

    >>> evaluation = TreatmentEvaluation(("old", "new"), cap=2.0, scarce=0.05)
    >>> evaluation.length, round(evaluation.norm**2, 3)
    (12, 6.111)
    """

    arms: tuple[str, ...]
    cap: float
    scarce: float

    @property
    def _starts(self) -> tuple[int, int, int, int]:
        """Where weights, doubly robust values, flags and errors begin."""
        table = len(self.arms) ** 2
        return table, table + 2, table + 3 + len(self.arms), table + 3 + 2 * len(self.arms)

    @property
    def length(self) -> int:
        """E, the number of counts."""
        return self._starts[3] + 1

    @property
    def norm(self) -> float:
        """Largest L2 norm of one patient's counts: six parts of one, and predictions beside."""
        beside = (len(self.arms) - 1) / (1.0 + self.cap) ** 2
        return math.nextafter(math.sqrt(6.0 + beside), math.inf)

    def _raised(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> list[Raised]:
        arms, one_N1 = len(self.arms), np.ones((len(y_N), 1))
        if predicted_NC.shape != (len(y_N), 2 * arms) or not np.isfinite(predicted_NC).all():
            raise InputError("predictions", expected="finite, outcomes and chances by treatment")
        if len(y_N) and not (y_N.min() >= 0 and y_N.max() < 2 * arms):
            raise InputError("targets", expected="codes of treatments and outcomes")
        weights, values, flags, error = self._starts
        given_N, good_N = y_N.astype(np.int64) // 2, y_N.astype(np.int64) % 2
        chosen_N = recommended(predicted_NC, arms)
        weight_N = self._weights(predicted_NC, given_N)
        value_NA = self._values(predicted_NC, given_N, good_N) / (1.0 + self.cap)
        rule_N1 = np.take_along_axis(value_NA, chosen_N[:, None], axis=1)
        rare_NA = predicted_NC[:, arms:] < self.scarce
        row_N = np.arange(len(y_N))
        hit_N = np.clip(predicted_NC[row_N, given_N], 0.0, 1.0)
        miss_N: FloatVector = np.square(good_N - hit_N)
        return [
            raised(one_N1, (given_N * arms + chosen_N)[:, None], one_N1),
            raised(
                (given_N == chosen_N)[:, None],
                (weights + good_N)[:, None],
                np.asarray(weight_N / self.cap)[:, None],
            ),
            raised(one_N1, np.array([[values]]), rule_N1),
            raised(np.ones_like(value_NA), values + 1 + np.arange(arms)[None, :], value_NA),
            raised(
                rare_NA, flags + np.arange(arms)[None, :], np.full((1, 1), 1.0 / math.sqrt(arms))
            ),
            raised(one_N1, np.array([[error]]), miss_N[:, None]),
        ]

    def _weights(self, predicted_NC: FloatArray, given_N: IntVector) -> FloatVector:
        """1 / e of the treatment given, at most W."""
        chance_N = predicted_NC[np.arange(len(given_N)), len(self.arms) + given_N]
        weight_N: FloatVector = 1.0 / np.maximum(chance_N, 1.0 / self.cap)
        return weight_N

    def _values(
        self, predicted_NC: FloatArray, given_N: IntVector, good_N: IntVector
    ) -> FloatArray:
        """Doubly robust value of each treatment for each patient, N x A, within [-W, 1 + W].

        Source: Robins, Rotnitzky, Zhao 1994, Estimation of Regression Coefficients When Some
        Regressors Are Not Always Observed; as a value of a rule: Dudik, Langford, Li 2011, Doubly
        Robust Policy Evaluation and Learning, eq. 1.
        """
        value_NA = np.clip(predicted_NC[:, : len(self.arms)], 0.0, 1.0).copy()
        row_N = np.arange(len(given_N))
        rest_N = good_N - value_NA[row_N, given_N]
        value_NA[row_N, given_N] += self._weights(predicted_NC, given_N) * rest_N
        return value_NA

    def values(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> FloatArray:
        """Doubly robust value of each treatment for each patient, N x A, within [-W, 1 + W]."""
        given_N, good_N = y_N.astype(np.int64) // 2, y_N.astype(np.int64) % 2
        return self._values(predicted_NC, given_N, good_N)

    def rule_values(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> FloatVector:
        """That of the rule for each patient, (N,)."""
        value_NA = self.values(predicted_NC, y_N)
        chosen_N = recommended(predicted_NC, len(self.arms))
        value_N: FloatVector = value_NA[np.arange(len(y_N)), chosen_N]
        return value_N

    def exact_value(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> float:
        """The rule's doubly robust value for records that are in one place, put into [0, 1]."""
        value = float(self.rule_values(predicted_NC, y_N).mean())
        return min(max(value, 0.0), 1.0)

    def metrics(self, counts_E: FloatVector, noise_std: float = 0.0) -> dict[str, Metric]:
        """Metrics with 95 % intervals; those that the counts do not determine are left out.

        Args:
            counts_E: Sum over patients and sites, noised or not.
            noise_std: Standard deviation of each count's noise, in counts; widens the intervals.

        Raises:
            InputError: The vector has another length, or is not finite.
        """
        self.check(counts_E)
        return _Reading(self, counts_E, noise_std).metrics()


class _Reading:
    """Pooled counts of one evaluation, and what they say."""

    def __init__(self, of: TreatmentEvaluation, counts_E: FloatVector, noise: float) -> None:
        weights, values, flags, error = of._starts
        self._of, self._noise = of, noise
        self._table_AA = counts_E[:weights].reshape(len(of.arms), -1)
        self._total = float(self._table_AA.sum())
        self._weights = (of.cap * counts_E[weights:values]).tolist()
        self._values = ((1.0 + of.cap) * counts_E[values:flags]).tolist()
        self._flags_A = counts_E[flags:error] * len(of.arms) ** 0.5
        self._error = float(counts_E[error])

    def metrics(self) -> dict[str, Metric]:
        if self._total <= 0:
            return {}
        rule, *each = self._values
        found = {
            "value": clipped(self._value(rule)),
            "brier": self._share(self._error, 1.0),
            "agreement": self._share(float(np.trace(self._table_AA)), len(self._of.arms) ** 0.5),
            "effect": self._effect(rule - each[0]),
        }
        low, high = self._weights
        if low + high > 0 and min(low, high) >= 0:
            found["value_ips"] = self._normalised(high / (low + high), low + high)
        for arm, value, flag in zip(self._of.arms, each, self._flags_A.tolist(), strict=True):
            found[f"value:{arm}"] = clipped(self._value(value))
            scale = len(self._of.arms) ** 0.5
            found[f"without_overlap:{arm}"] = self._share(flag, scale)
        return found

    def _share(self, count: float, scale: float) -> Metric:
        """A proportion of all patients, by Wilson's interval."""
        value, total = count / self._total, max(self._total, 1.0)
        noise = (self._noise / self._total) ** 2 * (
            scale**2 + (min(max(value, 0.0), 1.0) * len(self._of.arms)) ** 2
        )
        return clipped(score_interval(value, lambda theta: theta * (1 - theta) / total, noise))

    def _variance(self, value: float) -> float:
        """Of a doubly robust mean, with every weight taken for the cap."""
        value = min(max(value, 0.0), 1.0)
        error = min(max(self._error / self._total, 0.0), 1.0)
        sampling = (value * (1.0 - value) + self._of.cap * error) / max(self._total, 1.0)
        arms = len(self._of.arms)
        noise = (1.0 + self._of.cap) ** 2 + (value * arms) ** 2
        return sampling + noise * (self._noise / self._total) ** 2

    def _value(self, amount: float) -> Metric:
        value = amount / self._total
        return normal_interval(value, self._variance(value))

    def _effect(self, amount: float) -> Metric:
        """Gain over the first treatment for everybody, within [-1, 1]."""
        metric = normal_interval(amount / self._total, 2.0 * self._variance(0.5))
        return Metric(*(min(max(x, -1.0), 1.0) for x in (metric.value, metric.low, metric.high)))

    def _normalised(self, value: float, weight: float) -> Metric:
        """Self-normalised inverse probability weighting; `weight` over W patients are compared.

        Source: Swaminathan, Joachims 2015, The Self-Normalized Estimator for Counterfactual
        Learning, eq. 8.
        """
        size = max(weight / self._of.cap, 1.0)
        noise = (self._noise * self._of.cap / weight) ** 2 * (value**2 + (1 - value) ** 2)
        return clipped(score_interval(value, lambda theta: theta * (1 - theta) / size, noise))


def recommended(predicted_NC: FloatArray, arms: int) -> IntVector:
    """The treatment with the best predicted outcome, (N,), the first of equal ones."""
    chosen_N: IntVector = predicted_NC[:, :arms].argmax(axis=1).astype(np.int64)
    return chosen_N
