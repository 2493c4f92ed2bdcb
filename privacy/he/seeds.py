"""The uniform polynomials that seeds stand for, as SEAL expands them, without an object of SEAL's.

SEAL draws N numbers of 64 bits from BLAKE2Xb under the seed, replaces each that would favour small
residues by the next number behind the N, and reduces them modulo q. All that is used of the library
here is that hash function, with lengths that are fixed: any 64 bytes are a seed.
Source: Microsoft SEAL 4, randomgen.cpp and util/rlwe.cpp (sample_poly_uniform); Aumasson et al.,
BLAKE2X (2016).
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from privacy.he.records import SEED_BYTES
from protocol.errors import FedwardError

Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]

EXTENSION = "_sealapi_cpp"
"""TenSEAL's extension module, a library that also exports the functions SEAL is built from."""

_BUFFER = 4096
"""Bytes that SEAL draws at a time, each time under the next value of a counter."""
_WORDS = _BUFFER // 8


class SeedSum:
    """A sum of expanded seeds, polynomial by polynomial.

    Args:
        degree: N, a multiple of 512.
        modulus: q < 2^63.
        count: Polynomials in a contribution, S.
    """

    def __init__(self, degree: int, modulus: int, count: int) -> None:
        self._modulus = np.uint64(modulus)
        # So many residues add up below 2^64 before the sum must be reduced.
        self._room = (1 << 64) // modulus - 1
        self._since = 0
        self._total_SN = np.zeros((count, degree), dtype=np.uint64)
        self._drawn_N = np.empty(degree, dtype=np.uint64)
        self._quotient_N = np.empty(degree, dtype=np.uint64)
        self._counts = [number.to_bytes(8, "little") for number in range(degree // _WORDS)]
        # Numbers from here on are drawn again; the bound is SEAL's, two below the highest possible.
        self._bound = np.uint64((1 << 64) - 2 - ((1 << 64) - 1) % modulus)

    def add(self, seeds_SB: Bytes) -> None:
        """Expand S seeds of 64 bytes, any bytes at all, and add."""
        if self._since == self._room:
            np.remainder(self._total_SN, self._modulus, out=self._total_SN)
            self._since = 1
        held_SB = np.ascontiguousarray(seeds_SB)
        for index in range(len(self._total_SN)):
            self._total_SN[index] += self._expand(held_SB[index].ctypes.data)
        self._since += 1

    def polynomials(self) -> Words:
        """The sums, S x N residues below q; the memory is the sum's own."""
        np.remainder(self._total_SN, self._modulus, out=self._total_SN)
        self._since = 1
        return self._total_SN

    def _expand(self, seed: int) -> Words:
        """N residues of the seed at an address, valid until the next call."""
        drawn_N, quotient_N = self._drawn_N, self._quotient_N
        hash_, out = _hash(), drawn_N.ctypes.data
        for count in self._counts:
            hash_(out, _BUFFER, count, len(count), seed, SEED_BYTES)
            out += _BUFFER
        if drawn_N.max() >= self._bound:
            self._draw_again(seed)
        # numpy divides by a scalar more than twice as fast as it takes remainders.
        np.floor_divide(drawn_N, self._modulus, out=quotient_N)
        np.multiply(quotient_N, self._modulus, out=quotient_N)
        np.subtract(drawn_N, quotient_N, out=drawn_N)
        return drawn_N

    def _draw_again(self, seed: int) -> None:
        """Replace, in order, the numbers that are not below the bound."""
        spare = np.empty(_WORDS, dtype=np.uint64)
        number, left = len(self._counts), spare[:0]
        for index in np.flatnonzero(self._drawn_N >= self._bound):
            while self._drawn_N[index] >= self._bound:
                if not left.size:
                    count = number.to_bytes(8, "little")
                    _hash()(spare.ctypes.data, _BUFFER, count, len(count), seed, SEED_BYTES)
                    number, left = number + 1, spare
                self._drawn_N[index], left = left[0], left[1:]


def library() -> str:
    """The file of TenSEAL's extension module, found without importing it.

    Raises:
        FedwardError: It is not installed.
    """
    found = find_spec(EXTENSION)
    if found is None or found.origin is None:
        raise FedwardError("TenSEAL's extension module is missing", expected=EXTENSION)
    return found.origin


@cache
def _hash() -> ctypes._NamedFuncPointer:
    """BLAKE2Xb: output and its length, input and its length, key and its length."""
    function = ctypes.CDLL(library()).blake2xb
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    function.argtypes = [pointer, size, ctypes.c_char_p, size, pointer, size]
    function.restype = ctypes.c_int
    return function
