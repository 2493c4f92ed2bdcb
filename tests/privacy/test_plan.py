"""One plan for engine and ledger; digits of a sum that do not overflow."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privacy.charges import Charge
from privacy.conformance import own_multiplier
from privacy.grid import release
from privacy.noise import SeededEntropy
from privacy.plan import CLIP_MARGIN, DpPlan, PrivacyRequest, digit_radix, resolve_privacy
from protocol.errors import InputError
from protocol.jobs import Mode, Privacy, Site

SITES = [Site(name=f"site-{n}", train_size=60, test_size=20) for n in range(6)]


def resolved(mode: Mode = "distributed", **changed: Any) -> Privacy:
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
    request = PrivacyRequest(mode=mode, epsilon=None if mode == "none" else 3.0, colluding_sites=2)
    return resolve_privacy(request, **(arguments | changed))


@pytest.mark.parametrize("size", [4, 5, 6])
def test_every_cohort_adds_the_full_noise(size: int) -> None:
    privacy = resolved()
    plan = DpPlan.of(privacy, "train", size)
    assert plan.guaranteed
    assert plan.release is privacy.update
    assert plan.sigma_effective == privacy.update.noise_multiplier
    # What the honest sites add together, whoever is missing.
    together = math.sqrt((size - 2) * plan.share**2)
    assert together == pytest.approx(plan.sigma_effective * plan.release.sensitivity, rel=1e-12)
    assert plan.sigma_own == pytest.approx(plan.share / plan.release.sensitivity, rel=1e-12)


def test_in_mode_local_a_site_trusts_itself_only() -> None:
    plan = DpPlan.of(resolved("local"), "train", 6)
    assert plan.sigma_own == plan.sigma_effective
    assert plan.share == plan.sigma_effective * plan.release.sensitivity


def test_in_mode_none_there_is_nothing() -> None:
    plan = DpPlan.of(resolved("none"), "test", 6)
    assert not plan.guaranteed
    assert plan.share == plan.sigma_effective == plan.sigma_own == 0


def test_the_engine_clips_inside_what_is_charged() -> None:
    plan = DpPlan.of(resolved(), "train", 6)
    assert plan.engine_clip == plan.release.clip * (1 - CLIP_MARGIN)
    # A float64 sum of a million clipped vectors of a million parameters stays inside the margin.
    assert CLIP_MARGIN > 1e6 * 2.0**-53


@pytest.mark.parametrize(("partition", "purpose"), [("train", "update"), ("test", "evaluation")])
def test_the_charge_is_what_the_plan_does(partition: Any, purpose: str) -> None:
    plan = DpPlan.of(resolved(), partition, 5)
    assert plan.charge(population="ward", job="ab" * 32, declared_size=60) == Charge(
        population="ward",
        partition=partition,
        job="ab" * 32,
        purpose=purpose,  # type: ignore[arg-type]
        sigma_effective=plan.sigma_effective,
        sigma_own=plan.sigma_effective / math.sqrt(3),
        q=1.0,
        steps=12 if partition == "train" else 5,
        clip=1.0 if partition == "train" else 1.5,
        declared_size=60,
        cohort_size=5,
        colluding_sites=2,
        repeats=1,
    )


def test_local_steps_are_charged_behind_each_release() -> None:
    plan = DpPlan.of(resolved("local", repeats=4), "train", 6)
    charge = plan.charge(population="ward", job="ab" * 32, declared_size=60)
    assert (charge.steps, charge.repeats) == (12, 4)
    assert plan.release.runs == 48


def test_plans_that_cannot_be() -> None:
    privacy = resolved()
    with pytest.raises(InputError, match="beyond colluding_sites"):
        DpPlan.of(privacy, "train", 3)
    with pytest.raises(InputError, match="no evaluation"):
        DpPlan.of(resolved(evaluation_steps=0), "test", 6)


@pytest.mark.parametrize("mode", ["distributed", "local", "none"])
def test_sums_of_releases_fit_their_digits(mode: Mode) -> None:
    privacy = resolved(mode, length=2000)
    radix = digit_radix(privacy, privacy.update, 6)
    assert radix % 2 == 1
    for size in (4, 5, 6):
        share = DpPlan.of(privacy, "train", size).share
        # The worst that can happen before noise: every site at its bound, in one direction.
        worst = np.full(2000, 1e9)
        total = sum(
            release(worst, privacy.update, share, SeededEntropy(site)) for site in range(size)
        )
        assert np.abs(total).max() <= (radix - 1) // 2


@pytest.mark.parametrize("mode", ["distributed", "local"])
def test_the_tail_has_the_stated_probability(mode: Mode) -> None:
    privacy = resolved(mode, length=10**6)
    family = privacy.update
    values = 6 * (math.ceil(family.scale * family.bound) + 1)
    tail = (digit_radix(privacy, family, 6) - 1) // 2 - values
    draws = family.length * (family.steps + family.spare) * family.repeats
    for size in (4, 5, 6):
        own = own_multiplier(mode, family.noise_multiplier, size, 2) * family.sensitivity
        variance = size * own**2
        # A sum of discrete Gaussians is sub-Gaussian with the sum of the variances.
        assert draws * 2 * math.exp(-(tail**2) / (2 * variance)) < 2.0**-40
    # Not wasteful either: half the tail would fail.
    assert draws * 2 * math.exp(-((tail / 2) ** 2) / (2 * variance)) > 2.0**-40


def test_without_noise_digits_cover_the_values_exactly() -> None:
    privacy = resolved("none")
    family = replace(privacy.update, scale=4.0, bound=2.5)
    assert digit_radix(privacy, family, 6) == 2 * 6 * 11 + 1
