"""Asking hospitals to take part, or where they stand in a job that is under way."""

from __future__ import annotations

import time

from protocol.card import Card
from protocol.cohort import Member as CohortMember
from protocol.errors import Code, FedwardError, IntegrityError
from protocol.messages import Enrol, Enrolled, Header, Packet, Place, Refused, read_body
from server import terms
from server.checkpoint import Seat
from server.correspondence import Correspondence
from server.exchange import Arrival
from server.holding import Holding
from server.launch import Launch
from server.terms import Answer


class Enrolment:
    """Carries `terms.Enrol` out.

    Args:
        launch: The job and its signer.
        letters: The way to the hospitals.
        holding: What is known of them.
    """

    def __init__(self, launch: Launch, letters: Correspondence, holding: Holding) -> None:
        self._launch = launch
        self._job = launch.job
        self._letters = letters
        self._holding = holding
        self._cards = {card.fingerprint: card for card in launch.roster.members}
        self._names = {site.name for site in launch.job.sites}

    def ask(self, command: terms.Enrol) -> dict[str, Answer]:
        """One answer for each hospital that was asked; silence is one, too.

        Raises:
            HaltedError: Somebody asked for the job's end.
        """
        found: dict[str, Answer] = {}
        patience = self._launch.patience
        if not command.again:
            self._await(len(command.sites), patience.join_s)
            self._ask(self._candidates(command, found), found, self._job.timeout_s)
            return self._complete(command, found)
        end = time.monotonic() + patience.rejoin_s
        wait_s = min(patience.enrol_s, self._job.timeout_s)
        while True:
            self._ask(self._candidates(command, found), found, wait_s)
            accepted = sum(answer.code is None for answer in found.values())
            waiting = set(command.sites) - set(found)
            left_s = end - time.monotonic()
            if accepted >= command.at_least or not waiting or left_s <= 0:
                return self._complete(command, found)
            self._letters.pause(left_s)

    def back(self, sites: tuple[str, ...]) -> tuple[str, ...]:
        """Which of these hospitals have a node that is connected."""
        if not sites:
            return ()
        nodes = set(self._letters.nodes())
        seats = self._holding.sites
        return tuple(site for site in sites if site in seats and seats[site].node in nodes)

    def _complete(self, command: terms.Enrol, found: dict[str, Answer]) -> dict[str, Answer]:
        silent = Answer(code=Code.DEADLINE)
        return {site: found.get(site, silent) for site in command.sites}

    def _await(self, at_least: int, wait_s: float) -> None:
        """Until so many nodes are connected, or the wait is over."""
        end = time.monotonic() + wait_s
        while len(self._letters.nodes()) < at_least and time.monotonic() < end:
            self._letters.pause(end - time.monotonic())

    def _candidates(self, command: terms.Enrol, found: dict[str, Answer]) -> tuple[int, ...]:
        """Connected nodes that may be those of the hospitals that have not answered."""
        seats = self._holding.sites
        others = {
            seat.node for site, seat in seats.items() if site not in command.sites or site in found
        }
        wanted = set(command.sites) - set(found)
        if command.again and wanted <= set(seats):
            # All are known, so nobody else needs to be asked.
            others |= set(self._letters.nodes()) - {seats[site].node for site in wanted}
        return tuple(node for node in self._letters.nodes() if node not in others)

    def _ask(self, nodes: tuple[int, ...], found: dict[str, Answer], wait_s: float) -> None:
        body = Enrol(
            signature=self._launch.signature,
            heads=dict(self._launch.heads),
            job=self._job.to_bytes(),
        )
        place = Place(job=self._job.digest)

        def take(arrival: Arrival) -> None:
            found.update(self._read(arrival))

        self._letters.ask_nodes(nodes, body, place, take, wait_s=wait_s)

    def _read(self, arrival: Arrival) -> dict[str, Answer]:
        """Who answered is known only from the answer: its sender must be in the roster."""
        packet = arrival.packet
        card = None if packet is None else self._cards.get(packet.sender)
        if packet is None or card is None or card.name not in self._names:
            return {}
        try:
            header = self._letters.open(packet, card.signing)
        except IntegrityError:
            # Whoever names a hospital without its signature may not speak for it, not even a no.
            return {}
        except FedwardError:
            return {card.name: Answer(code=Code.VERSION)}
        self._letters.arrived(card.name)
        try:
            return {card.name: self._take(card, arrival.node, packet, header)}
        except FedwardError:
            return {card.name: Answer(code=Code.FAILED)}

    def _take(self, card: Card, node: int, packet: Packet, header: Header) -> Answer:
        if packet.kind == Refused.KIND:
            return Answer(code=read_body(packet, header, Refused).code)
        body = read_body(packet, header, Enrolled)
        member = CohortMember.from_bytes(body.member)
        member.verify(job=self._job.digest, roster=self._job.roster)
        member.check_keys()
        if (member.name, member.signing) != (card.name, card.signing):
            return Answer(code=Code.SIGNATURE)
        self._check_own_keys(card.name, member)
        seats = self._holding.sites
        known = card.name in seats and seats[card.name].member == body.member
        self._launch.heads[card.fingerprint] = body.head
        seats[card.name] = Seat(
            node=node, signing=card.signing, fingerprint=card.fingerprint, member=body.member
        )
        return Answer(
            key=card.fingerprint,
            initial_weights=body.initial_weights,
            known=known,
            step=body.step,
            epoch=body.epoch,
            attempt=body.attempt,
            finished=body.finished,
        )

    def _check_own_keys(self, name: str, member: CohortMember) -> None:
        for site, seat in self._holding.sites.items():
            other = CohortMember.from_bytes(seat.member)
            same = member.exchange == other.exchange or member.kem == other.kem
            if site != name and same:
                raise IntegrityError("ephemeral keys that another hospital has")
