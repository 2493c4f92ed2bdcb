"""One round instead of many: regularised least squares from summed sufficient statistics.

Each hospital releases the upper triangle of the sum of x x' and the sum of x y once; the model
solves (sum x x' / n + ridge I) w = sum x y / n. This is regularised least squares on labels -1 and
1, not logistic regression: it ranks patients as well, but its scores are estimates of 2 p - 1 and
have to be turned into probabilities, see `OneShot.slope`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from learning.task import Records, Task
from privacy.conformance import Unit
from protocol.errors import InputError
from protocol.jobs import Training
from strategies.base import (
    Contribution,
    FloatVector,
    State,
    Total,
    mean,
    parse_options,
    require_once,
    stepped,
)
from strategies.cholesky import solve

MAX_PARAMETERS = 500
RIDGE_FLOOR = 2.0**-20
LEAST_RADIUS = 1.01
_MARGIN = 1.0 - 1e-9


@dataclass(frozen=True, kw_only=True)
class OneShotOptions:
    """What a job may say about a one-shot fit.

    Args:
        radius: R > 1, the norm to which records are clipped, the constant 1 of the bias included.
        slope: Public factor on the least-squares solution. 2 makes the score s a logit:
            log((1 + s) / (1 - s)) = 2 s + O(s^3) where s = 2 p - 1. It changes no ranking.
    """

    radius: float = 2.0
    slope: float = 2.0

    def __post_init__(self) -> None:
        _check_radius(self.radius)
        if not 0.0 < self.slope < math.inf:
            raise InputError("slope", expected="a positive number", found=str(self.slope))


@dataclass(frozen=True, kw_only=True)
class OneShot:
    """The strategy; its one step turns summed statistics into a linear model, the bias last.

    Args:
        parameters: P = features + 1, at most `MAX_PARAMETERS`.
        radius: See `OneShotOptions`.
        slope: See `OneShotOptions`.
        l2: The least ridge; below `RIDGE_FLOOR` the floor is taken, so that collinear columns are
            solved as well.
    """

    contribution: ClassVar[Contribution] = "statistics"

    parameters: int
    radius: float
    slope: float
    l2: float

    @classmethod
    def from_options(cls, options: Mapping[str, Any], training: Training, length: int) -> Self:
        """Build for a linear model of `length` parameters; the ridge is the job's `training.l2`.

        Raises:
            InputError: An option is wrong, the model is too large, or there is not just one round.
        """
        chosen = parse_options(OneShotOptions, options, "one_shot")
        require_once(training, "one_shot")
        if not 2 <= length <= MAX_PARAMETERS:
            raise InputError(
                "a model for strategy 'one_shot'",
                expected=f"2 to {MAX_PARAMETERS} parameters",
                found=str(length),
                remedy="use 'fedsgd' for larger models",
            )
        return cls(parameters=length, radius=chosen.radius, slope=chosen.slope, l2=training.l2)

    @property
    def norm(self) -> float:
        """L2 bound of one unit's contribution, the job's clip."""
        return unit_norm(self.radius)

    def bound(self, task: Task) -> float:
        """See `norm`.

        Raises:
            InputError: The task's model is not one linear score of two classes.
        """
        if not task.is_logistic:
            raise InputError(
                "strategy 'one_shot'",
                expected="a model that is one linear score of two classes",
                found="another model",
                remedy="use task 'diagnosis' with model 'logistic', or another strategy",
            )
        return self.norm

    def sums(self, task: Task, records: Records, unit: Unit) -> FloatVector:
        """The sum of `unit_vectors`.

        Raises:
            InputError: The task's model is not one linear score of two classes.
        """
        self.bound(task)
        patient_N = records.patient_N if unit == "patient" else None
        total: FloatVector = self.unit_vectors(records.x_NF, records.y_N, patient_N).sum(axis=0)
        return total

    def length(self, parameters: int) -> int:
        """P (P + 1) / 2 entries of x x' and P of x y."""
        return parameters * (parameters + 1) // 2 + parameters

    def init(self, weights: FloatVector) -> State:
        """The zero model.

        Raises:
            InputError: The task starts elsewhere, so it is no linear model.
        """
        if weights.shape != (self.parameters,) or weights.any():
            raise InputError(
                "initial weights with strategy 'one_shot'",
                expected=f"{self.parameters} zeros, as a linear model has them",
                remedy="choose the task's linear model",
            )
        return State(weights, (), 0)

    def step(self, state: State, total: Total) -> State:
        """Solve the normal equations; the result depends on the statistics alone."""
        size = self.parameters
        statistics_S = mean(total, self.length(size))
        triangle = size * (size + 1) // 2
        gram_PP = np.zeros((size, size))
        gram_PP[np.triu_indices(size)] = statistics_S[:triangle]
        gram_PP = gram_PP + np.triu(gram_PP, 1).T
        solution_P = solve(gram_PP, statistics_S[triangle:], max(self.l2, RIDGE_FLOOR))
        return stepped(state, self.slope * solution_P)

    def unit_vectors(
        self,
        x_NF: npt.NDArray[np.float64],
        y_N: npt.NDArray[np.int64] | FloatVector,
        patient_N: npt.NDArray[np.int64] | None = None,
    ) -> npt.NDArray[np.float64]:
        """The function `unit_vectors` with this strategy's radius, for its number of parameters.

        Raises:
            InputError: The records have another number of features: no linear model.
        """
        if x_NF.shape[1] + 1 != self.parameters:
            raise InputError(
                "features with strategy 'one_shot'",
                expected=f"{self.parameters - 1} and a bias, one parameter each",
                found=f"{x_NF.shape[1]}",
                remedy="choose the task's linear model",
            )
        return unit_vectors(x_NF, y_N, self.radius, patient_N=patient_N)


def unit_norm(radius: float) -> float:
    """sqrt(R^4 + R^2): ||triu(x x')||^2 <= ||x||^4 <= R^4, and ||x y||^2 = ||x||^2 <= R^2."""
    square = radius * radius
    return math.sqrt(square * square + square)


def unit_vectors(
    x_NF: npt.NDArray[np.float64],
    y_N: npt.NDArray[np.int64] | FloatVector,
    radius: float,
    *,
    patient_N: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.float64]:
    """Each unit's statistics: the upper triangle of x x', row by row, then x y.

    Args:
        x_NF: Features. They are scaled down where (x, 1) is longer than the radius; a row with a
            value that is not finite contributes its bias alone.
        y_N: Labels; positive is 1, everything else -1.
        radius: R, at least `LEAST_RADIUS`.
        patient_N: Where given, the unit is the patient: the mean of its rows' vectors.

    Returns:
        Array of shape U x S, patients in the order of their numbers.

    Guarantee:
        Every row has an L2 norm of at most `unit_norm(radius)` (a mean of vectors inside a ball
        lies inside it) and depends on one unit's records alone.

    Raises:
        InputError: The radius is below `LEAST_RADIUS`.
    """
    _check_radius(radius)
    x_NP = _clip(x_NF, radius)
    sign_N = np.where(y_N > 0, 1.0, -1.0)
    rows, columns = np.triu_indices(x_NP.shape[1])
    vectors_NS = np.hstack([x_NP[:, rows] * x_NP[:, columns], x_NP * sign_N[:, None]])
    if patient_N is None:
        return vectors_NS
    _, unit_N, count_U = np.unique(patient_N, return_inverse=True, return_counts=True)
    sums_US = np.zeros((len(count_U), vectors_NS.shape[1]))
    np.add.at(sums_US, unit_N, vectors_NS)
    return sums_US / count_U[:, None]


def _clip(x_NF: npt.NDArray[np.float64], radius: float) -> npt.NDArray[np.float64]:
    """(x, 1), with x shortened so that the row's norm is at most R (1 - 1e-9)."""
    finite_N1 = np.isfinite(x_NF).all(axis=1, keepdims=True)
    x_NF = np.where(finite_N1, x_NF, 0.0)
    # The largest value goes first, so that no square overflows.
    largest_N1 = np.abs(x_NF).max(axis=1, initial=1.0, keepdims=True)
    scaled_NF = x_NF / largest_N1
    norm_N1 = np.sqrt((scaled_NF**2).sum(axis=1, keepdims=True))
    room = math.sqrt((radius * _MARGIN) ** 2 - 1.0)
    fits_N1 = norm_N1 <= room / largest_N1
    factor_N1 = room / np.where(fits_N1, 1.0, norm_N1)
    shortened_NF = np.where(fits_N1, x_NF, scaled_NF * factor_N1)
    return np.hstack([shortened_NF, np.ones_like(norm_N1)])


def _check_radius(radius: float) -> None:
    if not LEAST_RADIUS <= radius < math.inf:
        raise InputError("radius", expected=f"at least {LEAST_RADIUS}", found=str(radius))
