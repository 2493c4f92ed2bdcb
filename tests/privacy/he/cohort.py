"""Hospitals that share a key, and a coordinator's tools to tamper with what they send."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy.he.accumulator import Shape
from privacy.he.bits import Words, pack_bits, rounded, unpack_bits
from privacy.he.codec import pack, unpack
from privacy.he.parameters import num_words, parameters_for
from privacy.he.secret import SecretKey
from privacy.he.sum import CiphertextSum, Sum
from privacy.he.words import check, frame, framed_size, tag_key
from protocol.jobs import Packing

Values = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Hospitals:
    """K hospitals that release vectors of one length under one key."""

    packing: Packing
    sites: int
    count: int
    key: SecretKey
    data_key: bytes = bytes(range(32))

    @classmethod
    def of(cls, *, radix: int, sites: int, count: int, max_sites: int | None = None) -> "Hospitals":
        packing = parameters_for(radix=radix, max_sites=max_sites or sites)
        return cls(packing=packing, sites=sites, count=count, key=SecretKey.generate(packing))

    @property
    def num_words(self) -> int:
        return framed_size(num_words(self.count, self.packing), self.sites)

    def tags(self, attempt: int = 1) -> bytes:
        return tag_key(self.data_key, job="job", epoch=1, attempt=attempt, purpose="update")

    def contribution(self, site: int, values_N: Values, attempt: int = 1) -> bytes:
        words_W = pack(values_N, self.packing)
        framed_W = frame(
            words_W, site=site, sites=self.sites, key=self.tags(attempt), packing=self.packing
        )
        return self.key.encrypt(framed_W)

    def contributions(self, values_KN: Values, attempt: int = 1) -> list[bytes]:
        return [self.contribution(site, row_N, attempt) for site, row_N in enumerate(values_KN)]

    def new_sum(self) -> CiphertextSum:
        return CiphertextSum(self.packing, self.num_words)

    def read(self, residues: bytes, attempt: int = 1) -> Values:
        words_W = self.key.decrypt(residues, self.num_words)
        value_words = check(
            words_W,
            present=tuple(range(self.sites)),
            sites=self.sites,
            key=self.tags(attempt),
            packing=self.packing,
        )
        return unpack(value_words, self.count, self.packing)


def summed(total: Sum, payloads: list[bytes]) -> bytes:
    for index, payload in enumerate(payloads):
        total.add(payload, sender=f"hospital-{index}")
    return total.residues()


@dataclass
class Opened:
    """A sum's residues as a coordinator can change them."""

    shape: Shape
    first: Words
    second: Words

    @classmethod
    def of(cls, hospitals: Hospitals, residues: bytes) -> "Opened":
        shape = Shape.of(hospitals.packing, hospitals.num_words)
        first, second = residues[: shape.first_size], residues[shape.first_size :]
        second_words = unpack_bits(second, shape.ciphertexts * shape.degree, shape.bits)
        return cls(
            shape,
            unpack_bits(first, rounded(shape.num_words), shape.bits),
            second_words.reshape(shape.ciphertexts, shape.degree),
        )

    def closed(self) -> bytes:
        first, second = self.first % self.shape.modulus, self.second % self.shape.modulus
        return pack_bits(first, self.shape.bits) + pack_bits(second.reshape(-1), self.shape.bits)
