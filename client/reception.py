"""What arrives through Flower, verified before anything acts on it.

Flower's control interface has no authentication: whoever reaches it can start a run. So neither
the run nor the bundle is believed. What counts is the coordinator's signature on the job and on
the packet, under the key that this hospital pinned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.bundle import Signed, SignedDelivery, open_bundle
from protocol.deliveries import Delivery
from protocol.delivery_messages import Offer, Received, Vouch, Vouched
from protocol.errors import Code, FedwardError, IntegrityError, RefusalError
from protocol.jobs import Job
from protocol.messages import Enrol, Header, Packet, Stopped, open_header

LAST = frozenset({Stopped.KIND, Vouched.KIND, Received.KIND})
"""Answers after which a process has nothing left that it must keep in memory."""


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A packet that the pinned coordinator signed, about a job or a delivery that it signed.

    Args:
        packet: As it arrived.
        header: Its verified header.
        signed: The document's bytes and signature.
        about: The job or the delivery.
    """

    packet: Packet
    header: Header
    signed: Signed
    about: Job | Delivery

    @property
    def digest(self) -> str:
        """Identity of the job or delivery."""
        return self.about.digest

    @property
    def kind(self) -> str:
        """`job` or `delivery`, for people."""
        return "job" if isinstance(self.about, Job) else "delivery"

    @property
    def title(self) -> str:
        """What people call it."""
        return self.about.name if isinstance(self.about, Job) else self.about.title


def receive(fab: bytes, parts: Mapping[str, bytes], coordinator: bytes) -> Arrival:
    """Verify a bundle and the packet that came with it.

    Args:
        fab: The bundle of the run.
        parts: The message's parts by name.
        coordinator: Ed25519 key of the pinned coordinator, 32 bytes.

    Raises:
        RefusalError: The bundle holds more than a signed document, somebody else signed it, the
            packet is about another one, or carries another one than the bundle.
        IntegrityError: The packet is not what the coordinator signed.
    """
    packet = Packet.from_wire(parts)
    signed = open_bundle(fab)
    about = _read(signed, coordinator)
    header = open_header(packet, coordinator)
    if header.job != about.digest:
        raise RefusalError(
            Code.SIGNATURE,
            "a packet of another job than its run's bundle",
            expected=about.digest[:12],
            found=header.job[:12],
        )
    if packet.kind == Enrol.KIND and packet.blobs.get("job") != signed.document:
        raise IntegrityError("an enrolment carries another job than its run's bundle")
    if packet.kind in {Offer.KIND, Vouch.KIND} and packet.blobs.get("delivery") != signed.document:
        raise IntegrityError("a packet carries another delivery than its run's bundle")
    return Arrival(packet=packet, header=header, signed=signed, about=about)


def _read(signed: Signed, coordinator: bytes) -> Job | Delivery:
    """The document, once its signature holds in the context of its kind."""
    try:
        signed.verify(coordinator)
        if isinstance(signed, SignedDelivery):
            return Delivery.from_bytes(signed.delivery)
        return Job.from_bytes(signed.job)
    except FedwardError as error:
        raise RefusalError(Code.SIGNATURE, f"{signed.KIND} of a bundle: {error}") from error
