"""The tests that an audit relies on, against enumeration and simulation."""

from __future__ import annotations

import doctest
import itertools
import math
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privacy.noise import SeededEntropy, discrete_gaussian
from simulations import audit_bounds, audit_report, audit_statistics
from simulations.audit_statistics import (
    SMALLEST_P,
    influence_p,
    repeat_p,
    resolution,
    spread_of_counts_p,
    spread_p,
    total_p,
)

LEVELS = (0.3, 0.05, 0.01)


@pytest.mark.parametrize("module", [audit_bounds, audit_report, audit_statistics])
def test_examples(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert (result.failed, result.attempted > 0) == (0, True)


def holds(draw: Callable[[], float], runs: int = 2000) -> None:
    """P-values of a true hypothesis fall below a level no more often than the level says."""
    p_values = np.array([draw() for _ in range(runs)])
    for level in LEVELS:
        below = int((p_values <= level).sum())
        assert stats.binom.sf(below - 1, runs, level) > 1e-6, (level, below / runs)


def test_noise_of_the_project_itself_spreads_as_claimed() -> None:
    entropy = SeededEntropy(1, "spread")

    def draw() -> float:
        noise = discrete_gaussian(32.0, 50, entropy)
        return spread_p(float((noise**2).sum()), 50, least=1024.0, most=1024.0)

    holds(draw)


def test_a_range_of_variances_is_tested_at_its_ends() -> None:
    assert spread_p(81.0, 100, least=0.9, most=1.1) > spread_p(81.0, 100, least=1.0, most=1.0)
    assert spread_p(130.0, 100, least=0.9, most=1.1) > spread_p(130.0, 100, least=1.0, most=1.0)
    assert spread_p(0.0, 100, least=1.0, most=1.0) == 0.0


@pytest.mark.parametrize("dof", [150, 1000, 5000])
def test_resolution_is_where_nearly_every_audit_alarms(dof: int) -> None:
    """The chance of an alarm at a smaller variance, by the distribution of the statistic."""
    level = 1e-6
    for ratio, least, most in ((1.0, 0.9989, 0.9991), (0.97, 0.9995, 1.0), (1.1, 0.0, 0.99)):
        true = (ratio * resolution(dof, level)) ** 2
        limit = stats.chi2.ppf(level / 2, dof)
        assert spread_p(limit, dof, least=1.0, most=1.0) == pytest.approx(level)
        assert least <= stats.chi2.cdf(limit / true, dof) <= most


@given(
    total=st.floats(-20, 40),
    units=st.integers(1, 4),
    rounds=st.integers(1, 3),
    rate=st.floats(0.05, 1.0),
    noise=st.floats(0.5, 5.0),
)
def test_influence_sums_over_every_number_of_draws(
    total: float, units: int, rounds: int, rate: float, noise: float
) -> None:
    low = high = 0.0
    for draws in itertools.product((0, 1), repeat=units * rounds):
        chance = math.prod(rate if drawn else 1 - rate for drawn in draws)
        z = (total - 0.9 * sum(draws)) / (noise * math.sqrt(2 * units))
        low += chance * math.erfc(-z) / 2
        high += chance * math.erfc(z) / 2
    found = influence_p(total, units=units, rounds=rounds, rate=rate, step=0.9, noise=noise)
    assert found == pytest.approx(min(1.0, 2 * min(low, high)), rel=1e-6, abs=1e-12)


def test_influence_of_nobody_says_nothing() -> None:
    assert influence_p(0.0, units=0, rounds=2, rate=1.0, step=1.0, noise=1.0) == 1.0


def test_a_sum_of_whole_numbers_is_enumerated() -> None:
    first, second = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.0, 0.0, 0.4])
    sums: dict[int, float] = {}
    for a, b, c in itertools.product(range(3), range(3), range(4)):
        sums[a + b + c] = sums.get(a + b + c, 0.0) + first[a] * first[b] * second[c]
    for value in range(8):
        low = sum(chance for one, chance in sums.items() if one <= value)
        high = sum(chance for one, chance in sums.items() if one >= value)
        found = total_p([(first, 2), (second, 1)], value)
        assert found == pytest.approx(max(SMALLEST_P, min(1.0, 2 * min(low, high))))


@given(counts=st.lists(st.integers(0, 6), min_size=3, max_size=3), rate=st.floats(0.1, 0.9))
def test_spread_of_counts_is_enumerated(counts: list[int], rate: float) -> None:
    centre = round(6 * rate)
    value = sum((count - centre) ** 2 for count in counts)
    chance_B = stats.binom.pmf(range(7), 6, rate)
    low = high = 0.0
    for trio in itertools.product(range(7), repeat=3):
        chance = math.prod(float(chance_B[count]) for count in trio)
        square = sum((count - centre) ** 2 for count in trio)
        low += chance * (square <= value)
        high += chance * (square >= value)
    found = spread_of_counts_p([(np.array(counts), 6)], rate)
    assert found == pytest.approx(min(1.0, 2 * min(low, high)), rel=1e-6, abs=1e-9)


def test_counts_far_away_weigh_no_more_than_ten_deviations() -> None:
    """The table of squares stays short, and a batch of everybody is still impossible."""
    assert spread_of_counts_p([(np.array([10_000]), 10_000)], 0.01) == SMALLEST_P


def test_epochs_do_not_spread_and_repeated_batches_spread_too_far() -> None:
    assert spread_of_counts_p([(np.full(200, 4), 16)], 0.25) == SMALLEST_P
    assert spread_of_counts_p([(np.repeat([16, 0], [50, 150]), 16)], 0.25) == SMALLEST_P
    rng = np.random.default_rng(0)
    holds(lambda: spread_of_counts_p([(rng.binomial(16, 0.25, 60), 16)], 0.25), runs=500)
    holds(
        lambda: spread_of_counts_p(
            [(rng.binomial(9, 0.3, 16), 9), (rng.binomial(12, 0.3, 16), 12)], 0.3
        ),
        runs=500,
    )


def test_independent_noise_does_not_repeat() -> None:
    rng = np.random.default_rng(0)
    holds(lambda: repeat_p(rng.normal(size=(6, 90)))[0], runs=1000)


def test_noise_that_repeats_in_part_is_seen() -> None:
    rng = np.random.default_rng(0)
    noise_VP = rng.normal(size=(6, 1200))
    noise_VP[4, :300] = noise_VP[1, :300]
    p, worst = repeat_p(noise_VP)
    assert p < 1e-9
    assert 0.15 < worst < 0.35


def test_a_release_without_noise_repeats_every_other() -> None:
    assert repeat_p(np.stack([np.zeros(50), np.ones(50)])) == (0.0, 1.0)


def test_equal_noise_of_another_size_repeats_too() -> None:
    noise_P = np.random.default_rng(0).normal(size=200)
    assert repeat_p(np.stack([noise_P, -3 * noise_P]))[0] == 0.0
