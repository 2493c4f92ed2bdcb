"""Invented patients follow the law that they state."""

from __future__ import annotations

import numpy as np

from simulations.label_table import HOSPITALS, LABELS, LOOKED, patients


def test_diagnoses_have_the_known_chance_and_some_are_unknown() -> None:
    made = patients(each=800)
    for place, name in enumerate(LABELS):
        cells = np.array(made.table[name])
        known_N = cells != ""
        assert abs(known_N.mean() - (1.0 if place == 0 else LOOKED)) < 0.02
        chance_N = made.chance_NL[known_N, place]
        yes_N = cells[known_N] == "yes"
        for low, high in ((0.0, 0.2), (0.2, 0.6), (0.6, 1.0)):
            here_N = (chance_N >= low) & (chance_N < high)
            assert abs(yes_N[here_N].mean() - chance_N[here_N].mean()) < 0.05


def test_a_row_is_a_patient_of_a_hospital() -> None:
    table = patients(each=30).table
    assert set(table["hospital"]) == set(HOSPITALS)
    assert {len(cells) for cells in table.values()} == {30 * len(HOSPITALS)}


def test_equal_seeds_give_equal_patients() -> None:
    assert patients(each=5, seed=1).table == patients(each=5, seed=1).table
    assert patients(each=5, seed=1).table != patients(each=5, seed=2).table
