from __future__ import annotations

import math

import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from hypothesis import given
from hypothesis import strategies as st

from privacy.accounting import SLACK, rdp_epsilon
from privacy.budget import Caps, Charge
from privacy.composition import admission_epsilons, displayed_epsilons, to_events
from tests.privacy.ledgers import BIG, CAPS, charge, gaussian_delta, mu_of

FULL = st.builds(
    charge,
    number=st.integers(1, 9),
    steps=st.integers(1, 60),
    sigma=st.floats(5, 80),
)


@given(st.lists(FULL, min_size=1, max_size=8))
def test_full_batches_compose_as_gaussian_dp(charges: list[Charge]) -> None:
    for kind, sigma in enumerate(("sigma_effective", "sigma_own")):
        epsilon = admission_epsilons(charges, BIG)[kind]
        mu = mu_of((getattr(charge, sigma), charge.steps) for charge in charges)
        assert gaussian_delta(mu, epsilon) == pytest.approx(0.99e-5, rel=1e-5)


@given(st.lists(FULL, min_size=1, max_size=8))
def test_for_full_batches_filter_and_display_agree(charges: list[Charge]) -> None:
    assert displayed_epsilons(charges, BIG.delta) == pytest.approx(admission_epsilons(charges, BIG))


@given(st.permutations([charge(n, n, sigma=7.0 * n) for n in range(1, 7)]))
def test_the_order_of_charges_changes_no_bit(charges: list[Charge]) -> None:
    assert admission_epsilons(charges, CAPS) == admission_epsilons(sorted(charges, key=str), CAPS)


def test_splitting_a_charge_changes_nothing() -> None:
    whole = [charge(1, 12, q=0.1), charge(2, 30)]
    split = [charge(1, 5, q=0.1), charge(3, 30), charge(4, 7, q=0.1)]
    assert to_events(whole, worst=True) == to_events(split, worst=True)


@pytest.mark.parametrize(
    "charges",
    [
        [charge(1, 40, sigma=1.5, q=0.1)],
        [charge(1, 20, sigma=2.0, q=0.02), charge(2, 5, sigma=4.0)],
        [charge(1, 10, sigma=1.0, q=0.2), charge(2, 30, sigma=3.0, q=0.05), charge(3, 2, sigma=6)],
    ],
)
def test_sub_sampled_events_cost_at_least_what_an_independent_account_says(
    charges: list[Charge],
) -> None:
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    for one in charges:
        gaussian = dp_event.GaussianDpEvent(one.sigma_effective)
        accountant.compose(dp_event.PoissonSampledDpEvent(one.q, gaussian), one.steps)
    exact = accountant.get_epsilon(0.99e-5)
    shown, admitted = displayed_epsilons(charges, CAPS.delta)[0], admission_epsilons(charges, CAPS)
    assert shown == pytest.approx(exact, rel=5e-3)
    assert admitted[0] >= shown


def test_one_sub_sampled_event_brings_the_renyi_filter_in() -> None:
    full = [charge(1, 300)]
    both = [*full, charge(2, 1, sigma=50.0, q=1e-4)]
    gaussian, renyi = admission_epsilons(full, CAPS), admission_epsilons(both, CAPS)
    # A step this small costs nothing; what is seen is the looser filter.
    assert renyi[0] > gaussian[0] + 0.05
    assert displayed_epsilons(both, CAPS.delta)[0] == pytest.approx(gaussian[0], abs=0.01)


def test_the_filter_knows_the_cap_and_so_pays_with_the_whole_delta() -> None:
    sub_sampled = charge(2, 1, sigma=500.0, q=1e-3)
    caps = Caps(epsilon=3.0, epsilon_worst=100.0, delta=1e-5)

    def admitted(rounds: int) -> bool:
        return admission_epsilons([charge(1, rounds), sub_sampled], caps)[0] <= caps.epsilon

    def without(rounds: int) -> bool:
        events = to_events([charge(1, rounds), sub_sampled], worst=False)
        return rdp_epsilon(events, SLACK * caps.delta) <= caps.epsilon

    rounds = range(250, 450)
    assert max(filter(admitted, rounds)) == 401
    assert max(filter(without, rounds)) == 314


def test_the_order_of_the_filter_follows_from_the_cap_and_from_no_release() -> None:
    """One order, so epsilon grows by the same with each equal step, whatever came before."""
    sub_sampled = charge(2, 1, sigma=500.0, q=1e-3)

    def epsilon(rounds: int) -> float:
        return admission_epsilons([charge(1, rounds), sub_sampled], CAPS)[0]

    steps = [epsilon(rounds + 100) - epsilon(rounds) for rounds in (1, 101, 1001, 10001)]
    assert steps == pytest.approx([steps[0]] * 4, rel=1e-9)


def test_without_a_cap_a_sub_sampled_event_still_has_an_epsilon() -> None:
    caps = Caps(epsilon=math.inf, epsilon_worst=math.inf, delta=1e-5)
    epsilon, worst = admission_epsilons([charge(1, 20, sigma=2.0, q=0.1)], caps)
    assert 0 < epsilon < worst < math.inf


@pytest.mark.parametrize("q", [1.0, 0.5])
def test_a_release_without_noise_costs_everything(q: float) -> None:
    charges = [charge(1), charge(2, sigma=0.0, q=q)]
    assert admission_epsilons(charges, CAPS) == (math.inf, math.inf)
    assert displayed_epsilons(charges, CAPS.delta) == (math.inf, math.inf)


def test_no_release_costs_nothing() -> None:
    assert admission_epsilons([], CAPS) == displayed_epsilons([], CAPS.delta) == (0.0, 0.0)
