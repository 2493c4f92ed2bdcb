"""The consortium's members, as the coordinator signed them.

The roster is the coordinator's word and no more: a node acts on a member only after its own
administrator confirmed that member's fingerprint, see `protocol.trust`. Roster and trust file are
pinned together: `save_pinned` writes the roster under another name, replaces the trust file, and
then renames, so that at every moment the trust file names a roster that is there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from protocol.canonical import to_canonical
from protocol.card import VERSION, Card
from protocol.config import decode
from protocol.errors import FedwardError, InputError, IntegrityError
from protocol.keyfile import replace_file, sync_folder
from protocol.signing import SigningKey, fingerprint, verify_attached
from protocol.trust import Trust

__all__ = ["VERSION", "Card", "Roster", "Trust", "load_pinned", "save_pinned", "split_address"]


@dataclass(frozen=True, kw_only=True)
class Roster:
    """One edition of the list of members.

    Args:
        version: Protocol version.
        sequence: Number of the edition; it grows.
        coordinator: The signing coordinator's Ed25519 key, 32 bytes.
        address: Where the coordinator is reached, as host:port.
        members: One card per hospital; no name and no key occurs twice.
        ca: Certificate of the authority that vouches for the coordinator's TLS certificate, in
            PEM; empty where nothing is dialled, as in simulations.

    Raises:
        InputError: A number is out of range, a name or key is repeated, or `ca` is no certificate.
    """

    version: int
    sequence: int
    coordinator: bytes
    address: str
    members: tuple[Card, ...]
    ca: str = ""

    def __post_init__(self) -> None:
        if self.version != VERSION or self.sequence < 1:
            raise InputError(
                "numbers of a roster",
                expected=f"version {VERSION} and a sequence from 1",
                found=f"{self.version} and {self.sequence}",
            )
        if self.ca:
            _check_certificate(self.ca)
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
        self.verify_cards()
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
        return _verified(blob, coordinator)

    def card(self, name: str) -> Card:
        """The card of one hospital.

        Raises:
            InputError: No member has this name.
        """
        for card in self.members:
            if card.name == name:
                return card
        raise InputError(f"no hospital {name!r} in the roster")

    def verify_cards(self) -> None:
        """Verify every member's card.

        Raises:
            IntegrityError: A card does not hold; the message names the hospital.
        """
        for card in self.members:
            try:
                card.verify()
            except IntegrityError as error:
                raise error.at(f"card of {card.name!r}") from None


@lru_cache(maxsize=1)
def _verified(blob: bytes, coordinator: str) -> Roster:
    """The last roster that passed is kept: virtual hospitals all pin the same bytes."""
    roster = decode(Roster, verify_attached(coordinator, "roster", blob), "roster")
    if fingerprint(roster.coordinator) != coordinator:
        raise IntegrityError("the roster names another coordinator than its signer")
    roster.verify_cards()
    return roster


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port"; an IPv6 address stands in brackets.

    Raises:
        InputError: It is not that.

    >>> split_address("fedward.example.org:8443"), split_address("[::1]:8000")
    (('fedward.example.org', 8443), ('::1', 8000))
    """
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = host == f"[{bare}]"
    named = bare.isascii() and bare and not set(bare) & set(" /@[]?#%\\\"'")
    if not (colon and named and bracketed == (":" in bare) and _is_port(port)):
        raise InputError(
            "address", expected="host:port, such as fedward.example.org:8443", found=repr(address)
        )
    return bare, int(port)


def save_pinned(path: Path, signed: bytes, trust_path: Path, trust: Trust) -> None:
    """Pin a roster and what was confirmed of it, together or not at all.

    Guarantee: whenever this is interrupted, `load_pinned` finds the old pair or the new one.

    Args:
        path: Where the roster's file is.
        signed: The roster as it was signed.
        trust_path: Where the trust file is.
        trust: What pins it.

    Raises:
        InputError: A file cannot be written, or the roster cannot be read.
        IntegrityError: The trust does not pin this roster.
    """
    trust.check_pinned(Roster.verify(signed, trust.coordinator))
    replace_file(_next(path), signed)
    trust.save(trust_path)
    _next(path).replace(path)
    sync_folder(path.parent)


def load_pinned(path: Path, trust: Trust) -> Roster:
    """Read the roster's file and check that it is the edition that was pinned.

    Raises:
        InputError: The file cannot be read or holds no roster.
        IntegrityError: It holds another roster, or a signature does not hold.
    """
    try:
        # It stands under its next name if `save_pinned` was interrupted behind the trust file.
        return _read_pinned(_next(path), trust)
    except (OSError, FedwardError):
        pass
    try:
        return _read_pinned(path, trust)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read",
            found=error.strerror,
            remedy="pin the coordinator's roster with: fedward client trust",
        ) from None
    except FedwardError as error:
        raise error.at(str(path)) from None


def _read_pinned(path: Path, trust: Trust) -> Roster:
    roster = Roster.verify(path.read_bytes(), trust.coordinator)
    trust.check_pinned(roster)
    return roster


def _next(path: Path) -> Path:
    return path.with_name(f"{path.name}.next")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 65_535


def _check_certificate(pem: str) -> None:
    """One certificate of an authority, in one spelling, so that a roster has one digest."""
    try:
        found = x509.load_pem_x509_certificate(pem.encode())
        basic = found.extensions.get_extension_for_class(x509.BasicConstraints).value
        right = basic.ca and found.public_bytes(Encoding.PEM).decode() == pem
    except (ValueError, x509.ExtensionNotFound):
        right = False
    if not right:
        raise InputError("ca of a roster", expected="the certificate of an authority, in PEM")


def _check_unlike(what: str, values: list[bytes] | list[str]) -> None:
    if len(set(values)) != len(values):
        raise InputError(f"repeated {what} in a roster", expected="each only once")
