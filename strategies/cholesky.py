"""Symmetric linear systems solved to the same bits on every machine.

Libraries promise no order of additions, so two machines' LAPACK differ in the last bits; the
elementwise operations used here do not. A few hundred unknowns take a tenth of a second.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from protocol.errors import InputError

FloatVector = npt.NDArray[np.float64]


def solve(gram_PP: npt.NDArray[np.float64], moment_P: FloatVector, ridge: float) -> FloatVector:
    """(gram + r I)^-1 moment with the least r in ridge, 2 ridge, 4 ridge, ... that is sound.

    Noise can make the matrix of a sum indefinite. If every eigenvalue of `gram` is at least -r/2,
    every pivot of gram + r I is at least r/2; so the ridge is doubled until the pivots are, which
    ends because the norm is finite. Without noise the first ridge is taken.

    Args:
        gram_PP: Symmetric matrix.
        moment_P: Right-hand side.
        ridge: Positive start.
    """
    while math.isfinite(ridge):
        factor_PP = cholesky(gram_PP + ridge * np.eye(len(gram_PP)), 0.5 * ridge)
        if factor_PP is not None:
            return _substitute(factor_PP, moment_P)
        ridge = 2.0 * ridge
    raise InputError("summed statistics", expected="finite numbers")


def cholesky(
    matrix_PP: npt.NDArray[np.float64], least_pivot: float
) -> npt.NDArray[np.float64] | None:
    """The lower factor, or None where a pivot falls below `least_pivot`.

    Columns are eliminated from left to right, each with elementwise operations alone: entry (i, j)
    meets its products in the order k = 0, 1, ..., j - 1 on every machine, which no call to LAPACK
    promises.

    Source: Golub, Van Loan 2013, Algorithm 4.2.1 (outer-product form).
    """
    rest_PP = matrix_PP.copy()
    factor_PP = np.zeros_like(rest_PP)
    for k in range(len(rest_PP)):
        pivot = rest_PP[k, k]
        if not least_pivot <= pivot < np.inf:
            return None
        factor_PP[k, k] = np.sqrt(pivot)
        column = rest_PP[k + 1 :, k] / factor_PP[k, k]
        factor_PP[k + 1 :, k] = column
        rest_PP[k + 1 :, k + 1 :] -= column[:, None] * column[None, :]
    return factor_PP


def _substitute(factor_PP: npt.NDArray[np.float64], moment_P: FloatVector) -> FloatVector:
    """Forward, then backward substitution by columns, elementwise as in `cholesky`."""
    rest_P = moment_P.copy()
    for k in range(len(rest_P)):
        rest_P[k] = rest_P[k] / factor_PP[k, k]
        rest_P[k + 1 :] -= factor_PP[k + 1 :, k] * rest_P[k]
    for k in reversed(range(len(rest_P))):
        rest_P[k] = rest_P[k] / factor_PP[k, k]
        rest_P[:k] -= factor_PP[k, :k] * rest_P[k]
    return rest_P
