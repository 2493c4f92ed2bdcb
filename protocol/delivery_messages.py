"""What is said in a delivery; packets and their checks are those of `protocol.messages`.

A packet of a delivery has the delivery's digest where a packet of a job has the job's. Its attempt
grows whenever the coordinator begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from protocol.canonical import from_canonical
from protocol.errors import FedwardError, IntegrityError


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Coordinator to hospitals: hand this model on, or take it?

    Args:
        signature: Ed25519 over the delivery's bytes, context `delivery`.
        delivery: The delivery's canonical bytes.
        job: Canonical bytes of the job that made the model: what its recipient believes by.
    """

    KIND: ClassVar[str] = "offer"
    BLOBS: ClassVar[tuple[str, ...]] = ("delivery", "job")

    signature: bytes
    delivery: bytes
    job: bytes


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Hospital to coordinator: it will do its part, or has the model already.

    Args:
        name: The hospital's name in the roster.
        holds: Whether its store has the model.
        needed: Of a recipient without it, how many holders must say the same before it believes
            them; its policy may want more than the job does.
        vouchers: Of such a recipient, holders whose word counts there.
        member: Of such a recipient, canonical bytes of its signed ephemeral keys of this delivery
            (`protocol.cohort.Member`, with the delivery in the job's place).
    """

    KIND: ClassVar[str] = "ready"
    BLOBS: ClassVar[tuple[str, ...]] = ("member",)

    name: str
    holds: bool
    needed: int = 0
    vouchers: tuple[str, ...] = ()
    member: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Vouch:
    """Coordinator to holder: write a letter to each of these recipients.

    Args:
        signature: As in `Offer`.
        send: Whether this holder's letters have the model in them.
        delivery: As in `Offer`.
        recipients: Name of each recipient to its `Ready.member`, canonical bytes.
    """

    KIND: ClassVar[str] = "vouch"
    BLOBS: ClassVar[tuple[str, ...]] = ("delivery", "recipients")

    signature: bytes
    send: bool
    delivery: bytes
    recipients: bytes


@dataclass(frozen=True, kw_only=True)
class Vouched:
    """Holder to coordinator: its letters.

    Args:
        letters: Name of each recipient to a sealed, signed letter, canonical bytes.
    """

    KIND: ClassVar[str] = "vouched"
    BLOBS: ClassVar[tuple[str, ...]] = ("letters",)

    letters: bytes


@dataclass(frozen=True, kw_only=True)
class HandOver:
    """Coordinator to recipient: what the holders wrote to it.

    Args:
        letters: Name of each holder to its letter, canonical bytes.
    """

    KIND: ClassVar[str] = "hand-over"
    BLOBS: ClassVar[tuple[str, ...]] = ("letters",)

    letters: bytes


@dataclass(frozen=True, kw_only=True)
class Received:
    """Recipient to coordinator: the model is in its store.

    Args:
        name: The hospital's name in the roster.
    """

    KIND: ClassVar[str] = "received"
    BLOBS: ClassVar[tuple[str, ...]] = ()

    name: str


def by_hospital(data: bytes) -> dict[str, bytes]:
    """Letters or keys by the name of a hospital, as several of these messages carry them.

    Raises:
        IntegrityError: The bytes are something else.
    """
    try:
        found = from_canonical(data)
    except FedwardError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(one, bytes) for one in found.values()):
        raise IntegrityError("letters or keys of a delivery", expected="bytes by hospital")
    return found
