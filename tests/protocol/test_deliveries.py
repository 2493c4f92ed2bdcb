"""The delivery document and the statement: one digest each, and nothing that is read loosely."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from protocol.canonical import to_canonical
from protocol.deliveries import CONTEXT, VOUCHED, Delivery, Statement, quorum_of
from protocol.errors import InputError, IntegrityError
from protocol.jobs import Job
from protocol.signing import SigningKey, verify
from tests.protocol.test_jobs import JOB

DELIVERY = Delivery(
    version=1,
    name="sepsis",
    nonce="0" * 32,
    created="2026-11-21T12:00:00+00:00",
    expires="2026-11-22T12:00:00+00:00",
    coordinator="1" * 64,
    roster="2" * 64,
    job="3" * 64,
    holders=("north", "south"),
    recipients=("west",),
    timeout_s=60,
)
STATEMENT = Statement(
    delivery="1" * 64, recipient="west", job="2" * 64, layout="3" * 64, weights="4" * 64, card=b"{}"
)


def test_a_delivery_reads_back_and_its_digest_is_that_of_its_bytes() -> None:
    data = DELIVERY.to_bytes()
    assert Delivery.from_bytes(data) == DELIVERY
    assert DELIVERY.digest == hashlib.sha256(data).hexdigest()
    assert DELIVERY.title == "sepsis to west"
    assert DELIVERY.ends.isoformat() == DELIVERY.expires


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../sepsis"},
        {"expires": "tomorrow"},
        {"expires": "2026-11-22T12:00:00"},
        {"holders": ()},
        {"recipients": ()},
        {"recipients": ("west", "west")},
        {"recipients": ("north",)},
        {"recipients": ("we\x1bst",)},
        {"holders": ("n" * 64, "south")},
        {"nonce": "0" * 31},
        {"created": "today"},
        {"coordinator": "\x1b[2J"},
        {"roster": "2" * 1_000_000},
        {"job": "3" * 63 + "\n"},
        {"timeout_s": 0},
    ],
)
def test_a_delivery_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        replace(DELIVERY, **changes)


def test_a_delivery_has_one_spelling() -> None:
    with pytest.raises(InputError):
        Delivery.from_bytes(DELIVERY.to_bytes() + b" ")
    with pytest.raises(InputError):
        Delivery.from_bytes(JOB.to_bytes())


@pytest.mark.parametrize("context", ["job", "roster", VOUCHED])
def test_no_other_signature_is_one_on_a_delivery(context: str) -> None:
    key = SigningKey.generate()
    with pytest.raises(IntegrityError):
        verify(key.public, CONTEXT, DELIVERY.to_bytes(), key.sign(context, DELIVERY.to_bytes()))


@pytest.mark.parametrize(("colluding", "needed"), [(0, 2), (1, 2), (2, 3), (5, 6)])
def test_more_must_agree_than_may_collude(colluding: int, needed: int) -> None:
    job: Job = replace(JOB, privacy=replace(JOB.privacy, colluding_sites=colluding))
    assert quorum_of(job) == needed


def test_a_statement_reads_back_and_quotes_nothing_where_it_is_none() -> None:
    assert Statement.from_bytes(STATEMENT.to_bytes()) == STATEMENT
    with pytest.raises(IntegrityError) as caught:
        Statement.from_bytes(to_canonical({"weights": "secret"}))
    assert "secret" not in str(caught.value)
