import copy
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.he.accumulator import Shape
from privacy.he.bits import pack_bits
from privacy.he.parameters import parameters_for
from privacy.he.seal import Cipher
from privacy.he.secret import SecretKey
from privacy.he.sum import CiphertextSum
from protocol.errors import FedwardError, InputError, IntegrityError

PACKING = parameters_for(radix=2541, max_sites=10)
KEY = SecretKey.generate(PACKING)


def words(count: int) -> "np.typing.NDArray[np.uint64]":
    generator = np.random.Generator(np.random.PCG64(count))
    return generator.integers(0, PACKING.plain_modulus, count, dtype=np.uint64)


def summed(payload: bytes, count: int) -> bytes:
    total = CiphertextSum(PACKING, count)
    total.add(payload)
    return total.residues()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 4095, 4096, 4097, 9000])
def test_words_come_back_and_only_words_are_sent(count: int) -> None:
    payload = KEY.encrypt(words(count))
    ciphertexts = -(-count // 4096)
    assert len(payload) == 64 * ciphertexts + -(-count // 64) * 8 * 54
    assert np.array_equal(KEY.decrypt(summed(payload, count), count), words(count))


def test_a_key_travels_as_bytes_and_another_key_reads_nothing() -> None:
    sent = SecretKey.from_bytes(PACKING, KEY.to_bytes())
    residues = summed(KEY.encrypt(words(500)), 500)
    assert np.array_equal(sent.decrypt(residues, 500), words(500))
    other = SecretKey.generate(PACKING)
    assert other.to_bytes() != KEY.to_bytes()
    assert np.mean(other.decrypt(residues, 500) == words(500)) < 0.02


@given(st.binary(max_size=300))
def test_garbage_is_no_key(garbage: bytes) -> None:
    with pytest.raises(IntegrityError):
        SecretKey.from_bytes(PACKING, garbage)


def test_a_key_of_another_length_or_range_or_zero_is_refused() -> None:
    data = KEY.to_bytes()
    beyond = pack_bits(np.full(4096, 3, dtype=np.uint64), 2)
    for bad in (data[:-1], data + b"\0", beyond, bytes(len(data))):
        assert len(beyond) == len(data)
        with pytest.raises(IntegrityError):
            SecretKey.from_bytes(PACKING, bad)


@pytest.mark.parametrize("coefficient", [2, 3, PACKING.plain_modulus - 2])
def test_a_key_of_another_kind_is_not_sent(
    coefficient: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cipher, "words", lambda _: np.full(4096, coefficient, dtype=np.uint64))
    with pytest.raises(FedwardError, match="not ternary"):
        SecretKey.generate(PACKING).to_bytes()


def test_parameters_are_checked_before_a_key_is_made_or_read() -> None:
    weak = PACKING.__class__(**{**PACKING.__dict__, "max_sites": 500})
    with pytest.raises(InputError):
        SecretKey.generate(weak)
    with pytest.raises(InputError):
        SecretKey.from_bytes(weak, KEY.to_bytes())


def test_words_beyond_the_plain_modulus_are_refused() -> None:
    with pytest.raises(InputError, match="below the plain modulus"):
        KEY.encrypt(np.array([PACKING.plain_modulus], dtype=np.uint64))


def test_nothing_is_neither_encrypted_nor_decrypted() -> None:
    with pytest.raises(InputError, match="at least one word"):
        KEY.encrypt(np.zeros(0, dtype=np.uint64))
    with pytest.raises(InputError, match="at least one word"):
        KEY.decrypt(b"", 0)


@given(st.binary(max_size=300))
def test_garbage_is_no_sum(garbage: bytes) -> None:
    with pytest.raises(IntegrityError):
        KEY.decrypt(garbage, 100)


def test_sums_of_another_length_or_range_or_without_a_secret_are_refused() -> None:
    residues = summed(KEY.encrypt(words(5000)), 5000)
    shape = Shape.of(PACKING, 5000)
    high = pack_bits(np.full(8192, PACKING.modulus, dtype=np.uint64), 54)
    transparent = residues[: shape.first_size] + bytes(len(residues) - shape.first_size)
    second = np.ones((2, 4096), dtype=np.uint64)
    second[1] = 0
    half = residues[: shape.first_size] + pack_bits(second.reshape(-1), 54)
    for bad in (
        residues[:-1],
        residues + b"\0",
        residues[: shape.first_size] + high,
        b"\xff" * shape.first_size + residues[shape.first_size :],
        transparent,
        half,
    ):
        with pytest.raises(IntegrityError):
            KEY.decrypt(bad, 5000)
    for count in (4999 - 64, 5000 + 64, 1):
        with pytest.raises(IntegrityError):
            KEY.decrypt(residues, count)


def test_a_key_is_not_serialised_by_chance() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        copy.deepcopy(KEY)
    assert re.fullmatch(r"<privacy\.he\.secret\.\w+ object at 0x[0-9a-f]+>", repr(KEY))
