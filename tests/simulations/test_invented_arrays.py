"""Invented images and electrocardiograms: layouts, and chances that are true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from learning.metrics import auroc
from simulations.arrays import Cells, texts_of
from simulations.heart_beats import beats
from simulations.lesion_images import lesions


def ill(cells: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([cell == "yes" for cell in texts_of(cells)], dtype=np.int64)


@pytest.mark.parametrize(
    ("made", "label", "array", "shape"),
    [
        (lesions(200), "disease", "image", (1000, 1, 24, 24)),
        (beats(200), "ischaemia", "series", (1000, 200, 2)),
    ],
    ids=["lesions", "beats"],
)
def test_what_is_ill_follows_the_known_chance(
    made: Any, label: str, array: str, shape: tuple[int, ...]
) -> None:
    table: Cells = made.table
    assert np.shape(table[array]) == shape
    assert sorted(set(texts_of(table["hospital"]))) == sorted(
        ("north", "south", "east", "west", "centre")
    )
    ill_N = ill(table[label])
    # Means of a thousand chances have a standard error of at most 0.016.
    assert ill_N.mean() == pytest.approx(made.chance_N.mean(), abs=0.05)
    likely_N = made.chance_N > 0.5
    assert ill_N[likely_N].mean() == pytest.approx(made.chance_N[likely_N].mean(), abs=0.06)
    assert 0.8 < auroc(made.chance_N, ill_N) < 0.95


def test_one_seed_gives_one_table() -> None:
    first, again, other = (lesions(4, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(np.asarray(first.table["image"]), np.asarray(again.table["image"]))
    assert not np.array_equal(np.asarray(first.table["image"]), np.asarray(other.table["image"]))
    traces = [np.asarray(beats(4, seed=seed).table["series"]) for seed in (1, 1, 2)]
    assert np.array_equal(traces[0], traces[1])
    assert not np.array_equal(traces[0], traces[2])
