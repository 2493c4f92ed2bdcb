"""A hospital's side of a delivery: it hands a model on that it holds, or takes one.

Nothing of it needs to outlast this process but the model itself: whatever dies, the coordinator
asks again from the beginning, and keys and letters of before open nothing any more.
"""

from __future__ import annotations

import hashlib

from client.delivery_questions import Place, asked_of_origin, needed_of, require, vouchers
from client.hospital import Hospital
from client.model_recipient import Recipient
from client.model_sender import Sender
from protocol.canonical import to_canonical
from protocol.deliveries import CONTEXT, Delivery
from protocol.delivery_messages import HandOver, Offer, Ready, Received, Vouch, Vouched
from protocol.errors import Code, FedwardError, RefusalError
from protocol.jobs import Job
from protocol.messages import Header
from protocol.signing import fingerprint, verify


class Deliveries:
    """Answers `Offer`, `Vouch` and `HandOver`.

    Args:
        hospital: The opened hospital.
    """

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital
        self._sender = Sender(hospital)
        self._recipient = Recipient(hospital)

    def offer(self, body: Offer, header: Header) -> Ready:
        """Agree to hand a model on, or to take one; of the latter, with new ephemeral keys.

        Raises:
            RefusalError: With the code that may leave the hospital and a local reason.
        """
        here = self._here()
        delivery, name = self._verified(body, header, here), self._hospital.name
        if name in delivery.holders:
            self._sender.model(delivery, here)
            return Ready(name=name, holds=True)
        job = _job(body.job)
        member = self._recipient.expect(delivery, job, here, header.attempt)
        if member is None:
            return Ready(name=name, holds=True)
        return Ready(
            name=name,
            holds=False,
            needed=needed_of(job, here.policy),
            vouchers=vouchers(delivery, job, here.members),
            member=member,
        )

    def vouch(self, body: Vouch, header: Header) -> Vouched:
        """Write to each recipient what this hospital holds; the journal has it before it leaves.

        Raises:
            RefusalError: The policy does not allow it, or this hospital does not hold the model.
            IntegrityError: A recipient's keys are not vouched for by a hospital confirmed here.
        """
        here = self._here()
        delivery = self._verified(body, header, here)
        if self._hospital.name not in delivery.holders:
            raise RefusalError(Code.ROSTER, "the delivery does not ask this hospital for a model")
        model = self._sender.model(delivery, here)
        letters = self._sender.letters(body, delivery, model, here, header.attempt)
        self._hospital.journal.append(
            "handed-on",
            {
                "delivery": delivery.digest,
                "job": delivery.job,
                "model": model.card.label,
                "weights": body.send,
                "letters": {n: hashlib.sha256(one).hexdigest() for n, one in letters.items()},
            },
        )
        return Vouched(letters=to_canonical(letters))

    def hand_over(self, body: HandOver, header: Header) -> Received:
        """Take the model that enough holders vouched for into the store, once.

        Raises:
            RefusalError: This process does not await it, or not in this attempt, or too few
                holders say the same.
        """
        self._recipient.take(header.job, header.attempt, body.letters)
        return Received(name=self._hospital.name)

    def _verified(self, body: Offer | Vouch, header: Header, here: Place) -> Delivery:
        """The delivery, if the pinned coordinator signed it and its origin holds."""
        verify(self._hospital.roster.coordinator, CONTEXT, body.delivery, body.signature)
        delivery = Delivery.from_bytes(body.delivery)
        if delivery.digest != header.job:
            raise RefusalError(Code.SIGNATURE, "the packet names another delivery than it carries")
        require(asked_of_origin(delivery, here))
        return delivery

    def _here(self) -> Place:
        hospital = self._hospital
        return Place(
            name=hospital.name,
            coordinator=fingerprint(hospital.roster.coordinator),
            roster=hospital.trust.roster,
            members=hospital.trust.members(hospital.roster),
            policy=hospital.config.policy,
            now=hospital.clock(),
        )


def _job(data: bytes) -> Job:
    try:
        return Job.from_bytes(data)
    except FedwardError as error:
        raise RefusalError(Code.SIGNATURE, f"job of a delivery: {error}") from error
