from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.he.codec import pack, unpack
from privacy.he.parameters import num_words, parameters_for
from protocol.errors import InputError, IntegrityError
from protocol.jobs import Packing


@st.composite
def cases(draw: st.DrawFn) -> tuple[Packing, list[int]]:
    radix = draw(st.one_of(st.integers(2, 40), st.integers(41, 2**32)))
    packing = parameters_for(radix=radix, max_sites=draw(st.integers(1, 40)))
    half = (radix - 1) // 2
    values = draw(st.lists(st.integers(-half, radix - 1 - half), max_size=200))
    return packing, values


@given(cases())
def test_words_hold_the_digits_of_a_number_in_base_radix(case: tuple[Packing, list[int]]) -> None:
    packing, values = case
    words = pack(np.array(values, dtype=np.int64), packing)
    width = num_words(len(values), packing)
    assert words.tolist() == [
        sum(value * packing.radix**digit for digit, value in enumerate(values[word::width]))
        % packing.plain_modulus
        for word in range(width)
    ]
    assert unpack(words, len(values), packing).tolist() == values


@pytest.mark.parametrize("radix", [4, 101, 2**32])
def test_long_vectors_are_unpacked_in_parts(radix: int) -> None:
    packing = parameters_for(radix=radix, max_sites=10)
    half = (radix - 1) // 2
    count = 70_000 * packing.digits_per_word + 1
    values = np.random.Generator(np.random.PCG64(radix)).integers(-half, half + 1, count)
    assert np.array_equal(unpack(pack(values, packing), count, packing), values)


@given(cases(), st.integers(0, 2**32))
def test_packing_is_linear_even_beyond_the_digits_range(
    case: tuple[Packing, list[int]], seed: int
) -> None:
    packing, values = case
    left = np.array(values, dtype=np.int64)
    reach = min(4 * packing.radix, 2**61 // packing.radix ** (packing.digits_per_word - 1))
    right = np.random.Generator(np.random.PCG64(seed)).integers(-reach, reach, left.size)
    t = np.uint64(packing.plain_modulus)
    added = (pack(right, packing) + pack(left - right, packing)) % t
    assert np.array_equal(added, pack(left, packing))


def test_a_sum_that_overflows_carries_into_the_next_digit_for_everyone_alike() -> None:
    packing = parameters_for(radix=101, max_sites=3)
    words = pack(np.array([51, 0, 0]), replace(packing, digits_per_word=3))
    assert unpack(words, 3, replace(packing, digits_per_word=3)).tolist() == [-50, 1, 0]


def test_a_value_beyond_what_a_word_can_carry_is_refused() -> None:
    packing = parameters_for(radix=2541, max_sites=10)
    for value in (2**40, -(2**40), -(2**63)):
        with pytest.raises(InputError, match="too large") as refused:
            pack(np.array([0, value]), packing)
        assert str(abs(value)) not in str(refused.value)


def test_a_wrong_number_of_words_is_refused() -> None:
    packing = parameters_for(radix=2541, max_sites=10)
    with pytest.raises(IntegrityError, match="packed words"):
        unpack(np.zeros(3, dtype=np.uint64), 13, packing)


def test_nothing_packs_to_nothing() -> None:
    packing = parameters_for(radix=2541, max_sites=10)
    words = pack(np.zeros(0, dtype=np.int64), packing)
    assert words.size == 0
    assert unpack(words, 0, packing).size == 0
