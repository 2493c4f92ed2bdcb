"""Epsilon of Poisson-sampled Gaussians together, by their privacy-loss distribution.

A unit is added to or removed from the data; each direction is one pair of distributions per
release, P = (1 - q) N(0, sigma^2) + q N(1, sigma^2) against Q = N(0, sigma^2), and one privacy
loss log(P / Q). Here a direction's lattice is chosen: fine enough for the error that is aimed at,
and around the losses that decide epsilon. privacy.lattice composes on it, pessimistically.

Source: Zhu, Dong, Wang 2022, Optimal accounting of differential privacy via characteristic
function (both directions).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from privacy.lattice import MAX_LOSS, FloatVector, Window, compose, discretise

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


@dataclass(frozen=True)
class _Mechanism:
    """One mechanism with its loss on a coarse grid of outputs x, to choose window and tilt by."""

    sigma: float
    q: float
    steps: int
    losses: FloatVector
    log_masses: FloatVector

    @classmethod
    def of(cls, sigma: float, q: float, steps: int, reach: float) -> _Mechanism:
        x_X = np.linspace(-reach * sigma, 1 + reach * sigma, 129)
        return cls(
            sigma=sigma,
            q=q,
            steps=steps,
            losses=_loss(x_X, sigma, q),
            log_masses=-(x_X**2) / (2 * sigma**2)
            + math.log((x_X[1] - x_X[0]) / sigma / math.sqrt(2 * math.pi)),
        )


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
    if any((0.5 + reach * sigma) / sigma / sigma > MAX_LOSS for sigma, _ in steps):
        return math.inf
    mechanisms = [
        # Less noise only makes a loss larger.
        _Mechanism.of(min(sigma, _MAX_SIGMA), q, count, reach)
        for (sigma, q), count in sorted(steps.items())
        if rare[sigma, q] > _NEGLIGIBLE * delta
    ]
    return max(_one_direction(mechanisms, delta, removes=removes) for removes in (True, False))


def _one_direction(mechanisms: Sequence[_Mechanism], delta: float, *, removes: bool) -> float:
    window, spread = _window(mechanisms, delta, removes=removes)
    bounds = [_bounds(mechanism, window, removes=removes) for mechanism in mechanisms]
    releases = sum(mechanism.steps for mechanism in mechanisms)
    step = _lattice_step(window, spread, releases, max(high for _, high in bounds))
    if step > _MAX_STEP:
        return math.inf
    cells = [
        discretise(mechanism.sigma, mechanism.q, mechanism.steps, bound, step, removes=removes)
        for mechanism, bound in zip(mechanisms, bounds, strict=True)
    ]
    return compose(cells, window, step).epsilon(step, delta)


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


def _window(
    mechanisms: Sequence[_Mechanism], delta: float, *, removes: bool
) -> tuple[Window, float]:
    """The tilt with the best Chernoff bound at delta, its range of losses, and their spread."""
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
    window = Window(
        tilt=tilt,
        excess=float(excess_T[np.argmin(tops_T)]),
        bottom=float(np.max(-(below_T + _OUTSIDE) / excess_T)),
        top=float(np.min(tops_T)),
    )
    return window, min(spread, plain_spread)


def _bounds(mechanism: _Mechanism, window: Window, *, removes: bool) -> tuple[float, float]:
    """The losses of one release between which all but a vanishing part of delta lies."""
    low, high = float(mechanism.losses[0]), float(mechanism.losses[-1])
    if not removes:
        low, high = -high, -low
    # A loss below the window's width cannot come back into the window.
    return max(low, window.bottom - window.top), high


def _lattice_step(window: Window, spread: float, releases: int, highest: float) -> float:
    """Step h such that the spreading of mass within cells costs little epsilon.

    A cell adds at most h^2 / 6 to the variance of a loss and half of that to its mean; at some
    five standard deviations n such losses move epsilon by n h^2 (1 / 12 + 0.4 / spread).
    """
    width = window.top - window.bottom
    aimed = math.sqrt(_ERROR / releases / (1 / 12 + 0.4 / spread))
    step = min(aimed, spread / math.sqrt(releases) / 4, width / _MIN_CELLS)
    return max(step, (width + highest) / _MAX_CELLS)
