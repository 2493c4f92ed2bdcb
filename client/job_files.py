"""Jobs as they lie on a disk: signed by a coordinator, or still a coordinator's request."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fedward import planned_job
from protocol.bundle import SignedDelivery, SignedJob, open_bundle
from protocol.config import decode
from protocol.errors import Code, FedwardError, InputError, IntegrityError, RefusalError
from protocol.jobs import Job
from protocol.roster import Roster
from protocol.signing import fingerprint

_JOB, _SIGNATURE = "job.json", "job.sig"


@dataclass(frozen=True)
class Asked:
    """A job, and what already speaks against it.

    Args:
        job: The job.
        signed: Whether the pinned coordinator signed it.
        reason: Why its origin is refused; None where it is not, or where it is only planned.
    """

    job: Job
    signed: bool
    reason: RefusalError | None = None


def read_job(path: Path, roster: Roster, now: datetime) -> Asked:
    """Read a job from a coordinator's YAML file, a job's folder or file, or a bundle.

    Args:
        path: `*.yaml` is a request, which is planned for the pinned roster as if it were launched
            now. A folder has `job.json` and `job.sig`; everything else is one of these or a
            bundle.
        roster: The pinned roster.
        now: Present time with a time zone.

    Raises:
        InputError: The file cannot be read or holds no job.
    """
    coordinator = fingerprint(roster.coordinator)
    if path.suffix in (".yaml", ".yml"):
        job = planned_job(path, coordinator=coordinator, roster=roster.digest, now=now)
        return Asked(job, signed=False)
    signed = _signed(path / _JOB if path.is_dir() else path)
    try:
        job = Job.from_bytes(signed.job)
    except FedwardError as error:
        raise error.at(str(path)) from None
    if not signed.signature:
        reason = RefusalError(Code.SIGNATURE, "nobody signed this job")
        return Asked(job, signed=False, reason=reason)
    try:
        signed.verify(roster.coordinator)
    except IntegrityError as error:
        return Asked(job, signed=False, reason=RefusalError(Code.SIGNATURE, str(error)))
    return Asked(job, signed=True)


def _signed(path: Path) -> SignedJob:
    """The job's bytes with the signature beside them, if there is one."""
    data = _read(path)
    if data.startswith(b"PK"):
        found = open_bundle(data)
        if isinstance(found, SignedDelivery):
            raise InputError(f"{path}: a delivery", expected="a job")
        return found
    if data.startswith(b'{"job":'):
        return decode(SignedJob, data, str(path))
    beside = path.with_name(_SIGNATURE)
    return SignedJob(job=data, signature=_signature(beside) if beside.exists() else b"")


def _signature(path: Path) -> bytes:
    data = _read(path)
    if len(data) == 64:
        return data
    try:
        return base64.b64decode(data.strip(), altchars=b"-_", validate=True)
    except ValueError:
        raise InputError(f"{path}: no signature", expected="64 bytes") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read", found=error.strerror) from None
