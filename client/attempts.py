"""One message of a running job at a node: `Step` and `Share`, and what must last before they leave.

The order is what recovery rests on. First the state after the sums that came, the attempt's number
and what is about to be released are on disk; then the ledger records the release; then its bytes
leave. A node that dies in between comes back at that state, and the attempt counts as used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from client.enrolment import Enrolment
from client.epochs import Epochs, require_present
from client.finish import finish
from client.handover import require_base, seal_for, take_over, vouch
from client.hospital import Hospital
from client.release import Releaser
from client.session import Session, Sessions
from protocol.cohort import Cohort
from protocol.errors import Code, IntegrityError, RefusalError
from protocol.messages import Body, Header, Packet, Share, Shared, Step, Stepped

Reply = Callable[[Body], Packet]


class Attempts:
    """Carries out what a running job asks.

    Args:
        hospital: The opened hospital.
        sessions: Where its sessions live.
        enrolment: Knows the admitted job.
        epochs: The way into an epoch.
    """

    def __init__(
        self, hospital: Hospital, sessions: Sessions, enrolment: Enrolment, epochs: Epochs
    ) -> None:
        self._hospital = hospital
        self._sessions = sessions
        self._enrolment = enrolment
        self._epochs = epochs

    def share(self, body: Share, header: Header, session: Session) -> Shared:
        """Enter an epoch, vouch for the state held here, and seal it to those who lack it.

        Raises:
            RefusalError: The cohort breaks a rule, or this node holds another state.
        """
        _check_newer(session, header)
        require_base(body, session)
        if self._hospital.name in body.recipients:
            raise RefusalError(Code.COHORT, "a member that is to seal its state to itself")
        session = self._epochs.enter(session, body.cohort, body.bundle, header)
        cohort, key = _cohort(session), self._hospital.key
        snapshots = None
        if body.send:
            snapshots = seal_for(
                body,
                session,
                cohort=cohort,
                sender=self._hospital.name,
                attempt=header.attempt,
                key=key,
            )
        return Shared(
            attestation=vouch(session, cohort, header.attempt, key),
            head=self._hospital.ledger.statement(),
            snapshots=snapshots,
        )

    def step(self, body: Step, header: Header, session: Session) -> Stepped:
        """Take over the state or the sums that came, release what is asked for, or finish.

        Raises:
            RefusalError: The message does not follow from what this node did before, or a check
                of what it carries failed.
        """
        _check_order(session, body, header)
        if body.cohort is None:
            require_present(session, header)
        else:
            session = self._epochs.enter(session, body.cohort, body.bundle, header)
        return self._carry_out(body, header, session)

    def _carry_out(self, body: Step, header: Header, session: Session) -> Stepped:
        attempt = header.attempt
        releaser = Releaser(
            self._hospital,
            self._enrolment.admitted(session.job),
            session,
            attempt=attempt,
            save=self._sessions.save,
        )
        try:
            releaser.session = take_over(
                body,
                session,
                cohort=_cohort(session),
                name=self._hospital.name,
                attempt=attempt,
            )
            stepped = releaser.step(body)
        except IntegrityError as error:
            # A failed check ends the epoch here: there is nothing to try a second time.
            self._sessions.save(replace(releaser.session.destroy_keys(), attempt=attempt))
            raise RefusalError(Code.INTEGRITY, str(error)) from error
        except Exception:
            # What was decrypted under this attempt's message is not decrypted under another's.
            self._sessions.save(replace(releaser.session, attempt=attempt))
            raise
        if not body.finish:
            return stepped
        finish(self._hospital, releaser, self._sessions.save)
        return replace(stepped, head=self._hospital.ledger.statement())


def _cohort(session: Session) -> Cohort:
    if session.cohort is None:
        raise RefusalError(Code.COHORT, "no cohort yet")
    return session.cohort


def _check_newer(session: Session, header: Header) -> None:
    """Attempts grow, whatever the epoch.

    Raises:
        RefusalError: The message does not follow the last one.
    """
    if header.epoch < session.epoch or header.attempt <= session.attempt:
        raise RefusalError(Code.REPLAYED, "an attempt that is not newer than the last one")


def _check_order(session: Session, body: Step, header: Header) -> None:
    """Nothing is trained or finished out of its round, and nothing is released twice."""
    # Sums alone, or the end, need no number of their own: nothing leaves with them.
    silent = not (body.train or body.evaluate)
    same = (header.epoch, header.attempt) == (session.epoch, session.attempt)
    if not (silent and same):
        _check_newer(session, header)
    trained = body.round > session.job.training.rounds
    if (body.train and trained) or (body.finish and (body.evaluate or not trained)):
        raise RefusalError(Code.SESSION, "training or finishing out of its round")
