"""Deliveries: by whose word, from whom and to whom a finished job's model is handed on.

A delivery is a document of its own, signed in a context of its own, so none passes for a job. The
coordinator signs deliveries and nothing that says what the model is: that is a `Statement`, which
only hospitals sign that hold it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from protocol.canonical import to_canonical
from protocol.card import check_name
from protocol.config import decode
from protocol.errors import InputError, IntegrityError
from protocol.jobs import NAME, Job

VERSION = 1
CONTEXT = "delivery"
"""Of the coordinator's signature on a delivery."""
VOUCHED = "vouched-model"
"""Of a holder's signature on a statement."""
MIN_QUORUM = 2
_NONCE = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def quorum_of(job: Job) -> int:
    """How many holders must say the same of a model before anybody believes it.

    Guarantee: t hospitals that collude, the job's `colluding_sites`, are too few.
    """
    return max(MIN_QUORUM, job.privacy.colluding_sites + 1)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A model's way from those who hold it to those who do not.

    Args:
        version: Protocol version.
        name: The model's name, which is its job's.
        nonce: 32 hex digits that make two launches two deliveries.
        created: RFC 3339 time.
        expires: RFC 3339 time after which nobody acts on it.
        coordinator: Fingerprint of the signing coordinator.
        roster: SHA-256 of the pinned roster's bytes, today's and not the job's.
        job: Digest of the job whose model it is.
        holders: Hospitals that are asked to hand it on, by their names in the roster.
        recipients: Hospitals that are to get it.
        timeout_s: How long the coordinator waits for one answer.

    Raises:
        InputError: A name, digest, time or number cannot be, or a hospital is named twice.
    """

    version: int
    name: str
    nonce: str
    created: str
    expires: str
    coordinator: str
    roster: str
    job: str
    holders: tuple[str, ...]
    recipients: tuple[str, ...]
    timeout_s: int

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise InputError("name of a delivered model", expected="such as sepsis-2")
        named = (*self.holders, *self.recipients)
        if not self.holders or not self.recipients or len(set(named)) < len(named):
            raise InputError(
                "hospitals of a delivery", expected="holders and recipients, each named once"
            )
        # Administrators see all of it in a terminal, and journals quote it.
        for name in named:
            check_name(name)
        digests = (self.coordinator, self.roster, self.job)
        if not _NONCE.fullmatch(self.nonce) or not all(map(_DIGEST.fullmatch, digests)):
            raise InputError("digests of a delivery", expected="hexadecimal digits")
        if self.timeout_s < 1:
            raise InputError("timeout_s of a delivery", expected="1 or more")
        _ = _time(self.created), self.ends

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.name} to {', '.join(self.recipients)}"

    @cached_property
    def ends(self) -> datetime:
        """When it expires.

        Raises:
            InputError: The text is no time with a zone.
        """
        return _time(self.expires)

    def to_bytes(self) -> bytes:
        """Canonical bytes; these are what is signed, sent and hashed."""
        return to_canonical(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Delivery:
        """Read a delivery from bytes whose signature has been verified.

        Raises:
            InputError: The bytes are no canonical delivery; the message names the key.
        """
        return decode(cls, data, "delivery")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes, hexadecimal: the delivery's identity."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a holder vouches for, to one recipient in one delivery.

    It travels sealed: a digest of weights in the open would let the coordinator test guesses, and
    would tell it when two jobs ended with the same model.

    Args:
        delivery: Digest of the delivery.
        recipient: Name of who is to believe it.
        job: Digest of the job that made the model.
        layout: Digest of the parameter layout.
        weights: SHA-256 of the weights, as `protocol.tensors.weights_digest` has it.
        card: Canonical bytes of the card, without what is a hospital's own.
    """

    delivery: str
    recipient: str
    job: str
    layout: str
    weights: str
    card: bytes

    def to_bytes(self) -> bytes:
        """Canonical bytes; these are what is signed and compared."""
        return to_canonical(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Statement:
        """Read a statement.

        Raises:
            IntegrityError: The bytes are none; the message quotes nothing of them.
        """
        try:
            return decode(cls, data, "statement")
        except InputError:
            raise IntegrityError("the bytes are no statement on a model") from None


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = datetime.min  # noqa: DTZ901 - refused below, since it has no zone
    if found.tzinfo is None:
        raise InputError("times of a delivery", expected="RFC 3339, with a zone")
    return found
