"""Offering a delivery to hospitals: which node is whose, and what each answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from protocol.bundle import SignedDelivery
from protocol.card import Card
from protocol.cohort import Member
from protocol.deliveries import Delivery
from protocol.delivery_messages import Offer, Ready
from protocol.errors import Code, FedwardError, IntegrityError
from protocol.jobs import Job
from protocol.messages import Packet, Place, Refused, read_body
from protocol.roster import Roster
from server.checkpoint import Seat
from server.correspondence import Correspondence
from server.delivery_rules import Rules, Standing, Want
from server.exchange import Arrival, Pending

ROUND_S = 10.0
"""How long one round waits for answers."""


@dataclass(frozen=True, kw_only=True)
class Offered:
    """What is offered.

    Args:
        signed: The delivery as it was signed.
        delivery: The same, read.
        job: The job whose model it is.
        roster: The roster that the delivery names.
    """

    signed: SignedDelivery
    delivery: Delivery
    job: Job
    roster: Roster


class Offers:
    """Asks whoever is connected, and remembers who answered from where.

    Args:
        offered: What is offered.
        letters: The way to the hospitals.
        rules: Whom it concerns.
    """

    def __init__(self, offered: Offered, letters: Correspondence, rules: Rules) -> None:
        self._offered = offered
        self._letters = letters
        self._rules = rules
        self._cards = {card.fingerprint: card for card in offered.roster.members}
        self._others: set[int] = set()
        self._attempt = 0
        self._open: list[Pending] = []
        self.seats: dict[str, Seat] = {}

    def ask(self, standing: Standing, place: Place) -> Standing:
        """Ask every connected node that may be one of those that have not answered.

        One that is slow or hangs keeps the others waiting for `ROUND_S` at the most. Its answer is
        taken in a later round of the same attempt, and until the delivery's `timeout_s` is over it
        is not asked again.

        Returns:
            Where the delivery stands afterwards.

        Raises:
            HaltedError: Somebody asked for the delivery's end.
        """
        if place.attempt != self._attempt:
            # What a recipient answers to an earlier attempt are keys that nobody writes to.
            self._attempt, self._open = place.attempt, []
        after = standing

        def take(arrival: Arrival) -> None:
            nonlocal after
            after = self._take(after, arrival, place)

        self._offer(standing, place, take)
        end = time.monotonic() + ROUND_S
        while True:
            for pending in self._open:
                self._letters.look(pending, take)
            self._open = [pending for pending in self._open if pending.nodes]
            left_s = end - time.monotonic()
            if not self._open or not after.unanswered(self._rules) or left_s <= 0:
                return after
            self._letters.pause(left_s)

    def _offer(self, standing: Standing, place: Place, take: Callable[[Arrival], None]) -> None:
        """Send an offer to each node that may be one of those, and has none to answer."""
        wanted = standing.unanswered(self._rules)
        answered = {seat.node for name, seat in self.seats.items() if name not in wanted}
        silent = {node for pending in self._open for node in pending.nodes}
        spared = answered | self._others | silent
        nodes = tuple(node for node in self._letters.nodes() if node not in spared)
        if not wanted or not nodes:
            return
        body = Offer(
            signature=self._offered.signed.signature,
            delivery=self._offered.signed.delivery,
            job=self._offered.job.to_bytes(),
        )
        timeout_s = self._offered.delivery.timeout_s
        self._open.append(self._letters.send_nodes(nodes, body, place, take, wait_s=timeout_s))

    def _take(self, standing: Standing, arrival: Arrival, place: Place) -> Standing:
        """Who answered is known only from the answer: its sender must be in the roster."""
        packet = arrival.packet
        card = None if packet is None else self._cards.get(packet.sender)
        if packet is None or card is None:
            return standing
        if card.name not in (*self._rules.holders, *self._rules.recipients):
            self._others.add(arrival.node)
            return standing
        try:
            return self._read(standing, card, arrival.node, packet, place)
        except IntegrityError:
            # Whoever names a hospital without its signature may not speak for it, not even a no.
            return standing
        except FedwardError:
            return standing.refuse(card.name, Code.VERSION)

    def _read(
        self, standing: Standing, card: Card, node: int, packet: Packet, place: Place
    ) -> Standing:
        header = self._letters.open(packet, card.signing)
        if header.attempt != place.attempt:
            raise IntegrityError("an answer to another attempt")
        self._letters.arrived(card.name)
        self.seats[card.name] = Seat(
            node=node, signing=card.signing, fingerprint=card.fingerprint, member=b""
        )
        if packet.kind == Refused.KIND:
            return standing.refuse(card.name, read_body(packet, header, Refused).code)
        body = read_body(packet, header, Ready)
        want = None
        if not body.holds:
            self._check_keys(card, body.member)
            want = Want(needed=body.needed, vouchers=body.vouchers)
        return standing.accept(
            self._rules, card.name, holds=body.holds, member=body.member, want=want
        )

    def _check_keys(self, card: Card, keys: bytes | None) -> None:
        delivery, member = self._offered.delivery, Member.from_bytes(keys or b"")
        member.verify(job=delivery.digest, roster=delivery.roster)
        member.check_keys()
        if (member.name, member.signing) != (card.name, card.signing):
            raise IntegrityError("keys that another hospital vouched for")
