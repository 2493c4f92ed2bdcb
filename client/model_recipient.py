"""A hospital that gets a model from others: the keys that it makes, and what it believes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from client.delivery_questions import (
    Place,
    asked_of_recipient,
    needed_of,
    require,
    vouchers,
)
from client.finish import importance_of
from client.hospital import Hospital
from client.model_sender import held
from learning.artefact import save
from learning.card import ModelCard
from learning.handed import received_card
from learning.preprocess import VERSION
from learning.promotion import next_version
from learning.task import FloatVector, load_task
from privacy.keys import Ephemeral
from privacy.letters import Believed, Letter, Route, believe, read_letter
from protocol.deliveries import Delivery, Statement
from protocol.delivery_messages import by_hospital
from protocol.errors import Code, FedwardError, IntegrityError, RefusalError
from protocol.jobs import Job

_FLOAT_BYTES = 8


@dataclass(frozen=True, kw_only=True, repr=False)
class _Awaited:
    """A model that was announced, and the keys that its letters must be sealed to."""

    delivery: Delivery
    job: Job
    attempt: int
    ephemeral: Ephemeral
    member: bytes


class Recipient:
    """Takes models in; what it awaits is in memory alone.

    Args:
        hospital: The opened hospital.
    """

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital
        self._awaited: dict[str, _Awaited] = {}

    def expect(self, delivery: Delivery, job: Job, here: Place, attempt: int) -> bytes | None:
        """Signed ephemeral keys for a model that may come in; None where it is in the store.

        The same attempt gets the same keys again.

        Raises:
            RefusalError: It may not, or an earlier attempt asks.
        """
        require(asked_of_recipient(delivery, job, here))
        _check_installed(job, here.policy.max_parameters)
        if held(self._hospital, delivery.name, delivery.job) is not None:
            return None
        before = self._awaited.get(delivery.digest)
        if before is not None and before.attempt > attempt:
            raise RefusalError(Code.REPLAYED, "an earlier attempt of this delivery")
        if before is None or before.attempt < attempt:
            before = self._awaited[delivery.digest] = self._await(delivery, job, attempt)
        return before.member

    def take(self, digest: str, attempt: int, letters: bytes) -> None:
        """Store what enough holders vouched for; asked again, nothing changes.

        Args:
            digest: Of the delivery.
            attempt: The coordinator's count.
            letters: Letter by holder, canonical bytes.

        Raises:
            RefusalError: This process does not await it, or not in this attempt, or not any more,
                or too few holders say the same.
        """
        hospital, awaited = self._hospital, self._awaited.get(digest)
        if awaited is None:
            raise RefusalError(
                Code.SESSION, "no model is awaited: the node was restarted and must be asked anew"
            )
        if awaited.attempt != attempt:
            raise RefusalError(Code.REPLAYED, "letters of another attempt")
        if held(hospital, awaited.delivery.name, awaited.delivery.job) is not None:
            return
        if hospital.clock() >= awaited.delivery.ends:
            raise RefusalError(
                Code.EXPIRED, "the delivery has expired", found=awaited.delivery.expires
            )
        try:
            believed = believe(
                self._opened(letters, awaited),
                job=awaited.job.digest,
                quorum=needed_of(awaited.job, hospital.config.policy),
            )
            weights = _weights(believed.weights)
            card = self._card(awaited.job, believed, weights)
        except IntegrityError as error:
            raise RefusalError(Code.INTEGRITY, str(error)) from error
        # First: a crash in between leaves a line too many, and not a model of unknown origin.
        hospital.journal.append(
            "received",
            {
                "delivery": digest,
                "job": awaited.job.digest,
                "folder": str(card.version),
                "vouchers": list(believed.vouchers),
            },
        )
        save(hospital.models, card, weights, hospital.key)

    def _await(self, delivery: Delivery, job: Job, attempt: int) -> _Awaited:
        hospital, ephemeral = self._hospital, Ephemeral.generate()
        member = ephemeral.member(
            name=hospital.name, job=delivery.digest, roster=delivery.roster, key=hospital.key
        )
        return _Awaited(
            delivery=delivery,
            job=job,
            attempt=attempt,
            ephemeral=ephemeral,
            member=member.to_bytes(),
        )

    def _opened(self, data: bytes, awaited: _Awaited) -> dict[str, Letter]:
        """Letters of those whose word counts; one that does not hold says nothing."""
        delivery, hospital = awaited.delivery, self._hospital
        counting = vouchers(delivery, awaited.job, hospital.trust.members(hospital.roster))
        letters, opened = by_hospital(data), {}
        for name in counting:
            if name not in letters:
                continue
            route = Route(
                delivery=delivery.digest,
                roster=delivery.roster,
                attempt=awaited.attempt,
                sender=name,
                recipient=hospital.name,
            )
            signing = hospital.roster.card(name).signing
            try:
                opened[name] = read_letter(letters[name], route, awaited.ephemeral, signing)
            except IntegrityError:
                continue
        return opened

    def _card(self, job: Job, believed: Believed, weights: FloatVector) -> ModelCard:
        hospital, statement = self._hospital, believed.statement
        card = received_card(
            statement.card,
            name=job.name,
            version=next_version(hospital.models, job.name),
            now=hospital.clock(),
            vouchers=believed.vouchers,
            importance=importance_of(job, weights),
        )
        _check_card(card, statement, job)
        return card


def _weights(data: bytes) -> FloatVector:
    if len(data) % _FLOAT_BYTES:
        raise IntegrityError("weights that are no float64 numbers")
    return np.frombuffer(data, dtype="<f8").astype(np.float64)


def _check_card(card: ModelCard, statement: Statement, job: Job) -> None:
    """Hold a card against the statement that it came in, the job and this installation."""
    digests = card.digests
    stated = (statement.job, statement.layout, statement.weights)
    same = (digests.job, digests.layout, digests.weights) == stated
    if not same or statement.layout != job.layout or card.privacy.mode != job.privacy.mode:
        raise IntegrityError("a card of another model than was vouched for")
    if card.preprocessing != VERSION:
        raise RefusalError(
            Code.VERSION,
            "the model was made with another preprocessing",
            expected=str(VERSION),
            found=str(card.preprocessing),
            remedy="install the release that made it",
        )


def _check_installed(job: Job, most: int) -> None:
    """Refuse a model that this installation could not predict with.

    Raises:
        RefusalError: The task is not installed, builds another layout, or is too large.
    """
    try:
        layout = load_task(job.task, job.schema).layout()
    except FedwardError as error:
        raise RefusalError(Code.TASK, str(error)) from error
    if layout.digest != job.layout:
        raise RefusalError(
            Code.VERSION,
            "this installation builds another model than the job states",
            remedy="install the same release of fedward as those who trained it",
        )
    if layout.size > most:
        raise RefusalError(
            Code.POLICY, "model size", expected=f"<= {most} parameters", found=str(layout.size)
        )
