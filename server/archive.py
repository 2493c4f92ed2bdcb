"""All jobs of a coordinator on its disk, and what hospitals last said of their ledgers."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from protocol.bundle import SignedJob
from protocol.canonical import to_canonical
from protocol.config import decode
from protocol.errors import FedwardError, InputError
from protocol.jobs import Job
from protocol.keyfile import replace_file
from server.job_folder import ANNOUNCED, JOB, SIGNATURE, JobFolder
from server.run_folder import OUTCOME
from server.run_folders import RunFolders

HEADS = "heads.json"


@dataclass(frozen=True)
class _Heads:
    heads: Mapping[str, bytes]


class Archive:
    """The folder `jobs/` of a coordinator.

    Args:
        base: The folder; made, with mode 0700, where there is none.

    Raises:
        FedwardError: It cannot be made.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise FedwardError(f"{base}: cannot be made", found=error.strerror) from None
        self._folders = RunFolders(base, JOB, SIGNATURE, self._open)

    def create(self, job: Job, signature: bytes) -> JobFolder:
        """Keep a signed job before anybody is asked; the same job again is the same folder.

        Raises:
            FedwardError: The disk is full or fails; there is no half-made folder.
        """
        signed = SignedJob(job=job.to_bytes(), signature=signature)
        return self._folders.create(job.name, signed)

    def find(self, wanted: str) -> JobFolder:
        """The job of a name, of a folder's name or of the first digits of a digest.

        Raises:
            InputError: There is none, or more than one.
        """
        found = self.look_up(wanted)
        if len(found) == 1:
            return found[0]
        names = ", ".join(folder.path.name for folder in found or self.jobs())
        raise InputError(
            f"{wanted}: {'no such job' if not found else 'more than one job'}",
            expected=f"one of {names}" if names else "a job; none was launched here",
            remedy="name it by its folder" if found else None,
        )

    def look_up(self, wanted: str) -> tuple[JobFolder, ...]:
        """Jobs of a name, of a folder's name or of the first digits of a digest."""
        return self._folders.look_up(wanted)

    def jobs(self) -> tuple[JobFolder, ...]:
        """All jobs, in the order in which they were launched; not what `damaged` names."""
        return self._folders.intact()

    def unfinished(self) -> tuple[JobFolder, ...]:
        """Jobs without an outcome."""
        return self._folders.unfinished()

    def unannounced(self) -> tuple[JobFolder, ...]:
        """Jobs with an outcome that not everybody has heard of (`JobFolder.mark_announced`)."""
        return self._folders.intact(
            lambda path: (path / OUTCOME).exists() and not (path / ANNOUNCED).exists()
        )

    def damaged(self) -> tuple[str, ...]:
        """What is wrong with folders that do not hold the job of their name, such as copies.

        They are left alone, and no other job waits for them.
        """
        return self._folders.damaged()

    def heads(self) -> dict[str, bytes]:
        """Each hospital's last statement of its ledger head, by fingerprint.

        Raises:
            InputError: The file is not what was written.
        """
        path = self._base / HEADS
        return dict(decode(_Heads, path.read_bytes(), HEADS).heads) if path.exists() else {}

    def save_heads(self, heads: Mapping[str, bytes]) -> None:
        """Keep newer statements beside those of other hospitals, also while other jobs do.

        Raises:
            FedwardError: The disk is full or fails; the file is as before.
        """
        if not heads:
            return
        with self._locked():
            merged = _Heads(heads={**self.heads(), **heads})
            replace_file(self._base / HEADS, to_canonical(merged))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._base / f".{HEADS}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _open(self, path: Path) -> JobFolder:
        return JobFolder(path, save_heads=self.save_heads)
