"""Trust: nothing a coordinator signs makes a node act on a hospital nobody confirmed."""

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol.card import Card
from protocol.errors import Code, InputError, IntegrityError, RefusalError
from protocol.exchange import ExchangeKey
from protocol.roster import VERSION, Roster
from protocol.signing import SigningKey
from protocol.trust import Trust

COORDINATOR = SigningKey.generate()
NORTH_KEY = SigningKey.generate()


def make_card(name: str, signing: SigningKey, previous: SigningKey | None = None) -> Card:
    return Card.make(name=name, signing=signing, exchange=ExchangeKey.generate(), previous=previous)


NORTH = make_card("north", NORTH_KEY)
SOUTH = make_card("south", SigningKey.generate())


def edition(sequence: int, *members: Card, coordinator: SigningKey = COORDINATOR) -> Roster:
    return Roster(
        version=VERSION,
        sequence=sequence,
        coordinator=coordinator.public,
        address="coordinator:8000",
        members=members,
    )


FIRST = edition(1, NORTH, SOUTH)
TRUST = Trust.pin(FIRST).confirm(FIRST, "north", NORTH.fingerprint)


def test_nobody_is_trusted_for_being_on_the_roster() -> None:
    trust = Trust.pin(FIRST)
    assert trust.members(FIRST) == {}
    with pytest.raises(RefusalError, match="'north' is not confirmed") as caught:
        trust.member(FIRST, "north")
    assert caught.value.code is Code.ROSTER


def test_only_confirmed_hospitals_are_acted_on() -> None:
    assert TRUST.members(FIRST) == {"north": NORTH.fingerprint}
    assert TRUST.member(FIRST, "north") == NORTH
    for name in ("south", "west"):
        with pytest.raises(RefusalError):
            TRUST.member(FIRST, name)
    both = TRUST.confirm(FIRST, "south", SOUTH.fingerprint)
    assert list(both.members(FIRST)) == ["north", "south"]


def test_members_come_in_the_rosters_order() -> None:
    trust = Trust.pin(FIRST)
    for card in (SOUTH, NORTH):
        trust = trust.confirm(FIRST, card.name, card.fingerprint)
    assert list(trust.members(FIRST)) == ["north", "south"]


def test_a_fingerprint_may_be_typed_in_groups() -> None:
    digits = NORTH.fingerprint.upper()
    typed = " ".join(digits[i : i + 4] for i in range(0, 64, 4)).replace(" ", ":", 3)
    assert Trust.pin(FIRST).confirm(FIRST, "north", typed) == TRUST


def test_another_fingerprint_is_refused_and_the_right_one_is_not_told() -> None:
    """Otherwise one would copy it from the message instead of asking the hospital."""
    with pytest.raises(InputError, match="not the one on its card") as caught:
        Trust.pin(FIRST).confirm(FIRST, "north", SOUTH.fingerprint)
    assert NORTH.fingerprint not in str(caught.value)
    with pytest.raises(InputError, match="no hospital 'west'"):
        TRUST.confirm(FIRST, "west", NORTH.fingerprint)


@pytest.mark.parametrize("digits", ["", "0" * 63, "0" * 65, "g" * 64])
def test_a_fingerprint_has_64_digits(digits: str) -> None:
    with pytest.raises(InputError, match="expected 64 hexadecimal digits"):
        TRUST.confirm(FIRST, "north", digits)
    for change in ({"coordinator": digits}, {"roster": digits}, {"confirmed": {"a": digits}}):
        changes: Any = change
        with pytest.raises(InputError, match="expected 64 hexadecimal digits"):
            replace(TRUST, **changes)


def test_a_newer_edition_adds_nobody() -> None:
    second = edition(5, NORTH, SOUTH, make_card("invented", SigningKey.generate()))
    trust = TRUST.adopt(second)
    assert (trust.sequence, trust.roster) == (5, second.digest)
    assert trust.members(second) == TRUST.members(FIRST)
    with pytest.raises(IntegrityError, match="not the pinned roster"):
        trust.members(FIRST)
    with pytest.raises(IntegrityError, match="not the pinned roster"):
        trust.confirm(FIRST, "south", SOUTH.fingerprint)


def test_editions_only_grow() -> None:
    trust = TRUST.adopt(edition(2, NORTH))
    assert trust.adopt(edition(2, NORTH)) == trust
    for older in (FIRST, edition(2, SOUTH)):
        with pytest.raises(IntegrityError, match="expected a sequence above 2"):
            trust.adopt(older)
    stranger = SigningKey.generate()
    with pytest.raises(IntegrityError, match="another coordinator"):
        trust.adopt(edition(3, NORTH, coordinator=stranger))


def test_a_renewed_identity_is_confirmed_again_and_signed_by_the_one_before() -> None:
    renewed = make_card("north", SigningKey.generate(), previous=NORTH_KEY)
    second = edition(2, renewed, SOUTH)
    trust = TRUST.adopt(second)
    assert trust.members(second) == {}
    trust = trust.confirm(second, "north", renewed.fingerprint)
    assert trust.members(second) == {"north": renewed.fingerprint}
    # The old card does not come back, although its fingerprint was confirmed once.
    third = edition(3, NORTH)
    assert trust.adopt(third).members(third) == {}
    with pytest.raises(IntegrityError, match="found no earlier identity"):
        trust.adopt(third).confirm(third, "north", NORTH.fingerprint)


@pytest.mark.parametrize("previous", [None, SigningKey.generate()])
def test_a_new_identity_under_a_confirmed_name_is_refused(previous: SigningKey | None) -> None:
    taken = make_card("north", SigningKey.generate(), previous=previous)
    for rosters in ((edition(2, taken),), (edition(2, SOUTH), edition(3, taken))):
        trust = TRUST
        for roster in rosters:
            trust = trust.adopt(roster)
        with pytest.raises(IntegrityError, match="is not signed by the confirmed one"):
            trust.confirm(rosters[-1], "north", taken.fingerprint)
        # A lost key: the administrator asks the hospital, forgets, and confirms anew.
        again = trust.forget("north").confirm(rosters[-1], "north", taken.fingerprint)
        assert again.members(rosters[-1]) == {"north": taken.fingerprint}


def test_what_is_forgotten_is_not_acted_on() -> None:
    assert TRUST.forget("north") == Trust.pin(FIRST)
    with pytest.raises(InputError, match="'south' was not confirmed"):
        TRUST.forget("south")


def test_a_confirmed_name_does_not_cover_another_with_the_same_key() -> None:
    moved = make_card("elsewhere", NORTH_KEY)
    second = edition(2, moved)
    assert TRUST.adopt(second).members(second) == {}


def test_the_trust_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    Trust.pin(FIRST).save(path)
    TRUST.save(path)
    assert Trust.load(path) == TRUST
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_damaged_trust_file_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    TRUST.save(path)
    text = path.read_text()
    for old, new, message in (
        ('"sequence"', '"sequense"', r":\d: sequense: unknown key.*did you mean 'sequence'"),
        (": 1", ": true", r":\d: sequence: wrong type"),
        ("north", "../x", r":1: document: name of a hospital"),
        (NORTH.fingerprint, "00", r":1: document: a fingerprint"),
        ('"sequence": 1', '"sequence": 1, "sequence": 2', r":\d: key: repeated key 'sequence'"),
    ):
        path.write_text(text.replace(old, new))
        with pytest.raises(InputError, match=r"trust\.json" + message):
            Trust.load(path)
    with pytest.raises(InputError, match="cannot be read"):
        Trust.load(tmp_path / "absent.json")


def test_a_trust_file_has_one_spelling_of_a_fingerprint() -> None:
    with pytest.raises(InputError, match="no blanks, no capitals"):
        Trust(coordinator="A" * 64, sequence=1, roster="b" * 64)
