"""From real-valued sums to integers on a public grid, and back.

Noise on integers has an exact distribution, so floating point has no place left to leak through.
What rounding adds to the sensitivity is part of the account.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from privacy.noise import Entropy, FloatVector, IntVector, discrete_gaussian, stochastic_round
from protocol.errors import InputError
from protocol.jobs import Release

MIN_SHARE = 32.0
"""Smallest standard deviation of one site's noise, in grid units.

Above it the discrete Gaussian's delta is within 0.25 % of the continuous formula's.
"""
MAX_MAGNITUDE = 2.0**50
"""Largest coordinate in grid units; float64 still holds it with a fraction."""

_ROUNDING_COST = 1.001
_EXPONENTS = range(-60, 61)


def sensitivity(scale: float, clip: float, length: int, beta: float) -> float:
    """L2 sensitivity in grid units of a sum that is stochastically rounded once.

    Args:
        scale: Grid units per unit of the contribution.
        clip: L2 bound of one unit's contribution.
        length: Coordinates.
        beta: Probability over the rounding coins with which the result is exceeded.

    Guarantee: With probability 1 - beta over coins that do not depend on data, adding or removing
    one unit moves the rounded sum by at most the result.

    >>> round(sensitivity(1024.0, 1.0, 1, 1e-9), 2)
    1027.22

    Source: Kairouz, Liu, Steinke 2021, The distributed discrete Gaussian mechanism, Theorem 1,
    for rounding without a condition on the result.
    """
    if not (scale > 0 and clip > 0 and length >= 1 and 0 < beta < 1):
        raise InputError(
            "sensitivity", expected="scale > 0, clip > 0, length >= 1 and 0 < beta < 1"
        )
    moved = scale * clip
    spread = math.sqrt(2 * math.log(1 / beta)) * (moved + math.sqrt(length) / 2)
    return math.sqrt(moved**2 + length / 4 + spread)


def choose_scale(*, clip: float, length: int, beta: float, own_multiplier: float) -> float:
    """The smallest power of two at which rounding is cheap and one site's noise is wide.

    Args:
        clip: L2 bound of one unit's contribution.
        length: Coordinates.
        beta: Probability with which rounding may exceed the sensitivity.
        own_multiplier: Smallest standard deviation of one site's noise over the sensitivity; 0
            where there is no noise.

    Returns:
        s with sensitivity <= 1.001 s clip and own_multiplier * sensitivity >= 32.
    """
    for exponent in _EXPONENTS:
        scale = 2.0**exponent
        bound = sensitivity(scale, clip, length, beta)
        wide = own_multiplier == 0 or own_multiplier * bound >= MIN_SHARE
        if wide and bound <= _ROUNDING_COST * scale * clip:
            return scale
    raise InputError(
        "no grid suits these numbers",
        expected="a clip between 2^-30 and 2^30 and noise that is not almost zero",
        remedy="scale the features, or ask for a smaller epsilon",
    )


def release(sum_P: FloatVector, release: Release, share: float, entropy: Entropy) -> IntVector:
    """Turn one site's clipped sum into the integers that leave it.

    Clamps each coordinate to the public bound, goes to the grid, rounds stochastically and adds
    the site's share of discrete Gaussian noise.

    Args:
        sum_P: Sum over units of contributions with L2 norm at most `release.clip`.
        release: The job's numbers.
        share: Standard deviation of this site's noise in grid units; 0 only in mode `none`.
        entropy: Where coins and noise come from.

    Guarantee: The noise has standard deviation `share` exactly, and adding or removing one unit
    moves what it is added to by at most `release.sensitivity` (L2), but for probability
    `release.beta`. Clamping and rounding coins do not depend on the other units.

    Raises:
        InputError: The sum has another length or is not finite; no value is named.
    """
    if sum_P.shape != (release.length,):
        raise InputError("contribution", expected=f"{release.length} coordinates")
    if not np.all(np.isfinite(sum_P)):
        raise InputError("contribution", expected="finite coordinates")
    clamped_P = np.clip(sum_P, -release.bound, release.bound)
    rounded_P = stochastic_round(clamped_P * release.scale, entropy)
    if share == 0:
        return rounded_P
    return rounded_P + discrete_gaussian(share, release.length, entropy)


@dataclass(frozen=True)
class Quantiser:
    """Digits of a fixed width for updates that need no further noise (modes `local`, `none`).

    Args:
        bits: Width of a site's digits, sign included.
        bound: Largest magnitude of a coordinate; larger ones are clamped.

    Raises:
        InputError: A number lies outside its range.

    >>> Quantiser(bits=8, bound=2.0).levels
    127
    """

    bits: int
    bound: float

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 32:
            raise InputError("digit_bits", expected="2 to 32", found=str(self.bits))
        if not 0 < self.bound < math.inf:
            raise InputError("bound", expected="a finite number > 0", found=str(self.bound))

    @property
    def levels(self) -> int:
        """Largest magnitude of a digit."""
        return (1 << (self.bits - 1)) - 1

    def to_digits(self, update_P: FloatVector, factor: float, entropy: Entropy) -> IntVector:
        """Digits of one site's update times its folded weight, rounded without bias.

        Args:
            update_P: Finite update.
            factor: The site's weight in the sum, 0 <= factor <= 1.
            entropy: Where the rounding coins come from.

        Raises:
            InputError: The weight is out of range or the update is not finite.
        """
        if not 0 <= factor <= 1:
            raise InputError("weight of a site", expected="0 to 1", found=str(factor))
        if not np.all(np.isfinite(update_P)):
            raise InputError("update", expected="finite coordinates")
        clamped_P = np.clip(update_P / self.bound, -1, 1)
        return stochastic_round(clamped_P * (self.levels * factor), entropy)

    def from_digits(self, sum_P: IntVector) -> FloatVector:
        """The sum of weighted updates that a sum of digits stands for."""
        return np.asarray(sum_P * (self.bound / self.levels), dtype=np.float64)
