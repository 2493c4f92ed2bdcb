"""SEAL's serialised objects, as far as this program writes and reads them, uncompressed.

Every record begins with a header of 16 bytes: magic number, header's length, version, compression,
a reserved field, and the record's length. Arrays and seeds inside it have such headers themselves.
Source: Microsoft SEAL 4, seal/serialization.h, ciphertext.cpp, plaintext.cpp, dynarray.h,
randomgen.cpp.
"""

from __future__ import annotations

import struct

SEED_BYTES = 64
_HEADER = struct.Struct("<HBBBBHQ")
HEADER_SIZE = _HEADER.size
_MAGIC = 0xA15E
_BLAKE2XB = b"\x01"


class Records:
    """What stands before the residues in the records of one set of parameters.

    Args:
        version: SEAL's major and minor version.
        degree: N.
        identity: The parameters' hash as SEAL computes it.
    """

    def __init__(self, version: tuple[int, int], degree: int, identity: tuple[int, ...]) -> None:
        self._version = version
        parms_id = struct.pack("<4Q", *identity)
        # Coefficients, scale; a plaintext's hash is zero, a secret key is a plaintext in NTT form.
        polynomial = struct.pack("<Qd", degree, 1.0)
        # Not in NTT form, 2 polynomials of N coefficients, 1 prime, scale, correction factor.
        ciphertext = parms_id + struct.pack("<BQQQdQ", 0, 2, degree, 1, 1.0, 1)
        self.plaintext_head = self._headed(bytes(32) + polynomial, degree)
        self.key_head = self._headed(parms_id + polynomial, degree)
        self.ciphertext_head = self._headed(ciphertext, 2 * degree)
        # A seeded ciphertext has its first polynomial only, then the generator's kind and seed.
        self.seed_head = self._header(1 + SEED_BYTES) + _BLAKE2XB
        self.seeded_head = self._headed(ciphertext, degree, len(self.seed_head) + SEED_BYTES)

    def _header(self, size: int) -> bytes:
        return _HEADER.pack(_MAGIC, HEADER_SIZE, *self._version, 0, 0, HEADER_SIZE + size)

    def _headed(self, fields: bytes, words: int, tail: int = 0) -> bytes:
        """Header and fields of an object, then the header of its array of residues."""
        array = self._header(8 + 8 * words) + struct.pack("<Q", words)
        return self._header(len(fields) + len(array) + 8 * words + tail) + fields + array
