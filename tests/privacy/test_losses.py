"""The privacy-loss distribution against exact single releases and against dp-accounting."""

import math
from functools import reduce
from itertools import pairwise

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld

from privacy import losses
from privacy.accounting import Event, epsilon, gaussian_epsilon


def exact_delta(sigma: float, q: float, eps: float, *, removes: bool) -> mpmath.mpf:
    """Hockey-stick divergence of one Poisson-sampled Gaussian, by integrating where it is > 0."""
    s, rate, ratio = mpmath.mpf(sigma), mpmath.mpf(q), mpmath.exp(eps if removes else -eps)
    odds = (ratio - 1 + rate) / rate
    if odds <= 0:
        return mpmath.mpf(0)
    edge = s**2 * mpmath.log(odds) + mpmath.mpf(1) / 2
    if removes:
        zero, one = mpmath.ncdf(-edge / s), mpmath.ncdf((1 - edge) / s)
        return (1 - rate) * zero + rate * one - ratio * zero
    zero, one = mpmath.ncdf(edge / s), mpmath.ncdf((edge - 1) / s)
    return zero - ((1 - rate) * zero + rate * one) / ratio


@pytest.mark.parametrize("delta", [1e-12, 1e-5, 1e-3])
@pytest.mark.parametrize(
    ("sigma", "q"),
    [(10.0, 0.5), (1.0, 0.01), (1.0, 1e-6), (0.5, 0.3), (0.3, 0.01), (20.0, 0.9), (0.1, 0.5)],
)
def test_one_release_is_exact_from_above(sigma: float, q: float, delta: float) -> None:
    found = losses.epsilon({(sigma, q): 1}, delta)
    with mpmath.workdps(60):
        worst = max(exact_delta(sigma, q, found, removes=side) for side in (True, False))
        assert worst <= delta * (1 + 1e-9)
        if found > 1e-4:
            below = found - 1e-4 * max(1, found)
            assert max(exact_delta(sigma, q, below, removes=side) for side in (True, False)) > delta


def by_dp_accounting(events: list[Event], delta: float, *, pessimistic: bool) -> float:
    composed = [
        pld.from_gaussian_mechanism(
            event.sigma,
            sampling_prob=event.q,
            value_discretization_interval=1e-4,
            pessimistic_estimate=pessimistic,
        ).self_compose(event.steps)
        for event in events
    ]
    total = reduce(lambda left, right: left.compose(right), composed)
    return float(total.get_epsilon_for_delta(delta))


def mixture(seed: int) -> tuple[list[Event], float]:
    rng = np.random.default_rng(seed)
    events = []
    for _ in range(int(rng.integers(1, 5))):
        q = float(rng.choice([1.0, 0.5, 0.1, 0.01, 0.001, rng.uniform(0.001, 1)]))
        sigma = float(rng.uniform(3 if q > 0.2 else 0.6, 8))
        events.append(Event(sigma, q, int(rng.integers(1, 300))))
    return events, float(rng.choice([1e-6, 1e-5, 1e-3]))


QUICK = (1, 3, 4, 7, 9)


@pytest.mark.parametrize(
    "seed", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in range(16)]
)
def test_mixtures_agree_with_dp_accounting(seed: int) -> None:
    events, delta = mixture(seed)
    found = epsilon(events, delta)
    assert found == pytest.approx(by_dp_accounting(events, delta, pessimistic=True), abs=1e-3)
    # dp-accounting's optimistic count is a lower bound of the truth.
    assert found >= by_dp_accounting(events, delta, pessimistic=False) - 1e-7


@pytest.mark.parametrize(("mu", "delta"), [(0.02, 1e-6), (0.7, 1e-5), (3.0, 1e-14), (9.0, 1e-3)])
def test_gaussian_losses_agree_with_the_closed_form(mu: float, delta: float) -> None:
    exact = gaussian_epsilon(mu, delta)
    split = {(1 / mu * math.sqrt(2), 1.0): 1, (1 / mu * math.sqrt(4), 1.0): 2}
    for steps in ({(1 / mu, 1.0): 1}, split):
        assert exact <= losses.epsilon(steps, delta) * (1 + 1e-9)
        assert losses.epsilon(steps, delta) <= exact + 5e-4


def test_tiny_deltas_do_not_drown_in_rounding() -> None:
    events = [Event(2.0, 0.02, 400)]
    values = [epsilon(events, 10.0**-power) for power in range(2, 60, 4)]
    assert all(low < high for low, high in pairwise(values))
    # log(1 / delta) grows linearly and epsilon with it, once a single release can spend it.
    assert values[-1] < epsilon([Event(2.0, 1.0, 400)], 1e-58)


def test_a_unit_that_is_almost_never_sampled_is_paid_with_delta() -> None:
    assert losses.epsilon({(0.01, 1e-9): 100}, 1e-6) == 0
    alone = losses.epsilon({(2.0, 0.1): 50}, 1e-5)
    both = losses.epsilon({(2.0, 0.1): 50, (1.0, 1e-40): 3}, 1e-5)
    assert alone <= both == pytest.approx(alone, abs=1e-6)


def test_noise_beyond_any_use_counts_as_a_bit_less_noise() -> None:
    alone = losses.epsilon({(2.0, 0.1): 50}, 1e-5)
    both = losses.epsilon({(2.0, 0.1): 50, (1e300, 0.5): 3}, 1e-5)
    assert alone <= both == pytest.approx(alone, abs=1e-3)


def test_what_cannot_be_represented_is_infinite() -> None:
    assert losses.epsilon({(0.01, 0.5): 1}, 1e-5) == math.inf
    assert losses.epsilon({(0.3, 0.5): 10**8}, 1e-5) == math.inf
