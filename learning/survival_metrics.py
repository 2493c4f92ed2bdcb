"""Metrics of survival curves from pooled and possibly noised counts, with 95 % intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from learning.intervals import normal_interval, score_interval
from learning.metrics import auroc
from learning.scores import hanley_mcneil
from learning.task import FloatArray, FloatVector, Metric
from protocol.errors import InputError

# No weight of a patient who is still in sight exceeds this, however few are.
LEAST_IN_SIGHT = 0.05


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """Pooled counts of survival, see learning/survival_evaluation.py.

    Args:
        table_GO: Patients by group and outcome code 2 s + e.
        alive_T: Squared errors of those alive at the end of each interval.
        dead_TT: Squared errors at the end of an interval of those who died in an earlier one.
        case_TB: Those who died in an interval, by bin of predicted survival.
        control_TB: Those who survived it, likewise.
        noise: Standard deviation of the noise of `table_GO` and `case_TB`.
        scaled_noise: That of the other counts.
    """

    table_GO: FloatArray  # noqa: N815 - the shape is part of the name
    alive_T: FloatVector  # noqa: N815
    dead_TT: FloatArray  # noqa: N815
    case_TB: FloatArray  # noqa: N815
    control_TB: FloatArray  # noqa: N815
    noise: float
    scaled_noise: float


def hazards(table_O: FloatVector) -> tuple[FloatVector, FloatVector, FloatVector]:
    """Deaths, losses from sight and patients at risk of death in T intervals, (T,) each.

    Whoever was lost after s intervals is not at risk in the next one.
    """
    lost_T, died_T = table_O[:-1].reshape(-1, 2).T
    entered_T = np.cumsum(table_O[::-1])[::-1][:-1].reshape(-1, 2)[:, 0]
    return died_T, lost_T, entered_T - lost_T


def kaplan_meier(table_O: FloatVector) -> FloatVector:
    """Survival at the end of each interval, T numbers that never rise.

    Source: Kaplan, Meier 1958, Nonparametric Estimation from Incomplete Observations, eq. 2b.

    >>> kaplan_meier(np.array([0.0, 1.0, 1.0, 1.0, 1.0])).tolist()
    [0.75, 0.375]
    """
    died_T, _, risk_T = hazards(table_O)
    hazard_T = np.clip(died_T / np.where(risk_T > 0, risk_T, np.inf), 0.0, 1.0)
    return np.asarray(np.cumprod(1.0 - hazard_T), dtype=np.float64)


def in_sight(table_O: FloatVector) -> FloatVector:
    """Probability of not being lost before interval s, nor at its beginning; T numbers.

    The Kaplan-Meier estimate of censoring: it weighs those who are seen for those who are not.
    """
    _, lost_T, risk_T = hazards(table_O)
    entered_T = risk_T + lost_T
    loss_T = np.clip(lost_T / np.where(entered_T > 0, entered_T, np.inf), 0.0, 1.0)
    seen_T: FloatVector = np.maximum(np.cumprod(1.0 - loss_T), LEAST_IN_SIGHT)
    return seen_T


def curves(table_O: FloatVector, noise: float) -> Metric | None:
    """Kaplan-Meier survival at the end of the last interval.

    Source: Greenwood 1926, The Natural Duration of Cancer (variance); the noise enters through
    differences of the estimate.
    """
    died_T, _, risk_T = hazards(table_O)
    if table_O.sum() <= 0 or risk_T.min() <= 0:
        return None
    value = float(kaplan_meier(table_O)[-1])
    share_T = np.clip(died_T / risk_T, 0.0, 1.0)
    left_T = np.maximum(risk_T * (1.0 - share_T), 1.0)
    # With nobody dead, or all, Greenwood's variance is 0; one pseudo-patient keeps it honest.
    sampling = value**2 * float((share_T / left_T).sum()) + 1.0 / (4.0 * (table_O.sum() + 1.0) ** 2)
    step = max(1.0, noise)
    slopes = [
        (kaplan_meier(table_O + move)[-1] - kaplan_meier(table_O - move)[-1]) / (2 * step)
        for move in step * np.eye(len(table_O))
    ]
    return normal_interval(value, sampling + (noise * float(np.linalg.norm(slopes))) ** 2)


def integrated_brier(pooled: Pooled, width_T: FloatVector) -> Metric | None:
    """Mean over time of the squared error of survival, weighted for censoring.

    A patient's weight is one over the probability of having been seen so far. The sampling variance
    takes a squared error for no more than the error itself, which is true up to 1, and times for
    fully correlated: the interval is rather too wide.

    Source: Graf, Schmoor, Sauerbrei, Schumacher 1999, Assessment and Comparison of Prognostic
    Classification Schemes for Survival Data, eqs. 5 and 10.
    """
    table_O = pooled.table_GO.sum(axis=0)
    total = float(table_O.sum())
    if total <= 0:
        return None
    seen_T = in_sight(table_O)
    weight_TT = np.tril(np.ones_like(pooled.dead_TT)) / seen_T
    part_T = width_T / width_T.sum()
    error_T = ((pooled.dead_TT * weight_TT).sum(axis=1) + pooled.alive_T / seen_T) / total
    square_T = (pooled.dead_TT * weight_TT**2).sum(axis=1) + pooled.alive_T / seen_T**2
    spread_T = np.sqrt(np.maximum(square_T, 0.0)) / max(total, 1.0)
    noisy_T = (weight_TT**2).sum(axis=1) + 1.0 / seen_T**2
    value = float(part_T @ error_T)
    noise = pooled.scaled_noise**2 * float(part_T**2 @ noisy_T) / total**2
    noise += (pooled.noise * value / total) ** 2 * pooled.table_GO.size
    return normal_interval(value, float(part_T @ spread_T) ** 2 + noise)


def concordance(pooled: Pooled) -> Metric | None:
    """Share of comparable pairs in which the patient who died first had the lower curve then.

    Pairs whose curves fall into one bin count half, pairs who died in one interval not at all.

    Source: Antolini, Boracchi, Biganzoli 2005, A Time-Dependent Discrimination Index for Survival
    Data, section 2.
    """
    case_TB, control_TB = pooled.case_TB, pooled.control_TB
    case_T1, control_T1 = (one.sum(axis=1, keepdims=True) for one in (case_TB, control_TB))
    pairs = float((case_T1 * control_T1).sum())
    if pairs <= 0 or case_TB.sum() <= 0 or control_TB.sum() <= 0:
        return None
    above_TB = control_T1 - np.cumsum(control_TB, axis=1) + control_TB / 2
    below_TB = np.cumsum(case_TB, axis=1) - case_TB / 2
    value = float((case_TB * above_TB).sum()) / pairs
    slopes = (
        pooled.noise * np.linalg.norm(above_TB - value * control_T1) / pairs,
        pooled.scaled_noise * np.linalg.norm(below_TB - value * case_T1) / pairs,
    )
    cases = max(float(case_TB.sum()), 1.0)
    controls = max(pairs / cases, 1.0)
    return score_interval(
        value,
        lambda theta: hanley_mcneil(theta, cases, controls),
        float(slopes[0] ** 2 + slopes[1] ** 2),
    )


def exact_concordance(survival_NT: FloatArray, y_N: npt.NDArray[np.int64]) -> float:
    """Antolini's concordance without bins, for records that are in one place.

    Raises:
        InputError: No two records can be compared.
    """
    survived_N, died_N = y_N // 2, y_N % 2 == 1
    pairs = concordant = 0.0
    for time in range(survival_NT.shape[1]):
        case_N, control_N = died_N & (survived_N == time), survived_N > time
        weight = float(case_N.sum()) * float(control_N.sum())
        if weight:
            seen_N = case_N | control_N
            area = auroc(-survival_NT[seen_N, time], case_N[seen_N].astype(np.int64))
            pairs, concordant = pairs + weight, concordant + weight * area
    if not pairs:
        raise InputError("a concordance needs a death and somebody who outlives it")
    return concordant / pairs if math.isfinite(concordant) else 0.0
