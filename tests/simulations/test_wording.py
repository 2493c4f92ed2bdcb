"""Words for arms and numbers; most of them are shown by the doctests of the module."""

from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from simulations.config import ArmName
from simulations.results import Row
from simulations.wording import ARMS, epsilon, label, ordered, size


def test_every_arm_has_words() -> None:
    assert set(ARMS) == set(get_args(ArmName))


def test_an_arm_of_somebody_else_comes_last_under_its_own_name() -> None:
    rows = [Row(arm="mine", scores=(1.0,)), Row(arm="local", scores=(1.0,), epsilon=0.5)]
    assert [label(row) for row in ordered(rows)] == [
        "private, noise at each hospital, ε = 0.5",
        "mine",
    ]


@given(st.floats(0, 1e6))
def test_no_epsilon_reads_smaller_than_it_is(value: float) -> None:
    assert value <= float(epsilon(value)) <= value + 0.01 + 1e-6


@given(st.integers(0, 10**15))
def test_sizes_are_short_and_within_half_a_unit_of_the_last_digit(value: int) -> None:
    number, unit = size(value).split()
    scale = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}[unit]
    assert len(number) <= 6
    assert abs(float(number) * scale - value) <= 0.0501 * scale * (unit != "B")
