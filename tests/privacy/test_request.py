"""From a request to numbers: what is stated is covered, by an independent count."""

import contextlib
import math
from dataclasses import replace
from itertools import product
from typing import Any

import mpmath  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import SLACK, Event, epsilon
from privacy.conformance import check_plan
from privacy.plan import PrivacyRequest, resolve_privacy
from protocol.config import parse
from protocol.errors import InputError
from protocol.jobs import Privacy, Release, Site

SITES = tuple(
    Site(name=name, train_size=size, test_size=size // 4)
    for name, size in (("north", 120), ("south", 400), ("east", 80), ("west", 200))
)


def resolve(request: PrivacyRequest, **changed: Any) -> Privacy:
    arguments: dict[str, Any] = {
        "sites": SITES,
        "length": 31,
        "steps": 10,
        "spare": 2,
        "unit": "patient",
        "evaluation_length": 128,
        "evaluation_norm": 1.5,
        "evaluation_steps": 3,
    }
    return resolve_privacy(request, **(arguments | changed))


def exact_epsilon(release: Release, sigma: float, delta: float) -> float:
    """Full-batch epsilon over all attempts by 50-digit bisection of the definition."""
    attempts = (release.steps + release.spare) * release.repeats
    with mpmath.workdps(50):
        mu = mpmath.sqrt(attempts) / mpmath.mpf(sigma)
        left = mpmath.mpf(SLACK) * delta - attempts * mpmath.mpf(release.beta)

        def excess(eps: mpmath.mpf) -> mpmath.mpf:
            high = mpmath.ncdf(mu / 2 - eps / mu)
            return high - mpmath.exp(eps) * mpmath.ncdf(-mu / 2 - eps / mu) - left

        low, high = mpmath.mpf(0), 2 * mu**2 + 20 * mu
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (low, middle) if excess(middle) <= 0 else (middle, high)
        return float(high)


@pytest.mark.parametrize(("mode", "target"), list(product(("distributed", "local"), (0.5, 3.0))))
def test_stated_epsilons_cover_all_attempts(mode: Any, target: float) -> None:
    request = PrivacyRequest(mode=mode, epsilon=target, evaluation_epsilon=1.25)
    privacy = resolve(request)
    honest = 3 if mode == "distributed" else 1
    assert (privacy.epsilon, privacy.epsilon_evaluation) == (target, 1.25)
    assert privacy.evaluation is not None
    for release, stated, worst in (
        (privacy.update, privacy.epsilon, privacy.epsilon_worst),
        (privacy.evaluation, privacy.epsilon_evaluation, privacy.epsilon_evaluation_worst),
    ):
        sigma = release.noise_multiplier
        found = exact_epsilon(release, sigma, request.delta)
        assert stated * (1 - 1e-6) < found <= stated * (1 + 1e-9)
        own = sigma / math.sqrt(honest)
        assert exact_epsilon(release, own, request.delta) == pytest.approx(worst, rel=1e-6)
        assert (release.steps + release.spare) * release.beta <= request.delta / 100
        assert release.sensitivity <= 1.001 * release.scale * release.clip
        assert own * release.sensitivity >= 32


def test_spare_attempts_are_paid_for() -> None:
    request = PrivacyRequest(epsilon=3.0)
    none, two = resolve(request, spare=0), resolve(request, spare=2)
    ratio = two.update.noise_multiplier / none.update.noise_multiplier
    assert ratio == pytest.approx(math.sqrt(12 / 10), rel=1e-4)


def test_local_steps_cost_like_releases() -> None:
    request = PrivacyRequest(mode="local", epsilon=3.0)
    apart, behind = resolve(request, steps=40, spare=8), resolve(request, repeats=4)
    assert behind.update.noise_multiplier == apart.update.noise_multiplier
    assert behind.update.beta == apart.update.beta
    assert (behind.update.steps, behind.update.repeats, behind.update.runs) == (10, 4, 48)
    # Nothing repeats behind an evaluation.
    assert behind.evaluation is not None
    assert behind.evaluation.repeats == 1


def test_more_colluding_sites_cost_noise_per_site_only() -> None:
    one = resolve(PrivacyRequest(epsilon=3.0, colluding_sites=1))
    two = resolve(PrivacyRequest(epsilon=3.0, colluding_sites=2))
    assert one.update.noise_multiplier == two.update.noise_multiplier
    assert one.epsilon_worst > two.epsilon_worst > 3.0


def test_sampling_lowers_the_noise_and_the_clamp() -> None:
    full = resolve(PrivacyRequest(epsilon=3.0), steps=100)
    sampled = resolve(PrivacyRequest(epsilon=3.0, sampling_rate=0.1), steps=100)
    release = sampled.update
    assert release.noise_multiplier < 0.3 * full.update.noise_multiplier
    event = Event(release.noise_multiplier, 0.1, 102)
    assert epsilon([event], SLACK * 1e-5 - 102 * release.beta) <= 3.0
    assert full.update.bound == 400
    assert 40 < release.bound < 200
    # Held-out patients are never sampled.
    assert sampled.evaluation is not None
    assert sampled.evaluation.sampling_rate == 1
    assert resolve(PrivacyRequest(epsilon=3.0, sampling_rate=0.999)).update.bound == 400


def test_mode_none_guarantees_nothing_and_says_so() -> None:
    privacy = resolve(PrivacyRequest(mode="none"))
    assert privacy.evaluation is not None
    assert privacy.update.noise_multiplier == privacy.evaluation.noise_multiplier == 0
    stated = (privacy.epsilon, privacy.epsilon_worst)
    assert stated == (0.0, 0.0)
    assert (privacy.epsilon_evaluation, privacy.epsilon_evaluation_worst) == stated


def test_evaluation_may_be_left_out_or_follow() -> None:
    without = resolve(PrivacyRequest(epsilon=2.0), evaluation_steps=0)
    assert without.evaluation is None
    assert (without.epsilon_evaluation, without.epsilon_evaluation_worst) == (0.0, 0.0)
    assert resolve(PrivacyRequest(epsilon=2.0)).epsilon_evaluation == 2.0


def test_bounds_lose_nothing_unless_asked() -> None:
    privacy = resolve(PrivacyRequest(epsilon=2.0, clip=0.5))
    assert privacy.update.bound == 0.5 * 400
    assert privacy.evaluation is not None
    assert privacy.evaluation.bound == 1.5 * 100
    clamped = resolve(PrivacyRequest(epsilon=2.0, coordinate_clamp=7.0))
    assert clamped.update.bound == 7.0
    no_tests = [replace(site, test_size=0) for site in SITES]
    empty = resolve(PrivacyRequest(epsilon=2.0), sites=no_tests)
    assert empty.evaluation is not None
    assert empty.evaluation.bound == 1.5


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0.05, 50),
    st.sampled_from([1e-3, 1e-5, 1e-9]),
    st.integers(3, 12),
    st.integers(1, 10**6),
    st.integers(1, 200),
    st.data(),
)
def test_whatever_is_resolved_is_accepted(
    target: float, delta: float, count: int, length: int, steps: int, data: st.DataObject
) -> None:
    colluding = data.draw(st.integers(0, count - 2))
    sites = [Site(name=f"s{n}", train_size=50, test_size=0) for n in range(count)]
    request = PrivacyRequest(epsilon=target, delta=delta, colluding_sites=colluding)
    arguments = {"sites": sites, "length": length, "steps": steps, "evaluation_steps": 0}
    if target * (count - colluding) > 200:
        # The worst case may be beyond anything that can be stated; then nothing is made.
        with contextlib.suppress(InputError):
            resolve(request, **arguments)
        return
    privacy = resolve(request, **arguments)
    check_plan(privacy, sites)
    assert parse(Privacy, {"mode": "distributed", **vars_of(privacy)}, "") == privacy


def vars_of(privacy: Privacy) -> dict[str, Any]:
    fields = dict(vars(privacy))
    return fields | {"update": dict(vars(privacy.update))}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "epsilon"),
        ({"mode": "none", "epsilon": 1.0}, "epsilon"),
        ({"mode": "none", "evaluation_epsilon": 1.0}, "evaluation_epsilon"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": 2000.0}, "epsilon"),
        ({"epsilon": 1.0, "evaluation_epsilon": -1.0}, "evaluation_epsilon"),
        ({"epsilon": 1.0, "delta": 0.01}, "delta"),
        ({"epsilon": 1.0, "delta": 0.0}, "delta"),
        ({"epsilon": 1.0, "colluding_sites": -1}, "colluding_sites"),
        ({"epsilon": 1.0, "clip": 0.0}, "clip"),
        ({"epsilon": 1.0, "sampling_rate": 0.0}, "sampling_rate"),
        ({"epsilon": 1.0, "sampling_rate": 1.5}, "sampling_rate"),
        ({"epsilon": 1.0, "coordinate_clamp": 0.0}, "coordinate_clamp"),
    ],
)
def test_requests_out_of_range(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=rf"privacy\.{named}"):
        PrivacyRequest(**fields)


@pytest.mark.parametrize(
    ("fields", "changed", "named"),
    [
        ({}, {"sites": SITES[:2]}, "at least 3"),
        ({"colluding_sites": 3}, {}, "beyond colluding_sites"),
        ({"colluding_sites": 4}, {}, "colluding_sites"),
        ({}, {"steps": 0}, "steps"),
        ({}, {"spare": -1}, "spare"),
        ({}, {"repeats": 0}, "repeats"),
        ({"coordinate_clamp": 1e12}, {}, "bound times scale"),
        ({"clip": 1e-30}, {}, "grid"),
    ],
)
def test_requests_that_cannot_be_met(
    fields: dict[str, Any], changed: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        resolve(PrivacyRequest(epsilon=3.0, **fields), **changed)
