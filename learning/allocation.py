"""Beds and staff for wards whose demand is forecast, by an integer program.

Each ward's demand is a few scenarios with probabilities, made from its forecast quantiles. The plan
makes the expected number of patients without a bed, weighted by ward, as small as it can be. HiGHS
solves it; the copy inside scipy is enough, so no further package is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from learning.task import FloatArray, FloatVector
from protocol.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Ward:
    """A ward and what its patients may need.

    Args:
        name: Its name.
        demand: Patients in each scenario.
        least: Fewest beds it must get.
        most: Most beds it can hold.
        staff: Nurses per bed.
        weight: How grave one patient without a bed is.
    """

    name: str
    demand: tuple[float, ...]
    least: int = 0
    most: int = 1_000
    staff: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An allocation and what more of anything would save.

    Args:
        beds: Beds by ward.
        shortage: Expected patients without a bed, by ward.
        cost: Their weighted sum.
        bed_price: What one more bed would save of the cost, in the linear relaxation.
        staff_price: What one more nurse would save, likewise.
    """

    beds: dict[str, int]
    shortage: dict[str, float]
    cost: float
    bed_price: float
    staff_price: float


def scenarios(quantiles: Sequence[float]) -> FloatVector:
    """Probability of each of K forecast quantiles as a scenario, (K,): the levels nearest to it.

    >>> scenarios((0.1, 0.5, 0.9)).tolist()
    [0.3, 0.4, 0.3]
    """
    level_K = np.asarray(quantiles, dtype=np.float64)
    edge_K = np.concatenate([[0.0], (level_K[1:] + level_K[:-1]) / 2, [1.0]])
    return np.asarray(np.round(np.diff(edge_K), 12))


def allocate(
    wards: Sequence[Ward],
    probabilities: Sequence[float],
    *,
    beds: int,
    staff: float | None = None,
) -> Plan:
    """The best allocation of beds and staff.

    Variables are beds x_w (whole) and shortages s_wk >= d_wk - x_w; the objective is the sum of
    weight_w p_k s_wk. Shadow prices are the dual values of the two totals in the linear
    relaxation: exact for a small change there, an estimate for whole beds.

    Source: Birge, Louveaux 2011, Introduction to Stochastic Programming, section 1.1 (the
    deterministic equivalent of a two-stage program).

    Args:
        wards: W wards with K scenarios each.
        probabilities: Of the K scenarios.
        beds: Beds in all.
        staff: Nurses in all; without a limit if not given.

    Raises:
        InputError: Scenarios and probabilities do not fit, or no allocation keeps the limits.

    >>> wards = [Ward(name="a", demand=(4.0, 8.0)), Ward(name="b", demand=(5.0, 5.0))]
    >>> plan = allocate(wards, (0.5, 0.5), beds=10)
    >>> plan.beds, plan.cost, plan.bed_price
    ({'a': 5, 'b': 5}, 1.5, 0.5)
    """
    demand_WK, chance_K = _checked(wards, probabilities)
    count, levels = demand_WK.shape
    weight_W = np.array([ward.weight for ward in wards])
    cost_V = np.concatenate([np.zeros(count), np.outer(weight_W, chance_K).ravel()])
    total_2V = np.zeros((2, len(cost_V)))
    total_2V[:, :count] = np.ones(count), [ward.staff for ward in wards]
    limit_2 = np.array([float(beds), np.inf if staff is None else staff])
    cover_SV = np.hstack([-np.repeat(np.eye(count), levels, axis=0), -np.eye(count * levels)])
    low_V = np.concatenate([[ward.least for ward in wards], np.zeros(count * levels)])
    high_V = np.concatenate([[ward.most for ward in wards], np.full(count * levels, np.inf)])
    found = milp(
        cost_V,
        integrality=np.arange(len(cost_V)) < count,
        bounds=Bounds(low_V, high_V),
        constraints=[
            LinearConstraint(total_2V, -np.inf, limit_2),
            LinearConstraint(cover_SV, -np.inf, -demand_WK.ravel()),
        ],
    )
    if found.x is None:
        raise InputError("no allocation keeps the limits", remedy="lower 'least' or raise the beds")
    usable_2 = np.isfinite(limit_2)
    relaxed = linprog(
        cost_V,
        A_ub=np.vstack([total_2V[usable_2], cover_SV]),
        b_ub=np.concatenate([limit_2[usable_2], -demand_WK.ravel()]),
        bounds=np.column_stack([low_V, high_V]),
        method="highs",
    )
    price_2 = np.zeros(2)
    price_2[usable_2] = -relaxed.ineqlin.marginals[: int(usable_2.sum())]
    bed_W = np.round(found.x[:count]).astype(np.int64)
    shortage_W = np.maximum(demand_WK - bed_W[:, None], 0.0) @ chance_K
    return Plan(
        beds={ward.name: int(bed) for ward, bed in zip(wards, bed_W, strict=True)},
        shortage={ward.name: float(one) for ward, one in zip(wards, shortage_W, strict=True)},
        cost=float(weight_W @ shortage_W),
        bed_price=float(price_2[0]) + 0.0,
        staff_price=float(price_2[1]) + 0.0,
    )


def _checked(
    wards: Sequence[Ward], probabilities: Sequence[float]
) -> tuple[FloatArray, FloatVector]:
    chance_K = np.asarray(probabilities, dtype=np.float64)
    if not wards or len({ward.name for ward in wards}) < len(wards):
        raise InputError("wards", expected="one or more, with names of their own")
    if any(len(ward.demand) != len(chance_K) for ward in wards):
        raise InputError("demand", expected=f"{len(chance_K)} scenarios for each ward")
    if len(chance_K) == 0 or chance_K.min() < 0 or abs(chance_K.sum() - 1.0) > 1e-9:
        raise InputError("probabilities", expected="chances that add up to 1")
    return np.array([ward.demand for ward in wards], dtype=np.float64), chance_K
