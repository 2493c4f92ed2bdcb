"""How a hospital answers the coordinator: one message in, one signed message out.

Everything is verified before it is read, and decided before anything is drawn. Each release is in
the ledger and in the journal before its bytes leave. Whatever goes wrong, the coordinator learns a
code from a fixed list; the reason stays in the journal.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from client.attempts import Attempts
from client.confirmed import keep_confirmations
from client.deliveries import Deliveries
from client.enrolment import Enrolment
from client.epochs import Epochs
from client.hospital import Hospital
from client.refusals import Refusals
from client.session import Session, Sessions
from client.withdraw import close_forgotten, end_job
from learning.artefact import clear_stale
from privacy.charges import is_digest
from protocol.delivery_messages import HandOver, Offer, Vouch
from protocol.errors import (
    BusyError,
    Code,
    FedwardError,
    IntegrityError,
    RefusalError,
)
from protocol.messages import (
    Body,
    Enrol,
    Enrolled,
    Header,
    MakeKeys,
    Packet,
    Place,
    Refused,
    Share,
    Step,
    Stop,
    Stopped,
    open_header,
    pack,
    read_body,
)
from protocol.signing import fingerprint

REPLY_S = 3600.0
_LOG = logging.getLogger(__name__)


class Member:
    """One hospital's side of every exchange.

    Args:
        hospital: The opened hospital.
        sessions: Where its sessions live.
    """

    def __init__(self, hospital: Hospital, sessions: Sessions) -> None:
        self._hospital = hospital
        self._sessions = sessions
        self._refusals = Refusals(hospital.journal, hospital.clock)
        self._enrolment = Enrolment(hospital, sessions)
        self._epochs = Epochs(hospital, sessions)
        self._attempts = Attempts(hospital, sessions, self._enrolment, self._epochs)
        self._deliveries = Deliveries(hospital)
        clear_stale(hospital.models)

    def answer(self, packet: Packet) -> Packet:
        """Carry out what the coordinator asks, or refuse with a code."""
        place = Place(job="")
        try:
            header = open_header(packet, self._hospital.roster.coordinator)
            place = Place(
                job=header.job, epoch=header.epoch, attempt=header.attempt, cohort=header.cohort
            )
            self._check_header(header)
            return self._carry_out(packet, header, place)
        except FedwardError as error:
            return self._refuse(error, _code(error), str(error), place)
        except Exception as error:  # noqa: BLE001 - its text may quote a record; it stays here
            return self._refuse(error, Code.FAILED, type(error).__name__, place)

    def _carry_out(self, packet: Packet, header: Header, place: Place) -> Packet:
        match packet.kind:
            case Enrol.KIND:
                return self._reply(self._enrol(read_body(packet, header, Enrol), header), place)
            case MakeKeys.KIND:
                made = self._epochs.make_keys(
                    read_body(packet, header, MakeKeys), header, self._session(header.job)
                )
                return self._reply(made, place)
            case Share.KIND:
                share = read_body(packet, header, Share)
                return self._once(packet, place, lambda s: self._attempts.share(share, header, s))
            case Step.KIND:
                step = read_body(packet, header, Step)
                return self._once(packet, place, lambda s: self._attempts.step(step, header, s))
            case Stop.KIND:
                stop = read_body(packet, header, Stop)
                return self._reply(self._stop(stop, header), place)
            case Offer.KIND | Vouch.KIND | HandOver.KIND:
                return self._reply(self._deliver(packet, header), place)
        raise RefusalError(Code.VERSION, "a kind of message that this release does not know")

    def _deliver(self, packet: Packet, header: Header) -> Body:
        if packet.kind == Offer.KIND:
            return self._deliveries.offer(read_body(packet, header, Offer), header)
        if packet.kind == Vouch.KIND:
            return self._deliveries.vouch(read_body(packet, header, Vouch), header)
        return self._deliveries.hand_over(read_body(packet, header, HandOver), header)

    def _enrol(self, body: Enrol, header: Header) -> Enrolled:
        close_forgotten(self._hospital, self._sessions)
        return self._enrolment.enrol(body, header)

    def _once(self, packet: Packet, place: Place, act: Callable[[Session], Body]) -> Packet:
        """Answer what releases or seals; the very same request gets the very same bytes."""
        session = self._session(place.job)
        request = hashlib.sha256(packet.header).hexdigest()
        if session.request == request and session.reply is not None:
            return session.reply
        reply = self._reply(act(session), place)
        self._sessions.save(replace(self._session(place.job), request=request, reply=reply))
        return reply

    def _stop(self, body: Stop, header: Header) -> Stopped:
        """Close the job; one that is closed already is closed."""
        job, ledger = header.job, self._hospital.ledger
        session = self._sessions.load(job)
        begun = session or self._sessions.recall(job)
        account = ledger.account(job)
        if begun is None and account is None:
            raise RefusalError(Code.SESSION, "no session of this job")
        if session is not None:
            keep_confirmations(self._hospital, session, body)
        if begun is not None or (account is not None and not account.finished):
            end_job(self._hospital, self._sessions, job, "stopped")
        return Stopped(head=ledger.statement())

    def _check_header(self, header: Header) -> None:
        # It names files: a signed header that holds anything else is read no further.
        if not is_digest(header.job):
            raise RefusalError(Code.SIGNATURE, "a packet whose job is no digest")
        if header.recipient not in ("*", self._hospital.key.fingerprint):
            raise RefusalError(Code.SIGNATURE, "a packet for another hospital")
        if self._hospital.clock().timestamp() > header.deadline:
            raise RefusalError(
                Code.DEADLINE,
                "the message came after its deadline",
                remedy="compare this machine's clock with the coordinator's",
            )

    def _session(self, job: str) -> Session:
        session = self._sessions.load(job)
        if session is None:
            raise RefusalError(
                Code.SESSION, "no session of this job: the node was restarted and must enrol again"
            )
        return session

    def _reply(self, body: Body, place: Place) -> Packet:
        hospital = self._hospital
        deadline = (hospital.clock() + timedelta(seconds=REPLY_S)).timestamp()
        return pack(
            body,
            place,
            hospital.key,
            recipient=fingerprint(hospital.roster.coordinator),
            deadline=deadline,
        )

    def _refuse(self, error: Exception, code: Code, reason: str, place: Place) -> Packet:
        """The coordinator gets the code; reason and traceback stay in the hospital."""
        _LOG.debug("refused", exc_info=error)
        # A disk that takes no entry is no reason to leave the coordinator waiting.
        with suppress(FedwardError):
            self._refusals.note(place.job, code, reason)
        return self._reply(Refused(name=self._hospital.name, reason=str(code)), place)


def _code(error: FedwardError) -> Code:
    if isinstance(error, RefusalError):
        return error.code
    if isinstance(error, BusyError):
        return Code.BUSY
    return Code.SIGNATURE if isinstance(error, IntegrityError) else Code.FAILED
