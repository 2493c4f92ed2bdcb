"""The next edition of a roster: pure decisions on cards, address and authority."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from protocol.errors import InputError
from protocol.roster import Card, Roster
from protocol.signing import fingerprint, in_groups

Change = Literal["new", "rotated", "unchanged"]


def place(roster: Roster, card: Card) -> tuple[Roster, Change]:
    """Put a verified card into a roster, in the same edition.

    Raises:
        InputError: The name is taken by another identity that did not sign that it is replaced, or
            a key is another member's already.
    """
    before = next((old for old in roster.members if old.name == card.name), None)
    if before == card:
        return roster, "unchanged"
    if before is None:
        _check_keys_free(roster, card)
        return replace(roster, members=(*roster.members, card)), "new"
    if card.replaces != before.signing:
        raise InputError(
            f"hospital {card.name!r} is in the roster with another identity",
            expected=f"a card that replaces {in_groups(before.fingerprint)}",
            found=in_groups(fingerprint(card.replaces)) if card.replaces else "a first card",
            remedy="ask the hospital for: fedward client rotate; if its key is lost, compare the "
            f"new fingerprint with it and remove the old one: fedward server roster remove "
            f"{card.name}",
        )
    others = replace(roster, members=tuple(old for old in roster.members if old != before))
    _check_keys_free(others, card)
    members = tuple(card if old == before else old for old in roster.members)
    return replace(roster, members=members), "rotated"


def without(roster: Roster, name: str) -> Roster:
    """A roster that leaves a hospital out, in the same edition.

    Raises:
        InputError: No member has this name.
    """
    roster.card(name)
    return replace(roster, members=tuple(card for card in roster.members if card.name != name))


def following(before: Roster, after: Roster, *, address: str, ca: str) -> Roster:
    """The next edition, or the same one where nothing changed.

    Args:
        before: The edition that was signed last.
        after: The same edition with other members.
        address: Where the coordinator is reached now.
        ca: The authority's certificate now, in PEM.
    """
    changed = replace(after, address=address, ca=ca)
    return before if changed == before else replace(changed, sequence=before.sequence + 1)


def _check_keys_free(roster: Roster, card: Card) -> None:
    """A key of another member, or of the coordinator, is nobody else's."""
    if card.signing == roster.coordinator:
        raise InputError(f"the card of {card.name!r} has the coordinator's identity")
    for old in roster.members:
        if old.name.casefold() == card.name.casefold():
            raise InputError(
                f"the name {card.name!r} is too much like {old.name!r}",
                expected="names that differ in more than capitals",
            )
        for what in ("signing", "exchange", "node_key"):
            if getattr(old, what) and getattr(old, what) == getattr(card, what):
                raise InputError(
                    f"the card of {card.name!r} has a key of {old.name!r}",
                    found=f"the same {what}",
                    remedy="each hospital makes keys of its own: fedward client init",
                )
