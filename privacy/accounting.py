"""What repeated Gaussian releases cost together: epsilon at a delta, and the noise for a target.

Full batches (q = 1) are Gaussian differential privacy in closed form. Poisson-sampled batches are
composed through their privacy-loss distribution inside one plan (privacy.losses), and through
Rényi differential privacy where releases are admitted one after the other. The relation is
add/remove one unit throughout, and every result is an upper bound.

Source: Dong, Roth, Su 2022, Gaussian differential privacy, Section 2.3 (composition).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from privacy import losses
from privacy.gaussian import (
    check_delta,
    check_target,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_mu,
)
from protocol.errors import InputError

__all__ = [
    "ORDERS",
    "SLACK",
    "Event",
    "calibrate",
    "epsilon",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_mu",
    "mu_of",
    "rdp_epsilon",
]

SLACK = 0.99
"""The part of delta at which releases are accounted.

The rest pays for stochastic rounding that exceeds the stated sensitivity and for noise that lives
on a grid, where the sum of discrete Gaussians is not exactly one.
"""

ORDERS = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 128.0, 256.0, 512.0)
"""Orders of the Rényi filter: fixed, so that no release can influence them."""

_MAX_STEPS = 10**9
_SIGMA_PRECISION = 1e-4


@dataclass(frozen=True)
class Event:
    """One Gaussian mechanism and how often it runs.

    Args:
        sigma: Noise multiplier, standard deviation over L2 sensitivity; 0 is no noise.
        q: Poisson sampling probability of a unit; 1 is full batch.
        steps: Releases.

    Raises:
        InputError: A number lies outside its range.
    """

    sigma: float
    q: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < math.inf:
            raise InputError("event.sigma", expected="a finite number >= 0", found=str(self.sigma))
        if not 0 < self.q <= 1:
            raise InputError("event.q", expected="0 < q <= 1", found=str(self.q))
        if not 0 <= self.steps <= _MAX_STEPS:
            raise InputError("event.steps", expected="0 to 10^9", found=str(self.steps))


def mu_of(events: Iterable[Event]) -> float:
    """Gaussian-DP parameter of full-batch events together, mu^2 = sum of steps / sigma^2.

    >>> mu_of([Event(3.0, 1.0, 9), Event(4.0, 1.0, 48)])
    2.0

    Raises:
        InputError: An event is sub-sampled; it has no exact mu.
    """
    squares = 0.0
    for event in events:
        if event.q != 1:
            raise InputError("Gaussian DP of a sub-sampled event", expected="q = 1")
        squares += _mu_squared(event.sigma, event.steps)
    return math.sqrt(squares)


def epsilon(events: Iterable[Event], delta: float) -> float:
    """Epsilon of events whose parameters were all fixed before the first release.

    Exact for full batches; otherwise a pessimistic privacy-loss distribution, in both directions
    of adding or removing a unit. No filter for parameters that are chosen adaptively once an event
    is sub-sampled: `rdp_epsilon` is.

    Args:
        events: Mechanisms in any order.
        delta: The delta at which epsilon is wanted.

    Returns:
        Epsilon; 0 for no release, infinite for a release without noise.

    >>> epsilon([Event(30.0, 1.0, 464)], 1e-5) <= 3 < epsilon([Event(30.0, 1.0, 466)], 1e-5)
    True
    """
    check_delta(delta)
    steps = _merge(events)
    # Dropping the sampling only makes a pair of outputs easier to tell apart.
    bound = gaussian_epsilon(
        math.sqrt(sum(_mu_squared(sigma, count) for (sigma, _), count in steps.items())), delta
    )
    sampled = {key: count for key, count in steps.items() if key[1] < 1}
    if not sampled or bound == 0 or any(sigma == 0 for sigma, _ in steps):
        return bound
    full = math.sqrt(sum(_mu_squared(s, count) for (s, q), count in steps.items() if q == 1))
    if full > 0:
        sampled[1 / full, 1.0] = 1
    tight = losses.epsilon(sampled, delta)
    # Where losses outgrow the lattice Rényi's bound is close: epsilon is in the hundreds there.
    return min(bound, _best_order(steps, delta, ORDERS) if math.isinf(tight) else tight)


def rdp_epsilon(events: Iterable[Event], delta: float, *, cap: float | None = None) -> float:
    """Epsilon by Rényi differential privacy at fixed orders: valid for adaptive choices.

    Which order is the last one to keep a bound may depend on what was released. Without `cap` every
    order therefore pays for an equal part of delta. With `cap` the one order is used that suits
    Gaussian noise at that cap best; it is known beforehand, so the whole delta is its own, and the
    result may be compared with this cap only.

    Args:
        events: Mechanisms in any order.
        delta: The delta at which epsilon is wanted.
        cap: The epsilon with which the result will be compared.

    Source: Feldman, Zrnic 2021, Individual privacy accounting via a Rényi filter, Theorem 4.3;
    Canonne, Kamath, Steinke 2020, Proposition 12 (conversion).
    """
    check_delta(delta)
    steps = _merge(events)
    if not steps:
        return 0.0
    if cap is None:
        return _best_order(steps, delta / len(ORDERS), ORDERS)
    return _best_order(steps, delta, (_filter_order(cap, delta),))


def calibrate(epsilon_target: float, delta: float, steps: int, q: float) -> float:
    """The smallest noise multiplier, rounded up, whose releases stay within a target.

    Args:
        epsilon_target: Epsilon of all releases together.
        delta: Delta of all releases together.
        steps: Releases.
        q: Poisson sampling probability of a unit; 1 is full batch.

    Returns:
        sigma with `epsilon([Event(sigma, q, steps)], delta) <= epsilon_target`; exact for q = 1,
        at most 0.01 % too large for q < 1.

    Raises:
        InputError: A number lies outside its range.
    """
    check_target(epsilon_target, delta)
    if steps < 1:
        raise InputError("steps", expected="an integer >= 1", found=str(steps))
    high = math.sqrt(steps) / gaussian_mu(epsilon_target, delta)
    while epsilon([Event(high, 1.0, steps)], delta) > epsilon_target:
        high *= 1 + 2**-50
    if q == 1:
        return high
    low = high / 2
    while epsilon([Event(low, q, steps)], delta) <= epsilon_target:
        low, high = low / 2, low
    while high > low * (1 + _SIGMA_PRECISION):
        middle = math.sqrt(low * high)
        if epsilon([Event(middle, q, steps)], delta) <= epsilon_target:
            high = middle
        else:
            low = middle
    return high


def _mu_squared(sigma: float, steps: int) -> float:
    if sigma == 0:
        return math.inf if steps else 0.0
    return steps / sigma / sigma


def _merge(events: Iterable[Event]) -> Counter[tuple[float, float]]:
    steps: Counter[tuple[float, float]] = Counter()
    for event in events:
        if event.steps:
            steps[event.sigma, event.q] += event.steps
    return steps


def _best_order(
    steps: Mapping[tuple[float, float], int], delta: float, orders: Sequence[float]
) -> float:
    best = min(
        sum(count * _rdp(sigma, q, order) for (sigma, q), count in steps.items())
        + _conversion(order, delta)
        for order in orders
    )
    return max(0.0, best)


@lru_cache(maxsize=8192)
def _rdp(sigma: float, q: float, order: float) -> float:
    """Rényi divergence of one release; Mironov, Talwar, Zhang 2019, Section 3.3."""
    rate = _mu_squared(sigma, 1) / 2
    if q == 1 or math.isinf(rate):
        return order * rate
    # Between integers the divergence is at most that of the next one: it grows with the order.
    top = math.ceil(order)
    k = np.arange(top + 1.0)
    log_terms = (
        special.gammaln(top + 1) - special.gammaln(k + 1) - special.gammaln(top - k + 1)
    ) + ((top - k) * math.log1p(-q) + k * math.log(q) + k * (k - 1) * rate)
    return max(0.0, float(special.logsumexp(log_terms))) / (top - 1)


def _conversion(order: float, delta: float) -> float:
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


def _filter_order(cap: float, delta: float) -> float:
    if not cap > 0:
        raise InputError("cap", expected="a number > 0", found=str(cap))
    return max(ORDERS, key=lambda order: (cap - _conversion(order, delta)) / order)
