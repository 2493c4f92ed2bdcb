"""Gaussian differential privacy in closed form: mu, epsilon and delta from each other.

Source: Balle, Wang 2018, Improving the Gaussian mechanism, Theorem 8; Dong, Roth, Su 2022,
Gaussian differential privacy, Corollary 2.13.
"""

from __future__ import annotations

import math

from scipy import special

from protocol.errors import InputError

_ROOT2 = math.sqrt(2)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The exact delta of a mu-Gaussian-DP mechanism at epsilon >= 0.

    >>> round(gaussian_delta(1.0, 1.0), 6)
    0.126937
    """
    if not mu >= 0 or not epsilon >= 0:
        raise InputError("privacy parameters", expected="mu >= 0 and epsilon >= 0")
    if mu == 0 or math.isinf(epsilon):
        return 0.0
    if math.isinf(mu):
        return 1.0
    return _delta_at(epsilon / mu - mu / 2, mu)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon >= 0 at which a mu-Gaussian-DP mechanism is (epsilon, delta)-DP.

    Bisects x = epsilon / mu - mu / 2, which stays near the normal quantile of delta for every mu,
    down to neighbouring floats and returns the upper one.

    >>> round(gaussian_epsilon(math.sqrt(50) / 26.4, 1e-5), 4)
    0.9991
    """
    check_delta(delta)
    if not mu >= 0:
        raise InputError("mu", expected="a number >= 0", found=str(mu))
    if math.isinf(mu):
        return math.inf
    low, high = -mu / 2, -float(special.ndtri(delta))
    if mu == 0 or _delta_at(low, mu) <= delta:
        return 0.0
    while low < (middle := (low + high) / 2) < high:
        low, high = (low, middle) if _delta_at(middle, mu) <= delta else (middle, high)
    return mu * (high + mu / 2)


def gaussian_mu(epsilon: float, delta: float) -> float:
    """The largest mu for which a mu-Gaussian-DP mechanism is (epsilon, delta)-DP.

    >>> round(gaussian_mu(1.0, 1e-5), 4)
    0.2681
    """
    check_target(epsilon, delta)
    low, high = 0.0, 1.0
    while gaussian_delta(high, epsilon) <= delta:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if gaussian_delta(middle, epsilon) <= delta else (low, middle)
    return low


def check_delta(delta: float) -> None:
    """Raise an InputError unless 0 < delta < 1."""
    if not 0 < delta < 1:
        raise InputError("delta", expected="0 < delta < 1", found=str(delta))


def check_target(epsilon_target: float, delta: float) -> None:
    """Raise an InputError unless epsilon and delta can be a target."""
    check_delta(delta)
    if not 0 < epsilon_target < math.inf:
        raise InputError("epsilon", expected="a finite number > 0", found=str(epsilon_target))


def _delta_at(x: float, mu: float) -> float:
    # Phi(-x) - exp(epsilon) * Phi(-x - mu), without the two large numbers that cancel.
    rest = float(special.erfcx((x + mu) / _ROOT2))
    tail = math.exp(-x * x / 2) / 2
    if x > 0:
        return max(0.0, tail * (float(special.erfcx(x / _ROOT2)) - rest))
    return max(0.0, float(special.ndtr(-x)) - tail * rest)
