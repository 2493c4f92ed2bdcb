"""How fast and small an encrypted sum could be on this machine: measured, not looked up."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import log2
from statistics import median
from typing import Self

import numpy as np
from tenseal import sealapi

from privacy.he.parameters import DEGREE, NOISE_FACTOR
from privacy.he.primes import previous_prime
from privacy.he.seal import Context
from privacy.he.seeds import library
from protocol.jobs import Packing

UNIFORM_BYTES = 8 * DEGREE
"""Hash output for one uniform polynomial."""
BINOMIAL_BYTES = 6 * DEGREE
"""Hash output for one polynomial of SEAL's centred binomial noise: 42 coins a coefficient."""
TRANSFORMS = 2
"""Of one symmetric encryption: the seed's polynomial there, its product with the key back."""
BUFFER = 4096
COPIED = 1 << 26


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What nothing with these parameters can beat on one core."""

    upload_bytes_per_value: float
    encrypt_values_per_s: float
    sum_values_per_s: float
    memory_values_per_s: float


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Speeds of this machine's memory and of the library's parts.

    Args:
        memory: Bytes read and written per second.
        hashed: Bytes of BLAKE2Xb per second.
        transform_s: Seconds of one number-theoretic transform of N residues.
    """

    memory: float
    hashed: float
    transform_s: float

    @classmethod
    def measured(cls) -> Self:
        """Measure now."""
        source, target = np.zeros(COPIED, np.uint8), np.empty(COPIED, np.uint8)
        copying = seconds(lambda: np.copyto(target, source), 9)
        return cls(
            memory=2 * COPIED / copying,
            hashed=BUFFER / hashing_s(),
            transform_s=transforming_s(),
        )

    def of(self, packing: Packing) -> Bound:
        """Bounds for sums under these parameters."""
        digits = packing.digits_per_word
        noise_bits = log2(NOISE_FACTOR * packing.max_sites)
        upload = (log2(packing.radix) + noise_bits / digits) / 8
        sampling = (UNIFORM_BYTES + BINOMIAL_BYTES) / self.hashed
        # The upload is read, each residue's two sums are read and written.
        touched = upload + 4 * 8 / digits
        memory_s = touched / self.memory
        hash_s = 8 / digits / self.hashed
        return Bound(
            upload_bytes_per_value=upload,
            encrypt_values_per_s=DEGREE * digits / (sampling + TRANSFORMS * self.transform_s),
            sum_values_per_s=1 / (memory_s + hash_s),
            memory_values_per_s=1 / memory_s,
        )


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The median of the processor's time."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return median(times)


def hashing_s() -> float:
    """One buffer of the hash that expands seeds, as SEAL calls it."""
    function = ctypes.CDLL(library()).blake2xb
    out, seed = ctypes.create_string_buffer(BUFFER), bytes(64)
    return seconds(lambda: function(out, BUFFER, bytes(8), 8, seed, 64), 2000)


def transforming_s() -> float:
    """One transform, by SEAL, of half a ciphertext there and back."""
    modulus = previous_prime(1 << 54, 2 * DEGREE)
    handle = Context(DEGREE, modulus, 1 << 32).handle
    evaluator = sealapi.Evaluator(handle)
    encryptor = sealapi.Encryptor(handle, sealapi.KeyGenerator(handle).secret_key())
    ciphertext = sealapi.Ciphertext()
    encryptor.encrypt_symmetric(sealapi.Plaintext("1"), ciphertext)

    def there_and_back() -> None:
        evaluator.transform_to_ntt_inplace(ciphertext)
        evaluator.transform_from_ntt_inplace(ciphertext)

    return seconds(there_and_back, 500) / 4
