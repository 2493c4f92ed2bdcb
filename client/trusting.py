"""What a roster changes for a hospital that pinned another edition, or none: a pure comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from protocol.errors import InputError, IntegrityError
from protocol.roster import Card, Roster, Trust
from protocol.signing import fingerprint, in_groups

Kind = Literal["own", "known", "new", "unconfirmed", "rotated", "stranger", "removed"]
ASKED: tuple[Kind, ...] = ("new", "unconfirmed", "rotated")
"""Kinds of which the administrator is asked whether the hospital read out the fingerprint."""


@dataclass(frozen=True)
class Item:
    """One hospital of the new edition, or one that it leaves out.

    Args:
        name: The hospital.
        fingerprint: Its identity, in the new edition or, where it was removed, in the old.
        kind: What is to be said of it. A `stranger` has another identity than the confirmed one,
            which did not sign that it is replaced.
        before: The identity that was confirmed, where it is another.
    """

    name: str
    fingerprint: str
    kind: Kind
    before: str = ""


def compare(roster: Roster, own: Card, trust: Trust | None, pinned: Roster | None) -> list[Item]:
    """What the administrator must know of an edition.

    Args:
        roster: The edition, verified.
        own: This hospital's card.
        trust: What was confirmed; None before the first roster.
        pinned: The edition that is pinned; None before the first.
    """
    return [*_present(roster, own, trust, pinned), *_removed(roster, pinned)]


def begin(roster: Roster, trust: Trust | None) -> Trust:
    """The trust that pins an edition; nobody is confirmed by it.

    Raises:
        IntegrityError: Another coordinator's, or an edition that is not newer.
    """
    return Trust.pin(roster) if trust is None else trust.adopt(roster)


def check_own(roster: Roster, own: Card) -> bool:
    """Whether this hospital is in the roster, with its own keys.

    Raises:
        IntegrityError: Somebody else's keys stand under this hospital's name, or its keys under
            another name.
    """
    for card in roster.members:
        if card.name == own.name and card != own:
            raise IntegrityError(
                f"the roster has other keys than ours under our name {own.name!r}",
                expected=in_groups(own.fingerprint),
                found=in_groups(card.fingerprint),
                remedy="do not trust it: the coordinator enrolled another card; send yours again",
            )
        if card.signing == own.signing and card.name != own.name:
            raise IntegrityError(
                "the roster has our identity under another name",
                expected=own.name,
                found=card.name,
            )
    return any(card == own for card in roster.members)


def check_digest(roster: Roster, digest: str) -> None:
    """Refuse another edition than the one whose digest a script names.

    Raises:
        InputError: It is another.
    """
    if roster.digest != digest:
        raise InputError(
            "another roster than the one that --yes names",
            expected=digest,
            found=roster.digest,
            remedy="compare the digest with the coordinator before it is written into a script",
        )


def _present(
    roster: Roster, own: Card, trust: Trust | None, pinned: Roster | None
) -> Iterator[Item]:
    confirmed = {} if trust is None else trust.confirmed
    listed = set() if pinned is None else {card.fingerprint for card in pinned.members}
    for card in roster.members:
        before = confirmed.get(card.name, "")
        if card == own:
            kind: Kind = "own"
        elif before == card.fingerprint:
            kind = "known"
        elif before:
            signed = card.replaces and fingerprint(card.replaces) == before
            kind = "rotated" if signed else "stranger"
        else:
            kind = "unconfirmed" if card.fingerprint in listed else "new"
        changed = before if kind in ("rotated", "stranger") else ""
        yield Item(card.name, card.fingerprint, kind, changed)


def _removed(roster: Roster, pinned: Roster | None) -> Iterator[Item]:
    names = {card.name for card in roster.members}
    for card in () if pinned is None else pinned.members:
        if card.name not in names:
            yield Item(card.name, card.fingerprint, "removed")
