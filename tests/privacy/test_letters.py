"""Letters: opened by one hospital, believed only where enough write the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privacy.envelope import seal, sign_sealed
from privacy.letters import Letter, Route, believe, read_letter, write_letter
from protocol.canonical import to_canonical
from protocol.deliveries import VOUCHED, Statement
from protocol.errors import IntegrityError
from tests.privacy.consortium import Hospital, hospital

JOB = hashlib.sha256(b"job").hexdigest()
WEIGHTS = np.array([1.5, -2.0, 0.25]).tobytes()
WEST, OTHER = hospital("west"), hospital("other")
STATEMENT = Statement(
    delivery="d" * 64,
    recipient="west",
    job=JOB,
    layout="a" * 64,
    weights=hashlib.sha256(WEIGHTS).hexdigest(),
    card=b"{}",
)


def route(sender: str, **changes: Any) -> Route:
    usual = {"delivery": "d" * 64, "roster": "r" * 64, "attempt": 2}
    return Route(**{**usual, "sender": sender, "recipient": "west", **changes})


def letter(
    name: str, *, statement: Statement = STATEMENT, weights: bytes | None = None, **changes: Any
) -> bytes:
    return write_letter(
        statement,
        route(name, **changes),
        kem=WEST.ephemeral.public_kem,
        weights=weights,
        key=hospital(name).key,
    )


def opened(name: str, **words: Any) -> Letter:
    return read(letter(name, **words), name)


def read(data: bytes, name: str, who: Hospital = WEST, **changes: Any) -> Letter:
    return read_letter(data, route(name, **changes), who.ephemeral, hospital(name).key.public)


@pytest.mark.parametrize("weights", [WEIGHTS, None])
def test_the_recipient_reads_what_the_holder_wrote(weights: bytes | None) -> None:
    data = letter("north", weights=weights)
    found = read(data, "north")
    assert (found.statement, found.weights) == (STATEMENT.to_bytes(), weights)
    assert WEIGHTS not in data
    assert STATEMENT.weights.encode() not in data


@pytest.mark.parametrize("place", [0, 70, -1])
def test_a_changed_letter_does_not_open(place: int) -> None:
    data = bytearray(letter("north", weights=WEIGHTS))
    data[place] ^= 1
    with pytest.raises(IntegrityError):
        read(bytes(data), "north")


@pytest.mark.parametrize(
    "changes",
    [
        {"attempt": 1},
        {"delivery": "e" * 64},
        {"roster": "e" * 64},
        {"recipient": "east"},
    ],
)
def test_a_letter_of_another_place_does_not_open(changes: dict[str, Any]) -> None:
    data = letter("north", **changes)
    with pytest.raises(IntegrityError):
        read(data, "north")


def test_a_letter_opens_for_nobody_else_and_is_nobody_elses() -> None:
    data = letter("north")
    with pytest.raises(IntegrityError, match="do not open"):
        read(data, "north", OTHER)
    with pytest.raises(IntegrityError, match="does not hold"):
        read_letter(data, route("south"), WEST.ephemeral, hospital("north").key.public)
    with pytest.raises(IntegrityError, match="does not hold"):
        read_letter(data, route("north"), WEST.ephemeral, OTHER.key.public)


def sealed(content: bytes, name: str = "north") -> bytes:
    """A letter with any content that its sender signed."""
    place = route(name).place
    body = seal(WEST.ephemeral.public_kem, place, content)
    return sign_sealed("letter", place, body, hospital(name).key)


def signed(statement: Statement, context: str = VOUCHED, by: str = "north") -> bytes:
    said = statement.to_bytes()
    signature = hospital(by).key.sign(context, said)
    return sealed(to_canonical(Letter(statement=said, signature=signature, weights=None)))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: sealed(b"secret"), "something else than a statement"),
        (lambda: signed(STATEMENT, by="south"), "does not hold"),
        (lambda: signed(STATEMENT, context="job"), "does not hold"),
        (lambda: signed(replace(STATEMENT, recipient="east")), "another delivery or hospital"),
        (lambda: signed(replace(STATEMENT, delivery="e" * 64)), "another delivery or hospital"),
    ],
)
def test_what_a_holder_did_not_say_of_this_delivery(make: Callable[[], bytes], told: str) -> None:
    with pytest.raises(IntegrityError, match=told) as caught:
        read(make(), "north")
    assert "secret" not in str(caught.value)


class TestBelieve:
    def test_enough_that_say_the_same(self) -> None:
        letters = {"north": opened("north", weights=WEIGHTS), "south": opened("south")}
        found = believe(letters, job=JOB, quorum=2)
        assert (found.statement, found.weights) == (STATEMENT, WEIGHTS)
        assert found.vouchers == ("north", "south")

    def test_whoever_says_something_else_does_not_count(self) -> None:
        other = replace(STATEMENT, card=b"[]")
        letters = {
            "north": opened("north", weights=WEIGHTS),
            "south": opened("south", statement=other),
        }
        with pytest.raises(IntegrityError, match=r"expected 2 or more .* found 1"):
            believe(letters, job=JOB, quorum=2)
        letters["east"] = opened("east")
        assert believe(letters, job=JOB, quorum=2).vouchers == ("north", "east")

    def test_a_false_model_first_keeps_no_true_one_out(self) -> None:
        planted = np.zeros(3).tobytes()
        false = replace(STATEMENT, weights=hashlib.sha256(planted).hexdigest())
        letters = {
            "north": opened("north", statement=false, weights=planted),
            "south": opened("south", weights=WEIGHTS),
            "east": opened("east"),
        }
        assert believe(letters, job=JOB, quorum=2).weights == WEIGHTS

    @pytest.mark.parametrize("quorum", [3, 4])
    def test_too_few(self, quorum: int) -> None:
        letters = {"north": opened("north", weights=WEIGHTS), "south": opened("south")}
        with pytest.raises(IntegrityError, match=f"expected {quorum} or more"):
            believe(letters, job=JOB, quorum=quorum)

    def test_weights_that_nobody_sent_or_that_are_others(self) -> None:
        silent = {name: opened(name) for name in ("north", "south")}
        with pytest.raises(IntegrityError, match="found 0"):
            believe(silent, job=JOB, quorum=2)
        lying = {**silent, "north": opened("north", weights=np.zeros(3).tobytes())}
        with pytest.raises(IntegrityError, match="found 0"):
            believe(lying, job=JOB, quorum=2)

    def test_the_model_of_another_job(self) -> None:
        letters = {"north": opened("north", weights=WEIGHTS), "south": opened("south")}
        with pytest.raises(IntegrityError, match="found 0"):
            believe(letters, job="e" * 64, quorum=2)
