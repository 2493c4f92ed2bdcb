"""Signed integers in words mod t, several digits to a word.

A word is sum_j v_j B^j mod t. The map is linear and nothing is clamped, so the words of a sum are
the sum of the words, and whether a digit overflows depends on the sum alone, never on one site.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from privacy.he.parameters import num_words
from protocol.errors import InputError, IntegrityError
from protocol.jobs import Packing

Words = npt.NDArray[np.uint64]
Values = npt.NDArray[np.int64]
_BLOCK = 1 << 15
"""Words that are unpacked at a time: they stay in the processor's cache."""


def pack(values_N: Values, packing: Packing) -> Words:
    """Words mod t of N values; value i + j W is digit j of word i, W the number of words.

    Args:
        values_N: Signed integers. Their sum over sites must lie in +-(B - 1)/2.
        packing: The sum's parameters.

    Raises:
        InputError: A value is so far outside that its word would not fit 63 bits.

    >>> from privacy.he.parameters import parameters_for
    >>> packing = parameters_for(radix=101, max_sites=10)
    >>> unpack(pack(np.array([-3, 50, 7, 0, -50]), packing), 5, packing).tolist()
    [-3, 50, 7, 0, -50]
    """
    digits, radix, t = packing.digits_per_word, packing.radix, packing.plain_modulus
    width = num_words(values_N.size, packing)
    _check_range(values_N, (1 << 62) // (2 * radix ** (digits - 1)))
    # The last digits of the last words may be missing: they are zeros.
    full, rest = divmod(values_N.size, width) if width else (0, 0)
    total_W = np.zeros(width, dtype=np.int64)
    total_W[:rest] = values_N[full * width :]
    for digit in reversed(range(full)):
        total_W *= radix
        total_W += values_N[digit * width : (digit + 1) * width]
    # x - (x // t) t: numpy vectorises the division by a scalar, not the remainder.
    total_W -= total_W // t * t
    return total_W.view(np.uint64)


def unpack(words_W: Words, count: int, packing: Packing) -> Values:
    """The `count` signed values of words mod t.

    Digits below the last are in +-(B - 1)/2; the last takes what is left, so that a sum that
    overflows is read the same way by everyone.

    Raises:
        IntegrityError: There are not as many words as that count needs.
    """
    digits, radix, t = packing.digits_per_word, packing.radix, packing.plain_modulus
    width = num_words(count, packing)
    if words_W.size != width:
        raise IntegrityError("packed words", expected=str(width), found=str(words_W.size))
    half = (radix - 1) // 2
    # Shifted by half in every digit the word is a plain number in base B.
    shift = half * (radix**digits - 1) // (radix - 1)
    values_DW = np.empty((digits, width), dtype=np.int64)
    for start in range(0, width, _BLOCK):
        rest_B = words_W[start : start + _BLOCK] + np.uint64(shift)
        rest_B -= rest_B // np.uint64(t) * np.uint64(t)
        values_DB = values_DW[:, start : start + _BLOCK]
        for values_B in values_DB[:-1]:
            quotient_B = rest_B // np.uint64(radix)
            np.subtract(rest_B, quotient_B * np.uint64(radix), out=values_B, casting="unsafe")
            rest_B = quotient_B
        values_DB[-1] = rest_B
        values_DB -= half
    return values_DW.reshape(-1)[:count]


def _check_range(values_N: Values, limit: int) -> None:
    """Refuse values with which a word could leave int64; honest sums are far below."""
    if values_N.size and (values_N.max() > limit or values_N.min() < -limit):
        raise InputError(
            "a value is too large for its digit", remedy="lower the clip, the scale or the bound"
        )
