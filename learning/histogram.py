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
    """The nearest counts that are not negative and have the same sum (zeros if that is negative).

    Quotients of partial sums, such as precision along a curve, need denominators that grow.

    Source: Wang, Carreira-Perpinan 2013, Projection onto the Probability Simplex, algorithm 1.

    >>> without_negatives(np.array([5.0, -1.0, 2.0])).tolist()
    [4.5, 0.0, 1.5]
    """
    if (count_B >= 0).all():
        return count_B
    total = count_B.sum()
    if total <= 0:
        return np.zeros_like(count_B)
    sorted_B = np.sort(count_B)[::-1]
    surplus_B = (np.cumsum(sorted_B) - total) / np.arange(1, len(sorted_B) + 1)
    last = np.flatnonzero(sorted_B > surplus_B)[-1]
    nearest_B: FloatVector = np.maximum(count_B - surplus_B[last], 0.0)
    return nearest_B
