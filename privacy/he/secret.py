"""The secret role: whoever holds a `SecretKey` encrypts contributions and decrypts their sum.

The coordinator never imports this module. A key lives in memory only; `to_bytes` exists to seal it
to another hospital, not to store it. What comes from outside, a key or a sum, is read here as
integers and checked before SEAL is given a record of this program's own making.
"""

from __future__ import annotations

from typing import NoReturn, Self

import numpy as np

from privacy.he.accumulator import Shape
from privacy.he.bits import BLOCK, Words, pack_bits, pack_into, packed_size, rounded, unpack_bits
from privacy.he.parameters import check_packing
from privacy.he.pool import Bytes, memory, spread
from privacy.he.records import SEED_BYTES
from privacy.he.seal import Cipher, Context, context
from protocol.errors import FedwardError, InputError, IntegrityError
from protocol.jobs import Packing

_KEY_BITS = 2
_MINUS_ONE = 2
"""What stands for -1 in a key's bytes."""


class SecretKey:
    """The BFV key that all hospitals of a cohort share for one epoch.

    Use `generate` or `from_bytes`. Encryption is symmetric and draws fresh randomness from the
    system at every call, also after a fork.
    """

    def __init__(self, packing: Packing, cipher: Cipher) -> None:
        self._packing = packing
        self._cipher = cipher

    @classmethod
    def generate(cls, packing: Packing) -> Self:
        """A new key.

        Raises:
            InputError: The parameters are not exact and secure, see `check_packing`.
        """
        check_packing(packing)
        return cls(packing, Cipher(_context(packing)))

    @classmethod
    def from_bytes(cls, packing: Packing, data: bytes) -> Self:
        """Read what `to_bytes` wrote under the same parameters.

        Raises:
            InputError: The parameters are not exact and secure.
            IntegrityError: The bytes are no key of these parameters.
        """
        check_packing(packing)
        key_N = unpack_bits(data, packing.degree, _KEY_BITS)
        if not key_N.any() or key_N.max() > _MINUS_ONE:
            raise IntegrityError("an encryption key", expected="coefficients -1, 0 and 1")
        key_N[key_N == _MINUS_ONE] = packing.plain_modulus - 1
        return cls(packing, Cipher(_context(packing), key_N))

    def to_bytes(self) -> bytes:
        """The key's coefficients of -1, 0 and 1 in two bits each, 1,024 bytes.

        Raises:
            FedwardError: The library made a key of another kind.
        """
        key_N = self._cipher.words()
        minus_one_N = key_N == self._packing.plain_modulus - 1
        if not (minus_one_N | (key_N <= 1)).all():
            raise FedwardError("this SEAL library makes keys that are not ternary")
        key_N[minus_one_N] = _MINUS_ONE
        return pack_bits(key_N, _KEY_BITS)

    def encrypt(self, words_W: Words) -> bytes:
        """One contribution; privacy.he.accumulator documents its format.

        Guarantee: without the key it hides the words (BFV, 256-bit classical security).

        Args:
            words_W: Words below t, framed and masked.

        Raises:
            InputError: A word is not below t.
        """
        if words_W.max(initial=0) >= self._packing.plain_modulus:
            raise InputError("words to encrypt", expected="words below the plain modulus")
        shape = Shape.of(self._packing, words_W.size)
        count = -(-words_W.size // BLOCK)
        payload = memory(shape.payload_size, count)
        split = shape.ciphertexts * SEED_BYTES
        seeds_SB, packed = payload[:split].reshape(-1, SEED_BYTES), payload[split:]

        def encrypt(block: int) -> None:
            start = block * BLOCK
            part_W = words_W[start : start + BLOCK]
            drawn_SB, first_SN = self._cipher.encrypt(_blocks(part_W, shape.degree))
            first = start // shape.degree
            seeds_SB[first : first + len(drawn_SB)] = drawn_SB
            # Residues behind the last word hide padding only and stay here.
            sent_W = first_SN.reshape(-1)[: rounded(part_W.size)]
            pack_into(sent_W, shape.bits, _part(packed, start, sent_W.size, shape).view(np.uint64))

        spread(count, encrypt, FedwardError("words could not be encrypted"))
        return payload.tobytes()

    def decrypt(self, residues: bytes, num_words: int) -> Words:
        """The words of the sum, below t.

        Args:
            residues: What `residues` of a sum gave.
            num_words: W, as the hospitals framed them.

        Raises:
            IntegrityError: Wrong length, a residue not below q, or a ciphertext without a secret.
        """
        shape = Shape.of(self._packing, num_words)
        shape.check_residues(len(residues))
        received = np.frombuffer(residues, dtype=np.uint8)
        first, second = received[: shape.first_size], received[shape.first_size :]
        count = -(-num_words // BLOCK)
        room = memory(8 * shape.ciphertexts * shape.degree, count)
        words_SN = room.view(np.uint64).reshape(-1, shape.degree)

        def decrypt(block: int) -> None:
            start = block * BLOCK
            first_W = _read(first, start, rounded(min(num_words - start, BLOCK)), shape)
            first_SN = _blocks(first_W, shape.degree)
            second_SN = _read(second, start, first_SN.size, shape).reshape(first_SN.shape)
            if not second_SN.any(axis=1).all():
                raise IntegrityError(
                    "an encrypted sum", expected="ciphertexts that are not transparent"
                )
            at = start // shape.degree
            self._cipher.decrypt(first_SN, second_SN, out=words_SN[at : at + len(first_SN)])

        refused = IntegrityError("an encrypted sum", expected="residues of ciphertexts")
        spread(count, decrypt, refused)
        return words_SN.reshape(-1)[:num_words]

    def __reduce__(self) -> NoReturn:
        """Keys are sealed, never serialised by chance."""
        raise TypeError("a secret key is not pickled; seal to_bytes() to its recipient")


def _context(packing: Packing) -> Context:
    return context(packing.degree, packing.modulus, packing.plain_modulus)


def _part(packed: Bytes, start: int, count: int, shape: Shape) -> Bytes:
    """Bytes of the `start`th packed residue, which begins a block, and those behind it."""
    begin = packed_size(start, shape.bits)
    return packed[begin : begin + packed_size(count, shape.bits)]


def _read(packed: Bytes, start: int, count: int, shape: Shape) -> Words:
    """Residues from the `start`th on, checked."""
    return shape.read_residues(_part(packed, start, count, shape).data, count)


def _blocks(words_W: Words, degree: int) -> Words:
    """S x N words, filled up with zeros."""
    if words_W.size % degree == 0:
        return words_W.reshape(-1, degree)
    blocks_SN = np.zeros((-(-words_W.size // degree), degree), dtype=np.uint64)
    blocks_SN.reshape(-1)[: words_W.size] = words_W
    return blocks_SN
