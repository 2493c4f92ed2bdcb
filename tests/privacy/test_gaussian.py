"""Closed forms against the definition in high precision, and against each other."""

import math
from collections.abc import Callable
from itertools import product

import mpmath  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.gaussian import gaussian_delta, gaussian_epsilon, gaussian_mu
from protocol.errors import InputError


def exact_delta(mu: float, eps: float) -> mpmath.mpf:
    """Balle, Wang 2018, Theorem 8, with 60 digits; no term is rearranged."""
    with mpmath.workdps(60 + int(max(eps, mu * mu) / 2)):
        m, e = mpmath.mpf(mu), mpmath.mpf(eps)
        return mpmath.ncdf(m / 2 - e / m) - mpmath.exp(e) * mpmath.ncdf(-m / 2 - e / m)


@pytest.mark.parametrize(
    ("mu", "delta"), list(product((0.003, 0.02, 0.3, 1.0, 3.0, 12.0, 40.0), (1e-12, 1e-5, 0.01)))
)
def test_full_batch_is_exact(mu: float, delta: float) -> None:
    found = gaussian_epsilon(mu, delta)
    if found == 0:
        assert exact_delta(mu, 0) <= delta * (1 + 1e-9)
    else:
        assert exact_delta(mu, found * (1 + 1e-6)) < delta < exact_delta(mu, found * (1 - 1e-6))
        assert exact_delta(mu, found + 1e-6) < delta < exact_delta(mu, max(0.0, found - 1e-6))


@pytest.mark.parametrize(
    ("mu", "eps"), list(product((0.01, 0.5, 2.0, 30.0), (0.0, 0.1, 3.0, 900.0)))
)
def test_delta_is_exact(mu: float, eps: float) -> None:
    exact = exact_delta(mu, eps)
    assert gaussian_delta(mu, eps) == pytest.approx(float(exact), rel=1e-9, abs=1e-300)


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-3, 50), st.sampled_from([1e-9, 1e-5, 1e-2]))
def test_mu_inverts_epsilon(target: float, delta: float) -> None:
    mu = gaussian_mu(target, delta)
    assert gaussian_epsilon(mu * (1 - 1e-12), delta) <= target
    assert gaussian_epsilon(mu, delta) == pytest.approx(target, rel=1e-6)


def test_nothing_and_everything() -> None:
    assert gaussian_epsilon(0.0, 1e-5) == 0
    assert gaussian_epsilon(1e-9, 1e-5) == 0
    assert gaussian_epsilon(math.inf, 1e-5) == math.inf
    assert gaussian_epsilon(1e200, 1e-5) == math.inf
    assert gaussian_delta(0.0, 1.0) == 0
    assert gaussian_delta(1.0, math.inf) == 0
    assert gaussian_delta(math.inf, 1.0) == 1


@pytest.mark.parametrize("mu", [1e3, 1e6, 1e9])
def test_huge_epsilons_follow_their_asymptote(mu: float) -> None:
    # epsilon = mu^2 / 2 + mu z for large mu, with z the upper quantile of delta.
    quantile = float(mpmath.findroot(lambda z: mpmath.ncdf(-z) - 1e-5, 4.26))
    assert gaussian_epsilon(mu, 1e-5) == pytest.approx(mu**2 / 2 + mu * quantile, rel=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda: gaussian_delta(-1.0, 1.0),
        lambda: gaussian_delta(math.nan, 1.0),
        lambda: gaussian_delta(1.0, math.nan),
        lambda: gaussian_epsilon(math.nan, 1e-5),
        lambda: gaussian_epsilon(-1.0, 1e-5),
        lambda: gaussian_epsilon(1.0, 1.0),
        lambda: gaussian_mu(0.0, 1e-5),
        lambda: gaussian_mu(math.inf, 1e-5),
        lambda: gaussian_mu(1.0, 0.0),
    ],
)
def test_arguments_out_of_range(call: Callable[[], float]) -> None:
    with pytest.raises(InputError):
        call()
