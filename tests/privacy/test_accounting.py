"""Closed forms against high precision, Rényi orders against dp-accounting, targets and limits."""

import math
from collections.abc import Callable

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import (
    ORDERS,
    SLACK,
    Event,
    calibrate,
    epsilon,
    gaussian_epsilon,
    mu_of,
    rdp_epsilon,
)
from protocol.errors import InputError

DELTA = 1e-5


@pytest.mark.parametrize(
    ("q", "sigma", "steps", "published", "digits"),
    [
        (0.1, 1.5, 500, 8.3717, 4),
        (0.16, 1.2, 70, 6.990, 3),
        (0.01, 0.8, 5000, 6.842, 3),
        (0.05, 4.0, 200, 0.6656, 4),
        (1.0, 26.4, 50, 0.9991, 4),
        (1.0, 9.3, 30, 2.394, 3),
    ],
)
def test_reference_values(
    q: float, sigma: float, steps: int, published: float, digits: int
) -> None:
    rounded = 0.5 * 10**-digits
    assert abs(epsilon([Event(sigma, q, steps)], DELTA) - published) < 1e-3 + rounded


def test_rounds_that_fit_under_a_cap() -> None:
    def rounds(delta: float) -> int:
        return max(n for n in range(400, 500) if epsilon([Event(30.0, 1.0, n)], delta) <= 3)

    assert rounds(DELTA) == 465
    assert rounds(SLACK * DELTA) == 464


def test_events_add_in_any_order_and_grouping() -> None:
    events = [Event(4.0, 0.1, 20), Event(9.0, 1.0, 3), Event(2.0, 0.02, 50), Event(9.0, 1.0, 4)]
    whole = epsilon(events, DELTA)
    split = [Event(e.sigma, e.q, part) for e in events for part in (1, e.steps - 1)]
    assert epsilon(split[::-1], DELTA) == whole
    assert epsilon(events[:2], DELTA) < whole
    full = [Event(3.0, 1.0, 9), Event(4.0, 1.0, 48)]
    assert epsilon(full, DELTA) == gaussian_epsilon(mu_of(full), DELTA)


def test_sampling_amplifies() -> None:
    values = [epsilon([Event(2.0, q, 30)], DELTA) for q in (0.001, 0.01, 0.1, 0.5, 0.999, 1.0)]
    assert values == sorted(values)
    assert values[-2] == pytest.approx(values[-1], rel=0.01)


def test_nothing_and_everything() -> None:
    assert epsilon([], DELTA) == 0
    assert epsilon([Event(0.0, 0.5, 0), Event(1.0, 1.0, 0)], DELTA) == 0
    assert rdp_epsilon([], DELTA) == 0
    for q in (0.5, 1.0):
        assert epsilon([Event(0.0, q, 1)], DELTA) == math.inf
        assert rdp_epsilon([Event(0.0, q, 1)], DELTA) == math.inf
    assert mu_of([Event(0.0, 1.0, 0)]) == 0


@pytest.mark.parametrize("delta", [1e-15, 1e-5, 0.5])
@pytest.mark.parametrize("sigma", [1e-320, 1e-3, 0.05, 1.0, 1e7, 1e300])
@pytest.mark.parametrize("q", [5e-324, 1e-20, 1e-3, 1 - 1e-16])
def test_extremes_neither_hang_nor_overflow(delta: float, sigma: float, q: float) -> None:
    for steps in (1, 10**6, 10**9):
        found = epsilon([Event(sigma, q, steps)], delta)
        assert 0 <= found <= epsilon([Event(sigma, 1.0, steps)], delta)
        # Rényi's bound and its many orders may be loose, but never below the tight one.
        assert rdp_epsilon([Event(sigma, q, steps)], delta) >= found * (1 - 1e-3) - 1e-3


def test_losses_beyond_the_lattice_fall_back_to_renyi() -> None:
    found = epsilon([Event(1.0, 0.01, 10**9)], DELTA)
    assert found < 1e-3 * epsilon([Event(1.0, 1.0, 10**9)], DELTA)
    assert found <= rdp_epsilon([Event(1.0, 0.01, 10**9)], DELTA)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 100), st.integers(1, 1000), st.sampled_from([1e-9, 1e-5]))
def test_calibration_of_full_batches_is_tight(target: float, steps: int, delta: float) -> None:
    sigma = calibrate(target, delta, steps, 1.0)
    assert epsilon([Event(sigma, 1.0, steps)], delta) <= target
    assert epsilon([Event(sigma * (1 - 1e-9), 1.0, steps)], delta) > target


@pytest.mark.parametrize(
    ("target", "steps", "q"), [(0.1, 50, 0.01), (1.0, 200, 0.1), (8.0, 30, 0.5), (200.0, 3, 0.2)]
)
def test_calibration_of_sampled_batches_is_tight(target: float, steps: int, q: float) -> None:
    sigma = calibrate(target, DELTA, steps, q)
    assert epsilon([Event(sigma, q, steps)], DELTA) <= target
    assert epsilon([Event(sigma * 0.9995, q, steps)], DELTA) > target
    assert sigma < calibrate(target, DELTA, steps, 1.0)


@pytest.mark.parametrize(
    ("target", "delta", "steps", "q"),
    [
        (0.0, DELTA, 1, 1.0),
        (-1.0, DELTA, 1, 1.0),
        (math.inf, DELTA, 1, 1.0),
        (math.nan, DELTA, 1, 1.0),
        (1.0, 0.0, 1, 1.0),
        (1.0, 1.0, 1, 1.0),
        (1.0, DELTA, 0, 1.0),
        (1.0, DELTA, 1, 0.0),
        (1.0, DELTA, 1, 1.5),
    ],
)
def test_targets_out_of_range(target: float, delta: float, steps: int, q: float) -> None:
    with pytest.raises(InputError):
        calibrate(target, delta, steps, q)


@pytest.mark.parametrize(
    ("sigma", "q", "steps"),
    [
        (-1.0, 1.0, 1),
        (math.inf, 1.0, 1),
        (math.nan, 1.0, 1),
        (1.0, 0.0, 1),
        (1.0, 1.1, 1),
        (1.0, math.nan, 1),
        (1.0, 1.0, -1),
        (1.0, 1.0, 10**9 + 1),
    ],
)
def test_events_out_of_range(sigma: float, q: float, steps: int) -> None:
    with pytest.raises(InputError, match="event"):
        Event(sigma, q, steps)


@pytest.mark.parametrize(
    "call",
    [
        lambda: mu_of([Event(1.0, 0.5, 1)]),
        lambda: epsilon([], 0.0),
        lambda: rdp_epsilon([], 2.0),
        lambda: rdp_epsilon([Event(1.0, 1.0, 1)], DELTA, cap=0.0),
    ],
)
def test_other_arguments_out_of_range(call: Callable[[], float]) -> None:
    with pytest.raises(InputError):
        call()


def by_dp_accounting(events: list[Event], delta: float, orders: list[float]) -> float:
    accountant = RdpAccountant(orders)
    for event in events:
        release = GaussianDpEvent(event.sigma)
        sampled = release if event.q == 1 else PoissonSampledDpEvent(event.q, release)
        accountant.compose(sampled, event.steps)
    return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize("seed", range(8))
def test_renyi_orders_agree_with_dp_accounting(seed: int) -> None:
    rng = np.random.default_rng(seed)
    events = [
        Event(float(rng.uniform(3 if q == 1 else 0.7, 9)), float(q), int(rng.integers(1, 40)))
        for q in rng.choice([0.01, 0.1, 0.4, 1.0], size=4)
    ]
    whole = [order for order in ORDERS if order == int(order)]
    # Each of the filter's orders pays for its part of delta.
    expected = by_dp_accounting(events, DELTA / len(ORDERS), whole)
    assert rdp_epsilon(events, DELTA) == pytest.approx(expected, rel=1e-6)
    alone = [by_dp_accounting(events, DELTA, [order]) for order in whole]
    with_cap = rdp_epsilon(events, DELTA, cap=expected)
    assert any(with_cap == pytest.approx(value, rel=1e-6) for value in alone)
    assert epsilon(events, DELTA) < with_cap


def test_the_filter_pays_more_than_the_exact_count() -> None:
    def rounds(cap: float | None) -> int:
        return max(
            n for n in range(200, 470) if rdp_epsilon([Event(30.0, 1.0, n)], DELTA, cap=cap) <= 3
        )

    # With all real orders and the whole delta 403 would fit, and 465 by the closed form.
    assert rounds(None) < rounds(3.0) <= 403


def test_the_order_between_integers_is_bounded_from_above() -> None:
    sigma, q, steps, order = 1.0, 0.1, 2000, 1.5

    def integrand(x: mpmath.mpf) -> mpmath.mpf:
        ratio = 1 - q + q * mpmath.exp((2 * x - 1) / (2 * sigma**2))
        return mpmath.npdf(x, 0, sigma) * ratio**order

    exact = mpmath.log(mpmath.quad(integrand, [-12, -3, 0, 3, 6, 14])) / (order - 1)
    conversion = math.log1p(-1 / order) - (math.log(DELTA) + math.log(order)) / (order - 1)
    # A cap this far away is best served by the smallest order.
    ours = rdp_epsilon([Event(sigma, q, steps)], DELTA, cap=1e4)
    assert steps * exact + conversion < ours < 2 * steps * exact + conversion
