"""Parameters of exact BFV sums, computed from the width of a digit and the number of sites.

A word is an integer mod t that holds several digits. A contribution is the word times q/t plus a
noise that is bounded with certainty: SEAL draws it from a centred binomial distribution on
[-21, 21], and scaling by q/t rounds by at most 1/2. K contributions decrypt to their exact sum
while 21.5 K < q / (2 t), hence t <= q / (43 K): no failure probability is involved.
"""

from __future__ import annotations

from importlib.metadata import version

from privacy.he.primes import is_prime, next_prime, previous_prime
from privacy.he.seal import VERSION
from protocol.errors import InputError
from protocol.jobs import Packing

DEGREE = 4096
MAX_MODULUS_BITS = 58
"""Longest q for N = 4096 at 256-bit classical security, ternary secrets.

Source: Albrecht et al., Homomorphic Encryption Standard (2018), table 1.
"""

MIN_PLAIN_MODULUS = 1 << 32
"""Two tag words mod t let a forged sum pass with probability at most 2^-62, see words."""

NOISE_FACTOR = 43
"""Twice the bound 21.5 on the noise of one contribution."""

SEAL_LIBRARY = f"tenseal {version('tenseal')}, SEAL {VERSION[0]}.{VERSION[1]}"
"""What must agree between all parties: seeds expand to other residues in another version."""


def parameters_for(*, radix: int, max_sites: int) -> Packing:
    """The packing with the fewest bytes per value for sums of `max_sites` contributions.

    Args:
        radix: B, the number of values that a digit of the sum can take.
        max_sites: K_max.

    Raises:
        InputError: Not even one digit fits a word.

    >>> packing = parameters_for(radix=digit_radix(8, 10), max_sites=10)
    >>> packing.digits_per_word, packing.modulus.bit_length()
    (4, 54)
    """
    if radix < 2 or max_sites < 1:
        raise InputError(
            "packing", expected="radix >= 2 and max_sites >= 1", found=f"{radix} and {max_sites}"
        )
    best: Packing | None = None
    digits = 1
    while packing := _packing(radix, digits, max_sites):
        if best is None or _width(packing) < _width(best):
            best = packing
        digits += 1
    if best is None:
        raise InputError(
            "the sums do not fit an encrypted word",
            expected=f"sites * radix <= 2^{MAX_MODULUS_BITS} / {NOISE_FACTOR}",
            found=f"radix {radix} for {max_sites} sites",
            remedy="use narrower digits, a smaller clip or scale, or fewer sites",
        )
    return best


def digit_radix(bits: int, max_sites: int) -> int:
    """B for sums of `max_sites` digits in +-(2^(bits-1) - 1).

    >>> digit_radix(8, 10) == 2 * 10 * 127 + 1
    True
    """
    if bits < 2 or max_sites < 1:
        raise InputError(
            "digits", expected="bits >= 2 and max_sites >= 1", found=f"{bits} and {max_sites}"
        )
    return 2 * max_sites * ((1 << (bits - 1)) - 1) + 1


def check_packing(packing: Packing) -> None:
    """Verify a received packing: sums of `max_sites` contributions are exact, and secure.

    Raises:
        InputError: A rule is broken; the message names it.
    """
    q, t = packing.modulus, packing.plain_modulus
    rules = {
        f"degree {DEGREE}": packing.degree == DEGREE,
        "max_sites >= 1": packing.max_sites >= 1,
        "radix >= 2": packing.radix >= 2,
        f"a modulus of at most {MAX_MODULUS_BITS} bits": q.bit_length() <= MAX_MODULUS_BITS,
        "a prime modulus equal to 1 mod 2N": q % (2 * DEGREE) == 1 and is_prime(q),
        f"a plain modulus of at least {MIN_PLAIN_MODULUS}": t >= MIN_PLAIN_MODULUS,
        "a prime plain modulus": is_prime(t),
        "1 <= digits_per_word <= 64": 1 <= packing.digits_per_word <= 64,
    }
    for rule, holds in rules.items():
        if not holds:
            raise InputError("encryption parameters", expected=rule)
    if packing.radix**packing.digits_per_word > t:
        raise InputError("encryption parameters", expected="radix^digits_per_word <= t")
    if NOISE_FACTOR * packing.max_sites * t > q:
        raise InputError(
            "encryption parameters", expected=f"{NOISE_FACTOR} * max_sites * t <= modulus"
        )


def num_words(count: int, packing: Packing) -> int:
    """Words that hold `count` values.

    >>> num_words(9, parameters_for(radix=2541, max_sites=10))
    3
    """
    return -(-count // packing.digits_per_word)


def num_ciphertexts(words: int) -> int:
    """Ciphertexts that hold so many words.

    >>> num_ciphertexts(4096), num_ciphertexts(4097)
    (1, 2)
    """
    return -(-words // DEGREE)


def _packing(radix: int, digits: int, max_sites: int) -> Packing | None:
    """The packing with so many digits in a word, None when no modulus is wide enough."""
    least = max(radix**digits, MIN_PLAIN_MODULUS)
    bits = (NOISE_FACTOR * max_sites * least).bit_length()
    while bits <= MAX_MODULUS_BITS:
        t = next_prime(least)
        q = previous_prime(1 << bits, 2 * DEGREE)
        if NOISE_FACTOR * max_sites * t <= q:
            return Packing(
                degree=DEGREE,
                modulus=q,
                plain_modulus=t,
                radix=radix,
                digits_per_word=digits,
                max_sites=max_sites,
            )
        bits += 1
    return None


def _width(packing: Packing) -> float:
    """Bits on the wire per value."""
    return packing.modulus.bit_length() / packing.digits_per_word
