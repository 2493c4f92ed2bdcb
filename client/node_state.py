"""What a node keeps in its state folder, and how the commands beside it speak to it: by files.

A file outlives a crash, needs no port, and is closed to everybody but its owner (mode 0700). The
running node holds a lock on `lock`; it alone writes `status.json`. Commands write a job's decision
or `paused`; the node looks at them before each message.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from client.known_jobs import DECISIONS, Asked, Decision, Known, forgettable
from protocol.config import read
from protocol.errors import BusyError, FedwardError, InputError
from protocol.keyfile import replace_file
from protocol.lockfile import is_locked, lock, open_lock

JOBS = "jobs"
"""Folder of the sessions that outlast a restart."""


class StateFolder:
    """A node's state folder; it is made where it is missing.

    Args:
        path: The folder.

    Raises:
        InputError: It cannot be made, or others may enter it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.jobs = path / JOBS
        self.logs = path / "logs"
        self._known = path / "known"
        self._lock = path / "lock"
        try:
            for folder in (path, self.jobs, self.logs, self._known):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = path.stat().st_mode & 0o777
        except OSError as error:
            raise InputError(f"{path}: cannot be created", found=error.strerror) from None
        if mode & 0o077:
            raise InputError(
                f"{path}: others may enter the node's folder",
                expected="mode 0700",
                found=f"mode {mode:04o}",
                remedy=f"run: chmod 700 {path}",
            )

    # -- one node at a time ---------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the one node of this folder.

        Raises:
            BusyError: Another node is.
        """
        descriptor = open_lock(self._lock)
        try:
            if not lock(descriptor):
                raise BusyError(
                    f"{self.path}: a node runs on this folder already",
                    remedy="stop it first, or see it with 'fedward client status'",
                )
            yield
        finally:
            os.close(descriptor)

    @property
    def running(self) -> bool:
        """Whether a node runs on this folder."""
        return is_locked(self._lock)

    # -- status ---------------------------------------------------------------------------------

    def save_status(self, status: Mapping[str, Any]) -> None:
        """Replace the status; it need not survive a loss of power.

        Raises:
            FedwardError: The disk is full or fails; the status is as before.
        """
        draft = self.path / f".status.{secrets.token_hex(4)}"
        try:
            draft.write_text(json.dumps(status, sort_keys=True), encoding="utf-8")
            draft.replace(self.path / "status.json")
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise FedwardError(
                f"{self.path / 'status.json'}: cannot be written", found=error.strerror
            ) from None

    def load_status(self) -> dict[str, Any]:
        """What the node said last; empty where none ever ran."""
        try:
            text = (self.path / "status.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        found: dict[str, Any] = json.loads(text)
        return found

    # -- pause ----------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether new jobs are refused; it outlives a restart."""
        return (self.path / "paused").exists()

    def pause(self) -> None:
        """Refuse new jobs; those that began go on."""
        replace_file(self.path / "paused", b"")

    def resume(self) -> None:
        """Take new jobs again."""
        (self.path / "paused").unlink(missing_ok=True)

    # -- jobs -----------------------------------------------------------------------------------

    def known(self) -> list[Known]:
        """Every job that asked, the oldest first."""
        found = [self.load_job(path.stem) for path in self._known.glob("*.json")]
        return sorted(filter(None, found), key=lambda job: (job.asked.seen, job.digest))

    def load_job(self, digest: str) -> Known | None:
        """One job by its full digest."""
        path = self._known / digest
        if not path.with_suffix(".json").exists():
            return None
        asked = read(Asked, path.with_suffix(".json"))
        decision = path.with_suffix(".decision")
        decided = decision.exists()
        return Known(
            asked=asked,
            begun=path.with_suffix(".begun").exists(),
            decision=_decision(decision) if decided else asked.decision,
            decided=decided,
        )

    def add_job(self, asked: Asked) -> None:
        """Remember a job that asks for the first time; only the node does this."""
        text = json.dumps(asdict(asked), indent=1, sort_keys=True)
        replace_file(self._known / f"{asked.digest}.json", text.encode())

    def forget(self, now: datetime) -> None:
        """Remove what is not needed any longer; only the node does this. What is damaged stays.

        See `client.known_jobs.forgettable`.
        """
        found: dict[str, Known] = {}
        for path in self._known.glob("*.json"):
            with suppress(FedwardError):
                known = self.load_job(path.stem)
                found |= {} if known is None else {known.digest: known}
        for digest in forgettable(found.values(), now):
            # A decision that is made at this instant stays, and holds if the job comes again.
            endings = (".json", ".begun", *((".decision",) if found[digest].decided else ()))
            for ending in endings:
                (self._known / digest).with_suffix(ending).unlink(missing_ok=True)

    def mark_begun(self, digest: str) -> None:
        """Remember that the node enrolled in a job; only the node does this."""
        (self._known / f"{digest}.begun").touch(mode=0o600)

    def decide(self, digest: str, decision: Decision) -> None:
        """Decide on a job that asked; only commands do this, so no decision is overwritten."""
        replace_file(self._known / f"{digest}.decision", decision.encode())

    def find(self, name: str) -> Known:
        """A job by its name or the first digits of its digest.

        Raises:
            InputError: None, or more than one.
        """
        jobs = self.known()
        found = [job for job in jobs if len(name) >= 4 and job.digest.startswith(name)]
        found = found or [job for job in jobs if job.name == name]
        if len(found) != 1:
            raise InputError(
                f"job {name!r}",
                expected="the name, or at least 4 digits, of one job",
                found="none" if not found else f"{len(found)} of them",
                remedy="see 'fedward client jobs list'",
            )
        return found[0]


def _decision(path: Path) -> Decision:
    text = path.read_text(encoding="utf-8")
    for known in DECISIONS:
        if text == known:
            return known
    raise InputError(f"{path}: a decision", expected=f"one of {', '.join(DECISIONS)}")
