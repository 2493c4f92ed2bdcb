"""Hierarchical histograms of scores: how they count and what their noised counts say.

A tree counts the same records in 2, 4, 8, 16 and 32 bins of their score, so one record raises one
node per level and its counts have the L2 norm sqrt(5). Noise of standard deviation s per node then
leaves a sum over half of all bins with an error near 2 s, where 32 bins alone would leave 4 s.

Source: Hay, Rastogi, Miklau, Suciu 2010, Boosting the Accuracy of Differentially Private Histograms
Through Consistency, section 4 (here solved as ordinary least squares).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from learning.task import FloatArray, FloatVector, IntVector

LEVELS: Final = 5
BINS: Final = 2**LEVELS
TREE: Final = 2 * BINS - 2

_U = np.arange(BINS + 1) / BINS

# Bins are finer near 0 and 1, where the scores of rare conditions lie, and 1/2 is an edge. The
# polynomial is close to sin(pi u / 2)^2, under which all bins of a proportion are equally precise.
EDGES: Final[FloatVector] = _U * _U * (3.0 - 2.0 * _U)
MIDPOINTS: Final[FloatVector] = (EDGES[1:] + EDGES[:-1]) / 2.0

_MEMBERS_TB = np.vstack(
    [np.kron(np.eye(2**level), np.ones(BINS >> level)) for level in range(1, 6)]
)
_COVARIANCE_BB = np.linalg.inv(_MEMBERS_TB.T @ _MEMBERS_TB)
_SOLVE_BT = _COVARIANCE_BB @ _MEMBERS_TB.T


def tree_nodes(score_N: FloatVector) -> IntVector:
    """The nodes that each score belongs to, N x LEVELS, coarse to fine.

    >>> tree_nodes(np.array([0.0, 0.5, 1.0])).tolist()
    [[0, 2, 6, 14, 30], [1, 4, 10, 22, 46], [1, 5, 13, 29, 61]]
    """
    bin_N: IntVector = np.searchsorted(EDGES[1:-1], score_N, side="right").astype(np.int64)
    level_L = np.arange(1, LEVELS + 1)
    nodes_NL: IntVector = (bin_N[:, None] >> (LEVELS - level_L)) + (1 << level_L) - 2
    return nodes_NL


def leaves(trees_ST: FloatArray, noise_std: float) -> FloatArray:
    """Counts of the 32 bins, S x 32, estimated from all levels where the counts are noised.

    Noised counts may be negative, and stay so: setting them to 0 one by one would add patients
    who do not exist, and every sum over bins would be too large.
    """
    if noise_std == 0:
        return trees_ST[:, -BINS:]
    leaf_SB: FloatArray = trees_ST @ _SOLVE_BT.T
    return leaf_SB


def leaf_variance(gradient_SB: FloatArray, noise_std: float) -> float:
    """Variance that the noise gives to a quantity with this gradient in the bins' counts."""
    return float(noise_std**2 * np.sum((gradient_SB @ _COVARIANCE_BB) * gradient_SB))


def without_negatives(count_B: FloatVector) -> FloatVector:
    """Counts (B,) from 0 up whose partial sums are nearest to the given ones, the total unchanged.

    Quotients of partial sums, such as precision along a curve, need sums that never fall. Moving
    the sums and not the counts leaves each sum its small error; bringing up the counts one by one
    adds to every sum. A negative total becomes 0.

    Source: Robertson, Wright, Dykstra 1988, Order Restricted Statistical Inference, theorem 1.4.4
    (least squares under order, as a maximum of minima of means).

    >>> without_negatives(np.array([5.0, -1.0, 2.0])).tolist()
    [4.5, 0.0, 1.5]
    """
    if (count_B >= 0).all():
        return count_B
    total = max(float(count_B.sum()), 0.0)
    sum_B = np.cumsum(count_B)
    start_B, stop_B = np.arange(len(sum_B))[:, None], np.arange(len(sum_B))[None, :]
    before_B = np.concatenate([[0.0], np.cumsum(sum_B)])
    span_BB = np.maximum(stop_B - start_B + 1, 1)
    mean_BB = np.where(
        stop_B >= start_B, (before_B[stop_B + 1] - before_B[start_B]) / span_BB, np.inf
    )
    least_BB = np.minimum.accumulate(mean_BB[:, ::-1], axis=1)[:, ::-1]
    nearest_B = least_BB.max(axis=0, where=stop_B >= start_B, initial=-np.inf)
    nearest_B = np.append(np.clip(nearest_B, 0.0, total)[:-1], total)
    rising_B: FloatVector = np.diff(nearest_B, prepend=0.0)
    return rising_B
