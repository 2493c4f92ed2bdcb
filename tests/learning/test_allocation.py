"""Allocation: against trying everything, and prices against what one more would save."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from learning.allocation import Ward, allocate, scenarios
from protocol.errors import InputError

CHANCES = (0.25, 0.5, 0.25)


def invented(seed: int) -> list[Ward]:
    rng = np.random.default_rng(seed)
    return [
        Ward(
            name=name,
            demand=tuple(sorted(rng.integers(1, 9, size=3).astype(float).tolist())),
            least=1,
            most=7,
            staff=float(rng.choice([0.5, 1.0])),
            weight=float(rng.integers(1, 4)),
        )
        for name in ("medicine", "surgery", "children")
    ]


@pytest.mark.parametrize("seed", range(6))
def test_no_other_allocation_is_better(seed: int) -> None:
    wards, beds, staff = invented(seed), 12, 9.0
    plan = allocate(wards, CHANCES, beds=beds, staff=staff)
    best = np.inf
    for tried in product(range(1, 8), repeat=3):
        used = sum(bed * ward.staff for bed, ward in zip(tried, wards, strict=True))
        if sum(tried) <= beds and used <= staff:
            cost = sum(
                ward.weight * chance * max(need - bed, 0)
                for bed, ward in zip(tried, wards, strict=True)
                for need, chance in zip(ward.demand, CHANCES, strict=True)
            )
            best = min(best, cost)
    assert plan.cost == pytest.approx(best)
    assert sum(plan.beds.values()) <= beds


def test_the_price_of_a_bed_is_what_one_more_saves() -> None:
    wards = [Ward(name="a", demand=(4, 8, 9)), Ward(name="b", demand=(3, 5, 6), weight=2.0)]
    here, more = (allocate(wards, CHANCES, beds=beds) for beds in (9, 10))
    assert here.bed_price == pytest.approx(here.cost - more.cost)
    assert here.staff_price == 0


def test_nurses_have_a_price_where_beds_have_none() -> None:
    wards = [Ward(name="a", demand=(9, 9, 9), staff=0.5)]
    plan = allocate(wards, CHANCES, beds=100, staff=2.0)
    assert plan.beds == {"a": 4}
    assert plan.bed_price == 0
    assert plan.staff_price == pytest.approx(2.0)


def test_scenarios_are_the_levels_nearest_shares() -> None:
    assert scenarios((0.5,)).tolist() == [1]
    assert sum(scenarios((0.05, 0.25, 0.5, 0.75, 0.95))) == pytest.approx(1)


@pytest.mark.parametrize(
    ("wards", "chances", "beds"),
    [
        ([], (1.0,), 3),
        ([Ward(name="a", demand=(1,)), Ward(name="a", demand=(1,))], (1.0,), 3),
        ([Ward(name="a", demand=(1, 2))], (1.0,), 3),
        ([Ward(name="a", demand=(1,))], (0.5,), 3),
        ([Ward(name="a", demand=(1,), least=5)], (1.0,), 3),
    ],
)
def test_what_cannot_be_planned_is_refused(
    wards: list[Ward], chances: tuple[float, ...], beds: int
) -> None:
    with pytest.raises(InputError):
        allocate(wards, chances, beds=beds)
