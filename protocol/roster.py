"""The consortium's members, as the coordinator signed them.

The roster is the coordinator's word and no more: a node acts on a member only after its own
administrator confirmed that member's fingerprint, see `protocol.trust`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from protocol.canonical import to_canonical
from protocol.card import Card
from protocol.config import decode
from protocol.errors import FedwardError, InputError, IntegrityError
from protocol.signing import SigningKey, fingerprint, verify_attached
from protocol.trust import Trust

__all__ = ["VERSION", "Card", "Roster", "Trust", "load_pinned"]

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Roster:
    """One edition of the list of members.

    Args:
        version: Protocol version.
        sequence: Number of the edition; it grows.
        coordinator: The signing coordinator's Ed25519 key, 32 bytes.
        address: Where the coordinator is reached, as host:port.
        members: One card per hospital; no name and no key occurs twice.

    Raises:
        InputError: A number is out of range, or a name or key is repeated.
    """

    version: int
    sequence: int
    coordinator: bytes
    address: str
    members: tuple[Card, ...]

    def __post_init__(self) -> None:
        if self.version != VERSION or self.sequence < 1:
            raise InputError(
                "numbers of a roster",
                expected=f"version {VERSION} and a sequence from 1",
                found=f"{self.version} and {self.sequence}",
            )
        cards = self.members
        _check_unlike("names", [card.name.casefold() for card in cards])
        _check_unlike("identities", [self.coordinator, *(card.signing for card in cards)])
        _check_unlike("exchange keys", [card.exchange for card in cards])
        _check_unlike("node keys", [card.node_key for card in cards if card.node_key])

    def to_bytes(self) -> bytes:
        """Canonical bytes; these are what is signed and hashed."""
        return to_canonical(self)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes, hexadecimal: what jobs name."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def sign(self, key: SigningKey) -> bytes:
        """The roster as it is sent and kept: canonical bytes, signature, signer.

        Raises:
            InputError: The key is not the roster's coordinator.
            IntegrityError: A member's card does not hold.
        """
        if key.public != self.coordinator:
            raise InputError("the roster names another coordinator than this key")
        self._verify_cards()
        return key.sign_attached("roster", self.to_bytes())

    @classmethod
    def verify(cls, blob: bytes, coordinator: str) -> Roster:
        """Verify a roster's exact bytes, then read them and verify every card.

        Args:
            blob: What `sign` returned, as it arrived.
            coordinator: Fingerprint of the coordinator that this hospital trusts with the list.

        Raises:
            IntegrityError: Another coordinator signed it, the signature does not hold, or a card
                does not.
            InputError: The coordinator signed what is no roster.
        """
        roster = decode(cls, verify_attached(coordinator, "roster", blob), "roster")
        if fingerprint(roster.coordinator) != coordinator:
            raise IntegrityError("the roster names another coordinator than its signer")
        roster._verify_cards()
        return roster

    def card(self, name: str) -> Card:
        """The card of one hospital.

        Raises:
            InputError: No member has this name.
        """
        for card in self.members:
            if card.name == name:
                return card
        raise InputError(f"no hospital {name!r} in the roster")

    def _verify_cards(self) -> None:
        for card in self.members:
            try:
                card.verify()
            except IntegrityError as error:
                raise error.at(f"card of {card.name!r}") from None


def load_pinned(path: Path, trust: Trust) -> Roster:
    """Read the roster's file and check that it is the edition that was pinned.

    Raises:
        InputError: The file cannot be read or holds no roster.
        IntegrityError: It holds another roster, or a signature does not hold.
    """
    try:
        roster = _verified(path.read_bytes(), trust.coordinator)
        trust.check_pinned(roster)
    except OSError as error:
        raise InputError(f"{path}: cannot be read", found=error.strerror) from None
    except FedwardError as error:
        raise error.at(str(path)) from None
    return roster


@lru_cache(maxsize=1)
def _verified(blob: bytes, coordinator: str) -> Roster:
    """`Roster.verify`, whose last pass is kept: virtual hospitals all pin the same roster."""
    return Roster.verify(blob, coordinator)


def _check_unlike(what: str, values: list[bytes] | list[str]) -> None:
    if len(set(values)) != len(values):
        raise InputError(f"repeated {what} in a roster", expected="each only once")
