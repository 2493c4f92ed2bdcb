from hypothesis import given
from hypothesis import strategies as st
from tenseal import sealapi

from privacy.he.primes import is_prime, next_prime, previous_prime


def test_small_primes_agree_with_the_sieve() -> None:
    limit = 20_000
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for number in range(2, 142):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(sieve[number * number :: number]))
    assert [number for number in range(limit) if is_prime(number)] == [
        number for number in range(limit) if sieve[number]
    ]


@given(st.integers(2, 2**60 - 1))
def test_long_numbers_agree_with_seals_own_test(number: int) -> None:
    for near in (number, next_prime(number)):
        if near < 2**60:
            assert is_prime(near) == sealapi.Modulus(near).is_prime()


def test_strong_pseudoprimes_are_no_primes() -> None:
    # Least strong pseudoprimes to the first 4, 8 and 11 primes (Jaeschke 1993; Jiang and Deng
    # 2014).
    for composite in (3_215_031_751, 341_550_071_728_321, 3_825_123_056_546_413_051):
        assert not is_prime(composite)


def test_the_nearest_primes_are_found() -> None:
    assert next_prime(2**32) == 2**32 + 15
    found = previous_prime(2**55, 8192)
    assert found % 8192 == 1
    assert is_prime(found)
    assert not any(is_prime(number) for number in range(found + 8192, 2**55, 8192))
