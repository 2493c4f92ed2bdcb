"""Epsilon from outside: bounds from guesses of membership, and from noise that was measured.

The accountant is not asked: an audit that let the code under test judge its own noise would be told
that all is well.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from protocol.errors import InputError
from simulations.audit_statistics import FloatVector

_GUESSED = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Parts of the canaries that may be guessed."""


def one_run_p(epsilon: float, *, correct: int, guesses: int, canaries: int, delta: float) -> float:
    """p-value of an (epsilon, delta) claim, given how many guesses of membership were right.

    Args:
        epsilon: The claim's epsilon.
        correct: v, guesses that were right.
        guesses: r, guesses made; chosen before anything was looked at.
        canaries: m, canaries whose coins were flipped.
        delta: The claim's delta.

    Source: Steinke, Nasr, Jagielski 2023, Privacy Auditing with One (1) Training Run, Algorithm 1
    and Appendix D: P[v or more are right] <= P[W >= v] + 2 m delta max_i P[v > W >= v - i] / i,
    with W ~ Binomial(r, e^epsilon / (1 + e^epsilon)).

    >>> one_run_p(math.log(3), correct=10, guesses=10, canaries=10, delta=0.0) - 0.75**10 < 1e-15
    True
    """
    if not 0 <= correct <= guesses <= canaries:
        raise InputError("guesses", expected="0 <= correct <= guesses <= canaries")
    accuracy = float(special.expit(epsilon))
    above = float(stats.binom.sf(correct - 1, guesses, accuracy))
    i_V = np.arange(1, correct + 1)
    below_V = np.cumsum(stats.binom.pmf(correct - i_V, guesses, accuracy))
    alpha = float((below_V / i_V).max(initial=0.0))
    return min(1.0, above + 2 * canaries * delta * alpha)


def one_run_epsilon(
    *, correct: int, guesses: int, canaries: int, delta: float, level: float
) -> float:
    """The largest epsilon that the guesses refute at a level: a lower bound, 0 if there is none.

    >>> bound = one_run_epsilon(correct=100, guesses=100, canaries=100, delta=0.0, level=0.05)
    >>> round(bound, 3)  # 0.05 ** (1 / 100) as an accuracy
    3.493
    """

    def refuted(epsilon: float) -> bool:
        p = one_run_p(epsilon, correct=correct, guesses=guesses, canaries=canaries, delta=delta)
        return p < level

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high):
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def correct_guesses(scores_M: FloatVector, inside_M: npt.NDArray[np.bool_], guesses: int) -> int:
    """Right guesses when the highest scores are said to be in and the lowest out, half each."""
    order = np.argsort(scores_M, kind="stable")
    half = guesses // 2
    return int((~inside_M[order[:half]]).sum() + inside_M[order[len(order) - half :]].sum())


@lru_cache(maxsize=64)
def best_guesses(canaries: int, distance: float, delta: float) -> int:
    """How many guesses promise the best bound, from the claim alone.

    Args:
        canaries: m.
        distance: Claimed distance of the scores of those in from those out, in their deviations.
        delta: The claim's delta.

    Returns:
        Even r; it depends on nothing that was measured, so no correction is due.
    """
    best, chosen = -1.0, 2 * (canaries // 2)
    for part in _GUESSED:
        guesses = 2 * (int(part * canaries) // 2)
        if guesses < 2:
            continue
        right = int(guesses * _accuracy(guesses / 2 / canaries, distance))
        bound = one_run_epsilon(
            correct=right, guesses=guesses, canaries=canaries, delta=delta, level=0.05
        )
        if bound > best:
            best, chosen = bound, guesses
    return chosen


def _accuracy(part: float, distance: float) -> float:
    """Chance that one of the highest `part` of scores belongs to a canary that is in."""

    def tail(cut: float) -> float:
        return float(special.ndtr(-cut) + special.ndtr(distance - cut)) / 2

    cut = optimize.brentq(lambda x: tail(x) - part, -40.0, 40.0 + distance)
    return float(special.ndtr(distance - cut)) / 2 / part


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Delta of mu-Gaussian differential privacy.

    Source: Dong, Roth, Su 2022, Gaussian differential privacy, Corollary 2.13; written a second
    time, apart from privacy.accounting, so that an error there is seen here.

    >>> round(gaussian_delta(1.0, 1.0), 6)
    0.126937
    """
    left = float(special.ndtr(mu / 2 - epsilon / mu))
    return left - math.exp(epsilon + float(special.log_ndtr(-mu / 2 - epsilon / mu)))


def needed_sigma(epsilon: float, delta: float, steps: int) -> float:
    """Noise multiplier that full-batch steps need together for an (epsilon, delta) claim."""
    mu = optimize.brentq(lambda x: gaussian_delta(x, epsilon) - delta, 1e-9, 1e3, xtol=1e-12)
    return math.sqrt(steps) / float(mu)


def implied_epsilon(sigma: float, delta: float, steps: int) -> float:
    """Epsilon of full-batch steps with a noise multiplier; infinite without noise."""
    if sigma <= 0:
        return math.inf
    if math.isinf(sigma):
        return 0.0
    mu = math.sqrt(steps) / sigma
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    high = 1.0
    while gaussian_delta(mu, high) > delta:
        high *= 2
        if high > 500:
            return math.inf
    return float(optimize.brentq(lambda x: gaussian_delta(mu, x) - delta, 0.0, high, xtol=1e-10))
