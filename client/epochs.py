"""A node's way into an epoch: the cohort is checked, keys are made for it or taken from it."""

from __future__ import annotations

from dataclasses import replace

from client.hospital import Hospital
from client.session import Session, Sessions
from privacy import cohort_keys
from privacy.envelope import make_bundles, open_bundle
from protocol.canonical import to_canonical
from protocol.cohort import Cohort, Member, Rules
from protocol.errors import Code, IntegrityError, RefusalError
from protocol.messages import Header, KeysMade, MakeKeys


class Epochs:
    """Takes a job's session from one epoch into the next.

    Args:
        hospital: The opened hospital.
        sessions: Where its sessions live.
    """

    def __init__(self, hospital: Hospital, sessions: Sessions) -> None:
        self._hospital = hospital
        self._sessions = sessions

    def make_keys(self, body: MakeKeys, header: Header, session: Session) -> KeysMade:
        """Make an epoch's keys, once, where this node is the cohort's maker.

        Raises:
            RefusalError: The cohort breaks a rule, or this epoch's keys were made before.
        """
        cohort = self._verified(session, body.cohort, header)
        if session.made >= cohort.epoch:
            raise RefusalError(Code.REPLAYED, "this epoch's keys were made before")
        keys = cohort_keys.make(session.job.encryption)
        bundles = make_bundles(cohort, keys, self._hospital.key)
        self._sessions.save(replace(session, made=cohort.epoch))
        return KeysMade(bundles=to_canonical(bundles))

    def enter(
        self, session: Session, document: bytes, bundle: bytes | None, header: Header
    ) -> Session:
        """Take over a new epoch's cohort and keys.

        Raises:
            RefusalError: Cohort or bundle is not what it must be.
        """
        cohort = self._verified(session, document, header)
        keys = None
        if session.job.encryption.scheme == "bfv":
            if bundle is None:
                raise RefusalError(Code.COHORT, "an epoch without keys")
            try:
                keys = open_bundle(cohort, self._hospital.name, session.ephemeral, bundle)
            except IntegrityError as error:
                raise RefusalError(Code.INTEGRITY, str(error)) from error
        session = replace(session, epoch=cohort.epoch, cohort=cohort, keys=keys)
        self._sessions.save(session)
        return session

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
            me=Member.from_bytes(session.member),
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


def require_present(session: Session, header: Header) -> None:
    """Check that a message without a cohort document is of the session's own epoch.

    Raises:
        RefusalError: It is of another, or this node is in none.
    """
    present = session.cohort
    if present is None or (present.digest, present.epoch) != (header.cohort, header.epoch):
        raise RefusalError(Code.COHORT, "this node is not in that cohort")
