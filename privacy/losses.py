"""The privacy-loss distribution of Poisson-sampled Gaussians, composed by FFT.

A unit is added to or removed from the data; each direction is one pair of distributions per
release, P = (1 - q) N(0, sigma^2) + q N(1, sigma^2) against Q = N(0, sigma^2), and one privacy
loss log(P / Q). Losses are put on a lattice so that each cell keeps its mass under P and under Q
(connect the dots): the result dominates the true pair, and its error is of second order in the
lattice's step. Before the convolution the distribution is tilted exponentially towards the losses
that decide epsilon, so that small deltas do not drown in the FFT's rounding.

Source: Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022, Connect the dots; Koskela, Jälkö,
Honkela 2020, Computing tight differential privacy guarantees using FFT; Zhu, Dong, Wang 2022,
Optimal accounting of differential privacy via characteristic function (both directions).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, special

FloatVector = npt.NDArray[np.float64]

_ERROR = 2e-4
"""Error of epsilon at which the lattice's step aims."""
_OUTSIDE = math.log(1e9)
"""Log of the inverse probability, after tilting, of what falls outside the FFT's window."""
_MAX_CELLS = 2**20
_MAX_LOSS = 600.0
"""Largest loss of one release that float64 can hold as a ratio."""


@dataclass(frozen=True)
class _Mechanism:
    """One mechanism with its loss on a coarse grid of outputs x, to choose window and tilt by."""

    sigma: float
    q: float
    steps: int
    reach: float
    losses: FloatVector
    log_masses: FloatVector

    @classmethod
    def of(cls, sigma: float, q: float, steps: int, reach: float) -> _Mechanism:
        x_X = np.linspace(-reach * sigma, 1 + reach * sigma, 129)
        return cls(
            sigma=sigma,
            q=q,
            steps=steps,
            reach=reach,
            losses=_loss(x_X, sigma, q),
            log_masses=-(x_X**2) / (2 * sigma**2)
            + math.log((x_X[1] - x_X[0]) / sigma / math.sqrt(2 * math.pi)),
        )


@dataclass(frozen=True)
class _Window:
    """Where a composed loss lies once it is tilted."""

    removes: bool
    tilt: float
    excess: float
    bottom: float
    top: float
    spread: float


@dataclass(frozen=True)
class _Cells:
    """Masses of one release on lattice points first, first + 1, ...; `lost` went to infinity."""

    first: int
    masses: FloatVector
    lost: float


def epsilon(steps: Mapping[tuple[float, float], int], delta: float) -> float:
    """Pessimistic epsilon of mechanisms {(sigma, q): steps} under add/remove of one unit.

    Returns:
        Epsilon >= 0; infinite where one release's loss is beyond what float64 can tell apart.
    """
    if sum(q * count for (_, q), count in steps.items()) <= delta:
        # The unit is in no batch at all, but for a probability of delta.
        return 0.0
    reach = math.sqrt(2 * math.log(1 / delta)) + 4
    if any(_loss_at(1 + reach * sigma, sigma) > _MAX_LOSS for sigma, _ in steps):
        return math.inf
    mechanisms = [
        _Mechanism.of(sigma, q, count, reach) for (sigma, q), count in sorted(steps.items())
    ]
    windows = [_window(mechanisms, delta, removes=removes) for removes in (True, False)]
    step = _lattice_step(mechanisms, windows)
    cells = [_discretise(mechanism, step) for mechanism in mechanisms]
    counts = [mechanism.steps for mechanism in mechanisms]
    return max(
        _epsilon_of([pair[side] for pair in cells], counts, window, step, delta)
        for side, window in enumerate(windows)
    )


def _loss_at(x: float, sigma: float) -> float:
    return (x - 0.5) / sigma / sigma


def _loss(x_X: FloatVector, sigma: float, q: float) -> FloatVector:
    exponent_X = (x_X - 0.5) / sigma**2
    if q == 1:
        return exponent_X
    return np.asarray(np.log1p(q * np.expm1(exponent_X)))


def _cumulants(
    mechanisms: Sequence[_Mechanism], tilts_T: FloatVector, *, removes: bool
) -> FloatVector:
    """Logarithm of E[exp(tilt * loss)] of the whole composition, for several tilts at once."""
    total_T = np.zeros_like(tilts_T)
    for mechanism in mechanisms:
        powers_T = tilts_T + 1 if removes else -tilts_T
        log_TX = mechanism.log_masses + powers_T[:, None] * mechanism.losses
        peak_T = log_TX.max(axis=1)
        total_T += mechanism.steps * (peak_T + np.log(np.exp(log_TX - peak_T[:, None]).sum(axis=1)))
    return total_T


def _spread(mechanisms: Sequence[_Mechanism], tilt: float, *, removes: bool) -> float:
    """Standard deviation of the tilted composed loss."""
    variance = 0.0
    for mechanism in mechanisms:
        log_X = mechanism.log_masses + (tilt + 1 if removes else -tilt) * mechanism.losses
        weight_X = np.exp(log_X - log_X.max())
        weight_X /= weight_X.sum()
        mean = weight_X @ mechanism.losses
        variance += mechanism.steps * float(weight_X @ (mechanism.losses - mean) ** 2)
    return math.sqrt(variance)


def _window(mechanisms: Sequence[_Mechanism], delta: float, *, removes: bool) -> _Window:
    """Tilt that gives the best Chernoff bound at delta, and the range of losses under it."""
    tilts_T: FloatVector = 4.0 ** np.arange(-10.0, 25.0)
    for _ in range(2):
        cumulants_T = _cumulants(mechanisms, tilts_T, removes=removes)
        tilt = float(tilts_T[np.argmin((cumulants_T - math.log(delta)) / tilts_T)])
        tilts_T = tilt * 4.0 ** np.linspace(-1, 1, 25)
    spread = _spread(mechanisms, tilt, removes=removes)
    excess_T = math.sqrt(2 * _OUTSIDE) / spread * 2.0 ** np.linspace(-5, 3, 25)
    centre = _cumulants(mechanisms, np.array([tilt]), removes=removes)
    above_T = _cumulants(mechanisms, tilt + excess_T, removes=removes) - centre
    below_T = _cumulants(mechanisms, tilt - excess_T, removes=removes) - centre
    tops_T = (above_T + _OUTSIDE) / excess_T
    return _Window(
        removes=removes,
        tilt=tilt,
        excess=float(excess_T[np.argmin(tops_T)]),
        bottom=float(np.max(-(below_T + _OUTSIDE) / excess_T)),
        top=float(np.min(tops_T)),
        spread=spread,
    )


def _lattice_step(mechanisms: Sequence[_Mechanism], windows: Sequence[_Window]) -> float:
    """Step h such that the spreading of mass within cells costs little epsilon.

    A cell adds at most h^2 / 6 to the variance of a loss and half of that to its mean; at some
    five standard deviations n such losses move epsilon by n h^2 (1 / 12 + 0.4 / spread).
    """
    releases = sum(mechanism.steps for mechanism in mechanisms)
    spread = min(window.spread for window in windows)
    step = math.sqrt(_ERROR / releases / (1 / 12 + 0.4 / spread))
    widths = [window.top - window.bottom for window in windows]
    widths += [float(mechanism.losses[-1] - mechanism.losses[0]) for mechanism in mechanisms]
    return max(step, max(widths) / _MAX_CELLS, 1e-9)


def _discretise(mechanism: _Mechanism, step: float) -> tuple[_Cells, _Cells]:
    """One release on the lattice, for removing and for adding a unit."""
    first = math.floor(mechanism.losses[0] / step)
    if mechanism.q < 1:
        first = math.floor(math.log1p(-mechanism.q) / step)
    last = max(first + 1, math.ceil(mechanism.losses[-1] / step))
    loss_L = step * np.arange(first, last + 1, dtype=np.float64)
    x_L = _output(loss_L, mechanism.sigma, mechanism.q)
    zero_C, low_zero, high_zero = _normal_cells(x_L / mechanism.sigma)
    one_C, low_one, high_one = _normal_cells((x_L - 1) / mechanism.sigma)
    mixed_C = (1 - mechanism.q) * zero_C + mechanism.q * one_C
    low_mixed = (1 - mechanism.q) * low_zero + mechanism.q * low_one
    high_mixed = (1 - mechanism.q) * high_zero + mechanism.q * high_one
    removed_L = _connect(mixed_C, zero_C, loss_L, step)
    added_L = _connect(zero_C[::-1], mixed_C[::-1], -loss_L[::-1], step)
    # What lies outside moves to the next larger lattice point: on one side that is infinity.
    removed_L[0] += low_mixed
    added_L[0] += high_zero
    return (
        _Cells(first=first, masses=removed_L, lost=high_mixed),
        _Cells(first=-last, masses=added_L, lost=low_zero),
    )


def _output(loss_L: FloatVector, sigma: float, q: float) -> FloatVector:
    """The output x at which a release has a given loss; -inf below the smallest loss."""
    if q == 1:
        return sigma**2 * loss_L + 0.5
    odds_L = np.maximum(0.0, (np.expm1(loss_L) + q) / q)
    with np.errstate(divide="ignore"):
        return np.asarray(sigma**2 * np.log(odds_L) + 0.5)


def _normal_cells(u_L: FloatVector) -> tuple[FloatVector, float, float]:
    """Standard normal mass between edges, below the first and above the last."""
    tail_L = special.ndtr(-np.abs(u_L))
    same_side = np.signbit(u_L[1:]) == np.signbit(u_L[:-1])
    between_C = np.where(same_side, np.abs(tail_L[1:] - tail_L[:-1]), 1 - tail_L[1:] - tail_L[:-1])
    return between_C, float(special.ndtr(u_L[0])), float(special.ndtr(-u_L[-1]))


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


def _epsilon_of(
    cells: Sequence[_Cells], counts: Sequence[int], window: _Window, step: float, delta: float
) -> float:
    bottom = math.floor(window.bottom / step)
    size = fft.next_fast_len(math.ceil(window.top / step) - bottom + 2, real=True)
    spectrum_F = np.ones(size // 2 + 1, dtype=np.complex128)
    cumulant = tail_cumulant = lost = 0.0
    for cell, count in zip(cells, counts, strict=True):
        loss_L = step * np.arange(cell.first, cell.first + len(cell.masses), dtype=np.float64)
        tilted_L, log_total = _tilt(cell.masses, loss_L, window.tilt)
        _, log_tail = _tilt(cell.masses, loss_L, window.tilt + window.excess)
        cumulant += count * log_total
        tail_cumulant += count * log_tail
        lost += count * cell.lost
        spectrum_F *= _power(fft.rfft(_wrap(tilted_L, cell.first, size)), count)
    # Losses above the window wrap round to its bottom, where they count for too little.
    top = step * (bottom + size)
    lost += math.exp(min(0.0, tail_cumulant - (window.tilt + window.excess) * top))
    loss_S = step * np.arange(bottom, bottom + size, dtype=np.float64)
    tilted_S = np.roll(fft.irfft(spectrum_F, size), -bottom)
    with np.errstate(over="ignore"):
        mass_S = np.maximum(0.0, tilted_S) * np.exp(cumulant - window.tilt * loss_S)
    return _solve(mass_S, loss_S, lost, step, delta)


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


def _power(base_F: npt.NDArray[np.complex128], exponent: int) -> npt.NDArray[np.complex128]:
    result_F = np.ones_like(base_F)
    while exponent:
        if exponent & 1:
            result_F *= base_F
        base_F = base_F * base_F
        exponent >>= 1
    return result_F


def _solve(
    mass_S: FloatVector, loss_S: FloatVector, lost: float, step: float, delta: float
) -> float:
    """The smallest epsilon >= 0 with lost + sum of mass * (1 - exp(epsilon - loss))+ <= delta."""
    gain_S = -np.expm1(-step * np.arange(len(mass_S)))

    def delta_at(place: int) -> float:
        return lost + float(mass_S[place:] @ gain_S[: len(mass_S) - place])

    low, high = 0, len(mass_S) - 1
    if delta_at(high) > delta:
        return math.inf
    if delta_at(low) <= delta:
        return max(0.0, float(loss_S[0]))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if delta_at(middle) <= delta else (middle, high)
    # Between lattice points delta is linear in exp(epsilon).
    above, below = delta_at(low), delta_at(high)
    share = (above - delta) / (above - below)
    return max(0.0, float(loss_S[low]) + math.log1p(share * math.expm1(step)))
