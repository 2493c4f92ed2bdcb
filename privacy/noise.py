"""Randomness that protects: discrete Gaussian noise, rounding coins and Poisson batches.

Every draw asks an `Entropy` for uniform 64-bit words. `SystemEntropy` asks the operating system
each time and keeps nothing, so no state crosses a fork and two processes never share a draw.
Floating point only decides where it is certain to be right; elsewhere more bits are drawn and
compared exactly, so the noise has the stated distribution and not one close to it.
"""

from __future__ import annotations

import hashlib
import math
import os
from decimal import MAX_EMAX, MIN_EMIN, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from typing import Protocol

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocol.errors import InputError

FloatVector = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

MAX_SIGMA = 2.0**40
"""Largest standard deviation that is drawn: far above any grid, far below what int64 holds."""

_AT_ONCE = 2**14
"""Candidates drawn together: their arrays stay in the processor's cache."""
_FEW = 2**10
"""So many words come straight from the system."""
_KEY_BYTES = 32
_ZEROS = memoryview(bytes(8 * _FEW))
_COIN_BITS = 40
_RUN_BITS = 64 - _COIN_BITS
_COIN_MASK = np.uint64(2**_COIN_BITS - 1)
_CERTAIN = 2.0**-32
"""Relative error granted to float64 arithmetic and exp, at least 2^8 times what they need."""


class Entropy(Protocol):
    """A source of uniform 64-bit words."""

    @property
    def seeded(self) -> bool:
        """Whether the words can be drawn again; true never protects a patient."""
        ...

    def words(self, count: int) -> Words:
        """Fresh uniform words, `count` of them."""
        ...


class SystemEntropy:
    """The operating system's generator, asked at every call.

    Many words are the AES-256 counter stream (NIST SP 800-38A, section 6.5) of a key that the
    system gives for this one call: five times the speed of the system's own words.

    Guarantee: Holds no state and no buffer, so a fork cannot make two processes draw alike.
    """

    @property
    def seeded(self) -> bool:
        """Always false."""
        return False

    def words(self, count: int) -> Words:
        """Fresh words."""
        if count <= _FEW:
            drawn = np.frombuffer(os.urandom(8 * count), dtype="<u8")
        else:
            drawn = _stream(os.urandom(_KEY_BYTES), count)
        return drawn.astype(np.uint64, copy=False)


def _stream(key: bytes, count: int) -> Words:
    """The first words of AES-256 in counter mode, little-endian."""
    cipher = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    words = np.empty(count, dtype="<u8")
    for start in range(0, count, _FEW):
        part = words[start : start + _FEW]
        cipher.update_into(_ZEROS[: part.nbytes], part.data.cast("B"))
    return words


class SeededEntropy:
    """Words that anyone with the seed can draw again, equal on every machine; for tests only.

    Args:
        seed: An integer that a local test configuration states.
        context: What tells this source from others of the same seed (hospital, job, purpose).

    Source: Philox4x64-10 of Salmon et al. 2011, keyed by SHA-256.

    >>> SeededEntropy(7, "north").words(2) == SeededEntropy(7, "north").words(2)
    array([ True,  True])
    """

    def __init__(self, seed: int, *context: str) -> None:
        parts = [str(seed), *context]
        text = b"".join(len(part.encode()).to_bytes(8, "big") + part.encode() for part in parts)
        key = hashlib.sha256(text).digest()[:16]
        self._generator = np.random.Philox(key=int.from_bytes(key, "big"))

    @property
    def seeded(self) -> bool:
        """Always true."""
        return True

    def words(self, count: int) -> Words:
        """The next words of the stream."""
        return self._generator.random_raw(count)


def discrete_gaussian(sigma: float, size: int, entropy: Entropy) -> IntVector:
    """Independent integers X with P(X = x) proportional to exp(-x^2 / (2 sigma^2)), exactly.

    A candidate is a random sign and U + t V, with U uniform below t, the smallest integer that is
    at least 1.1775 sigma, and V the number of leading zeros of random bits. It is kept with
    probability 2^V exp(-(U + t V)^2 / (2 sigma^2)) <= 1, which leaves the discrete Gaussian. How
    many candidates are drawn depends on the noise alone, never on data.

    Args:
        sigma: Standard deviation in grid units, 0 < sigma <= 2^40.
        size: How many.
        entropy: Where the randomness comes from.

    Raises:
        InputError: sigma is out of range.

    Source: Canonne, Kamath, Steinke 2020, The discrete Gaussian for differential privacy,
    Algorithm 3, with the two rejections joined into one and the geometric base 2 for e.
    """
    if not 0 < sigma <= MAX_SIGMA:
        raise InputError("noise", expected="0 < sigma <= 2^40", found=str(sigma))
    # 1.1775 > sqrt(2 ln 2) makes 2^V exp(-(tV)^2 / (2 sigma^2)) <= 2^(V - V^2) <= 1.
    block = math.ceil(Fraction(sigma) * Fraction(11775, 10000))
    found = np.empty(size, dtype=np.int64)
    filled = 0
    while filled < size:
        # One candidate in 4 block / sum(exp(-x^2 / (2 sigma^2))) is kept.
        wanted = math.ceil((size - filled) * 4.04 * block / max(1.0, 2.5066 * sigma)) + 16
        kept = _candidates(sigma, block, min(wanted, _AT_ONCE), entropy)[: size - filled]
        found[filled : filled + len(kept)] = kept
        filled += len(kept)
    return found


def stochastic_round(x: FloatVector, entropy: Entropy) -> IntVector:
    """Round each x to floor(x) or floor(x) + 1 with mean x, that is floor(x + coin).

    Guarantee: The coins do not depend on x, so for two neighbouring sums and the same coins the
    difference of the results is the stochastic rounding of the difference of the sums.

    Args:
        x: Finite values below 2^52 in magnitude.
        entropy: One word per value is taken from it.

    Raises:
        InputError: A value is not finite or too large; no value is named.

    Source: Kairouz, Liu, Steinke 2021, The distributed discrete Gaussian mechanism, Section 4.
    """
    if not np.all(np.abs(x) < 2.0**52):
        raise InputError("rounding", expected="finite values below 2^52")
    floor = np.floor(x)
    coins = uniform(x.size, entropy).reshape(x.shape)
    return (floor + (coins < x - floor)).astype(np.int64)


def poisson_sample(size: int, rate: float, entropy: Entropy) -> npt.NDArray[np.bool_]:
    """Which of `size` units are in a batch, each independently with probability `rate`.

    Args:
        size: Units.
        rate: Probability in [0, 1], rounded up to a multiple of 2^-53.
        entropy: One word per unit is taken from it.
    """
    if not 0 <= rate <= 1:
        raise InputError("sampling rate", expected="0 <= rate <= 1", found=str(rate))
    return uniform(size, entropy) < rate


def uniform(size: int, entropy: Entropy) -> FloatVector:
    """Uniform multiples of 2^-53 in [0, 1)."""
    return np.asarray((entropy.words(size) >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def _candidates(sigma: float, block: int, count: int, entropy: Entropy) -> IntVector:
    """The accepted ones among `count` candidates."""
    words = entropy.words(2 * count)
    place, luck = words[:count], words[count:]
    half = place >> np.uint64(1)
    offset = (half - half // np.uint64(block) * np.uint64(block)).astype(np.int64)
    zeros = _RUN_BITS - np.frexp((luck >> np.uint64(_COIN_BITS)).astype(np.float64))[1]
    magnitude = offset + block * zeros.astype(np.int64)
    coin = (luck & _COIN_MASK).astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        chance = np.ldexp(np.exp(-0.5 * (magnitude / sigma) ** 2), zeros + _COIN_BITS)
    kept = coin + 1 <= chance * (1 - _CERTAIN)
    for i in np.flatnonzero(~kept & (coin <= chance * (1 + _CERTAIN))):
        settled = _settle(sigma, block, int(offset[i]), int(zeros[i]), int(coin[i]), entropy)
        kept[i], magnitude[i] = settled is not None, settled or 0
    negative = (place & np.uint64(1)).astype(np.bool_)
    # Zero has one sign, and a place beyond the last whole block would favour small offsets.
    kept &= ~(negative & (magnitude == 0)) & (half < np.uint64(2**63 // block * block))
    return np.asarray(np.where(negative, -magnitude, magnitude)[kept], dtype=np.int64)


def _settle(
    sigma: float, block: int, offset: int, zeros: int, coin: int, entropy: Entropy
) -> int | None:
    """Decide one candidate exactly: its magnitude, or None if it is rejected."""
    if zeros == _RUN_BITS:
        zeros += _leading_zeros(entropy)
    magnitude = offset + block * zeros
    exponent = Fraction(magnitude) ** 2 / (2 * Fraction(sigma) ** 2)
    bits = _COIN_BITS
    while True:
        low, high = _bounds(exponent, zeros + bits)
        if coin + 1 <= low:
            return magnitude
        if coin >= high:
            return None
        coin = coin << 64 | int(entropy.words(1)[0])
        bits += 64


def _leading_zeros(entropy: Entropy) -> int:
    zeros = 0
    while not (word := int(entropy.words(1)[0])):
        zeros += 64
    return zeros + 64 - word.bit_length()


def _bounds(exponent: Fraction, shift: int) -> tuple[int, int]:
    """Integers around 2^shift * exp(-exponent), at most four apart."""
    digits = len(str(math.floor(exponent))) + shift // 3 + 10
    context = Context(prec=digits, Emin=MIN_EMIN, Emax=MAX_EMAX)
    ratio = context.divide(Decimal(exponent.numerator), Decimal(exponent.denominator))
    # Not -ratio: the operator would round to the thread's own context.
    value = context.multiply(context.exp(ratio.copy_negate()), Decimal(2**shift))
    below = int(value.to_integral_value(ROUND_FLOOR, context))
    return below - 1, below + 2
