"""Shapley values against their definition, and against what is known of simple games."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from learning.shapley import MOST_ORDERS, orders_of, shapley

PARTS = (slice(0, 1), slice(1, 3), slice(3, 4))


def answer(x_NF: Any) -> Any:
    """A sum, a product of two columns, and nothing of the last."""
    return 2 * x_NF[:, 0] + x_NF[:, 0] * x_NF[:, 1] + x_NF[:, 2]


def test_an_interaction_is_halved_between_its_columns() -> None:
    found_K = shapley(answer, np.array([3.0, 5.0, 1.0, 9.0]), np.zeros(4), PARTS)
    np.testing.assert_allclose(found_K, [6 + 7.5, 7.5 + 1, 0], atol=1e-12)


def test_it_is_the_mean_over_all_orders() -> None:
    rng = np.random.default_rng(0)
    x_F, start_F = rng.normal(size=4), rng.normal(size=4)
    expected_K = np.zeros(3)
    for order in permutations(range(3)):
        row_F = start_F.copy()
        for column in order:
            before = answer(row_F[None])[0]
            row_F[PARTS[column]] = x_F[PARTS[column]]
            expected_K[column] += (answer(row_F[None])[0] - before) / 6
    np.testing.assert_allclose(shapley(answer, x_F, start_F, PARTS), expected_K, atol=1e-12)


@pytest.mark.parametrize("columns", [1, 5, 6, 40])
def test_orders_are_orders_and_few(columns: int) -> None:
    orders = orders_of(columns)
    assert len(orders) <= MOST_ORDERS
    assert (np.sort(orders, axis=1) == np.arange(columns)).all()
    if columns > 5:
        assert (orders[MOST_ORDERS // 2 :] == orders[: MOST_ORDERS // 2, ::-1]).all()


def test_drawn_orders_add_up_exactly_too() -> None:
    rng = np.random.default_rng(1)
    parts = [slice(place, place + 1) for place in range(8)]
    x_F, start_F, weight_FF = rng.normal(size=8), rng.normal(size=8), rng.normal(size=(8, 8))

    def bent(x_NF: Any) -> Any:
        return np.tanh(x_NF @ weight_FF).sum(axis=1)

    moved = bent(x_F[None])[0] - bent(start_F[None])[0]
    assert shapley(bent, x_F, start_F, parts).sum() == pytest.approx(moved, abs=1e-12)
