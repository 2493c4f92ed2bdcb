"""What a delivery needs next, from answers alone."""

from __future__ import annotations

import pytest

from protocol.errors import Code
from server.delivery_rules import (
    Rules,
    Standing,
    Want,
    can_go,
    ending,
    sender,
    served,
    waits_for,
)

RULES = Rules(holders=("north", "south", "east"), recipients=("west", "hill"), quorum=2)


def agreed(*names: str, **ready: bytes) -> Standing:
    standing = Standing()
    for name in names:
        standing = standing.accept(RULES, name, holds=True, member=None)
    for name, keys in ready.items():
        standing = standing.accept(RULES, name, holds=False, member=keys)
    return standing


def test_everybody_is_asked_who_has_not_answered() -> None:
    assert Standing().unanswered(RULES) == ("west", "hill", "north", "south", "east")
    standing = agreed("north", "west", hill=b"k").refuse("south", Code.POLICY)
    standing = standing.refuse("east", Code.WAITING)
    assert standing.unanswered(RULES) == ("east",)
    assert waits_for(RULES, standing) == "east (waiting)"
    assert waits_for(RULES, agreed("north", "south", "west", "hill")) == "east (not connected)"


def test_it_goes_on_where_somebody_waits_and_enough_would_write() -> None:
    assert not can_go(RULES, agreed("north", "south"))
    assert not can_go(RULES, agreed("north", west=b"k"))
    assert can_go(RULES, agreed("north", "south", west=b"k"))
    assert not can_go(RULES, agreed("north", "south", west=b"k").refuse("south", Code.BUSY))


class TestWants:
    """West assumes more colluders than the job, or does not count every holder."""

    def wanting(
        self, needed: int, vouchers: tuple[str, ...] = RULES.holders, **more: bytes
    ) -> Standing:
        standing = agreed("north", "south", **more)
        want = Want(needed=needed, vouchers=vouchers)
        return standing.accept(RULES, "west", holds=False, member=b"k", want=want)

    def test_it_goes_on_once_as_many_would_write_as_the_recipient_wants(self) -> None:
        standing = self.wanting(3)
        assert not can_go(RULES, standing)
        assert can_go(RULES, standing.accept(RULES, "east", holds=True, member=None))
        # Nor does a recipient get by with fewer than the job says.
        assert not can_go(RULES, self.wanting(1).refuse("south", Code.BUSY))

    def test_only_holders_count_that_the_recipient_confirmed(self) -> None:
        standing = self.wanting(2, ("north", "east"))
        assert not can_go(RULES, standing)
        assert can_go(RULES, standing.accept(RULES, "east", holds=True, member=None))

    def test_letters_go_only_where_they_could_be_believed(self) -> None:
        standing = self.wanting(3, hill=b"k")
        assert served(RULES, standing, standing.willing) == ("hill",)
        assert served(RULES, standing, ("north",)) == ()

    def test_the_model_comes_from_a_holder_whose_word_counts(self) -> None:
        standing = self.wanting(2, ("south", "east"))
        standing = standing.accept(RULES, "east", holds=True, member=None)
        assert [sender(RULES, standing, attempt) for attempt in (1, 2, 3)] == [
            "south",
            "east",
            "south",
        ]

    def test_one_that_wants_more_than_are_left_is_an_end_and_keeps_no_other_from_it(self) -> None:
        standing = self.wanting(3).refuse("east", Code.POLICY)
        assert ending(RULES, standing) is None
        told = "too few hospitals can vouch for the model: 3 are needed and 2 are left"
        after = standing.accept(RULES, "hill", holds=True, member=None)
        assert ending(RULES, after) == ("failed", f"{told}; east: policy")


def test_another_holder_sends_in_each_attempt() -> None:
    standing = agreed("south", "north")
    assert [sender(RULES, standing, attempt) for attempt in (1, 2, 3)] == [
        "north",
        "south",
        "north",
    ]


def test_it_is_over_when_all_have_it_or_cannot_get_it() -> None:
    assert ending(RULES, agreed("west")) is None
    assert ending(RULES, agreed("west", "hill")) == ("completed", "")
    half = agreed("west").refuse("hill", Code.POLICY)
    assert ending(RULES, half) == ("failed", "hill: policy")
    for code in (Code.WAITING, Code.BUSY, Code.DEADLINE):
        assert ending(RULES, agreed("west").refuse("hill", code)) is None


def test_too_few_holders_are_an_end_and_one_that_is_away_is_not() -> None:
    one = Standing().refuse("north", Code.POLICY)
    assert ending(RULES, one.refuse("south", Code.BUSY)) is None
    two = one.refuse("south", Code.SESSION)
    told = "too few hospitals can vouch for the model: 2 are needed and 1 is left"
    assert ending(RULES, two) == ("failed", f"{told}; north: policy, south: session")


def test_a_yes_takes_back_a_no() -> None:
    standing = (
        Standing().refuse("west", Code.WAITING).accept(RULES, "west", holds=False, member=b"k")
    )
    assert (standing.refused, dict(standing.ready)) == ({}, {"west": b"k"})


@pytest.mark.parametrize("code", [Code.INTEGRITY, Code.SIGNATURE, Code.FAILED])
def test_letters_that_are_not_believed_are_tried_once_for_each_holder(code: Code) -> None:
    standing = agreed("north", "south", "east", "hill")
    for _ in RULES.holders:
        assert ending(RULES, standing) is None
        standing = standing.disbelieve(RULES, "west", code)
    assert ending(RULES, standing) == ("failed", f"west: {code}")


@pytest.mark.parametrize("code", [Code.SESSION, Code.DEADLINE, Code.BUSY, Code.REPLAYED])
def test_a_recipient_that_was_restarted_is_asked_again_for_as_long_as_it_takes(code: Code) -> None:
    standing = agreed("north", "south", "east", "hill")
    for _ in range(10):
        standing = standing.disbelieve(RULES, "west", code)
    assert ending(RULES, standing) is None
    assert standing.unanswered(RULES) == ("west",)


@pytest.mark.parametrize("code", [Code.VERSION, Code.POLICY, Code.EXPIRED, Code.COHORT])
def test_a_recipient_that_no_better_letter_would_help_is_not_asked_again(code: Code) -> None:
    standing = agreed("north", "south", "east", "hill").disbelieve(RULES, "west", code)
    assert ending(RULES, standing) == ("failed", f"west: {code}")
