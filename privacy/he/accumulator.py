"""The keyless sum itself; privacy.he.sum runs it here or in a process of its own.

Wire format of a contribution of W words, in ciphertexts of N = 4096 words each, S of them:
S seeds of 64 bytes, then the W residues c0, packed to as many bits as q has (W rounded up to a
multiple of 64). The seed stands for the uniform polynomial c1; residues of c0 that would hide no
word are not sent. The sum goes out as its packed residues c0 and then S N packed residues c1.

A contribution is checked whole before any of it is added: its exact length, and every residue
below q. It has no field beside those, and no way to say c1 = 0, a ciphertext without a secret.
What seeds stand for is computed without SEAL's loaders (privacy.he.seeds).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from privacy.he.bits import Words, pack_into, packed_size, rounded, unpack_bits
from privacy.he.records import SEED_BYTES
from privacy.he.seeds import SeedSum
from protocol.errors import InputError, IntegrityError

if TYPE_CHECKING:
    from protocol.jobs import Packing


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Lengths of everything that travels in one sum; plain numbers, so that a child needs no job.

    Args:
        degree: N.
        modulus: q.
        plain_modulus: t.
        num_words: W.
        max_sites: K_max.
    """

    degree: int
    modulus: int
    plain_modulus: int
    num_words: int
    max_sites: int

    def __post_init__(self) -> None:
        if self.num_words < 1:
            raise InputError("an encrypted sum", expected="at least one word")

    @classmethod
    def of(cls, packing: Packing, num_words: int) -> Self:
        """The lengths of a sum under a job's parameters."""
        return cls(
            degree=packing.degree,
            modulus=packing.modulus,
            plain_modulus=packing.plain_modulus,
            num_words=num_words,
            max_sites=packing.max_sites,
        )

    @property
    def bits(self) -> int:
        """Bits of a residue."""
        return self.modulus.bit_length()

    @property
    def ciphertexts(self) -> int:
        """S."""
        return -(-self.num_words // self.degree)

    @property
    def payload_size(self) -> int:
        """Bytes of a contribution."""
        return self.ciphertexts * SEED_BYTES + packed_size(self.num_words, self.bits)

    @property
    def first_size(self) -> int:
        """Bytes of the sum's packed c0."""
        return packed_size(self.num_words, self.bits)

    @property
    def residues_size(self) -> int:
        """Bytes of the sum."""
        return self.first_size + packed_size(self.ciphertexts * self.degree, self.bits)

    def check_payload(self, size: int, already: int) -> None:
        """Refuse a contribution of the wrong length, or one too many.

        Args:
            size: Its bytes.
            already: Contributions in the sum.

        Raises:
            IntegrityError: It cannot be added.
        """
        if size != self.payload_size:
            raise IntegrityError(
                "an encrypted contribution",
                expected=f"{self.payload_size} bytes",
                found=f"{size} bytes",
            )
        if already >= self.max_sites:
            raise IntegrityError(
                "encrypted contributions", expected=f"at most {self.max_sites} in one sum"
            )

    def check_residues(self, size: int) -> None:
        """Refuse a sum of the wrong length.

        Raises:
            IntegrityError: It has another number of bytes.
        """
        if size != self.residues_size:
            raise IntegrityError(
                "an encrypted sum", expected=f"{self.residues_size} bytes", found=f"{size} bytes"
            )

    def read_residues(self, data: bytes | memoryview, count: int) -> Words:
        """Packed residues, each checked to be below q.

        Raises:
            IntegrityError: Wrong length or a residue that is not below q.
        """
        residues = unpack_bits(data, count, self.bits)
        if residues.max(initial=0) >= self.modulus:
            raise IntegrityError("an encrypted word", expected="residues below the modulus")
        return residues


class Accumulator:
    """A sum of contributions; memory is one accumulator whatever the number of sites."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._contributions = 0
        self._first_W = np.zeros(rounded(shape.num_words), dtype=np.uint64)
        self._second = SeedSum(shape.degree, shape.modulus, shape.ciphertexts)

    def add(self, payload: bytes | memoryview) -> None:
        """Add one contribution, or refuse it and stay as before.

        Raises:
            IntegrityError: It is not a contribution of this shape, or one too many.
        """
        shape = self.shape
        shape.check_payload(len(payload), self._contributions)
        view = memoryview(payload)
        split = shape.ciphertexts * SEED_BYTES
        first_W = shape.read_residues(view[split:], rounded(shape.num_words))
        seeds_SB = np.frombuffer(view[:split], dtype=np.uint8).reshape(-1, SEED_BYTES)
        self._contributions += 1
        self._first_W += first_W
        # Unsigned: below q the difference wraps and the minimum is the number itself.
        np.minimum(self._first_W, self._first_W - np.uint64(shape.modulus), out=self._first_W)
        self._second.add(seeds_SB)

    def residues(self) -> memoryview:
        """The sum so far, as hospitals decrypt it; memory of its own, not copied.

        Raises:
            IntegrityError: Nothing has been added.
        """
        if not self._contributions:
            raise IntegrityError("an encrypted sum", expected="a contribution", found="none")
        second_W = self._second.polynomials().reshape(-1)
        bits, split = self.shape.bits, self.shape.first_size
        out = np.empty(self.shape.residues_size, dtype=np.uint8)
        pack_into(self._first_W, bits, out[:split].view(np.uint64))
        pack_into(second_W, bits, out[split:].view(np.uint64))
        return out.data
