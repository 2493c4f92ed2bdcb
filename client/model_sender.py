"""A hospital that holds a model, and its letters to those who lack it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from client.delivery_questions import Place, asked_of_holder, asked_of_model, require
from client.hospital import Hospital
from learning.artefact import Model, load, verify, versions
from learning.handed import shared_card
from privacy.letters import Route, write_letter
from protocol.cohort import Member
from protocol.deliveries import Delivery, Statement
from protocol.delivery_messages import Vouch, by_hospital
from protocol.errors import Code, FedwardError, IntegrityError, RefusalError


class Sender:
    """Hands models on.

    Args:
        hospital: The opened hospital.
    """

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital

    def model(self, delivery: Delivery, here: Place) -> Model:
        """The model of a delivery, verified, if it may go to its recipients.

        Raises:
            RefusalError: It is not here, or may not.
        """
        hospital = self._hospital
        # First, so that a hospital which hands nothing on tells nothing of its store.
        require(asked_of_holder(delivery, here))
        place = held(hospital, delivery.name, delivery.job)
        if place is None:
            raise RefusalError(
                Code.SESSION,
                f"this hospital's store has no version of {delivery.name!r} by this job",
                remedy="see 'fedward client models verify'",
            )
        model = load(place, {hospital.key.fingerprint})
        require(asked_of_model(model.card))
        return model

    def letters(
        self, body: Vouch, delivery: Delivery, model: Model, here: Place, attempt: int
    ) -> dict[str, bytes]:
        """A letter to each recipient whose keys came, by name.

        Raises:
            IntegrityError: Keys are not vouched for by a recipient that was confirmed here.
        """
        weights = np.ascontiguousarray(model.weights_P, dtype="<f8").tobytes()
        return {
            name: write_letter(
                _statement(model, delivery, name),
                Route(
                    delivery=delivery.digest,
                    roster=delivery.roster,
                    attempt=attempt,
                    sender=self._hospital.name,
                    recipient=name,
                ),
                kem=member.kem,
                weights=weights if body.send else None,
                key=self._hospital.key,
            )
            for name, member in _members(body.recipients, delivery, here).items()
        }


def held(hospital: Hospital, name: str, job: str) -> Path | None:
    """The folder of a job's model that this hospital's node signed; None where none holds.

    Args:
        hospital: The opened hospital.
        name: The model's name.
        job: The job's digest.
    """
    for version in reversed(versions(hospital.models, name)):
        place = hospital.models / name / str(version)
        try:
            if verify(place, {hospital.key.fingerprint}).digests.job == job:
                return place
        except FedwardError:
            # One that was damaged is handed to nobody; `fedward client models verify` names it.
            continue
    return None


def _statement(model: Model, delivery: Delivery, recipient: str) -> Statement:
    digests = model.card.digests
    return Statement(
        delivery=delivery.digest,
        recipient=recipient,
        job=digests.job,
        layout=digests.layout,
        weights=digests.weights,
        card=shared_card(model.card),
    )


def _members(data: bytes, delivery: Delivery, here: Place) -> dict[str, Member]:
    """Ephemeral keys by recipient, each vouched for by the hospital itself."""
    found = {}
    for name, blob in by_hospital(data).items():
        member = Member.from_bytes(blob)
        if name not in delivery.recipients or member.name != name:
            raise IntegrityError("keys of a hospital to which this delivery does not go")
        if here.members.get(name) != member.fingerprint:
            raise IntegrityError(f"keys of {name!r} by another identity than the confirmed one")
        member.verify(job=delivery.digest, roster=delivery.roster)
        found[name] = member
    return found
