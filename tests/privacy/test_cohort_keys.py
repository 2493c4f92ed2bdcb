"""What an epoch's keys open is computed once, and only for the very same key and bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from privacy import cohort_keys
from privacy.he.parameters import parameters_for
from privacy.he.secret import SecretKey
from privacy.he.sum import CiphertextSum
from protocol.errors import IntegrityError
from protocol.jobs import Encryption

PACKING = parameters_for(radix=2**12 + 1, max_sites=4)
ENCRYPTION = Encryption(
    scheme="bfv",
    masks=True,
    digit_bits=16,
    digit_bound=1.0,
    update=PACKING,
    evaluation=PACKING,
    library="",
)
KEYS = cohort_keys.make(ENCRYPTION)
UPDATE = cohort_keys.secret_of(KEYS, "update", PACKING)


def residues(secret: SecretKey, value: int) -> bytes:
    total = CiphertextSum(PACKING, 64)
    total.add(secret.encrypt(np.full(64, value, dtype=np.uint64)))
    return total.residues()


def test_every_purpose_has_a_key_that_is_read_once() -> None:
    again = replace(KEYS)
    assert cohort_keys.secret_of(again, "update", PACKING) is UPDATE
    assert cohort_keys.secret_of(KEYS, "evaluation", PACKING).to_bytes() != UPDATE.to_bytes()
    with pytest.raises(IntegrityError, match="no key for this purpose"):
        cohort_keys.secret_of(KEYS, "statistics", PACKING)


def test_one_sum_is_decrypted_once_for_all_who_hold_the_keys() -> None:
    five = residues(UPDATE, 5)
    first_W = cohort_keys.decrypt(UPDATE, KEYS, five, 64)
    assert np.array_equal(first_W, np.full(64, 5))
    assert cohort_keys.decrypt(UPDATE, replace(KEYS), bytes(bytearray(five)), 64) is first_W
    with pytest.raises(ValueError, match="read-only"):
        first_W[0] = 0


def test_another_sum_key_or_length_is_decrypted_anew() -> None:
    six, other = residues(UPDATE, 6), cohort_keys.secret_of(KEYS, "evaluation", PACKING)
    assert np.array_equal(cohort_keys.decrypt(UPDATE, KEYS, six, 64), np.full(64, 6))
    assert np.array_equal(cohort_keys.decrypt(UPDATE, KEYS, six, 63), np.full(63, 6))
    assert not np.array_equal(cohort_keys.decrypt(other, KEYS, six, 63), np.full(63, 6))
    seven = residues(UPDATE, 7)
    assert np.array_equal(cohort_keys.decrypt(UPDATE, KEYS, seven, 64), np.full(64, 7))


def test_a_sum_that_was_changed_is_checked_again() -> None:
    good = residues(UPDATE, 8)
    cohort_keys.decrypt(UPDATE, KEYS, good, 64)
    with pytest.raises(IntegrityError):
        cohort_keys.decrypt(UPDATE, KEYS, good[:-1], 64)
    with pytest.raises(IntegrityError):
        cohort_keys.decrypt(UPDATE, KEYS, b"\xff" * len(good), 64)
