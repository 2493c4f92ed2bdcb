"""Bounds on epsilon, against enumeration, simulated mechanisms and the accountant."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from privacy.accounting import Event
from privacy.accounting import epsilon as accounted
from protocol.errors import InputError
from simulations.audit_bounds import (
    best_guesses,
    correct_guesses,
    gaussian_delta,
    implied_epsilon,
    needed_sigma,
    one_run_epsilon,
    one_run_p,
)


def theorem(odds: int, correct: int, guesses: int, canaries: int, delta: Fraction) -> Fraction:
    """The theorem's bound in exact numbers, for epsilon = log(odds)."""
    right = Fraction(odds, odds + 1)

    def chance(value: int) -> Fraction:
        if value < 0:
            return Fraction(0)
        ways = math.comb(guesses, value)
        return ways * right**value * (1 - right) ** (guesses - value)

    above = sum((chance(v) for v in range(correct, guesses + 1)), Fraction(0))
    alpha = max(
        (
            2 * sum((chance(v) for v in range(correct - i, correct)), Fraction(0)) / i
            for i in range(1, canaries + 1)
        ),
        default=Fraction(0),
    )
    return min(Fraction(1), above + canaries * delta * alpha)


@given(
    odds=st.integers(1, 20),
    canaries=st.integers(1, 40),
    parts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    delta=st.sampled_from([Fraction(0), Fraction(1, 100_000), Fraction(1, 50)]),
)
def test_one_run_p_is_the_theorem(
    odds: int, canaries: int, parts: tuple[float, float], delta: Fraction
) -> None:
    guesses = round(parts[0] * canaries)
    correct = round(parts[1] * guesses)
    found = one_run_p(
        math.log(odds), correct=correct, guesses=guesses, canaries=canaries, delta=float(delta)
    )
    assert found == pytest.approx(float(theorem(odds, correct, guesses, canaries, delta)), 1e-9)


def test_more_right_guesses_refute_more_and_larger_claims_are_refuted_less() -> None:
    p_EV = np.array(
        [
            [one_run_p(e, correct=v, guesses=40, canaries=100, delta=1e-5) for v in range(41)]
            for e in (0.0, 0.5, 1.0, 2.0, 4.0)
        ]
    )
    assert (np.diff(p_EV, axis=1) <= 1e-12).all()
    assert (np.diff(p_EV, axis=0) >= -1e-12).all()


def pure_bound(correct: int, guesses: int) -> float:
    return one_run_epsilon(
        correct=correct, guesses=guesses, canaries=guesses, delta=0.0, level=0.05
    )


@pytest.mark.parametrize("epsilon", [0.2, 1.0, 3.0])
def test_the_bound_of_randomised_response_holds(epsilon: float) -> None:
    """Each coin is told truly with the chance that (epsilon, 0)-DP allows, and no more."""
    rng = np.random.default_rng(0)
    right_R = rng.binomial(200, special.expit(epsilon), size=2000)
    bound = {int(v): pure_bound(int(v), 200) for v in np.unique(right_R)}
    wrong = sum(bound[int(v)] > epsilon for v in right_R)
    assert stats.binom.sf(wrong - 1, 2000, 0.05) > 1e-4


@pytest.mark.parametrize("correct", [100, 120, 150, 190, 199, 200])
def test_without_delta_it_is_the_limit_of_clopper_and_pearson(correct: int) -> None:
    accuracy = float(stats.beta.ppf(0.05, correct, 200 - correct + 1))
    assert pure_bound(correct, 200) == pytest.approx(max(0.0, float(special.logit(accuracy))))


def test_the_bound_holds_where_delta_bares_everything_at_once() -> None:
    """With probability delta the mechanism tells every coin; that is (epsilon, delta)-DP."""
    rng = np.random.default_rng(1)
    epsilon, delta, runs = 0.5, 0.03, 2000
    right_R = rng.binomial(60, special.expit(epsilon), size=runs)
    right_R[rng.random(runs) < delta] = 60
    bound = {
        int(v): one_run_epsilon(correct=int(v), guesses=60, canaries=60, delta=delta, level=0.05)
        for v in np.unique(right_R)
    }
    wrong = sum(bound[int(v)] > epsilon for v in right_R)
    assert stats.binom.sf(wrong - 1, runs, 0.05) > 1e-4


def test_guesses_no_better_than_chance_prove_nothing() -> None:
    found = one_run_epsilon(correct=50, guesses=100, canaries=100, delta=1e-5, level=0.05)
    assert found == 0.0


def test_the_bound_is_where_the_p_value_crosses_the_level() -> None:
    numbers = {"correct": 190, "guesses": 200, "canaries": 400, "delta": 1e-5}
    bound = one_run_epsilon(**numbers, level=0.05)  # type: ignore[arg-type]
    assert bound > 2.0
    assert one_run_p(bound, **numbers) < 0.05 <= one_run_p(bound + 1e-6, **numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize(("correct", "guesses", "canaries"), [(3, 2, 5), (-1, 2, 5), (2, 6, 5)])
def test_impossible_guesses_are_refused(correct: int, guesses: int, canaries: int) -> None:
    with pytest.raises(InputError, match="guesses"):
        one_run_p(1.0, correct=correct, guesses=guesses, canaries=canaries, delta=0.0)


def test_the_highest_are_said_to_be_in_and_the_lowest_out() -> None:
    scores_M = np.array([5.0, -3.0, 0.1, 4.0, -2.0, 0.0])
    inside_M = np.array([True, False, True, False, True, False])
    assert correct_guesses(scores_M, inside_M, 0) == 0
    assert correct_guesses(scores_M, inside_M, 2) == 2
    assert correct_guesses(scores_M, inside_M, 4) == 2
    assert correct_guesses(scores_M, inside_M, 6) == 4


@pytest.mark.parametrize("canaries", [60, 401, 2000])
@pytest.mark.parametrize("distance", [0.05, 1.0, 6.0])
def test_the_number_of_guesses_is_even_and_possible(canaries: int, distance: float) -> None:
    guesses = best_guesses(canaries, distance, 1e-5)
    assert guesses % 2 == 0
    assert 2 <= guesses <= canaries


def test_few_guesses_where_the_noise_is_large_and_all_where_it_is_small() -> None:
    assert best_guesses(1000, 0.5, 1e-5) < 300
    assert best_guesses(1000, 8.0, 1e-5) == 1000


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("steps", [1, 10, 500])
def test_the_accountant_agrees_though_neither_knows_the_other(epsilon: float, steps: int) -> None:
    sigma = needed_sigma(epsilon, 1e-5, steps)
    assert accounted([Event(sigma, 1.0, steps)], 1e-5) == pytest.approx(epsilon, rel=1e-6)
    assert implied_epsilon(sigma, 1e-5, steps) == pytest.approx(epsilon, rel=1e-6)


def test_delta_of_a_gaussian_is_its_definition() -> None:
    """sup over sets of P(S) - e^epsilon Q(S), which for two Gaussians are half-lines."""
    mu, epsilon = 1.3, 0.8
    cut = np.linspace(-8, 8, 200_001)
    found = special.ndtr(mu - cut) - math.exp(epsilon) * special.ndtr(-cut)
    assert gaussian_delta(mu, epsilon) == pytest.approx(found.max(), abs=1e-9)


def test_no_noise_has_no_epsilon_and_endless_noise_none_to_speak_of() -> None:
    assert implied_epsilon(0.0, 1e-5, 3) == math.inf
    assert implied_epsilon(0.01, 1e-5, 3) == math.inf
    assert implied_epsilon(math.inf, 1e-5, 3) == 0.0
    assert implied_epsilon(1e7, 1e-5, 3) == 0.0
