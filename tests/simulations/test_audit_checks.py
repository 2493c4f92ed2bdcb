"""Single checks, on evidence that is made up."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privacy.accounting import Event, epsilon
from simulations.audit_claim import Claim
from simulations.audit_config import AuditConfig
from simulations.audit_evidence import ALARM, Check, Evidence, statistical
from simulations.audit_inside import inside_checks
from simulations.audit_statistics import SMALLEST_P
from simulations.audit_weights import Weights
from tests.simulations.canaries import configured

CONFIG = configured(canaries=120)
CLAIM = Claim(
    epsilon=4.0,
    delta=1e-5,
    noise=3.0,
    rounding=1e-6,
    step=CONFIG.influence,
    rounds=2,
    rate=1.0,
    trusted=2 / 3,
)
RATE, BATCHES = 0.25, 16


def evidence(config: AuditConfig = CONFIG, claim: Claim = CLAIM, **changes: Any) -> Evidence:
    """What a pipeline that keeps the claim leaves behind."""
    rng = np.random.default_rng(0)
    inside_M = rng.random(config.canaries) < 0.5
    noise_MC = claim.noise * rng.normal(size=(config.canaries, 3))
    pushed_MC = claim.signal * inside_M[:, None] * config.direction_MC
    drawn_KBM = rng.random((config.hospitals, BATCHES, config.canaries)) < RATE
    own_KM = inside_M & (config.site_M == np.arange(config.hospitals)[:, None])
    made = Evidence(
        moves_MC=noise_MC + pushed_MC,
        inside_M=inside_M,
        batches_KBM=claim.step * (drawn_KBM & own_KM[:, None, :]),
        batch_rate=RATE,
        noise_VP=rng.normal(size=(6, 400)),
        hole="",
    )
    return replace(made, **changes)


def checked(found: Evidence, claim: Claim = CLAIM) -> dict[str, Check]:
    weights = Weights(CONFIG, claim, found).checks()
    return {check.name: check for check in weights + inside_checks(CONFIG, claim, found)}


def test_evidence_that_keeps_the_claim_raises_no_alarm() -> None:
    assert all(check.passed for check in checked(evidence()).values())


def test_alarms_begin_below_the_level() -> None:
    assert not statistical("noise", ALARM, "").passed
    assert statistical("noise", 1.01 * ALARM, "").passed
    assert statistical("noise", 0.0, "").p_value == SMALLEST_P


@pytest.mark.parametrize("factor", [0.5, 1.6])
def test_noise_is_tested_on_both_sides(factor: float) -> None:
    check = checked(evidence(), replace(CLAIM, noise=CLAIM.noise / factor))["noise"]
    assert not check.passed
    assert f"{factor:.1f}" in f"{float(check.finding.split()[6]):.1f}"


@pytest.mark.parametrize("factor", [-1.0, 3.0])
def test_influence_is_tested_on_both_sides(factor: float) -> None:
    right = evidence()
    pushed_MC = CLAIM.signal * right.inside_M[:, None] * CONFIG.direction_MC
    wrong = replace(right, moves_MC=right.moves_MC + (factor - 1) * pushed_MC)
    assert not checked(wrong)["influence"].passed
    assert checked(wrong)["noise"].passed


def test_a_claim_that_guesses_refute_is_refuted() -> None:
    found = checked(evidence(claim=replace(CLAIM, noise=0.3)), replace(CLAIM, noise=12.0))
    assert not found["guesses"].passed
    assert not found["noise"].passed


def test_no_guess_refutes_what_is_true() -> None:
    loud = replace(CLAIM, noise=0.3)
    found = evidence(claim=loud)
    weights = Weights(CONFIG, loud, found)
    # Half are said to be in, whatever the coins gave.
    assert weights.guesses[1].right == 120 - abs(int(found.inside_M.sum()) - 60)
    assert checked(found, loud)["guesses"].passed
    assert weights.one_run_bound <= loud.epsilon_of(loud.sigma)


def test_a_record_that_is_nowhere_moves_nothing() -> None:
    right = evidence()
    absent = int(np.flatnonzero(~right.inside_M)[0])
    moved_KBM = right.batches_KBM.copy()
    moved_KBM[0, 3, absent] = CLAIM.step
    check = checked(replace(right, batches_KBM=moved_KBM))["clip"]
    assert not check.passed
    assert "in no hospital's data" in check.finding


@pytest.mark.parametrize("clips", [0.5, 1.1, 2.0, -1.0])
def test_one_record_that_moves_more_or_less_than_a_clip_is_seen(clips: float) -> None:
    right = evidence()
    moved_KBM = right.batches_KBM.copy()
    moved_KBM[np.unravel_index(moved_KBM.argmax(), moved_KBM.shape)] = clips * CLAIM.step
    assert not checked(replace(right, batches_KBM=moved_KBM))["clip"].passed


def test_what_the_guards_find_is_an_alarm() -> None:
    check = checked(evidence(hole="the loss couples records"))["guards"]
    assert (check.passed, check.finding, check.p_value) == (False, "the loss couples records", None)


def test_epsilon_is_the_accountants_where_batches_are_sampled() -> None:
    sampled = replace(CLAIM, rate=0.3, rounds=6)
    assert sampled.epsilon_of(1.5) == epsilon([Event(1.5, 0.3, 6)], 1e-5)
    assert sampled.epsilon_of(math.inf) == 0.0
    assert sampled.epsilon_of(0.0) == math.inf
    assert epsilon([Event(sampled.needed_sigma, 0.3, 6)], 1e-5) == pytest.approx(4.0, rel=1e-3)


def test_intervals_hold_the_truth_and_narrow_with_the_level() -> None:
    weights = Weights(CONFIG, CLAIM, evidence())
    wide, narrow = weights.sigma_interval(1e-6), weights.sigma_interval(0.5)
    assert wide[0] < narrow[0] < narrow[1] < narrow[2] < wide[2]
    truth = CLAIM.noise * math.sqrt(CLAIM.trusted / CLAIM.rounds)
    low, _, high = weights.sigma_interval(0.05)
    assert low < truth < high
    assert weights.epsilon_interval() == tuple(sorted(weights.epsilon_interval()))


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    truth = CLAIM.noise * math.sqrt(CLAIM.trusted / CLAIM.rounds)
    base, missed = evidence(), 0
    pushed_MC = CLAIM.signal * base.inside_M[:, None] * CONFIG.direction_MC
    for _ in range(400):
        moves_MC = pushed_MC + CLAIM.noise * rng.normal(size=pushed_MC.shape)
        low, _, high = Weights(CONFIG, CLAIM, replace(base, moves_MC=moves_MC)).sigma_interval(0.2)
        missed += not low <= truth <= high
    assert missed <= 0.2 * 400 + 3 * math.sqrt(400 * 0.16)


def test_where_nobody_is_seen_to_move_nothing_is_implied() -> None:
    right = evidence()
    pushed_MC = CLAIM.signal * right.inside_M[:, None] * CONFIG.direction_MC
    weights = Weights(CONFIG, CLAIM, replace(right, moves_MC=right.moves_MC - 2 * pushed_MC))
    assert weights.sigma_interval(0.05)[1:] == (math.inf, math.inf)
    assert weights.epsilon_interval()[0] == 0.0


def test_the_p_value_of_epsilon_is_where_its_limit_meets_the_claim() -> None:
    """A claim a little too strong for the noise: neither certain nor absurd."""
    found = evidence()
    weights = Weights(CONFIG, replace(CLAIM, epsilon=2.3), found)
    check = next(check for check in weights.checks() if check.name == "epsilon")
    assert check.p_value is not None
    assert SMALLEST_P < check.p_value < 1.0
    limit = weights.sigma_interval(check.p_value)[2]
    assert limit == pytest.approx(weights.claim.needed_sigma, rel=1e-6)
