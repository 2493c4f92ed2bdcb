"""Residues as a dense stream of bits: b bits for a residue below 2^b, not eight bytes.

Words are packed in blocks. A block of 64 m words is laid out as 64 rows of m words, and becomes b
rows of m 64-bit integers: each step is one shift over a whole row, so numpy does the work.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from protocol.errors import IntegrityError

Words = npt.NDArray[np.uint64]
BLOCK = 1 << 18
"""Words that are packed together, 64 ciphertexts' worth: a multiple of 64 that stays in a cache."""


def rounded(count: int) -> int:
    """The least multiple of 64 that is not below `count`.

    >>> rounded(1), rounded(64), rounded(65)
    (64, 64, 128)
    """
    return -(-count // 64) * 64


def packed_size(count: int, bits: int) -> int:
    """Bytes of `count` packed words, `count` rounded up to a multiple of 64.

    >>> packed_size(64, 55)
    440
    """
    return rounded(count) // 8 * bits


def pack_bits(words_W: Words, bits: int) -> bytes:
    """Pack words below 2^bits; their number is a multiple of 64.

    >>> pack_bits(np.full(64, 5, dtype=np.uint64), 4).hex() == 64 * "5"
    True
    """
    out = np.empty(words_W.size // 64 * bits, dtype="<u8")
    pack_into(words_W, bits, out)
    return out.tobytes()


def pack_into(words_W: Words, bits: int, out: Words) -> None:
    """Pack words as `pack_bits` does, into memory of just that size."""
    for start in range(0, words_W.size, BLOCK):
        block = words_W[start : start + BLOCK].reshape(64, -1)
        width = block.shape[1]
        first = start // 64 * bits
        _pack_block(block, out[first : first + bits * width].reshape(bits, width), bits)


def unpack_bits(data: bytes | memoryview, count: int, bits: int) -> Words:
    """Undo `pack_bits` for `count` words, a multiple of 64.

    Raises:
        IntegrityError: The data are not exactly as long as that many words.
    """
    if len(data) != packed_size(count, bits):
        raise IntegrityError(
            "packed residues",
            expected=f"{packed_size(count, bits)} bytes",
            found=f"{len(data)} bytes",
        )
    packed = np.frombuffer(data, dtype="<u8")
    out = np.empty(count, dtype=np.uint64)
    for start in range(0, count, BLOCK):
        block = out[start : start + BLOCK].reshape(64, -1)
        width = block.shape[1]
        first = start // 64 * bits
        _unpack_block(packed[first : first + bits * width].reshape(bits, width), block, bits)
    return out


def _pack_block(words_RM: Words, out_BM: Words, bits: int) -> None:
    """Row r of 64 goes to bits r*b to (r+1)*b of the column of b 64-bit integers."""
    shifted = np.empty(words_RM.shape[1], dtype=np.uint64)
    out_BM[...] = 0
    for row in range(64):
        target, offset = divmod(row * bits, 64)
        np.left_shift(words_RM[row], np.uint64(offset), out=shifted)
        out_BM[target] |= shifted
        if offset + bits > 64:
            np.right_shift(words_RM[row], np.uint64(64 - offset), out=shifted)
            out_BM[target + 1] |= shifted


def _unpack_block(packed_BM: Words, out_RM: Words, bits: int) -> None:
    carried = np.empty(out_RM.shape[1], dtype=np.uint64)
    mask = np.uint64((1 << bits) - 1)
    for row in range(64):
        source, offset = divmod(row * bits, 64)
        np.right_shift(packed_BM[source], np.uint64(offset), out=out_RM[row])
        if offset + bits > 64:
            np.left_shift(packed_BM[source + 1], np.uint64(64 - offset), out=carried)
            out_RM[row] |= carried
        out_RM[row] &= mask
