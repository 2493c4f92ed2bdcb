from dataclasses import replace
from importlib.metadata import version

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenseal import sealapi

from privacy.he.parameters import (
    MAX_MODULUS_BITS,
    SEAL_LIBRARY,
    check_packing,
    digit_radix,
    num_ciphertexts,
    num_words,
    parameters_for,
)
from protocol.errors import InputError
from protocol.jobs import Packing

# Homomorphic Encryption Standard (2018), table 1: longest log2 q for N = 4096, ternary secrets.
STANDARD_BITS = {128: 109, 192: 75, 256: 58}


def test_the_modulus_is_within_the_standards_strictest_column() -> None:
    assert STANDARD_BITS[256] >= MAX_MODULUS_BITS
    levels = {128: "TC128", 192: "TC192", 256: "TC256"}
    for security, bits in STANDARD_BITS.items():
        level = sealapi.SEC_LEVEL_TYPE.__members__[levels[security]]
        assert sealapi.CoeffModulus.MaxBitCount(4096, level) == bits


@settings(deadline=None)
@given(st.integers(2, 2**38), st.integers(1, 200))
def test_chosen_parameters_are_exact_and_secure(radix: int, max_sites: int) -> None:
    try:
        packing = parameters_for(radix=radix, max_sites=max_sites)
    except InputError:
        assert 43 * max_sites * radix > 2**57
        return
    check_packing(packing)
    q, t = packing.modulus, packing.plain_modulus
    assert q.bit_length() <= STANDARD_BITS[256]
    assert 2 * 21.5 * max_sites * t < q
    assert radix**packing.digits_per_word <= t
    assert t > 2**32


@given(st.integers(2, 2**34), st.integers(1, 60))
def test_no_other_number_of_digits_needs_fewer_bits(radix: int, max_sites: int) -> None:
    packing = parameters_for(radix=radix, max_sites=max_sites)
    best = packing.modulus.bit_length() / packing.digits_per_word
    for digits in range(1, 59):
        least = max(radix**digits, 2**32)
        # Without any regard to where primes lie.
        bits = (43 * max_sites * least).bit_length()
        assert bits > MAX_MODULUS_BITS or best <= (bits + 1) / digits


@pytest.mark.parametrize(("bits", "limit"), [(8, 2.1), (12, 2.8), (16, 3.7), (22, 5.2), (32, 8.0)])
def test_bytes_per_value_are_within_the_targets(bits: int, limit: float) -> None:
    packing = parameters_for(radix=digit_radix(bits, 10), max_sites=10)
    assert packing.modulus.bit_length() / 8 / packing.digits_per_word < limit


def test_two_digits_of_a_noisy_sum_fit_a_word() -> None:
    packing = parameters_for(radix=2**24 - 1, max_sites=10)
    assert packing.digits_per_word == 2


@given(st.integers(2, 20), st.integers(1, 100))
def test_the_radix_covers_the_extreme_sums(bits: int, sites: int) -> None:
    extreme = sites * (2 ** (bits - 1) - 1)
    assert (digit_radix(bits, sites) - 1) // 2 == extreme


def test_a_bound_between_the_last_prime_and_a_power_of_two_takes_one_bit_more() -> None:
    packing = parameters_for(radix=(2**50 - 1000) // 43, max_sites=1)
    assert packing.modulus.bit_length() == 51
    check_packing(packing)


def test_what_cannot_be_is_refused_with_what_to_change() -> None:
    with pytest.raises(InputError, match="use narrower digits"):
        parameters_for(radix=2**57, max_sites=10)
    with pytest.raises(InputError, match="radix >= 2"):
        parameters_for(radix=1, max_sites=10)
    with pytest.raises(InputError, match="max_sites >= 1"):
        parameters_for(radix=255, max_sites=0)
    with pytest.raises(InputError, match="bits >= 2"):
        digit_radix(1, 10)


GOOD = parameters_for(radix=2541, max_sites=10)


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (replace(GOOD, degree=8192), "degree 4096"),
        (replace(GOOD, max_sites=0), "max_sites >= 1"),
        (replace(GOOD, radix=1), "radix >= 2"),
        (replace(GOOD, modulus=GOOD.modulus - 8192), "prime modulus"),
        (replace(GOOD, modulus=2**61 - 1), "at most 58 bits"),
        (replace(GOOD, plain_modulus=65537), "plain modulus of at least"),
        (replace(GOOD, plain_modulus=GOOD.plain_modulus + 1), "prime plain modulus"),
        (replace(GOOD, digits_per_word=0), "digits_per_word"),
        (replace(GOOD, digits_per_word=5), "radix\\^digits_per_word"),
        (replace(GOOD, max_sites=11), "43 \\* max_sites"),
    ],
)
def test_a_received_packing_that_breaks_a_rule_is_refused(bad: Packing, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        check_packing(bad)


def test_counts_are_rounded_up() -> None:
    assert [num_words(count, GOOD) for count in (0, 1, 4, 5)] == [0, 1, 1, 2]
    assert [num_ciphertexts(words) for words in (0, 1, 4096, 4097)] == [0, 1, 1, 2]


def test_the_library_in_the_handshake_is_the_installed_one() -> None:
    assert version("tenseal") in SEAL_LIBRARY
    header = sealapi.Serialization.SEALHeader()
    assert SEAL_LIBRARY.endswith(f"SEAL {header.version_major}.{header.version_minor}")
