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

_ERROR = 3e-4
"""Error of epsilon at which the lattice's step aims."""
_OUTSIDE = math.log(1e9)
"""Log of the inverse probability, after tilting, of what falls outside the FFT's window."""
_MIN_CELLS, _MAX_CELLS = 2**13, 2**20
_MAX_SIGMA = 1e6
_NEGLIGIBLE = 1e-12
"""Part of delta at which the chance to be sampled at all is simply paid."""
_MAX_STEP = 0.5
"""Coarsest lattice that is worth its cost."""
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
        Epsilon >= 0; infinite where losses are beyond what float64 or the lattice can hold.
    """
    rare = {key: key[1] * count for key, count in steps.items()}
    if sum(rare.values()) <= delta:
        # The unit is in no batch at all, but for a probability of delta.
        return 0.0
    delta -= sum(chance for chance in rare.values() if chance <= _NEGLIGIBLE * delta)
    reach = math.sqrt(2 * math.log(sum(steps.values()) / delta)) + 4
    if any((0.5 + reach * sigma) / sigma / sigma > _MAX_LOSS for sigma, _ in steps):
        return math.inf
    mechanisms = [
        # Less noise only makes a loss larger.
        _Mechanism.of(min(sigma, _MAX_SIGMA), q, count, reach)
        for (sigma, q), count in sorted(steps.items())
        if rare[sigma, q] > _NEGLIGIBLE * delta
    ]
    return max(_one_direction(mechanisms, delta, removes=removes) for removes in (True, False))


def _one_direction(mechanisms: Sequence[_Mechanism], delta: float, *, removes: bool) -> float:
    window = _window(mechanisms, delta, removes=removes)
    step = _lattice_step(mechanisms, window)
    if step > _MAX_STEP:
        return math.inf
    cells = [_discretise(mechanism, window, step) for mechanism in mechanisms]
    counts = [mechanism.steps for mechanism in mechanisms]
    return _epsilon_of(cells, counts, window, step, delta)


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
    """Standard deviation of the tilted composed loss, as far as the lattice can resolve it."""
    variance = (max(np.abs(mechanism.losses).max() for mechanism in mechanisms) / _MAX_CELLS) ** 2
    for mechanism in mechanisms:
        log_X = mechanism.log_masses + (tilt + 1 if removes else -tilt) * mechanism.losses
        weight_X = np.exp(log_X - log_X.max())
        weight_X /= weight_X.sum()
        mean = weight_X @ mechanism.losses
        variance += mechanism.steps * float(weight_X @ (mechanism.losses - mean) ** 2)
    return math.sqrt(variance)


def _window(mechanisms: Sequence[_Mechanism], delta: float, *, removes: bool) -> _Window:
    """Tilt that gives the best Chernoff bound at delta, and the range of losses under it."""
    plain_spread = _spread(mechanisms, 0.0, removes=removes)
    # A larger tilt than a normal loss would need gains nothing and outgrows the lattice.
    largest = 2 * math.sqrt(-2 * math.log(delta)) / plain_spread
    tilts_T: FloatVector = largest * 4.0 ** np.arange(-25.0, 1.0)
    for _ in range(2):
        cumulants_T = _cumulants(mechanisms, tilts_T, removes=removes)
        tilt = float(tilts_T[np.argmin((cumulants_T - math.log(delta)) / tilts_T)])
        tilts_T = np.minimum(largest, tilt * 4.0 ** np.linspace(-1, 1, 25))
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
        spread=min(spread, plain_spread),
    )


def _lattice_step(mechanisms: Sequence[_Mechanism], window: _Window) -> float:
    """Step h such that the spreading of mass within cells costs little epsilon.

    A cell adds at most h^2 / 6 to the variance of a loss and half of that to its mean; at some
    five standard deviations n such losses move epsilon by n h^2 (1 / 12 + 0.4 / spread).
    """
    releases = sum(mechanism.steps for mechanism in mechanisms)
    step = math.sqrt(_ERROR / releases / (1 / 12 + 0.4 / window.spread))
    width = window.top - window.bottom
    step = min(step, window.spread / math.sqrt(releases) / 4, width / _MIN_CELLS)
    highest = max(_range(mechanism, window)[1] for mechanism in mechanisms)
    return max(step, (width + highest) / _MAX_CELLS)


def _range(mechanism: _Mechanism, window: _Window) -> tuple[float, float]:
    """The losses of one release between which all but a vanishing part of delta lies."""
    low, high = float(mechanism.losses[0]), float(mechanism.losses[-1])
    return (low, high) if window.removes else (-high, -low)


def _discretise(mechanism: _Mechanism, window: _Window, step: float) -> _Cells:
    """One release on the lattice.

    What lies outside moves to the next larger lattice point; above the highest that is infinity.
    """
    low, high = _range(mechanism, window)
    last = math.ceil(high / step)
    # A loss below the window's width cannot come back into the window.
    first = min(last - 1, math.floor(max(low, window.bottom - window.top) / step))
    loss_L = step * np.arange(first, last + 1, dtype=np.float64)
    sign = 1 if window.removes else -1
    u_L = _output(sign * loss_L, mechanism.sigma, mechanism.q) / mechanism.sigma
    zero_C = _normal_cells(u_L)
    one_C = _normal_cells(u_L - 1 / mechanism.sigma)
    mixed_C = (1 - mechanism.q) * zero_C + mechanism.q * one_C
    masses = (mixed_C, zero_C) if window.removes else (zero_C, mixed_C)
    mass_L = _connect(masses[0][1:-1], masses[1][1:-1], loss_L, step)
    mass_L[0] += masses[0][0]
    return _Cells(first=first, masses=mass_L, lost=float(masses[0][-1]))


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
        _multiply_power(spectrum_F, fft.rfft(_wrap(tilted_L, cell.first, size)), count)
    # Losses above the window wrap round to its bottom, where they count for too little.
    top = step * (bottom + size)
    lost += math.exp(min(0.0, tail_cumulant - (window.tilt + window.excess) * top))
    loss_S = step * np.arange(bottom, bottom + size, dtype=np.float64)
    tilted_S = np.roll(fft.irfft(spectrum_F, size), -bottom)
    # Far below the window's centre the factor is huge and multiplies rounding errors only.
    untilt_S = np.exp(np.minimum(_MAX_LOSS, cumulant - window.tilt * loss_S))
    mass_S = np.maximum(0.0, tilted_S) * untilt_S
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
