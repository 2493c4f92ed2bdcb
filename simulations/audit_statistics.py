"""Exact tests for an audit: every p-value is one by construction, or larger."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import fft, special, stats

FloatVector = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]

SMALLEST_P = 1e-12
"""Below this an FFT's rounding speaks; it stands for every smaller p-value."""


def spread_p(squares: float, dof: int, *, least: float, most: float) -> float:
    """Two-sided p-value of a sum of squares of Gaussians whose variance lies in [least, most].

    >>> round(spread_p(100.0, 100, least=1.0, most=1.0), 2)
    0.96
    """
    low = float(stats.chi2.cdf(squares / least, dof))
    high = float(stats.chi2.sf(squares / most, dof))
    return min(1.0, 2 * min(low, high))


def resolution(dof: int, level: float, *, power: float = 0.999) -> float:
    """The largest part of the claimed noise that `spread_p` takes for too little, almost surely.

    Args:
        dof: Gaussians in the sum of squares.
        level: Level of the alarm.
        power: Chance with which it is raised.

    >>> round(resolution(1000, 1e-6), 2), round(resolution(5000, 1e-6), 2)
    (0.83, 0.92)
    """
    limit, reach = stats.chi2.ppf(level / 2, dof), stats.chi2.ppf(power, dof)
    return math.sqrt(float(limit) / float(reach))


def influence_p(
    total: float, *, units: int, rounds: int, rate: float, step: float, noise: float
) -> float:
    """Two-sided p-value of the sum of scores of canaries that are in the data.

    The sum is step * Binomial(units * rounds, rate) + N(0, units * noise^2); its tails are summed
    over the binomial's values, without an approximation.

    Args:
        total: The sum.
        units: Canaries in it.
        rounds: Rounds in which each may have been sampled.
        rate: Sampling probability.
        step: What one round adds to a score.
        noise: Standard deviation of the noise of one score.
    """
    if units == 0:
        return 1.0
    trials = units * rounds
    count_B = np.arange(trials + 1) if rate < 1 else np.array([trials])
    weight_B = stats.binom.pmf(count_B, trials, rate)
    z_B = (total - step * count_B) / (math.sqrt(units) * noise)
    low = float(weight_B @ special.ndtr(z_B))
    high = float(weight_B @ special.ndtr(-z_B))
    return min(1.0, 2 * min(low, high))


def total_p(masses: Sequence[tuple[FloatVector, int]], value: int) -> float:
    """Two-sided p-value of a sum of independent whole numbers >= 0, exactly.

    Args:
        masses: Distributions, each with how many of the summands have it.
        value: The sum.
    """
    size = 1 + sum((len(mass) - 1) * count for mass, count in masses)
    padded = fft.next_fast_len(size, real=True)
    spectrum = np.ones(padded // 2 + 1, dtype=np.complex128)
    for mass, count in masses:
        spectrum *= fft.rfft(mass, padded) ** count
    sum_S = np.maximum(0.0, fft.irfft(spectrum, padded)[:size])
    low, high = float(sum_S[: value + 1].sum()), float(sum_S[value:].sum())
    return min(1.0, max(SMALLEST_P, 2 * min(low, high)))


def spread_of_counts_p(counts: Sequence[tuple[IntVector, int]], rate: float) -> float:
    """Two-sided p-value of how far binomial counts spread, exactly.

    Whole epochs give counts that do not spread at all, one repeated batch gives counts that spread
    too far; the sum of squared distances from the expected count tells both.

    Args:
        counts: Groups of counts, each with its number of trials.
        rate: The trials' probability.
    """
    masses, value = [], 0
    for count_N, trials in counts:
        centre = round(trials * rate)
        # Counts beyond ten deviations weigh as much as those at ten, which keeps the table short.
        cap = math.ceil(100 * max(1.0, trials * rate * (1 - rate)))
        square_B = np.minimum((np.arange(trials + 1) - centre) ** 2, cap)
        chance_B = stats.binom.pmf(np.arange(trials + 1), trials, rate)
        mass = np.bincount(square_B, weights=chance_B).astype(np.float64)
        masses.append((mass, len(count_N)))
        value += int(np.minimum((count_N - centre) ** 2, cap).sum())
    return total_p(masses, value)


def repeat_p(noise_VP: FloatArray) -> tuple[float, float]:
    """Smallest p-value of any two noise vectors being independent, and their correlation.

    The cosine r of two independent Gaussian vectors has r^2 ~ Beta(1/2, (P - 1)/2); every pair
    counts (Bonferroni). A vector without noise repeats every other one.
    """
    vectors, length = noise_VP.shape
    norm_V = np.linalg.norm(noise_VP, axis=1)
    if not norm_V.all():
        return 0.0, 1.0
    unit_VP = noise_VP / norm_V[:, None]
    cosines = (unit_VP @ unit_VP.T)[np.triu_indices(vectors, k=1)]
    worst = float(np.abs(cosines).max())
    p = float(stats.beta.sf(min(1.0, worst**2), 0.5, (length - 1) / 2))
    return min(1.0, p * len(cosines)), worst
