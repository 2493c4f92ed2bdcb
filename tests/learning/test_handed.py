"""A card on its way to another hospital: the same from everybody who trained, and whole there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from learning.card import ModelCard
from learning.card_page import page
from learning.handed import received_card, shared_card
from protocol.canonical import from_canonical, to_canonical
from protocol.errors import IntegrityError
from tests.learning.test_card import CARD

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def received(shared: bytes) -> ModelCard:
    return received_card(
        shared,
        name="sepsis",
        version=4,
        now=NOW,
        vouchers=("north", "south"),
        importance={"age": 0.5},
    )


def test_what_is_a_hospitals_own_makes_no_difference() -> None:
    other = replace(
        CARD,
        name="other",
        version=9,
        created="2026-01-01T00:00:00+00:00",
        importance={"age": 0.1},
        handed_on_by=("east",),
        privacy=replace(CARD.privacy, epsilon_settled=0.1, epsilon_settled_worst=0.2),
    )
    assert shared_card(other) == shared_card(CARD)


def test_all_else_does() -> None:
    for other in (
        replace(CARD, intended_use="another"),
        replace(CARD, metrics={}),
        replace(CARD, rounds=CARD.rounds + 1),
        replace(CARD, privacy=replace(CARD.privacy, delta=1e-3)),
    ):
        assert shared_card(other) != shared_card(CARD)


def test_it_arrives_whole_and_says_who_handed_it_on() -> None:
    card = received(shared_card(CARD))

    assert (card.name, card.version, card.created) == ("sepsis", 4, "2026-11-21T12:00:00+00:00")
    assert shared_card(card) == shared_card(CARD)
    assert ModelCard.from_bytes(card.to_bytes()) == card
    assert card.handed_on_by == ("north", "south")
    assert "received 2026-11-21T12:00:00+00:00 from others; north, south vouched" in page(card)
    assert "vouched" not in page(CARD)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        to_canonical({"task": "secret"}),
        to_canonical({**from_canonical(shared_card(CARD)), "more": 1}),
    ],
)
def test_anything_else_is_no_card(data: bytes) -> None:
    with pytest.raises(IntegrityError) as caught:
        received(data)
    assert "secret" not in str(caught.value)
