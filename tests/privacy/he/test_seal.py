import subprocess
import sys
from math import comb

import numpy as np
import pytest

from privacy.he.parameters import parameters_for
from privacy.he.primes import next_prime, previous_prime
from privacy.he.seal import Cipher, Context, _Scratch, context
from privacy.he.seeds import SeedSum
from protocol.errors import FedwardError, InputError

PACKING = parameters_for(radix=2541, max_sites=10)


def of_packing() -> Context:
    return context(PACKING.degree, PACKING.modulus, PACKING.plain_modulus)


def test_parameters_are_made_once() -> None:
    assert of_packing() is of_packing()


def test_seal_itself_refuses_a_modulus_beyond_256_bit_security() -> None:
    assert Context(4096, previous_prime(1 << 58, 8192), PACKING.plain_modulus)
    with pytest.raises(InputError, match="insecure"):
        Context(4096, previous_prime(1 << 59, 8192), PACKING.plain_modulus)


def test_numbers_that_are_no_parameters_are_refused() -> None:
    for modulus in (1 << 62, -1, 0):
        with pytest.raises(InputError, match="SEAL refuses"):
            Context(4096, modulus, PACKING.plain_modulus)


def test_the_noise_is_the_bounded_binomial_that_the_parameters_assume() -> None:
    # With t close to q a decrypted zero is its own noise: 21 fair coins less 21 others.
    q = PACKING.modulus
    t = next_prime(q - 1_000_000)
    assert t < q
    parameters = Context(4096, q, t)
    cipher = Cipher(parameters)
    seeds_SB, first_SN = cipher.encrypt(np.zeros((16, 4096), dtype=np.uint64))
    total = SeedSum(parameters.degree, q, 16)
    total.add(seeds_SB)
    words_SN = np.zeros_like(first_SN)
    cipher.decrypt(first_SN, total.polynomials(), out=words_SN)
    words = words_SN.reshape(-1).astype(np.int64)
    noise = np.where(words > t // 2, words - t, words)
    assert np.abs(noise).max() <= 21
    expected = np.array([comb(42, 21 + value) / 2**42 for value in range(-21, 22)])
    found = np.bincount(noise + 21, minlength=43) / noise.size
    deviations = np.abs(found - expected) / np.sqrt(expected / noise.size)
    assert deviations[expected * noise.size > 30].max() < 6


def test_coefficients_survive_wherever_zeros_stand() -> None:
    cipher = Cipher(of_packing())
    words_SN = np.zeros((3, 4096), dtype=np.uint64)
    words_SN[1, 7] = PACKING.plain_modulus - 1
    words_SN[2, 4095] = 1
    seeds_SB, first_SN = cipher.encrypt(words_SN)
    total = SeedSum(PACKING.degree, PACKING.modulus, 3)
    total.add(seeds_SB)
    found_SN = np.zeros_like(first_SN)
    cipher.decrypt(first_SN, total.polynomials(), out=found_SN)
    assert np.array_equal(found_SN, words_SN)


def test_a_key_is_the_same_after_its_words_were_read_and_written() -> None:
    cipher = Cipher(of_packing())
    again = Cipher(of_packing(), cipher.words())
    assert np.array_equal(again.words(), cipher.words())
    assert not np.array_equal(Cipher(of_packing()).words(), cipher.words())


def test_a_key_that_was_read_and_written_is_the_same_to_the_last_bit_of_its_ntt() -> None:
    cipher = Cipher(of_packing())
    again = Cipher(of_packing(), cipher.words())
    with _Scratch(of_packing()) as scratch:
        head = of_packing().records.key_head
        assert scratch.save(again._key, head).tobytes() == scratch.save(cipher._key, head).tobytes()


def test_keys_are_uniform_on_minus_one_zero_and_one() -> None:
    words_KN = np.array([Cipher(of_packing()).words() for _ in range(20)])
    values, counts = np.unique(words_KN, return_counts=True)
    assert values.tolist() == [0, 1, PACKING.plain_modulus - 1]
    assert np.abs(counts / words_KN.size - 1 / 3).max() < 6 * np.sqrt(2 / 9 / words_KN.size)


def test_two_encryptions_of_one_text_share_no_seed() -> None:
    seeds_SB, first_SN = Cipher(of_packing()).encrypt(np.zeros((2, 4096), dtype=np.uint64))
    assert not np.array_equal(seeds_SB[0], seeds_SB[1])
    assert not np.array_equal(first_SN[0], first_SN[1])


def test_another_library_format_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = Context(PACKING.degree, PACKING.modulus, PACKING.plain_modulus)
    cipher = Cipher(parameters)
    monkeypatch.setattr(parameters.records, "key_head", bytes(88))
    with pytest.raises(FedwardError, match="another format"):
        Cipher(parameters, cipher.words())


FORKS = """
import os, sys
import numpy as np
from privacy.he.parameters import parameters_for
from privacy.he.secret import SecretKey
packing = parameters_for(radix=2541, max_sites=2)
key = SecretKey.generate(packing)
words = np.arange(20_000, dtype=np.uint64)
key.encrypt(words)
ends = []
for _ in range(2):
    incoming, outgoing = os.pipe()
    if not os.fork():
        os.close(incoming)
        with os.fdopen(outgoing, "wb") as pipe:
            pipe.write(key.encrypt(words))
        os._exit(0)
    os.close(outgoing)
    ends.append(incoming)
payloads = []
for incoming in ends:
    with os.fdopen(incoming, "rb") as pipe:
        payloads.append(pipe.read())
from privacy.he.sum import CiphertextSum
total = CiphertextSum(packing, words.size)
for payload in payloads:
    total.add(payload)
assert np.array_equal(key.decrypt(total.residues(), words.size), 2 * words)
seeds = {payload[64 * i : 64 * i + 64] for payload in payloads for i in range(5)}
assert len(seeds) == 10
print("different")
"""


def test_forked_processes_encrypt_with_different_randomness() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "different\n"
