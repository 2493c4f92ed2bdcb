"""Requests that a command leaves for the running coordinator, as files in its state folder."""

from __future__ import annotations

from protocol.keyfile import replace_file
from server.config import Folder

_RESUME = "resume-"


def request_resume(folder: Folder, digest: str) -> None:
    """Ask that a job is submitted without waiting any longer.

    Raises:
        InputError: The disk is full, or the file cannot be written.
    """
    replace_file(folder.state / f"{_RESUME}{digest}", b"")


def take_resumed(folder: Folder) -> tuple[str, ...]:
    """Digests of the jobs that were asked for since the last look."""
    paths = sorted(folder.state.glob(f"{_RESUME}*"))
    for path in paths:
        path.unlink(missing_ok=True)
    return tuple(path.name.removeprefix(_RESUME) for path in paths)
