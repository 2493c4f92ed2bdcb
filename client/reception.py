"""What arrives through Flower, verified before anything acts on it.

Flower's control interface has no authentication: whoever reaches it can start a run. So neither
the run nor the bundle is believed. What counts is the coordinator's signature on the job and on
the packet, under the key that this hospital pinned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.bundle import SignedJob, open_bundle
from protocol.errors import Code, FedwardError, IntegrityError, RefusalError
from protocol.jobs import Job
from protocol.messages import Enrol, Header, Packet, open_header
from protocol.signing import verify


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A packet that the pinned coordinator signed, about a job that it signed.

    Args:
        packet: As it arrived.
        header: Its verified header.
        signed: The job's bytes and signature.
        job: The job.
    """

    packet: Packet
    header: Header
    signed: SignedJob
    job: Job


def receive(fab: bytes, parts: Mapping[str, bytes], coordinator: bytes) -> Arrival:
    """Verify a bundle and the packet that came with it.

    Args:
        fab: The bundle of the run.
        parts: The message's parts by name.
        coordinator: Ed25519 key of the pinned coordinator, 32 bytes.

    Raises:
        RefusalError: The bundle holds more than a signed job, somebody else signed it, the packet
            is of another job, or an enrolment carries another job than the bundle.
        IntegrityError: The packet is not what the coordinator signed.
    """
    packet = Packet.from_wire(parts)
    signed = open_bundle(fab)
    try:
        verify(coordinator, "job", signed.job, signed.signature)
        job = Job.from_bytes(signed.job)
    except FedwardError as error:
        raise RefusalError(Code.SIGNATURE, f"job of a bundle: {error}") from error
    header = open_header(packet, coordinator)
    if header.job != job.digest:
        raise RefusalError(
            Code.SIGNATURE,
            "a packet of another job than its run's bundle",
            expected=job.digest[:12],
            found=header.job[:12],
        )
    if packet.kind == Enrol.KIND and packet.blobs.get("job") != signed.job:
        raise IntegrityError("an enrolment carries another job than its run's bundle")
    return Arrival(packet=packet, header=header, signed=signed, job=job)
