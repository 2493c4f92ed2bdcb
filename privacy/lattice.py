"""Privacy losses on a lattice: one Poisson-sampled Gaussian, many of them, and their epsilon.

A cell between two lattice points keeps its mass under both distributions when it moves to the
points (connect the dots), so that the result dominates the true pair.

Source: Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022, Connect the dots; Koskela, Jälkö,
Honkela 2020, Computing tight differential privacy guarantees using FFT.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, special

FloatVector = npt.NDArray[np.float64]

MAX_LOSS = 600.0
"""Largest loss of one release that float64 can hold as a ratio."""


@dataclass(frozen=True)
class Cells:
    """One release's masses on lattice points first, first + 1, ..., and how often it runs.

    Args:
        first: The first lattice point; losses are multiples of the step.
        masses: Mass of each point.
        lost: Mass whose loss counts as infinite.
        count: Releases.
    """

    first: int
    masses: FloatVector
    lost: float
    count: int


@dataclass(frozen=True)
class Window:
    """The part of the composed losses that is kept, and the tilt under which it is computed.

    Args:
        tilt: Exponent by which masses are weighted before they are convolved.
        excess: Further exponent, for Chernoff's bound on what lies above.
        bottom: Smallest loss that is kept.
        top: Largest loss that is kept.
    """

    tilt: float
    excess: float
    bottom: float
    top: float


@dataclass(frozen=True)
class Composed:
    """Composed losses: masses at `losses`, and mass beyond them that counts as infinite."""

    losses: FloatVector
    masses: FloatVector
    lost: float

    def epsilon(self, step: float, delta: float) -> float:
        """The smallest epsilon >= 0 with lost + sum of mass (1 - exp(epsilon - loss))+ <= delta."""
        gain_S = -np.expm1(-step * np.arange(len(self.masses)))

        def delta_at(place: int) -> float:
            return self.lost + float(self.masses[place:] @ gain_S[: len(gain_S) - place])

        low, high = 0, len(self.masses) - 1
        if delta_at(high) > delta:
            return math.inf
        if delta_at(low) <= delta:
            return max(0.0, float(self.losses[0]))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if delta_at(middle) <= delta else (middle, high)
        # Between lattice points delta is linear in exp(epsilon).
        above, below = delta_at(low), delta_at(high)
        share = (above - delta) / (above - below)
        return max(0.0, float(self.losses[low]) + math.log1p(share * math.expm1(step)))


def discretise(
    sigma: float, q: float, count: int, bounds: tuple[float, float], step: float, *, removes: bool
) -> Cells:
    """One release on the lattice.

    What lies outside the bounds moves to the next larger point; above the last that is infinity.

    Args:
        sigma: Noise multiplier.
        q: Poisson sampling probability.
        count: Releases.
        bounds: Losses between which the lattice lies.
        step: Distance of lattice points.
        removes: Whether a unit is removed, else added.
    """
    last = math.ceil(bounds[1] / step)
    first = min(last - 1, math.floor(bounds[0] / step))
    loss_L = step * np.arange(first, last + 1, dtype=np.float64)
    u_L = _output(loss_L if removes else -loss_L, sigma, q) / sigma
    zero_C = _normal_cells(u_L)
    mixed_C = (1 - q) * zero_C + q * _normal_cells(u_L - 1 / sigma)
    one_C, other_C = (mixed_C, zero_C) if removes else (zero_C, mixed_C)
    mass_L = _connect(one_C[1:-1], other_C[1:-1], loss_L, step)
    mass_L[0] += one_C[0]
    return Cells(first=first, masses=mass_L, lost=float(one_C[-1]), count=count)


def compose(cells: Sequence[Cells], window: Window, step: float) -> Composed:
    """The losses of all releases together; what cannot be kept counts as infinite.

    Under the tilt almost all mass lies inside the window, and where delta is decided masses are
    of the order of one, so that they do not drown in the FFT's rounding.
    """
    bottom = math.floor(window.bottom / step)
    size = fft.next_fast_len(math.ceil(window.top / step) - bottom + 2, real=True)
    spectrum_F = np.ones(size // 2 + 1, dtype=np.complex128)
    cumulant = tail_cumulant = lost = 0.0
    for cell in cells:
        loss_L = step * np.arange(cell.first, cell.first + len(cell.masses), dtype=np.float64)
        tilted_L, log_total = _tilt(cell.masses, loss_L, window.tilt)
        _, log_tail = _tilt(cell.masses, loss_L, window.tilt + window.excess)
        cumulant += cell.count * log_total
        tail_cumulant += cell.count * log_tail
        lost += cell.count * cell.lost
        _multiply_power(spectrum_F, fft.rfft(_wrap(tilted_L, cell.first, size)), cell.count)
    # Losses above the window wrap round to its bottom, where they count for too little.
    top = step * (bottom + size)
    lost += math.exp(min(0.0, tail_cumulant - (window.tilt + window.excess) * top))
    loss_S = step * np.arange(bottom, bottom + size, dtype=np.float64)
    tilted_S = np.roll(fft.irfft(spectrum_F, size), -bottom)
    # Far below the window's centre the factor is huge and multiplies rounding errors only.
    untilt_S = np.exp(np.minimum(MAX_LOSS, cumulant - window.tilt * loss_S))
    return Composed(losses=loss_S, masses=np.maximum(0.0, tilted_S) * untilt_S, lost=lost)


def _output(loss_L: FloatVector, sigma: float, q: float) -> FloatVector:
    """The output x at which a release has a given loss; -inf below the smallest loss."""
    if q == 1:
        return sigma**2 * loss_L + 0.5
    with np.errstate(divide="ignore", over="ignore"):
        odds_L = np.maximum(0.0, (np.expm1(loss_L) + q) / q)
        return np.asarray(sigma**2 * np.log(odds_L) + 0.5)


def _normal_cells(u_L: FloatVector) -> FloatVector:
    """Standard normal mass before, between and after edges that rise or fall; L + 1 values."""
    rising = u_L[-1] >= u_L[0]
    edge_L = np.concatenate([[-np.inf], u_L, [np.inf]] if rising else [[np.inf], u_L, [-np.inf]])
    tail_L = special.ndtr(-np.abs(edge_L))
    same_side = np.signbit(edge_L[1:]) == np.signbit(edge_L[:-1])
    apart = np.abs(tail_L[1:] - tail_L[:-1])
    return np.asarray(np.where(same_side, apart, 1 - tail_L[1:] - tail_L[:-1]))


def _connect(
    first_C: FloatVector, second_C: FloatVector, loss_L: FloatVector, step: float
) -> FloatVector:
    """Move each cell's mass to its two edges, keeping it under both distributions."""
    upper_C = (first_C - second_C * np.exp(loss_L[:-1])) / -math.expm1(-step)
    upper_C = np.clip(upper_C, 0, first_C)
    mass_L = np.zeros_like(loss_L)
    mass_L[1:] = upper_C
    mass_L[:-1] += first_C - upper_C
    return mass_L


def _tilt(mass_L: FloatVector, loss_L: FloatVector, tilt: float) -> tuple[FloatVector, float]:
    with np.errstate(divide="ignore"):
        log_L = np.log(mass_L) + tilt * loss_L
    peak = float(log_L.max())
    tilted_L = np.exp(log_L - peak)
    total = float(tilted_L.sum())
    return tilted_L / total, peak + math.log(total)


def _wrap(mass_L: FloatVector, first: int, size: int) -> FloatVector:
    place_L = np.arange(first, first + len(mass_L)) % size
    return np.asarray(np.bincount(place_L, weights=mass_L, minlength=size), dtype=np.float64)


def _multiply_power(
    product_F: npt.NDArray[np.complex128], base_F: npt.NDArray[np.complex128], exponent: int
) -> None:
    """Multiply in place by a power, squaring the base in place too."""
    while exponent:
        if exponent & 1:
            product_F *= base_F
        exponent >>= 1
        if exponent:
            base_F *= base_F
