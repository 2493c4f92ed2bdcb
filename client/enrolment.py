"""Whether and how a hospital takes part: a job that is new here, or one that it comes back to."""

from __future__ import annotations

from datetime import datetime

from client.admission import Admitted, admit
from client.hospital import Hospital
from client.session import Session, Sessions
from client.situation import charges_of, situation_of
from client.training import check_guards
from privacy.he.parameters import SEAL_LIBRARY
from privacy.keys import Ephemeral
from protocol.errors import BudgetError, Code, FedwardError, RefusalError
from protocol.jobs import Job
from protocol.messages import Enrol, Enrolled, Header
from protocol.signing import fingerprint, verify


class Enrolment:
    """Answers `Enrol`, and knows the job that was admitted.

    Args:
        hospital: The opened hospital.
        sessions: Where its sessions live.
    """

    def __init__(self, hospital: Hospital, sessions: Sessions) -> None:
        self._hospital = hospital
        self._sessions = sessions
        self._admitted: dict[str, Admitted] = {}

    def admitted(self, job: Job) -> Admitted:
        """The decision on a job that has begun; hospital and policy are those of this process."""
        if job.digest not in self._admitted:
            self._admitted = {job.digest: self._decide(job, None)}
        return self._admitted[job.digest]

    def enrol(self, body: Enrol, header: Header) -> Enrolled:
        """Accept a job, or say where this node stands in it.

        A session that lives answers with the keys that it has. One that was left by a restart goes
        on from the disk with new keys; where nothing was left, from the first weights and from the
        attempt at which the ledger stands.

        Raises:
            RefusalError: With the code that may leave the hospital and a local reason.
        """
        job = self._verified(body, header)
        hospital = self._hospital
        self._check_echo(body)
        session = self._sessions.load(job.digest)
        self._check_open(job)
        begun = session or self._sessions.recall(job.digest)
        admitted = self._decide(job, hospital.clock() if begun is None else None)
        self._admitted = {job.digest: admitted}
        if session is None:
            _try_guards(admitted)
        if not hospital.ledger.finished(job.digest):
            self._reserve(admitted)
        if session is None:
            session = self._begin(admitted, body.signature)
        return self._enrolled(session)

    def _verified(self, body: Enrol, header: Header) -> Job:
        coordinator = self._hospital.roster.coordinator
        verify(coordinator, "job", body.job, body.signature)
        job = Job.from_bytes(body.job)
        if (job.digest, job.coordinator) != (header.job, fingerprint(coordinator)):
            raise RefusalError(Code.SIGNATURE, "the packet names another job than it carries")
        return job

    def _check_echo(self, body: Enrol) -> None:
        hospital = self._hospital
        echo = body.heads.get(hospital.key.fingerprint)
        if echo is not None:
            hospital.ledger.check_echo(echo)

    def _check_open(self, job: Job) -> None:
        """A job ends once; and without noise a node must know what it released.

        Raises:
            RefusalError: The job is over here, or its session was lost or is an old copy.
        """
        ledger = self._hospital.ledger
        account = ledger.account(job.digest)
        begun = self._sessions.load(job.digest) or self._sessions.recall(job.digest)
        # A settled job may still have a session: it waits for `stop`, so that others can finish.
        if account is not None and (account.finished or (account.over and begun is None)):
            raise RefusalError(Code.REPLAYED, "this job has ended here")
        known = 0 if begun is None else begun.attempt
        if job.privacy.mode == "none" and ledger.attempts(job.digest) > known:
            raise RefusalError(
                Code.REPLAYED,
                "without noise a node must know what it released, and this one lost it",
                remedy="let the others go on, or launch the job anew",
            )

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

    def _begin(self, admitted: Admitted, signature: bytes) -> Session:
        """A session with new ephemeral keys, on disk before the answer leaves."""
        hospital, job = self._hospital, admitted.job
        ephemeral = Ephemeral.generate()
        member = ephemeral.member(
            name=hospital.name, job=job.digest, roster=job.roster, key=hospital.key
        ).to_bytes()
        attempt = hospital.ledger.attempts(job.digest)
        record = self._sessions.recall(job.digest)
        if record is not None:
            session = record.resume(ephemeral, member, attempt)
        else:
            session = Session(
                job=job,
                signature=signature,
                ephemeral=ephemeral,
                member=member,
                state=admitted.strategy.init(admitted.task.initial(job.training.seed)),
                attempt=attempt,
            )
        self._sessions.save(session)
        kind = "accepted" if record is None else "returned"
        hospital.journal.append(kind, {"job": job.digest, "name": job.name})
        return session

    def _enrolled(self, session: Session) -> Enrolled:
        return Enrolled(
            name=self._hospital.name,
            member=session.member,
            initial_weights=session.job.initial_weights,
            library=SEAL_LIBRARY,
            head=self._hospital.ledger.statement(),
            step=session.state.step,
            epoch=session.epoch,
            attempt=session.attempt,
            finished=bool(session.model),
        )


def _try_guards(admitted: Admitted) -> None:
    try:
        check_guards(admitted)
    except FedwardError as error:
        raise RefusalError(Code.TASK, str(error)) from error
