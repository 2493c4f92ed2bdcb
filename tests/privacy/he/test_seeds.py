import sys

import numpy as np
import pytest
from tenseal import sealapi

from privacy.he import seeds
from privacy.he.primes import previous_prime
from privacy.he.seal import Context, _Scratch
from privacy.he.seeds import Bytes, SeedSum, Words, library
from protocol.errors import FedwardError

DEGREE = 4096
# Just below a power of two next to no number is drawn again, in between up to one in 64.
MODULI = [previous_prime(limit, 2 * DEGREE) for limit in (1 << 41, 1 << 54, 1 << 58, 225 << 50)]


def seeds_of(count: int, number: int = 0) -> Bytes:
    generator = np.random.Generator(np.random.PCG64(number))
    return generator.integers(0, 256, (count, 64), dtype=np.uint8)


def by_seal(modulus: int, seeds_SB: Bytes) -> Words:
    """SEAL's own expansion: it loads seeded ciphertexts and saves whole ones."""
    parameters = Context(DEGREE, modulus, 1 << 32)
    records = parameters.records
    out_SN = np.empty((len(seeds_SB), DEGREE), dtype=np.uint64)
    with _Scratch(parameters) as source, _Scratch(parameters) as target:
        behind = source.write(records.seeded_head + bytes(8 * DEGREE) + records.seed_head)
        for index, seed_B in enumerate(seeds_SB):
            source.write(seed_B.data, behind)
            ciphertext = source.load(sealapi.Ciphertext())
            record = target.save(ciphertext, records.ciphertext_head)
            out_SN[index] = record[-8 * DEGREE :].view(np.uint64)
    return out_SN


@pytest.mark.parametrize("modulus", MODULI)
def test_seeds_expand_as_seal_expands_them(modulus: int) -> None:
    seeds_SB = seeds_of(40)
    total = SeedSum(DEGREE, modulus, 40)
    total.add(seeds_SB)
    assert np.array_equal(total.polynomials(), by_seal(modulus, seeds_SB))


def test_any_seed_expands_to_uniform_residues() -> None:
    modulus = MODULI[1]
    total = SeedSum(DEGREE, modulus, 2)
    extremes = np.vstack([np.zeros(64, np.uint8), np.full(64, 255, np.uint8)])
    total.add(extremes)
    once = total.polynomials().copy()
    assert abs(once.mean() / modulus - 0.5) < 6 / np.sqrt(12 * once.size)
    total.add(extremes)
    assert np.array_equal(total.polynomials(), 2 * once % modulus)


def test_a_long_sum_never_passes_64_bits() -> None:
    modulus, count = MODULI[2], 150
    total = SeedSum(DEGREE, modulus, 1)
    expected = np.zeros(DEGREE, dtype=object)
    for number in range(count):
        each = SeedSum(DEGREE, modulus, 1)
        each.add(seeds_of(1, number))
        expected += each.polynomials()[0].astype(object)
        total.add(seeds_of(1, number))
    assert (total.polynomials()[0].astype(object) == expected % modulus).all()


def test_the_library_is_the_one_that_tenseal_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert library() == str(sys.modules[sealapi.Ciphertext.__module__].__file__)
    monkeypatch.setattr(seeds, "EXTENSION", "no_such_extension")
    with pytest.raises(FedwardError, match="is missing"):
        library()
