"""Sessions of a hospital's node: whole in memory, and on disk what may outlast a restart.

A file per job holds the signed job, the state and the counters, and never a key: a disk that is
stolen opens no recording. The state is the model of a running job, which all of its hospitals have.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from client.session import Record, Session
from protocol.canonical import to_canonical
from protocol.config import decode
from protocol.errors import FedwardError, InputError, IntegrityError
from protocol.jobs import Job
from protocol.keyfile import replace_file, sync_folder
from strategies.base import State

SUFFIX = ".session"
DAMAGED = ".damaged"
_MAGIC = b"fedward-session/1\n"
_HEADER = struct.Struct("<32sQ")
_LOG = logging.getLogger(__name__)


class DiskSessions:
    """Sessions of one process that leave a trace on disk; each job belongs to one process.

    Guarantee: once `save` returns, a crash at any instant leaves this session's record or a newer
    one; a file is never half written. No key reaches the disk.

    Args:
        folder: Where the files are; made, with mode 0700, where there is none.

    Raises:
        InputError: The folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sessions: dict[str, Session] = {}
        self._kept: dict[str, Record] = {}
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            sync_folder(folder.parent)
        except OSError as error:
            raise InputError(
                f"{folder}: no folder for sessions can be made", found=error.strerror
            ) from None

    def load(self, job: str) -> Session | None:
        """See Sessions."""
        return self._sessions.get(job)

    def recall(self, job: str) -> Record | None:
        """See Sessions; a damaged file is set aside, and the job counts as unknown here.

        Raises:
            FedwardError: The disk cannot be read.
        """
        if job in self._sessions:
            return self._sessions[job].record
        path = self._path(job)
        self._clear_drafts(path)
        try:
            record = read_record(path)
        except IntegrityError as error:
            _LOG.error("%s; it is set aside, and other hospitals will send the state", error)
            path.replace(path.with_suffix(DAMAGED))
            return None
        if record is not None:
            self._kept[job] = record
        return record

    def save(self, session: Session) -> None:
        """See Sessions; the file is written only where the record changed.

        Raises:
            FedwardError: The disk is full or fails. Memory has the session, the disk the one
                before; nothing may leave that rests on this one.
        """
        job = session.job.digest
        # First: what was used up stays used up in this process, whatever the disk does.
        self._sessions[job] = session
        record = session.record
        if job in self._kept and _same(self._kept[job], record):
            return
        try:
            replace_file(self._path(job), to_bytes(record))
        except InputError as error:
            raise FedwardError(
                f"{self._path(job)}: the session cannot be kept",
                found=error.found,
                remedy="free space or repair the disk; what is charged stays charged, and nothing"
                " leaves until it can be written",
            ) from None
        self._kept[job] = record

    def drop(self, job: str) -> None:
        """See Sessions.

        Raises:
            FedwardError: The file cannot be removed.
        """
        self._sessions.pop(job, None)
        self._kept.pop(job, None)
        path = self._path(job)
        try:
            self._clear_drafts(path)
            path.with_suffix(DAMAGED).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            sync_folder(self._folder)
        except OSError as error:
            raise FedwardError(
                f"{path}: the session cannot be removed",
                found=error.strerror,
                remedy="remove the file by hand",
            ) from None

    def jobs(self) -> tuple[Job, ...]:
        """See Sessions; files that do not hold are left out."""
        found = {digest: session.job for digest, session in self._sessions.items()}
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            if path.stem in found:
                continue
            try:
                record = read_record(path)
            except FedwardError as error:
                _LOG.warning("%s", error)
            else:
                found |= {} if record is None else {record.job.digest: record.job}
        return tuple(found.values())

    def _path(self, job: str) -> Path:
        return self._folder / f"{job}{SUFFIX}"

    def _clear_drafts(self, path: Path) -> None:
        """Remove what a process that was killed while it wrote has left behind."""
        for draft in self._folder.glob(f".{path.name}.*"):
            draft.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class _Fields:
    job: bytes
    signature: bytes
    epoch: int
    attempt: int
    counted: int
    released: dict[str, int]
    metrics: dict[str, tuple[float, float, float]]
    model: str


def to_bytes(record: Record) -> bytes:
    """A record as a file: SHA-256 of the rest, length of the fields, the fields, the state."""
    told = to_canonical(
        _Fields(
            job=record.job.to_bytes(),
            signature=record.signature,
            epoch=record.epoch,
            attempt=record.attempt,
            counted=record.counted,
            released=dict(record.released),
            metrics=dict(record.metrics),
            model=record.model,
        )
    )
    content = (told, *record.state.parts())
    digest = hashlib.sha256()
    for part in content:
        digest.update(part)
    return b"".join((_MAGIC, _HEADER.pack(digest.digest(), len(told)), *content))


def from_bytes(data: bytes) -> Record:
    """Read what `to_bytes` wrote.

    Raises:
        IntegrityError: The bytes are damaged, or no record.
    """
    start = len(_MAGIC) + _HEADER.size
    if len(data) < start or not data.startswith(_MAGIC):
        raise IntegrityError("these bytes are no session")
    digest, length = _HEADER.unpack_from(data, len(_MAGIC))
    # Looked at in place: a state can be as large as the rest of this process.
    content = memoryview(data)[start:]
    if hashlib.sha256(content).digest() != digest:
        raise IntegrityError("a session is damaged", expected=f"SHA-256 {digest.hex()}")
    try:
        told = decode(_Fields, bytes(content[:length]), "session")
        return Record(
            job=Job.from_bytes(told.job),
            signature=told.signature,
            state=State.from_bytes(bytes(content[length:])),
            epoch=told.epoch,
            attempt=told.attempt,
            counted=told.counted,
            released=told.released,
            metrics=told.metrics,
            model=told.model,
        )
    except InputError:
        # No cause: it would quote the bytes.
        raise IntegrityError("a session of another release of this program") from None


def read_record(path: Path) -> Record | None:
    """The record in a file that is named after its job, None where there is no file.

    Raises:
        IntegrityError: It is damaged, or another job's.
        FedwardError: It cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FedwardError(f"{path}: cannot be read", found=os.strerror(error.errno or 0)) from None
    try:
        record = from_bytes(data)
    except IntegrityError as error:
        raise error.at(str(path)) from None
    if record.job.digest != path.stem:
        raise IntegrityError(f"{path}: the session of another job")
    return record


def _same(kept: Record, record: Record) -> bool:
    """Whether two records are spelt alike; states are never changed in place."""
    if kept.state is not record.state:
        return False
    return _told(kept) == _told(record)


def _told(record: Record) -> tuple[object, ...]:
    return tuple(value for name, value in vars(record).items() if name != "state")
