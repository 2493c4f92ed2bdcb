"""Ways to add vectors without reading them, all in one shape, and one that hides nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from report import own_environment

from privacy.he.codec import pack, unpack
from privacy.he.parameters import digit_radix, num_words, parameters_for
from privacy.he.secret import SecretKey
from privacy.he.sum import SumProcess
from privacy.he.words import check, frame, framed_size, tag_key
from protocol.jobs import Packing

Vector = npt.NDArray[Any]
CKKS_DEGREE, CKKS_PRIMES = 8192, (60, 40, 40)
BFV_DEGREE, BFV_PLAIN = 4096, 1032193
PAILLIER_BITS, PAILLIER_VALUES = 2048, 32


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """One hospital's values to bytes, the sum, and back.

    Args:
        values: A hospital's values, by its index.
        encrypt: From a hospital's index and values to what it sends.
        add: Adds what a hospital sent.
        total: What the coordinator sends back.
        decrypt: From that to the sum.
        adder: Process that adds, None for this one.
        close: Ends what was started.
    """

    values: Callable[[int], Vector]
    encrypt: Callable[[int, Vector], bytes]
    add: Callable[[bytes], None]
    total: Callable[[], bytes]
    decrypt: Callable[[bytes], Vector]
    adder: int | None = None
    close: Callable[[], None] = lambda: None


def packing_of(mode: str, bits: int, sites: int) -> Packing:
    """Digits of each hospital's value in mode `local`, of the noised sum in mode `distributed`."""
    radix = digit_radix(bits, sites) if mode == "local" else (1 << bits) - 1
    return parameters_for(radix=radix, max_sites=sites)


def fedward(mode: str, bits: int, count: int, sites: int) -> Scheme:
    """This project: integers, framed, encrypted, added in a process without a key."""
    packing = packing_of(mode, bits, sites)
    reach = (packing.radix - 1) // 2 // sites
    key = SecretKey.generate(packing)
    tags = tag_key(bytes(32), job="job", epoch=1, attempt=1, purpose="update")
    words = framed_size(num_words(count, packing), sites)
    process = SumProcess()
    total = process.sum(packing, words)

    def encrypt(site: int, values: Vector) -> bytes:
        packed = pack(values, packing)
        return key.encrypt(frame(packed, site=site, sites=sites, key=tags, packing=packing))

    def decrypt(residues: bytes) -> Vector:
        framed = key.decrypt(residues, words)
        present = tuple(range(sites))
        values = check(framed, present=present, sites=sites, key=tags, packing=packing)
        return unpack(values, count, packing)

    return Scheme(
        values=lambda site: drawn(site).integers(-reach, reach + 1, count),
        encrypt=encrypt,
        add=total.add,
        total=total.residues,
        decrypt=decrypt,
        adder=process.pid,
        close=partial(process.__exit__, None, None, None),
    )


def float32(count: int) -> Scheme:
    """Without encryption, as other frameworks send values."""
    total = np.zeros(count, dtype=np.float32)

    def add(payload: bytes) -> None:
        np.add(total, np.frombuffer(payload, dtype=np.float32), out=total)

    return Scheme(
        values=lambda site: drawn(site).uniform(-1, 1, count),
        encrypt=lambda _, values: values.astype(np.float32).tobytes(),
        add=add,
        total=total.tobytes,
        decrypt=lambda data: np.frombuffer(data, dtype=np.float32).astype(np.float64),
    )


def ckks(count: int) -> Scheme:
    """The peers: CKKS with NVIDIA FLARE's parameters, one TenSEAL vector, symmetric encryption."""
    import tenseal  # noqa: PLC0415

    secret = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        poly_modulus_degree=CKKS_DEGREE,
        coeff_mod_bit_sizes=list(CKKS_PRIMES),
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
    )
    secret.global_scale = 2**40
    public = tenseal.context_from(secret.serialize(save_secret_key=False))
    return _by_vectors(
        lambda values: tenseal.ckks_vector(secret, values).serialize(),
        partial(tenseal.ckks_vector_from, public),
        lambda data: tenseal.ckks_vector_from(secret, data).decrypt(),
        lambda site: drawn(site).uniform(-1, 1, count),
    )


def tenseal_bfv(bits: int, count: int, sites: int) -> Scheme:
    """TenSEAL's own vector of integers; its plain modulus holds a sum of 16-bit digits."""
    import tenseal  # noqa: PLC0415

    reach = (digit_radix(bits, sites) - 1) // 2 // sites
    secret = tenseal.context(
        tenseal.SCHEME_TYPE.BFV,
        poly_modulus_degree=BFV_DEGREE,
        plain_modulus=BFV_PLAIN,
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
    )
    public = tenseal.context_from(secret.serialize(save_secret_key=False))
    return _by_vectors(
        lambda values: tenseal.bfv_vector(secret, values.tolist()).serialize(),
        partial(tenseal.bfv_vector_from, public),
        lambda data: tenseal.bfv_vector_from(secret, data).decrypt(),
        lambda site: drawn(site).integers(-reach, reach + 1, count),
    )


def _by_vectors(
    encrypt: Callable[[Vector], bytes],
    load: Callable[[bytes], Any],
    decrypt: Callable[[bytes], list[float]],
    values: Callable[[int], Vector],
) -> Scheme:
    totals: list[Any] = []

    def add(payload: bytes) -> None:
        vector = load(payload)
        if totals:
            totals[0].add_(vector)
        else:
            totals.append(vector)

    return Scheme(
        values=values,
        encrypt=lambda _, vector: encrypt(vector),
        add=add,
        total=lambda: bytes(totals[0].serialize()),
        decrypt=lambda data: np.array(decrypt(data)),
    )


def paillier() -> Scheme:
    """One Paillier ciphertext for each of a few 16-bit integers; cost is proportional to them."""
    found = own_environment("paillier", ["phe", "gmpy2"], install=False)
    if found is not None:
        sys.path += [str(path) for path in found.parents[1].glob("lib/python*/site-packages")]
    from phe.paillier import generate_paillier_keypair  # noqa: PLC0415

    public, private = generate_paillier_keypair(n_length=PAILLIER_BITS)
    width = PAILLIER_BITS // 4
    totals = [1] * PAILLIER_VALUES

    def numbers(payload: bytes) -> list[int]:
        parts = range(0, len(payload), width)
        return [int.from_bytes(payload[part : part + width], "big") for part in parts]

    def to_bytes(ciphertexts: list[int]) -> bytes:
        return b"".join(number.to_bytes(width, "big") for number in ciphertexts)

    def add(payload: bytes) -> None:
        totals[:] = [a * b % public.nsquare for a, b in zip(totals, numbers(payload), strict=True)]

    return Scheme(
        values=lambda site: drawn(site).integers(0, 1 << 16, PAILLIER_VALUES),
        encrypt=lambda _, values: to_bytes([public.raw_encrypt(v) for v in values.tolist()]),
        add=add,
        total=lambda: to_bytes(totals),
        decrypt=lambda data: np.array([private.raw_decrypt(c) for c in numbers(data)]),
    )


def drawn(site: int) -> np.random.Generator:
    """Public randomness of one hospital."""
    return np.random.Generator(np.random.PCG64(site))
