"""Signed messages to hospitals and back: packing, checking and counting, for one job or delivery.

Whoever reads an answer here can rely on its signature, its recipient, its job and its place; what
it says is the business of who asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from protocol.errors import Code, FedwardError, IntegrityError
from protocol.messages import (
    EVERYBODY,
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
from server.checkpoint import Seat
from server.exchange import Arrival, Exchange, Pending
from server.terms import Answer

B = TypeVar("B", bound=Body)


class Matter(Protocol):
    """What is corresponded about: a job or a delivery."""

    @property
    def digest(self) -> str:
        """Its identity."""

    @property
    def timeout_s(self) -> int:
        """How long one answer is waited for."""


class Correspondence:
    """The coordinator's side of every exchange about one matter.

    Args:
        job: The job or delivery.
        key: The coordinator's key.
        exchange: The way to the nodes.
    """

    def __init__(self, job: Matter, key: SigningKey, exchange: Exchange) -> None:
        self._job = job
        self._key = key
        self._exchange = exchange
        self.reset()

    def reset(self) -> None:
        """Begin to count bytes and seconds anew."""
        self.bytes_up = self.bytes_down = 0
        self.arrivals: dict[str, float] = {}
        self._begin = time.monotonic()

    def arrived(self, site: str) -> None:
        """Note when a hospital's answer was there."""
        self.arrivals[site] = self.seconds

    @property
    def seconds(self) -> float:
        """Since `reset`."""
        return time.monotonic() - self._begin

    def nodes(self) -> tuple[int, ...]:
        """Identifiers of the connected nodes."""
        return self._exchange.nodes()

    def pause(self, longest_s: float) -> None:
        """See Exchange."""
        self._exchange.pause(longest_s)

    def ask_nodes(
        self,
        nodes: tuple[int, ...],
        body: Body,
        place: Place,
        take: Callable[[Arrival], None],
        *,
        wait_s: float,
    ) -> None:
        """Ask nodes, whoever they are.

        Raises:
            HaltedError: Somebody asked for the job's end.
        """
        self._ask(self._for_all(nodes, body, place), take, wait_s)

    def send_nodes(
        self,
        nodes: tuple[int, ...],
        body: Body,
        place: Place,
        take: Callable[[Arrival], None],
        *,
        wait_s: float,
    ) -> Pending:
        """Ask nodes, whoever they are, and wait for none of them; see `look`."""
        packets = self._for_all(nodes, body, place)
        self.bytes_down += _size(packets)
        return self._exchange.send(packets, take, timeout_s=wait_s)

    def look(self, pending: Pending, take: Callable[[Arrival], None]) -> None:
        """Use the answers that have come since the last look.

        Raises:
            HaltedError: Somebody asked for the job's end.
        """
        self._exchange.look(pending, self._counting(take))

    def ask(
        self,
        sites: Mapping[str, Seat],
        bodies: Mapping[str, Body],
        place: Place,
        cls: type[B],
        take: Callable[[str, B], Answer] = lambda _, __: Answer(),
        *,
        wait_s: float | None = None,
    ) -> dict[str, Answer]:
        """Send each hospital its message and use each answer when it comes.

        Args:
            sites: Every hospital that enrolled.
            bodies: What to say, by hospital.
            place: Where in the job this belongs; answers must say the same.
            cls: What an answer must be.
            take: Uses what a hospital said; what it raises makes the answer a failure. Nothing
                else keeps it: an update is large.
            wait_s: Patience; the job's if not given.

        Raises:
            HaltedError: Somebody asked for the job's end.
        """
        names = {sites[site].node: site for site in bodies}
        packets = {
            sites[site].node: self._pack(body, place, sites[site].fingerprint)
            for site, body in bodies.items()
        }
        answers: dict[str, Answer] = {}

        def read(arrival: Arrival) -> None:
            site = names[arrival.node]
            answers[site] = self._read(arrival, site, sites[site].signing, place, cls, take)

        self._ask(packets, read, self._job.timeout_s if wait_s is None else wait_s)
        return answers

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
    ) -> Answer:
        if arrival.packet is None:
            return Answer(code=Code.DEADLINE)
        self.arrived(site)
        try:
            header = self.open(arrival.packet, signing)
            if arrival.packet.kind == Refused.KIND:
                return Answer(code=read_body(arrival.packet, header, Refused).code)
            if _place_of(header) != place:
                return Answer(code=Code.REPLAYED)
            return take(site, read_body(arrival.packet, header, cls))
        except IntegrityError:
            return Answer(code=Code.SIGNATURE)
        except FedwardError:
            return Answer(code=Code.FAILED)

    def _ask(
        self, packets: Mapping[int, Packet], take: Callable[[Arrival], None], wait_s: float
    ) -> None:
        self.bytes_down += _size(packets)
        self._exchange.ask(packets, self._counting(take), timeout_s=wait_s)

    def _counting(self, take: Callable[[Arrival], None]) -> Callable[[Arrival], None]:
        def count(arrival: Arrival) -> None:
            self.bytes_up += 0 if arrival.packet is None else arrival.packet.size
            take(arrival)

        return count

    def _for_all(self, nodes: tuple[int, ...], body: Body, place: Place) -> dict[int, Packet]:
        return dict.fromkeys(nodes, self._pack(body, place, EVERYBODY))

    def _pack(self, body: Body, place: Place, recipient: str) -> Packet:
        deadline = time.time() + self._job.timeout_s
        return pack(body, place, self._key, recipient=recipient, deadline=deadline)


def _size(packets: Mapping[int, Packet]) -> int:
    return sum(packet.size for packet in packets.values())


def _place_of(header: Header) -> Place:
    return Place(job=header.job, epoch=header.epoch, attempt=header.attempt, cohort=header.cohort)
