"""Who acts in a folder now, and what the running coordinator says of itself.

A lock of the operating system's tells whether somebody acts: it ends with its process, whatever
that died of. What is said stands in one file, replaced in one step, for whoever asks.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from protocol.errors import BusyError, InputError
from protocol.keyfile import replace_file
from protocol.lockfile import is_locked, lock, open_lock
from server.config import Folder

_LOOK_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Presence:
    """What the running coordinator says of itself.

    Args:
        pid: Its process.
        ready: Whether its SuperLink answers.
        hospitals: Whether each hospital of the roster is connected.
        runs: Flower's run of each unfinished job, by digest.
    """

    pid: int
    ready: bool
    hospitals: Mapping[str, bool] = field(default_factory=dict)
    runs: Mapping[str, int] = field(default_factory=dict)

    def save(self, folder: Folder) -> None:
        """Say it.

        Raises:
            InputError: The disk is full, or the file cannot be written.
        """
        replace_file(_file(folder), json.dumps(asdict(self)).encode())


def present(folder: Folder) -> Presence | None:
    """What the running coordinator says of itself; None where none runs."""
    if not is_locked(lock_of(folder)):
        return None
    try:
        return Presence(**json.loads(_file(folder).read_bytes()))
    except (OSError, ValueError, TypeError):
        return Presence(pid=0, ready=False)


def require_present(folder: Folder, *, wait_s: float = 0.0) -> Presence:
    """What the running coordinator says of itself.

    Args:
        folder: The coordinator's folder.
        wait_s: How long to wait for one that is only starting.

    Raises:
        InputError: None runs.
    """
    end = time.monotonic() + wait_s
    while (found := present(folder)) is None:
        if time.monotonic() >= end:
            raise InputError(
                "no coordinator is running in this folder",
                found=str(folder.file.parent),
                remedy=f"start it with: fedward server up {folder.file}",
            )
        time.sleep(_LOOK_S)
    return found


def lock_of(folder: Folder) -> Path:
    """The file that a running coordinator holds."""
    return folder.state / "up.lock"


@contextmanager
def hold(path: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Be the only one that holds a file.

    Args:
        path: The file; it is made where it is missing.
        wait_s: How long to wait for somebody else to end.

    Raises:
        BusyError: Somebody else holds it.
        InputError: The file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = open_lock(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be made", found=error.strerror) from None
    try:
        end = time.monotonic() + wait_s
        while not lock(descriptor):
            if time.monotonic() >= end:
                raise BusyError(f"{path.parent}: another process is at work there")
            time.sleep(_LOOK_S)
        yield
    finally:
        os.close(descriptor)


def _file(folder: Folder) -> Path:
    return folder.state / "status.json"
