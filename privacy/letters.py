"""Letters: what holders of a model write to a hospital that lacks it, through the coordinator.

A letter is sealed to keys that the recipient made for this delivery, and signed by the holder. In
it is a signed statement of which model the holder has; one holder's letter has the model as well.
Nobody's word alone is believed: see `believe`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from privacy.envelope import open_sealed, seal, sign_sealed, verify_sealed
from privacy.keys import Ephemeral
from protocol.canonical import to_canonical
from protocol.config import decode
from protocol.deliveries import VOUCHED, Statement
from protocol.errors import InputError, IntegrityError
from protocol.signing import SigningKey, verify

_CONTEXT = "letter"


@dataclass(frozen=True, kw_only=True)
class Route:
    """One letter's way.

    Args:
        delivery: Digest of the delivery.
        roster: Digest of the roster that all have pinned.
        attempt: The coordinator's count of its attempts.
        sender: Name of the holder.
        recipient: Name of who lacks the model.
    """

    delivery: str
    roster: str
    attempt: int
    sender: str
    recipient: str

    @property
    def place(self) -> bytes:
        """What signature and seal are bound to, canonical bytes."""
        return to_canonical(
            {
                "kind": f"fedward/1 {_CONTEXT}",
                "delivery": self.delivery,
                "roster": self.roster,
                "attempt": self.attempt,
                "sender": self.sender,
                "recipient": self.recipient,
            }
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Letter:
    """What is in the envelope.

    Args:
        statement: Canonical bytes of a `protocol.deliveries.Statement`.
        signature: The holder's Ed25519 over them, context `vouched-model`.
        weights: The model's weights, little-endian float64; None where another sends them.
    """

    statement: bytes
    signature: bytes
    weights: bytes | None


@dataclass(frozen=True, kw_only=True, repr=False)
class Believed:
    """A model that enough holders vouched for.

    Args:
        statement: What they said.
        weights: The weights that have its digest.
        vouchers: Their names, in the order of the letters.
    """

    statement: Statement
    weights: bytes
    vouchers: tuple[str, ...]


def write_letter(
    statement: Statement, route: Route, *, kem: bytes, weights: bytes | None, key: SigningKey
) -> bytes:
    """Vouch for a model, seal that to its recipient, and sign.

    Args:
        statement: Which model the holder has.
        route: From whom to whom.
        kem: The recipient's ephemeral key of this delivery.
        weights: See `Letter`.
        key: The holder's key.

    Raises:
        RefusalError: This node's cryptography library lacks ML-KEM.
        IntegrityError: The recipient's key is none.
    """
    said = statement.to_bytes()
    letter = Letter(statement=said, signature=key.sign(VOUCHED, said), weights=weights)
    sealed = seal(kem, route.place, to_canonical(letter))
    return sign_sealed(_CONTEXT, route.place, sealed, key)


def read_letter(letter: bytes, route: Route, ephemeral: Ephemeral, signing: bytes) -> Letter:
    """Open a letter.

    Guarantee: the holder with this key wrote it to this recipient, in this attempt of this
    delivery, and signed the statement in it for both.

    Args:
        letter: What the coordinator relayed.
        route: From whom to whom.
        ephemeral: The recipient's keys.
        signing: The holder's Ed25519 key.

    Raises:
        IntegrityError: A signature, the seal or the content is wrong, or it says something to
            somebody else.
    """
    sealed = verify_sealed(_CONTEXT, route.place, letter, signing)
    content = open_sealed(ephemeral, route.place, sealed)
    try:
        found = decode(Letter, content, "letter")
    except InputError:
        # No cause: it would quote the bytes.
        raise IntegrityError("a letter holds something else than a statement") from None
    verify(signing, VOUCHED, found.statement, found.signature)
    said = Statement.from_bytes(found.statement)
    if (said.delivery, said.recipient) != (route.delivery, route.recipient):
        raise IntegrityError("a letter's statement is for another delivery or hospital")
    return found


def believe(letters: Mapping[str, Letter], *, job: str, quorum: int) -> Believed:
    """The model that enough holders say they have.

    Guarantee: at least `quorum` of them signed the same statement, and the weights have the digest
    that it states. So fewer colluding hospitals than that plant no model, nor does the coordinator.

    Args:
        letters: Letters that were opened, by holder; a hospital that does not count is not here.
        job: Digest of the job whose model it must be.
        quorum: How many must agree, `protocol.deliveries.quorum_of`.

    Raises:
        IntegrityError: Too few agree with one that sent weights, or these are not the weights.
    """
    most = 0
    for letter in letters.values():
        statement = Statement.from_bytes(letter.statement)
        if letter.weights is None or statement.job != job:
            continue
        if hashlib.sha256(letter.weights).hexdigest() != statement.weights:
            continue
        agreeing = tuple(n for n, one in letters.items() if one.statement == letter.statement)
        most = max(most, len(agreeing))
        if len(agreeing) >= quorum:
            return Believed(statement=statement, weights=letter.weights, vouchers=agreeing)
    raise IntegrityError(
        "too few hospitals vouch for the model that was handed on",
        expected=f"{quorum} or more that say the same of weights that came",
        found=str(most),
    )
