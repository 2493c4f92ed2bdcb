"""Primes near a number, the same on every machine."""

from __future__ import annotations

_WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def is_prime(number: int) -> bool:
    """Whether a number below 3.18e23 is prime, without chance.

    Source: Sorenson and Webster, Strong pseudoprimes to twelve prime bases, Math. Comp. 86 (2017).

    >>> [n for n in range(30) if is_prime(n)]
    [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    """
    if number < 2:
        return False
    for prime in _WITNESSES:
        if number % prime == 0:
            return number == prime
    return all(_passes(number, witness) for witness in _WITNESSES)


def next_prime(number: int) -> int:
    """The least prime that is not below `number`.

    >>> next_prime(24), next_prime(29)
    (29, 29)
    """
    while not is_prime(number):
        number += 1
    return number


def previous_prime(limit: int, step: int) -> int:
    """The greatest prime below `limit` that is 1 mod `step`.

    >>> previous_prime(1 << 14, 4096)
    12289
    """
    number = (limit - 2) // step * step + 1
    while not is_prime(number):
        number -= step
    return number


def _passes(number: int, witness: int) -> bool:
    """One round of Miller and Rabin's test for an odd number."""
    odd = number - 1
    twos = (odd & -odd).bit_length() - 1
    odd >>= twos
    power = pow(witness, odd, number)
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False
