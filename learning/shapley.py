"""What each column adds to an answer, for models whose features have no slope: words of notes.

Columns take their values one after the other, from a starting point on, and each is given what the
answer moves by then, in the mean over the orders in which they may come. It adds up exactly.

Source: Shapley 1953, A Value for n-Person Games; Castro, Gomez, Tejada 2009, Polynomial calculation
of the Shapley value based on sampling, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np

from learning.task import FloatArray, FloatVector, IntVector

MOST_ORDERS = 120


def orders_of(columns: int) -> IntVector:
    """Orders x K places of K columns: all, or of more than 120, 60 drawn ones and their reverses.

    >>> orders_of(2).tolist()
    [[0, 1], [1, 0]]
    """
    if math.factorial(columns) <= MOST_ORDERS:
        return np.array(list(permutations(range(columns))), dtype=np.int64)
    rng = np.random.Generator(np.random.PCG64(0))
    drawn = np.array([rng.permutation(columns) for _ in range(MOST_ORDERS // 2)])
    return np.concatenate([drawn, drawn[:, ::-1]])


def shapley(
    answer: Callable[[FloatArray], FloatVector],
    x_F: FloatVector,
    start_F: FloatVector,
    parts: Sequence[slice],
) -> FloatVector:
    """What each of K columns adds to the answer of a row, compared with a starting point.

    Args:
        answer: The answers of rows N x F.
        x_F: The row's features.
        start_F: Those of the starting point.
        parts: Each column's features.
    """
    orders = orders_of(len(parts))
    given_K = np.zeros(len(parts))
    for order in orders:
        path = np.tile(start_F, (len(parts) + 1, 1))
        for step, column in enumerate(order):
            path[step + 1 :, parts[column]] = x_F[parts[column]]
        given_K[order] += np.diff(answer(path))
    return given_K / len(orders)
