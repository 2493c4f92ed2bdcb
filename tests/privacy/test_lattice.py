"""Losses on a lattice: what moves keeps its mass, and the FFT convolves what it says."""

import math

import numpy as np
import pytest
from scipy import stats

from privacy.lattice import Cells, Composed, Window, compose, discretise


@pytest.mark.parametrize("removes", [True, False])
@pytest.mark.parametrize(("sigma", "q"), [(1.0, 0.1), (2.0, 1.0), (0.5, 0.01)])
def test_masses_are_kept_under_both_distributions(
    sigma: float,
    q: float,
    removes: bool,
) -> None:
    step = 0.01
    cells = discretise(sigma, q, 1, (-30.0, 60.0), step, removes=removes)
    loss = step * np.arange(cells.first, cells.first + len(cells.masses), dtype=np.float64)
    assert cells.masses.min() >= 0
    assert cells.masses.sum() + cells.lost == pytest.approx(1, abs=1e-12)
    # Weighted by exp(-loss), the masses are those of the other distribution.
    assert (cells.masses * np.exp(-loss)).sum() == pytest.approx(1, rel=1e-9)


def test_the_lattice_dominates_the_loss_it_stands_for() -> None:
    sigma, q, step = 1.0, 0.3, 0.25
    cells = discretise(sigma, q, 1, (-3.0, 30.0), step, removes=True)
    loss = step * np.arange(cells.first, cells.first + len(cells.masses), dtype=np.float64)
    composed = Composed(losses=loss, masses=cells.masses, lost=cells.lost)
    x = np.linspace(-12, 14, 200_001)
    other = stats.norm.pdf(x, 0, sigma)
    mixed = (1 - q) * other + q * stats.norm.pdf(x, 1, sigma)
    for eps in (0.0, 0.1, 0.6, 0.9, 2.3):
        true = np.maximum(mixed - math.exp(eps) * other, 0).sum() * (x[1] - x[0])
        # The exact delta is enough for the lattice at a larger epsilon only.
        assert composed.epsilon(step, true) >= eps - 1e-6
    # On lattice points the two agree: that is what connects the dots.
    true = np.maximum(mixed - math.exp(2 * step) * other, 0).sum() * (x[1] - x[0])
    assert composed.epsilon(step, true) == pytest.approx(2 * step, abs=1e-5)


@pytest.mark.parametrize("tilt", [0.0, 1.5])
def test_composition_is_convolution(tilt: float) -> None:
    step = 0.5
    first = Cells(first=-1, masses=np.array([0.2, 0.5, 0.3]), lost=0.0, count=3)
    second = Cells(first=0, masses=np.array([0.6, 0.3, 0.1]), lost=0.0, count=2)
    window = Window(tilt=tilt, excess=5.0, bottom=-3.0, top=8.0)
    found = compose([first, second], window, step)
    direct = np.array([1.0])
    for cells in (first, second):
        for _ in range(cells.count):
            direct = np.convolve(direct, cells.masses)
    place = int(np.flatnonzero(np.isclose(found.losses, -3 * step))[0])
    assert np.allclose(found.masses[place : place + len(direct)], direct, atol=1e-13)
    assert found.masses.sum() == pytest.approx(1)
    assert found.lost < 1e-6


def test_what_leaves_the_window_counts_as_infinite() -> None:
    cells = Cells(first=0, masses=np.array([0.9, 0.1]), lost=1e-3, count=4)
    found = compose([cells], Window(tilt=0.0, excess=1.0, bottom=-1.0, top=1.0), 1.0)
    top = found.losses[-1]
    above = sum(math.comb(4, k) * 0.1**k * 0.9 ** (4 - k) for k in range(5) if k > top)
    assert above > 0
    assert found.lost >= 4e-3 + above


def test_epsilon_at_the_ends_of_the_window() -> None:
    composed = Composed(losses=np.array([0.5, 1.0]), masses=np.array([0.5, 0.4]), lost=0.1)
    assert composed.epsilon(0.5, 0.05) == math.inf
    assert composed.epsilon(0.5, 0.9) == 0.5
    below = Composed(losses=np.array([-1.0, -0.5]), masses=np.array([0.5, 0.5]), lost=0.0)
    assert below.epsilon(0.5, 0.9) == 0.0
    assert below.epsilon(0.5, 0.1) == 0.0
