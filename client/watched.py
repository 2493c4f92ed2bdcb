"""Files whose replacement ends what was built upon them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

Stamp = tuple[int, int, int]


class Files:
    """Whether files were replaced since somebody looked last.

    Args:
        paths: The files; one that is not there counts as another than one that is.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._seen = self._stamps()

    def replaced(self) -> bool:
        """Whether one of them is another than at the last look; true once for each change."""
        before, self._seen = self._seen, self._stamps()
        return before != self._seen

    def _stamps(self) -> tuple[Stamp | None, ...]:
        return tuple(_stamp(path) for path in self._paths)


class Processes(Protocol):
    """Jobs' processes: a `client.children.Nursery`."""

    @property
    def pids(self) -> dict[str, int]:
        """Process number by job."""

    def drop(self, job: str) -> str:
        """End a job's process."""


def dismiss_outdated(files: Files, processes: Processes) -> int:
    """End every job's process where the files that it has read were replaced.

    The next message of the job starts another, which reads them: whoever is confirmed no longer
    gets nothing more from this hospital.

    Returns:
        How many were ended.
    """
    outdated = list(processes.pids) if files.replaced() else []
    for job in outdated:
        processes.drop(job)
    return len(outdated)


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
