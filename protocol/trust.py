"""What this hospital's administrator confirmed: the only hospitals that its node acts on.

The coordinator signs the roster, but could put hospitals on it that it invented. So every
administrator compares each hospital's fingerprint with that hospital over another channel, and the
node counts a member only under a fingerprint that was confirmed. A renewed identity is confirmed
again, and only if the identity before it signed that it is replaced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protocol.card import Card, check_name
from protocol.config import parse, read
from protocol.errors import Code, InputError, IntegrityError, RefusalError
from protocol.keyfile import replace_file
from protocol.signing import fingerprint, from_groups

if TYPE_CHECKING:
    from protocol.roster import Roster


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What this hospital's administrator confirmed, and the roster that jobs must name.

    Args:
        coordinator: Fingerprint of the coordinator.
        sequence: Edition of the pinned roster.
        roster: SHA-256 of the pinned roster's bytes.
        confirmed: Name to fingerprint of the hospitals that were confirmed. Names stay when a
            roster leaves a hospital out, so that nobody else takes a confirmed name.
    """

    coordinator: str
    sequence: int
    roster: str
    confirmed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, digits in self.confirmed.items():
            check_name(name)
            _check_fingerprint(digits)
        _check_fingerprint(self.coordinator)
        _check_fingerprint(self.roster)

    @classmethod
    def pin(cls, roster: Roster) -> Trust:
        """Begin with a verified roster; nobody in it is confirmed yet."""
        return cls(
            coordinator=fingerprint(roster.coordinator),
            sequence=roster.sequence,
            roster=roster.digest,
        )

    def adopt(self, roster: Roster) -> Trust:
        """Pin a newer edition; confirmations stay and none is added.

        Raises:
            IntegrityError: Another coordinator's, an older edition, or another roster under the
                same number.
        """
        if fingerprint(roster.coordinator) != self.coordinator:
            raise IntegrityError("roster of another coordinator", expected=self.coordinator)
        if roster.digest == self.roster:
            return self
        if roster.sequence <= self.sequence:
            raise IntegrityError(
                "roster is not newer than the pinned one",
                expected=f"a sequence above {self.sequence}",
                found=str(roster.sequence),
            )
        return replace(self, sequence=roster.sequence, roster=roster.digest)

    def confirm(self, roster: Roster, name: str, digits: str) -> Trust:
        """Record that the administrator compared a fingerprint with the hospital itself.

        Args:
            roster: The pinned roster.
            name: The hospital.
            digits: The fingerprint as the hospital read it out, 64 hexadecimal digits; spaces and
                colons do not matter.

        Raises:
            InputError: No such hospital, or the fingerprint is not that of its card.
            IntegrityError: Another identity was confirmed under this name, and did not sign that
                this one replaces it.
        """
        self.check_pinned(roster)
        card = roster.card(name)
        digits = from_groups(digits)
        if digits != card.fingerprint:
            raise InputError(
                f"fingerprint of {name!r} is not the one on its card",
                remedy="do not trust the card; tell the hospital and the coordinator",
            )
        before = self.confirmed.get(name, digits)
        replaced = fingerprint(card.replaces) if card.replaces else "no earlier identity"
        if before not in {digits, replaced}:
            raise IntegrityError(
                f"new identity of {name!r} is not signed by the confirmed one",
                expected=f"a card that replaces {before}",
                found=replaced,
                remedy="if the old key is lost, ask the hospital and forget its old identity first",
            )
        return replace(self, confirmed={**self.confirmed, name: digits})

    def forget(self, name: str) -> Trust:
        """Take a confirmation back.

        Raises:
            InputError: This name was not confirmed.
        """
        if name not in self.confirmed:
            raise InputError(f"hospital {name!r} was not confirmed")
        rest = {key: value for key, value in self.confirmed.items() if key != name}
        return replace(self, confirmed=rest)

    def members(self, roster: Roster) -> dict[str, str]:
        """Name to fingerprint of the hospitals that this node may act on, in the roster's order.

        Guarantee: the fingerprint of each was confirmed under its name by this node's
        administrator; a member whose identity changed is left out until it is confirmed again.

        Raises:
            IntegrityError: This is not the pinned roster.
        """
        self.check_pinned(roster)
        return {
            card.name: card.fingerprint
            for card in roster.members
            if self.confirmed.get(card.name) == card.fingerprint
        }

    def member(self, roster: Roster, name: str) -> Card:
        """The card of one hospital that this node may act on.

        Raises:
            RefusalError: It is not in the roster or was not confirmed.
            IntegrityError: This is not the pinned roster.
        """
        if name in self.members(roster):
            return roster.card(name)
        raise RefusalError(
            Code.ROSTER,
            f"hospital {name!r} is not confirmed",
            remedy="compare its fingerprint with the hospital, then confirm it",
        )

    def check_pinned(self, roster: Roster) -> None:
        """Refuse any other roster than the pinned one.

        Raises:
            IntegrityError: This is not the pinned roster.
        """
        if roster.digest != self.roster:
            raise IntegrityError("not the pinned roster", expected=self.roster, found=roster.digest)

    def save(self, path: Path) -> None:
        """Replace the trust file in one step; it is JSON.

        Raises:
            InputError: The file cannot be written.
        """
        text = json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"
        replace_file(path, text.encode())

    @classmethod
    def load(cls, path: Path) -> Trust:
        """Read the trust file.

        Raises:
            InputError: It cannot be read or is not one; the message has file, line and key.
        """
        try:
            return _parse(path.read_bytes())
        except (OSError, ValueError, InputError):
            # Whatever it is, the strict reader says it with its line; it also reads YAML.
            return read(cls, path)


@lru_cache(maxsize=1)
def _parse(text: bytes) -> Trust:
    """A trust file as `save` writes it; virtual hospitals all have the same.

    Raises:
        ValueError: It is no JSON, or a key occurs twice.
        InputError: It is no trust file.
    """
    return parse(Trust, json.loads(text, object_pairs_hook=_unlike), "")


def _unlike(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping whose keys differ; JSON itself would let the last one win."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("repeated key")
    return dict(pairs)


def _check_fingerprint(digits: str) -> None:
    if from_groups(digits) != digits:
        raise InputError("a fingerprint", expected="no blanks, no capitals", found=repr(digits))
