"""The end of a job at this hospital: budget, session and records, whoever ends it and why.

The coordinator ends it with a `stop`, the hospital itself when it leaves, and the clock when
neither comes. Each may come twice, or after a crash half way through, and comes to the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from client.hospital import Hospital
from client.session import Sessions
from protocol.errors import InputError
from protocol.jobs import Job

GRACE = timedelta(days=7)
"""How long after its expiry a job that has begun may go on without this node forgetting it."""

Reason = Literal["stopped", "withdrawn", "forgotten"]


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What became of a job here.

    Args:
        job: The job's digest.
        used: Releases that stay charged, by purpose; empty where nothing was reserved.
    """

    job: str
    used: Mapping[str, int]


def withdraw(hospital: Hospital, sessions: Sessions, job: str) -> Ending:
    """Leave a job for good: what was released stays charged, the rest of the budget comes back.

    The others go on without this hospital if they are enough. It cannot come back to this job.

    Args:
        hospital: The opened hospital.
        sessions: Where its sessions live.
        job: The job's digest, or enough of its beginning.

    Raises:
        InputError: There is no such job here, or more than one.
        RefusalError: The ledger is blocked.
    """
    digest = find_job(hospital, sessions, job)
    return end_job(hospital, sessions, digest, "withdrawn")


def find_job(hospital: Hospital, sessions: Sessions, prefix: str) -> str:
    """The digest of the one job here, under way or reserved, that begins like this.

    Raises:
        InputError: There is none, or more than one.
    """
    known = open_jobs(hospital, sessions)
    found = sorted(digest for digest in known if prefix and digest.startswith(prefix))
    if len(found) != 1:
        raise InputError(
            f"{len(found)} jobs here begin with {prefix!r}",
            expected="one of " + (", ".join(digest[:12] for digest in sorted(known)) or "none"),
        )
    return found[0]


def open_jobs(hospital: Hospital, sessions: Sessions) -> frozenset[str]:
    """Digests of the jobs here that have budget reserved, or a session."""
    reserved = {
        charge.job
        for account in hospital.ledger.jobs()
        if account.status == "reserved"
        for charge in account.charges.values()
    }
    return frozenset(reserved | {job.digest for job in sessions.jobs()})


def end_job(hospital: Hospital, sessions: Sessions, job: str, reason: Reason) -> Ending:
    """Settle or void the budget, mark the job as over, note it, and drop session and records.

    Args:
        hospital: The opened hospital.
        sessions: Where its sessions live.
        job: The job's digest.
        reason: The journal's word for it.

    Raises:
        RefusalError: The ledger is blocked; nothing has changed then.
    """
    ledger, now = hospital.ledger, hospital.clock()
    account = ledger.account(job)
    used: Mapping[str, int] = {}
    if account is not None:
        if account.status == "reserved" and account.releases:
            ledger.settle(job, now)
        elif account.status == "reserved":
            ledger.void(job, now)
        ledger.mark_finished(job)
        used = {purpose: len(done) for purpose, done in account.releases.items()}
    hospital.journal.append(reason, {"job": job, "used": dict(used)})
    sessions.drop(job)
    hospital.forget()
    return Ending(job=job, used=used)


def close_forgotten(
    hospital: Hospital, sessions: Sessions, *, grace: timedelta = GRACE
) -> tuple[Ending, ...]:
    """End the jobs that nobody will go on with: no `stop` came, and their time is over.

    A job whose model is stored here waits for `stop` until its expiry. One that is still under way
    may run past it, and is given up only after `grace`.

    Args:
        hospital: The opened hospital.
        sessions: Where its sessions live.
        grace: Time after the expiry of a job under way.
    """
    now = hospital.clock()
    return tuple(
        end_job(hospital, sessions, job.digest, "forgotten")
        for job in sessions.jobs()
        if _closed(hospital, job) or now >= _last(sessions, job, grace)
    )


def _closed(hospital: Hospital, job: Job) -> bool:
    """Whether an end was interrupted after the ledger had it."""
    account = hospital.ledger.account(job.digest)
    return account is not None and account.finished


def _last(sessions: Sessions, job: Job, grace: timedelta) -> datetime:
    """When a job is given up."""
    session = sessions.load(job.digest) or sessions.recall(job.digest)
    stored = session is not None and bool(session.model)
    expires = datetime.fromisoformat(job.expires)
    return expires if stored else expires + grace
