"""How a hospital answers the coordinator: one message in, one signed message out.

Everything is verified before it is read, and decided before anything is drawn. Each release is in
the ledger and in the journal before its bytes leave. Whatever goes wrong, the coordinator learns a
code from a fixed list; the reason stays in the journal.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from datetime import datetime, timedelta

from client.admission import Admitted, admit
from client.finish import store_model
from client.hospital import Hospital
from client.release import Releaser
from client.session import Session, Sessions
from client.situation import charges_of, situation_of
from client.training import check_guards
from privacy import cohort_keys
from privacy.envelope import make_bundles, open_bundle
from privacy.he.parameters import SEAL_LIBRARY
from privacy.keys import Ephemeral
from protocol.canonical import to_canonical
from protocol.cohort import Cohort, Rules
from protocol.cohort import Member as CohortMember
from protocol.errors import (
    BudgetError,
    BusyError,
    Code,
    FedwardError,
    IntegrityError,
    RefusalError,
)
from protocol.jobs import Job
from protocol.messages import (
    Body,
    Enrol,
    Enrolled,
    Header,
    KeysMade,
    MakeKeys,
    Packet,
    Place,
    Refused,
    Step,
    Stepped,
    Stop,
    Stopped,
    open_header,
    pack,
    read_body,
)
from protocol.signing import fingerprint, verify
from protocol.tensors import weights_digest

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
        self._admitted: dict[str, Admitted] = {}

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
                body = read_body(packet, header, MakeKeys)
                return self._reply(self._make_keys(body, header), place)
            case Step.KIND:
                return self._step(packet, header, place)
            case Stop.KIND:
                read_body(packet, header, Stop)
                return self._reply(self._stop(header), place)
        raise RefusalError(Code.VERSION, "a kind of message that this release does not know")

    # -- enrolment ------------------------------------------------------------------------------

    def _enrol(self, body: Enrol, header: Header) -> Enrolled:
        hospital = self._hospital
        coordinator = hospital.roster.coordinator
        verify(coordinator, "job", body.job, body.signature)
        job = Job.from_bytes(body.job)
        if (job.digest, job.coordinator) != (header.job, fingerprint(coordinator)):
            raise RefusalError(Code.SIGNATURE, "the packet names another job than it carries")
        self._check_new(job)
        if hospital.key.fingerprint in body.heads:
            hospital.ledger.check_echo(body.heads[hospital.key.fingerprint])
        admitted = self._decide(job, hospital.clock())
        self._admitted = {job.digest: admitted}
        try:
            check_guards(admitted)
        except FedwardError as error:
            raise RefusalError(Code.TASK, str(error)) from error
        self._reserve(admitted)
        ephemeral = Ephemeral.generate()
        member = ephemeral.member(
            name=hospital.name, job=job.digest, roster=job.roster, key=hospital.key
        ).to_bytes()
        state = admitted.strategy.init(admitted.task.initial(job.training.seed))
        # A node that was restarted goes on where its ledger stands.
        attempt = hospital.ledger.attempts(job.digest)
        self._sessions.save(
            Session(job=job, ephemeral=ephemeral, member=member, state=state, attempt=attempt)
        )
        hospital.journal.append("accepted", {"job": job.digest, "name": job.name})
        return Enrolled(
            name=hospital.name,
            member=member,
            initial_weights=weights_digest(state.weights),
            library=SEAL_LIBRARY,
            head=hospital.ledger.statement(),
            step=state.step,
            epoch=0,
            attempt=attempt,
            finished=False,
        )

    def _check_new(self, job: Job) -> None:
        """A job begins once: afterwards only its session goes on, in growing epochs."""
        session = self._sessions.load(job.digest)
        ledger = self._hospital.ledger
        begun = session is not None and session.epoch > 0
        # Without noise a node must know what it released, and a restart forgets it.
        bare = job.privacy.mode == "none" and ledger.attempts(job.digest) > 0
        if begun or bare or ledger.finished(job.digest):
            raise RefusalError(Code.REPLAYED, "this job has begun or ended here before")

    def _admit(self, job: Job) -> Admitted:
        """The decision on a job that has begun; hospital and policy are those of this process."""
        if job.digest not in self._admitted:
            self._admitted = {job.digest: self._decide(job, None)}
        return self._admitted[job.digest]

    def _decide(self, job: Job, now: datetime | None) -> Admitted:
        hospital = self._hospital
        situation = situation_of(
            hospital.config,
            lambda: hospital.columns(job.dataset),
            trust=hospital.trust,
            roster=hospital.roster,
            dataset=job.dataset,
            now=now,
        )
        return admit(job, situation)

    def _reserve(self, admitted: Admitted) -> None:
        """Set the whole job's worst case aside before a single record is read."""
        hospital, job = self._hospital, admitted.job
        population = hospital.config.datasets[job.dataset].population
        charges = list(charges_of(job, hospital.name, population).values())
        try:
            hospital.ledger.reserve(charges, hospital.caps(job), hospital.clock())
        except BudgetError as error:
            raise RefusalError(Code.BUDGET, str(error)) from error

    # -- keys -----------------------------------------------------------------------------------

    def _make_keys(self, body: MakeKeys, header: Header) -> KeysMade:
        session = self._session(header.job)
        cohort = self._verified(session, body.cohort, header)
        if session.made >= cohort.epoch:
            raise RefusalError(Code.REPLAYED, "this epoch's keys were made before")
        keys = cohort_keys.make(session.job.encryption)
        bundles = make_bundles(cohort, keys, self._hospital.key)
        self._sessions.save(replace(session, made=cohort.epoch))
        return KeysMade(bundles=to_canonical(bundles))

    def _verified(self, session: Session, document: bytes, header: Header) -> Cohort:
        job, hospital = session.job, self._hospital
        cohort = Cohort.from_bytes(document)
        if (cohort.digest, cohort.epoch) != (header.cohort, header.epoch):
            raise RefusalError(Code.COHORT, "the packet names another cohort than it carries")
        if cohort.epoch <= session.epoch:
            raise RefusalError(Code.REPLAYED, "an epoch that is not newer than the present one")
        packing = job.encryption.update
        if not {member.name for member in cohort.members} <= {site.name for site in job.sites}:
            raise RefusalError(Code.COHORT, "a member that the job does not ask")
        cohort.verify(
            job=job.digest,
            roster=job.roster,
            me=CohortMember.from_bytes(session.member),
            colluding_sites=job.privacy.colluding_sites,
            rules=Rules(
                members=hospital.trust.members(hospital.roster),
                min_sites=max(job.min_sites, hospital.config.policy.min_cohort),
                max_sites=len(job.sites) if packing is None else packing.max_sites,
                min_colluding_sites=(
                    hospital.config.policy.min_colluding_sites
                    if job.privacy.mode == "distributed"
                    else 0
                ),
            ),
        )
        return cohort

    # -- attempts -------------------------------------------------------------------------------

    def _step(self, packet: Packet, header: Header, place: Place) -> Packet:
        body = read_body(packet, header, Step)
        session = self._session(header.job)
        request = hashlib.sha256(packet.header).hexdigest()
        if session.request == request and session.reply is not None:
            return session.reply
        _check_order(session, body, header)
        session = self._enter(session, body, header)
        admitted = self._admit(session.job)
        releaser = Releaser(self._hospital, admitted, session, attempt=header.attempt)
        try:
            stepped = releaser.step(body)
        except IntegrityError as error:
            self._sessions.save(replace(releaser.session.destroy_keys(), attempt=header.attempt))
            raise RefusalError(Code.INTEGRITY, str(error)) from error
        except Exception:
            # What was decrypted under this attempt's message is not decrypted under another's.
            self._sessions.save(replace(session, attempt=header.attempt))
            raise
        session = replace(releaser.session, attempt=header.attempt, request=request)
        if body.finish:
            stepped = self._finish(releaser, session, stepped)
        reply = self._reply(stepped, place)
        if body.finish:
            self._end(header.job)
        else:
            self._sessions.save(replace(session, reply=reply))
        return reply

    def _end(self, job: str) -> None:
        """Drop the job's keys and records from memory."""
        self._sessions.drop(job)
        self._hospital.forget()

    def _enter(self, session: Session, body: Step, header: Header) -> Session:
        """Take over a new epoch's cohort and keys, or check that the message is of the present."""
        if body.cohort is None:
            present = session.cohort
            if present is None or (present.digest, present.epoch) != (header.cohort, header.epoch):
                raise RefusalError(Code.COHORT, "this node is not in that cohort")
            return session
        cohort = self._verified(session, body.cohort, header)
        keys = None
        if session.job.encryption.scheme == "bfv":
            if body.bundle is None:
                raise RefusalError(Code.COHORT, "an epoch without keys")
            try:
                keys = open_bundle(cohort, self._hospital.name, session.ephemeral, body.bundle)
            except IntegrityError as error:
                raise RefusalError(Code.INTEGRITY, str(error)) from error
        session = replace(session, epoch=cohort.epoch, cohort=cohort, keys=keys)
        self._sessions.save(session)
        return session

    def _finish(self, releaser: Releaser, session: Session, stepped: Stepped) -> Stepped:
        hospital, job = self._hospital, session.job
        used = hospital.ledger.settle(job.digest, hospital.clock())
        folder = store_model(hospital, releaser, used["update"])
        hospital.journal.append("model", {"job": job.digest, "folder": folder.name})
        return replace(stepped, head=hospital.ledger.statement())

    def _stop(self, header: Header) -> Stopped:
        session = self._session(header.job)
        hospital = self._hospital
        if hospital.ledger.attempts(header.job):
            hospital.ledger.settle(session.job.digest, hospital.clock())
        else:
            hospital.ledger.void(session.job.digest, hospital.clock())
        hospital.journal.append("stopped", {"job": session.job.digest})
        self._end(header.job)
        return Stopped(head=hospital.ledger.statement())

    # -- what every message needs ---------------------------------------------------------------

    def _check_header(self, header: Header) -> None:
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
            raise RefusalError(Code.SESSION, "no session of this job: the node was restarted")
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
        self._hospital.journal.append(
            "refused", {"job": place.job, "code": str(code), "reason": reason}
        )
        return self._reply(Refused(name=self._hospital.name, reason=str(code)), place)


def _check_order(session: Session, body: Step, header: Header) -> None:
    """Attempts grow, whatever the epoch; nothing is trained or finished out of its round.

    Raises:
        RefusalError: The message does not follow the last one.
    """
    newer = header.epoch >= session.epoch and header.attempt > session.attempt
    closing = body.finish and (header.epoch, header.attempt) == (session.epoch, session.attempt)
    if not (newer or closing):
        raise RefusalError(Code.REPLAYED, "an attempt that is not newer than the last one")
    trained = body.round > session.job.training.rounds
    if (body.train and trained) or (body.finish and (body.evaluate or not trained)):
        raise RefusalError(Code.SESSION, "training or finishing out of its round")


def _code(error: FedwardError) -> Code:
    if isinstance(error, RefusalError):
        return error.code
    if isinstance(error, BusyError):
        return Code.BUSY
    return Code.SIGNATURE if isinstance(error, IntegrityError) else Code.FAILED
