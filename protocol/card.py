"""A hospital's card: its name and its public keys, vouched for by itself.

The Ed25519 key is the hospital's identity; its fingerprint is what administrators read to each
other. The card proves that whoever made it held every key on it, so that nobody, the coordinator
included, can put another's key, or a key of nobody, on a card of their own. A card that follows
another, after the identity key was renewed, is also signed by the key before it. Keys are renewed
together: a card that only changed its other keys could be rolled back by who kept the old one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.canonical import to_canonical
from protocol.config import decode
from protocol.errors import InputError, IntegrityError
from protocol.exchange import PROOF_BYTES, ExchangeKey, verify_possession
from protocol.signing import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    SigningKey,
    fingerprint,
    to_signed_bytes,
    verify,
)

VERSION = 1
"""Protocol version; cards and rosters carry it, so that a refusal can name it."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a hospital says of itself; `verify` tells whether it is true.

    Args:
        version: Protocol version of the installation that made it.
        name: The hospital's name in the roster: ASCII letters, digits, dot, dash, underscore.
        signing: Ed25519 key, 32 bytes: the identity.
        exchange: Static X25519 key, 32 bytes; in this release nothing is sealed to it.
        node_key: The elliptic-curve key of Flower's node authentication, a public key in PEM, or
            empty for a hospital without a node.
        exchange_proof: Proof of possession of `exchange`, 96 bytes.
        node_proof: ECDSA-SHA384 by `node_key`; empty where there is none.
        replaces: The Ed25519 key before this one; empty on a first card.
        rotation: Signature by `replaces`; empty on a first card.
        signature: Ed25519 by `signing` over all the rest but `rotation`.
    """

    version: int
    name: str
    signing: bytes
    exchange: bytes
    node_key: str
    exchange_proof: bytes
    node_proof: bytes
    replaces: bytes
    rotation: bytes
    signature: bytes

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise InputError(
                "protocol version of a card",
                expected=str(VERSION),
                found=str(self.version),
                remedy="install the same release of fedward at hospital and coordinator",
            )
        check_name(self.name)
        lengths = (len(self.signing), len(self.exchange), len(self.exchange_proof))
        if lengths != (KEY_BYTES, KEY_BYTES, PROOF_BYTES):
            raise InputError("keys of a card", expected="Ed25519, X25519 and its proof")
        if bool(self.node_key) != bool(self.node_proof):
            raise InputError("a card's node key", expected="both a key and its proof, or neither")
        if (len(self.replaces), len(self.rotation)) not in {(0, 0), (KEY_BYTES, SIGNATURE_BYTES)}:
            raise InputError("a card's rotation", expected="the key before and its signature")

    @classmethod
    def make(
        cls,
        *,
        name: str,
        signing: SigningKey,
        exchange: ExchangeKey,
        node: ec.EllipticCurvePrivateKey | None = None,
        previous: SigningKey | None = None,
    ) -> Card:
        """Make a hospital's card.

        Args:
            name: The hospital's name.
            signing: Its identity.
            exchange: Its static exchange key.
            node: Its key of Flower's node authentication.
            previous: The identity that this card replaces.

        Raises:
            InputError: The name is not allowed, or the identity replaces itself.
        """
        replaces = previous.public if previous else b""
        if replaces == signing.public:
            raise InputError("a card replaces its own key", remedy="generate a new key first")
        node_key = _to_pem(node.public_key()) if node else ""
        keys = to_canonical([VERSION, name, signing.public, exchange.public, node_key, replaces])
        exchange_proof = exchange.prove("card:exchange", keys)
        node_proof = _prove_node(node, keys) if node else b""
        content = to_canonical([keys, exchange_proof, node_proof])
        return cls(
            version=VERSION,
            name=name,
            signing=signing.public,
            exchange=exchange.public,
            node_key=node_key,
            exchange_proof=exchange_proof,
            node_proof=node_proof,
            replaces=replaces,
            rotation=previous.sign("card:rotation", content) if previous else b"",
            signature=signing.sign("card", content),
        )

    def verify(self) -> None:
        """Check the signature and the proof of every key.

        Guarantee: whoever made the card held the secret part of each of its keys, and, if it
        replaces an identity, the holder of that identity agreed. It says nothing about who that
        is: this is what the administrator confirms by the fingerprint.

        Raises:
            IntegrityError: One of them does not hold.
        """
        parts = (self.name, self.signing, self.exchange, self.node_key, self.replaces)
        keys = to_canonical([self.version, *parts])
        content = to_canonical([keys, self.exchange_proof, self.node_proof])
        verify(self.signing, "card", content, self.signature)
        verify_possession(self.exchange, "card:exchange", keys, self.exchange_proof)
        if self.node_key:
            _verify_node(self.node_key, keys, self.node_proof)
        if self.replaces:
            if self.replaces == self.signing:
                raise IntegrityError("a card replaces its own key")
            verify(self.replaces, "card:rotation", content, self.rotation)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the identity, 64 hexadecimal digits."""
        return fingerprint(self.signing)

    def to_bytes(self) -> bytes:
        """Canonical bytes, as a hospital hands its card to the coordinator."""
        return to_canonical(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Card:
        """Read and verify a card.

        Raises:
            InputError: The bytes are no card.
            IntegrityError: A signature or proof does not hold.
        """
        card = decode(cls, data, "card")
        card.verify()
        return card


def check_name(name: str) -> None:
    """Refuse a name that is no hospital's.

    Raises:
        InputError: It is not 1 to 63 ASCII letters, digits, dots, dashes and underscores that
            begin with a letter or digit.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            "name of a hospital",
            expected="1 to 63 ASCII letters, digits, dots, dashes, underscores",
        )


def _to_pem(key: ec.EllipticCurvePublicKey) -> str:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def _prove_node(key: ec.EllipticCurvePrivateKey, keys: bytes) -> bytes:
    return key.sign(to_signed_bytes("card:node", keys), ec.ECDSA(hashes.SHA384()))


def _verify_node(pem: str, keys: bytes, proof: bytes) -> None:
    """Check the node key's proof; one key has one spelling, so that duplicates show."""
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or _to_pem(key) != pem:
        raise IntegrityError("a card's node key", expected="an elliptic-curve public key in PEM")
    try:
        key.verify(proof, to_signed_bytes("card:node", keys), ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise IntegrityError("the proof of possession of a node key does not hold") from None
