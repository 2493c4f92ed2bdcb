"""Signed letters to hospitals and back: packing, checking and counting, for one job.

Whoever reads an answer here can rely on its signature, its recipient, its job and its place; what
it says is the business of `server.course`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from protocol.errors import Code, FedwardError, IntegrityError
from protocol.jobs import Job
from protocol.messages import (
    Body,
    Header,
    Packet,
    Place,
    Refused,
    open_header,
    pack,
    read_body,
)
from protocol.signing import SigningKey
from server.exchange import Arrival, Exchange
from server.rounds import Answer

B = TypeVar("B", bound=Body)


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the coordinator knows of a hospital that enrolled.

    Args:
        node: Flower's identifier of its node.
        signing: Its Ed25519 key, 32 bytes.
        fingerprint: SHA-256 of that key.
        member: Canonical bytes of its signed ephemeral keys.
    """

    node: int
    signing: bytes
    fingerprint: str
    member: bytes


@dataclass(frozen=True)
class Letter(Generic[B]):
    """One hospital's answer: what it said, None where it refused or failed, and what follows."""

    body: B | None
    answer: Answer


class Correspondence:
    """The coordinator's side of every exchange of one job.

    Args:
        job: The job.
        key: The coordinator's key.
        exchange: The way to the nodes.
    """

    def __init__(self, job: Job, key: SigningKey, exchange: Exchange) -> None:
        self._job = job
        self._key = key
        self._exchange = exchange
        self.bytes_up = 0
        self.bytes_down = 0

    def reset(self) -> None:
        """Begin to count bytes anew."""
        self.bytes_up = self.bytes_down = 0

    def ask_everybody(
        self, body: Body, place: Place, *, at_least: int, wait_s: float
    ) -> Iterator[Arrival]:
        """Ask every connected node, whoever it is, once there are enough or the wait is over."""
        nodes = self._exchange.nodes(at_least=at_least, wait_s=wait_s)
        packet = self._pack(body, place, "*")
        yield from self._ask(dict.fromkeys(nodes, packet), self._job.timeout_s)

    def ask(
        self,
        sites: Mapping[str, Site],
        bodies: Mapping[str, Body],
        place: Place,
        cls: type[B],
        take: Callable[[str, B], Answer] = lambda _, __: Answer(),
        *,
        wait_s: float | None = None,
    ) -> dict[str, Letter[B]]:
        """Send each hospital its message and read the answers as they come.

        Args:
            sites: Every hospital that enrolled.
            bodies: What to say, by hospital.
            place: Where in the job this belongs; answers must say the same.
            cls: What an answer must be.
            take: Uses an answer at once; what it raises makes the answer a failure.
            wait_s: Patience; the job's if not given.
        """
        names = {sites[site].node: site for site in bodies}
        packets = {
            sites[site].node: self._pack(body, place, sites[site].fingerprint)
            for site, body in bodies.items()
        }
        letters: dict[str, Letter[B]] = {}
        for arrival in self._ask(packets, wait_s or self._job.timeout_s):
            site = names[arrival.node]
            letters[site] = self._read(arrival, site, sites[site].signing, place, cls, take)
        return letters

    def open(self, packet: Packet, signing: bytes) -> Header:
        """Verify an answer to this coordinator in this job.

        Raises:
            IntegrityError: It is not this hospital's answer to this coordinator and job.
            RefusalError: The hospital speaks another protocol version.
        """
        header = open_header(packet, signing)
        if (header.recipient, header.job) != (self._key.fingerprint, self._job.digest):
            raise IntegrityError("an answer to somebody else or to another job")
        return header

    def _read(
        self,
        arrival: Arrival,
        site: str,
        signing: bytes,
        place: Place,
        cls: type[B],
        take: Callable[[str, B], Answer],
    ) -> Letter[B]:
        if arrival.packet is None:
            return Letter(None, Answer(code=Code.DEADLINE))
        try:
            header = self.open(arrival.packet, signing)
            if arrival.packet.kind == Refused.KIND:
                code = read_body(arrival.packet, header, Refused).code
                return Letter(None, Answer(code=code))
            if _place_of(header) != place:
                return Letter(None, Answer(code=Code.REPLAYED))
            body = read_body(arrival.packet, header, cls)
            return Letter(body, take(site, body))
        except IntegrityError:
            return Letter(None, Answer(code=Code.SIGNATURE))
        except FedwardError:
            return Letter(None, Answer(code=Code.FAILED))

    def _ask(self, packets: Mapping[int, Packet], wait_s: float) -> Iterator[Arrival]:
        self.bytes_down += sum(packet.size for packet in packets.values())
        for arrival in self._exchange.ask(packets, timeout_s=wait_s):
            self.bytes_up += 0 if arrival.packet is None else arrival.packet.size
            yield arrival

    def _pack(self, body: Body, place: Place, recipient: str) -> Packet:
        deadline = time.time() + self._job.timeout_s
        return pack(body, place, self._key, recipient=recipient, deadline=deadline)


def _place_of(header: Header) -> Place:
    return Place(job=header.job, epoch=header.epoch, attempt=header.attempt, cohort=header.cohort)
