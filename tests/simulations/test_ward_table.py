"""Invented wards follow the law that they state."""

from __future__ import annotations

import numpy as np

from simulations.ward_table import AHEAD, HOSPITALS, WARDS, wards


def test_a_row_is_a_day_and_the_label_lies_a_week_ahead() -> None:
    table = wards(each=30).table
    assert len(table["ward"]) == 30 * len(HOSPITALS) * len(WARDS)
    assert set(table["hospital"]) == set(HOSPITALS)
    # The first ward's label is its own lag seven rows later.
    assert table["occupied"][:20] == table["lag_7"][AHEAD : 20 + AHEAD]
    assert table["lag_14"][AHEAD:20] == table["lag_7"][: 20 - AHEAD]


def test_errors_around_the_known_mean_have_the_known_spread() -> None:
    made = wards(each=400)
    error_N = np.array(made.table["occupied"], dtype=np.float64) - made.mean_N
    assert abs(error_N.mean()) < 0.3
    assert 0.9 < error_N.std() / made.spread < 1.1


def test_equal_seeds_give_equal_wards() -> None:
    assert wards(each=5, seed=1).table == wards(each=5, seed=1).table
    assert wards(each=5, seed=1).table != wards(each=5, seed=2).table
