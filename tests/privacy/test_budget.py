from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.budget import Caps, decide
from protocol.errors import BudgetError, InputError
from tests.privacy.ledgers import CAPS, NOW, charge, gaussian_delta, job, mu_of

LOOSE = replace(CAPS, epsilon_worst=100.0)


def test_sigma_30_cap_3_grants_464_rounds_and_not_465() -> None:
    # The independent formula says where the line is; it is not this module that draws it.
    assert gaussian_delta(mu_of([(30.0, 464)]), 3.0) <= 0.99e-5
    assert gaussian_delta(mu_of([(30.0, 465)]), 3.0) > 0.99e-5
    rows = [charge(number, 1) for number in range(463)]
    assert decide(rows=rows, charges=[charge(900)], caps=CAPS, clock=NOW).granted
    rows.append(charge(463))
    assert not decide(rows=rows, charges=[charge(900)], caps=CAPS, clock=NOW).granted


def test_a_refusal_names_cap_spent_and_asked_for_of_both_kinds() -> None:
    decision = decide(rows=[charge(1, 464)], charges=[charge(2, 1)], caps=CAPS, clock=NOW)
    with pytest.raises(BudgetError) as refusal:
        decision.require()
    message = str(refusal.value)
    standing = decision.standings[0]
    assert "'cardiology' (train)" in message
    assert job(2)[:12] in message
    assert "epsilon <= 3 and worst-case epsilon <= 10 at delta 1e-05" in message
    for kind, name in enumerate(("epsilon", "worst-case epsilon")):
        spent, asked = standing.spent[kind], standing.alone[kind]
        assert f"{name} {standing.total[kind]:.6g} (spent {spent:.6g}, asked for {asked:.6g})" in (
            message
        )
    assert standing.spent[0] < 3 < standing.total[0]


def test_the_worst_case_is_capped_on_its_own() -> None:
    asked = [charge(1, 100, sigma=30.0, own=6.0)]
    assert decide(rows=[], charges=asked, caps=LOOSE, clock=NOW).granted
    strict = replace(CAPS, epsilon_worst=5.0)
    decision = decide(rows=[], charges=asked, caps=strict, clock=NOW)
    assert decision.standings[0].total[0] <= strict.epsilon
    with pytest.raises(BudgetError, match="worst-case epsilon <= 5"):
        decision.require()


def test_populations_and_partitions_have_budgets_of_their_own() -> None:
    rows = [charge(1, 464)]
    for other in (charge(2, 464, partition="test"), charge(2, 464, population="stroke")):
        assert decide(rows=rows, charges=[other], caps=CAPS, clock=NOW).granted


def test_a_job_is_granted_as_a_whole_or_not_at_all() -> None:
    fits, too_much = charge(1, 10), charge(1, 500, partition="test")
    decision = decide(rows=[], charges=[fits, too_much], caps=CAPS, clock=NOW)
    assert not decision.granted
    assert [standing.fits for standing in decision.standings] == [False, True]
    with pytest.raises(BudgetError, match="'cardiology' \\(test\\)"):
        decision.require()


def test_a_granted_decision_lets_the_job_pass_and_knows_its_time() -> None:
    decision = decide(rows=[], charges=[charge()], caps=CAPS, clock=NOW)
    decision.require()
    assert decision.at == NOW


def test_no_noise_fits_under_no_finite_cap() -> None:
    asked = [charge(1, sigma=0.0)]
    without = Caps(epsilon=math.inf, epsilon_worst=math.inf, delta=1e-5)
    assert decide(rows=[], charges=asked, caps=without, clock=NOW).granted
    with pytest.raises(BudgetError, match="epsilon inf"):
        decide(rows=[], charges=asked, caps=CAPS, clock=NOW).require()
    with pytest.raises(BudgetError, match="spent inf"):
        decide(rows=asked, charges=[charge(2)], caps=CAPS, clock=NOW).require()


@given(
    first=st.integers(1, 464),
    sigma=st.floats(10, 60),
    q=st.sampled_from([1.0, 0.1]),
    steps=st.integers(1, 50),
)
def test_more_of_anything_never_makes_a_refusal_a_grant(
    first: int, sigma: float, q: float, steps: int
) -> None:
    rows, asked = [charge(1, first)], charge(2, steps, sigma=sigma, q=q)
    if not decide(rows=rows, charges=[asked], caps=LOOSE, clock=NOW).granted:
        more = replace(asked, steps=steps + 1)
        assert not decide(rows=rows, charges=[more], caps=LOOSE, clock=NOW).granted
        assert not decide(rows=[*rows, charge(3)], charges=[asked], caps=LOOSE, clock=NOW).granted


def test_a_request_needs_charges_and_a_time_zone() -> None:
    with pytest.raises(InputError, match="request"):
        decide(rows=[], charges=[], caps=CAPS, clock=NOW)
    with pytest.raises(InputError, match="request"):
        decide(rows=[], charges=[charge()], caps=CAPS, clock=datetime(2026, 1, 1))  # noqa: DTZ001
