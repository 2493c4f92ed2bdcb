"""Exact products and sums: against fractions, in any order, and one record at a time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.exact import product, total


def exact(weight: np.ndarray, value: np.ndarray) -> list[list[Fraction]]:
    left = [[Fraction(x) for x in row] for row in weight.tolist()]
    right = [[Fraction(x) for x in row] for row in value.T.tolist()]
    return [[sum(map(Fraction.__mul__, a, b), Fraction(0)) for b in right] for a in left]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32), spread=st.sampled_from([0.0, 3.0, 40.0]), inputs=st.integers(1, 40)
)
def test_a_product_is_the_true_one_to_the_last_digits(
    seed: int, spread: float, inputs: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(3, inputs)) * np.exp(spread * rng.normal())
    value = rng.normal(size=(2, inputs, 4)) * np.exp(spread * rng.normal(size=(2, 1, 1)))
    found = product(weight, value)
    for record in range(2):
        reach = inputs * np.abs(weight).max() * np.abs(value[record]).max()
        true = exact(weight, value[record])
        error = max(
            abs(Fraction(float(found[record, o, k])) - true[o][k])
            for o in range(3)
            for k in range(4)
        )
        assert error <= Fraction(float(reach)) * Fraction(1, 2**40)


def test_bits_depend_on_neither_the_order_nor_the_other_records() -> None:
    rng = np.random.default_rng(0)
    weight, value = rng.normal(size=(5, 300)), rng.normal(size=(7, 300, 9))
    value[3] *= 1e9
    whole = product(weight, value)
    order = rng.permutation(300)
    assert (product(weight[:, order], value[:, order]) == whole).all()
    for record in range(7):
        assert (product(weight, value[record : record + 1])[0] == whole[record]).all()
    row_NL = value[:, :, 0]
    assert (total(row_NL[:, order]) == total(row_NL)).all()
    assert (total(row_NL[3:4]) == total(row_NL)[3]).all()


def test_sums_are_those_of_fractions() -> None:
    value_NL = np.random.default_rng(1).normal(size=(3, 5000)) * 1e-7 + 1.0
    for row, found in zip(value_NL.tolist(), total(value_NL).tolist(), strict=True):
        assert found == pytest.approx(float(sum(map(Fraction, row))), rel=1e-15)


def test_nothing_and_zeros_are_no_special_case() -> None:
    assert product(np.ones((2, 3)), np.zeros((0, 3, 4))).shape == (0, 2, 4)
    assert product(np.zeros((2, 3)), np.ones((1, 3, 1))).tolist() == [[[0.0], [0.0]]]
    assert total(np.zeros((2, 3))).tolist() == [0.0, 0.0]
    assert total(np.zeros((0, 3))).shape == (0,)
