"""TenSEAL's bindings of Microsoft SEAL, typed: the only file that touches them.

The bindings move an object's bytes through a path, so each call here goes through a file that
exists in memory alone. SEAL reads nothing but records that this module heads itself: what a peer
sends are integers that were checked before. SEAL writes compressed records; the Zstandard decoder
inside the same library opens them again.

Nothing is kept across a fork but read-only parameters and keys, and SEAL draws from the system's
generator at every encryption, so forked processes share neither a buffer nor randomness.
"""

from __future__ import annotations

import os
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from tenseal import sealapi

from privacy.he.records import HEADER_SIZE, SEED_BYTES, Records
from privacy.he.seeds import library
from privacy.he.zstandard import Decoder
from protocol.errors import FedwardError, InputError

Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]

_RELEASE = sealapi.Serialization.SEALHeader()
VERSION: tuple[int, int] = (_RELEASE.version_major, _RELEASE.version_minor)
"""SEAL's version. Seeds mean the same residues only under the same version."""


class Context:
    """BFV parameters with one prime modulus, accepted by SEAL at 256-bit classical security.

    Args:
        degree: N, coefficients of a polynomial.
        modulus: q, a prime equal to 1 mod 2N.
        plain_modulus: t < q.

    Raises:
        InputError: SEAL refuses the parameters.

    Source: Albrecht et al., Homomorphic Encryption Standard (2018), table 1.
    """

    def __init__(self, degree: int, modulus: int, plain_modulus: int) -> None:
        parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
        try:
            parameters.set_poly_modulus_degree(degree)
            parameters.set_coeff_modulus([sealapi.Modulus(modulus)])
            parameters.set_plain_modulus(plain_modulus)
        except (TypeError, ValueError) as error:
            raise InputError("SEAL refuses the encryption parameters") from error
        security = sealapi.SEC_LEVEL_TYPE.TC256
        self.handle: Any = sealapi.SEALContext(parameters, True, security)  # noqa: FBT003
        if not self.handle.parameters_set():
            reason = str(self.handle.parameters_error_name())
            raise InputError("SEAL refuses the encryption parameters", found=reason)
        self.degree = degree
        self.step = modulus // plain_modulus
        self.records = Records(VERSION, degree, tuple(self.handle.first_parms_id()))


@lru_cache(maxsize=16)
def context(degree: int, modulus: int, plain_modulus: int) -> Context:
    """The one object of these parameters in this process."""
    return Context(degree, modulus, plain_modulus)


class Cipher:
    """A secret key with SEAL's encryption and decryption; privacy.he.secret checks what goes in.

    Args:
        parameters: The key's parameters.
        key_N: The key's N coefficients, as `words` gave them; None makes a new key.
    """

    def __init__(self, parameters: Context, key_N: Words | None = None) -> None:
        self._parameters = parameters
        self._key: Any = sealapi.SecretKey()
        if key_N is None:
            self._key = sealapi.KeyGenerator(parameters.handle).secret_key()
        else:
            # SEAL keeps a key as a plaintext in NTT form, so its own transform makes one.
            plain, evaluator = sealapi.Plaintext(), sealapi.Evaluator(parameters.handle)
            with _Scratch(parameters) as scratch:
                scratch.write(key_N.data, scratch.write(parameters.records.plaintext_head))
                scratch.load(plain)
                evaluator.transform_to_ntt_inplace(plain, parameters.handle.first_parms_id())
                scratch.save(plain, parameters.records.key_head)
                scratch.load(self._key)
        self._encryptor = sealapi.Encryptor(parameters.handle, self._key)
        self._decryptor = sealapi.Decryptor(parameters.handle, self._key)

    def words(self) -> Words:
        """The key's N coefficients: 0, 1, or t - 1 for -1."""
        # The ciphertext (0, floor(q / t)) decrypts to the rounded t / q floor(q / t) s, which is s.
        first_SN, second_SN = np.zeros((2, 1, self._parameters.degree), dtype=np.uint64)
        second_SN[0, 0] = self._parameters.step
        words_SN = np.zeros_like(first_SN)
        self.decrypt(first_SN, second_SN, out=words_SN)
        return words_SN.reshape(-1)

    def encrypt(self, words_SN: Words) -> tuple[Bytes, Words]:
        """Fresh symmetric ciphertexts as S x 64 bytes of seeds and S x N residues c0.

        Args:
            words_SN: Coefficients below t.
        """
        size = 8 * self._parameters.degree
        seeds_SB = np.empty((len(words_SN), SEED_BYTES), dtype=np.uint8)
        first_SN = np.empty(words_SN.shape, dtype=np.uint64)
        plain = sealapi.Plaintext()
        with _Scratch(self._parameters) as source, _Scratch(self._parameters) as target:
            behind = source.write(self._parameters.records.plaintext_head)
            for index, words_N in enumerate(words_SN):
                source.write(words_N.data, behind)
                seeded = self._encryptor.encrypt_symmetric(source.load(plain))
                record = target.save(seeded, self._parameters.records.seeded_head)
                first_SN[index] = record[:size].view(np.uint64)
                seeds_SB[index] = record[-SEED_BYTES:]
        return seeds_SB, first_SN

    def decrypt(self, first_SN: Words, second_SN: Words, *, out: Words) -> None:
        """Coefficients below t of the ciphertexts (c0, c1).

        Args:
            first_SN: Residues c0 below q.
            second_SN: Residues c1 below q, no polynomial zero.
            out: S x N zeros, where the coefficients go.
        """
        ciphertext, plain = sealapi.Ciphertext(), sealapi.Plaintext()
        with _Scratch(self._parameters) as source, _Scratch(self._parameters) as target:
            head = len(self._parameters.records.plaintext_head) - HEADER_SIZE
            behind = source.write(self._parameters.records.ciphertext_head)
            for index in range(len(first_SN)):
                source.write(second_SN[index].data, source.write(first_SN[index].data, behind))
                self._decryptor.decrypt(source.load(ciphertext), plain)
                # SEAL drops leading zero coefficients, so the head varies and is not compared.
                record = target.save(plain)[head:]
                out[index, : record.size // 8] = record.view(np.uint64)


class _Scratch:
    """A file in memory through which objects are loaded and saved; made anew for each call."""

    def __init__(self, parameters: Context) -> None:
        self._handle = parameters.handle
        self._capacity = 32 * parameters.degree

    def __enter__(self) -> Self:
        self._decoder = Decoder(library(), self._capacity)
        self._header = bytearray(HEADER_SIZE)
        self._file = os.memfd_create("seal")
        self._path = f"/proc/self/fd/{self._file}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)
        self._decoder.close()

    def write(self, data: bytes | memoryview, offset: int = 0) -> int:
        """Overwrite from `offset` on; returns the offset behind the data."""
        return offset + os.pwrite(self._file, data, offset)

    def load(self, target: Any) -> Any:
        """Let SEAL read the file into one of its objects; returns the object."""
        target.load(self._handle, self._path)
        return target

    def save(self, source: Any, head: bytes = b"") -> Bytes:
        """What stands behind `head` in an object's uncompressed record; valid until the next.

        Raises:
            FedwardError: The library writes another format than this program knows.
        """
        source.save(self._path)
        size = os.preadv(self._file, [self._header, self._decoder.frame.data], 0) - HEADER_SIZE
        record, fields = self._decoder.decode(size), head[HEADER_SIZE:]
        if record[: len(fields)].tobytes() != fields or not record.size:
            raise FedwardError(
                "this SEAL library writes another format",
                found=f"SEAL {VERSION[0]}.{VERSION[1]}",
                remedy="install the TenSEAL version that the project names",
            )
        return record[len(fields) :]
