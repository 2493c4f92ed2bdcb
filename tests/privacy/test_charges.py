from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from privacy.charges import Caps, select
from protocol.errors import InputError
from tests.privacy.ledgers import charge


@pytest.mark.parametrize(
    "wrong",
    [
        {"population": ""},
        {"partition": "validation"},
        {"job": "ab"},
        {"job": "A" * 64},
        {"purpose": "statistics"},
        {"sigma_effective": -1.0},
        {"sigma_effective": math.inf},
        {"sigma_effective": math.nan},
        {"sigma_own": -1.0},
        {"sigma_own": 30.1},
        {"q": 0.0},
        {"q": 1.1},
        {"steps": 0},
        {"clip": 0.0},
        {"clip": math.inf},
        {"declared_size": -1},
        {"cohort_size": 0},
        {"colluding_sites": 5},
        {"colluding_sites": -1},
    ],
)
def test_a_charge_out_of_range_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"charge.{next(iter(wrong))}"):
        replace(charge(), **wrong)


def test_own_noise_recomputed_in_floats_may_pass_the_whole_by_an_ulp() -> None:
    assert charge(sigma=3.0, own=math.nextafter(3.0, 4.0)).sigma_own > 3.0


def test_no_noise_is_a_charge() -> None:
    assert charge(sigma=0.0).sigma_own == 0.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epsilon", 0.0),
        ("epsilon_worst", -1.0),
        ("epsilon", math.nan),
        ("delta", 0.0),
        ("delta", 1.0),
        ("delta", math.nan),
    ],
)
def test_caps_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"caps.{name}"):
        replace(Caps(epsilon=1.0, epsilon_worst=2.0, delta=1e-5), **{name: value})


def test_select_keeps_populations_and_partitions_apart() -> None:
    train, test = charge(1), charge(2, partition="test")
    other = charge(3, population="stroke")
    assert select([train, test, other], "cardiology", "train") == (train,)
    assert select([train, test, other], "cardiology", "test") == (test,)
    assert select([train, test, other], "stroke", "train") == (other,)
