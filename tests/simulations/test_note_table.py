"""Invented notes follow the law that they state."""

from __future__ import annotations

import numpy as np

from learning.metrics import auroc
from simulations.note_table import FINDINGS, HOSPITALS, notes


def test_a_row_is_a_patient_with_a_note() -> None:
    table = notes(each=20).table
    assert set(table["hospital"]) == set(HOSPITALS)
    assert {len(cells) for cells in table.values()} == {20 * len(HOSPITALS)}
    assert all(note.endswith(".") for note in table["note"])


def test_outcomes_have_the_known_chance() -> None:
    made = notes(each=600)
    ill_N = np.array([cell == "yes" for cell in made.table["sepsis"]])
    for low, high in ((0.0, 0.2), (0.2, 0.6), (0.6, 1.0)):
        here_N = (made.chance_N >= low) & (made.chance_N < high)
        assert abs(ill_N[here_N].mean() - made.chance_N[here_N].mean()) < 0.05
    assert 0.85 < auroc(made.chance_N, ill_N) < 0.95


def test_hospitals_prefer_other_words_of_the_same_finding() -> None:
    table = notes(each=100).table
    shares = []
    for start in (0, 100):
        text = " ".join(table["note"][start : start + 100]).lower()
        one, other = (text.count(words) for words in FINDINGS[0][1])
        shares.append(one / (one + other))
    assert abs(shares[0] - shares[1]) > 0.5


def test_equal_seeds_give_equal_notes() -> None:
    assert notes(each=3, seed=1).table == notes(each=3, seed=1).table
    assert notes(each=3, seed=1).table != notes(each=3, seed=2).table
