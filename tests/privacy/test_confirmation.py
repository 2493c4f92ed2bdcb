"""Tests of confirmations: they hold for one job, cohort, attempt and one set of weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from privacy.confirmation import Confirmations, confirm, gather
from privacy.envelope import derived_key, weights_tag
from protocol.errors import InputError, IntegrityError
from tests.privacy.consortium import JOB, cohort_of, hospitals

DATA_KEY = bytes(range(32))
WEIGHTS_P = np.array([1.0, -2.5, 0.125])
MEMBERS = hospitals(3)
COHORT = cohort_of(MEMBERS)


def signed(**changes: object) -> dict[str, bytes]:
    """Everybody's confirmation; `changes` are of the first member alone."""
    usual = {"weights_P": WEIGHTS_P, "cohort": COHORT, "attempt": 7, "data_key": DATA_KEY}
    return {
        one.name: confirm(**{**usual, **(changes if one is MEMBERS[0] else {})}, key=one.key)  # type: ignore[arg-type]
        for one in MEMBERS
    }


def gathered(signatures: dict[str, bytes]) -> Confirmations:
    return gather(WEIGHTS_P, COHORT, attempt=7, data_key=DATA_KEY, signatures=signatures)


def test_what_everybody_signed_verifies_later() -> None:
    found = gathered(signed())
    names = {one.name: one.key.fingerprint for one in MEMBERS}
    assert found.verify(WEIGHTS_P, JOB) == names


@pytest.mark.parametrize(
    "changes",
    [
        {"weights_P": np.nextafter(WEIGHTS_P, np.inf)},
        {"attempt": 8},
        {"data_key": bytes(32)},
        {"cohort": cohort_of(MEMBERS, epoch=2)},
        {"cohort": cohort_of(MEMBERS[:2])},
    ],
    ids=["weights", "attempt", "data key", "epoch", "cohort"],
)
def test_a_word_on_something_else_is_left_out(changes: dict[str, object]) -> None:
    found = gathered(signed(**changes))
    assert set(found.signatures) == {one.name for one in MEMBERS[1:]}


def test_strangers_and_exchanged_names_are_left_out() -> None:
    words = signed()
    first, second = (one.name for one in MEMBERS[:2])
    found = gathered({first: words[second], "stranger": words[first], second: words[second]})
    assert set(found.signatures) == {second}


def test_none_is_none() -> None:
    assert gathered({}).verify(WEIGHTS_P, JOB) == {}


def test_what_is_kept_is_verified_as_a_whole() -> None:
    found = gathered(signed())
    first = MEMBERS[0].name
    stranger = {**found.signatures, "stranger": found.signatures[first]}
    for wrong in (
        replace(found, signatures={**found.signatures, first: bytes(64)}),
        replace(found, signatures=stranger),
        replace(found, attempt=8),
        replace(found, key=bytes(32)),
        replace(found, cohort=cohort_of(MEMBERS, epoch=2).to_bytes()),
    ):
        with pytest.raises(IntegrityError):
            wrong.verify(WEIGHTS_P, JOB)
    with pytest.raises(IntegrityError):
        found.verify(WEIGHTS_P + 1, JOB)
    with pytest.raises(IntegrityError, match="another job"):
        found.verify(WEIGHTS_P, "0" * 64)
    with pytest.raises(InputError):
        replace(found, key=b"short")


def test_the_kept_key_is_not_the_data_key_and_its_tag_is_not_the_rounds() -> None:
    found = gathered(signed())
    assert found.key != DATA_KEY
    assert found.key == derived_key(DATA_KEY, "confirmation")
    assert derived_key(DATA_KEY, "another") != found.key
    assert weights_tag(found.key, WEIGHTS_P) != weights_tag(DATA_KEY, WEIGHTS_P)
