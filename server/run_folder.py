"""What the folders of jobs and of deliveries have in common: events, runs, a request to stop.

Every file is there whole or not at all, whenever the machine stops; only the last line of a list
may be torn, and then it counts as not written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from protocol.config import parse
from protocol.errors import FedwardError, InputError, IntegrityError
from protocol.keyfile import replace_file
from server.launch import Event

EVENTS = "events.jsonl"
OUTCOME = "outcome.json"
RUNS = "runs.jsonl"
STOP = "stop"


class RunFolder:
    """The folder of something that runs of Flower carry out. One process writes it at a time.

    Args:
        path: The folder.
    """

    KIND: ClassVar[str]
    """What it is of, for people."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check_name(self, name: str, digest: str, file: str) -> None:
        """Hold the folder's name against what was read from its file.

        Args:
            name: What people call it.
            digest: Its identity, hexadecimal.
            file: Where both stand.

        Raises:
            IntegrityError: It is another one's.
        """
        expected = named_folder(name, digest)
        if self.path.name != expected:
            raise IntegrityError(
                f"{self.path / file}: not the {self.KIND} of this folder",
                expected=expected,
                found=self.path.name,
            )

    def events(self) -> tuple[Event, ...]:
        """What happened so far, in order.

        Raises:
            IntegrityError: A line before the last is damaged.
        """
        return tuple(
            parse(Event, line, f"{EVENTS}:{number}")
            for number, line in enumerate(read_lines(self.path / EVENTS), start=1)
        )

    def append(self, event: Event) -> None:
        """Add an event to the list.

        Raises:
            FedwardError: The disk is full or fails; the list is as before.
        """
        append_line(self.path / EVENTS, asdict(event))

    @property
    def runs(self) -> tuple[int, ...]:
        """Flower's runs of this job, the present one last."""
        return tuple(int(line["run"]) for line in read_lines(self.path / RUNS))

    def add_run(self, run: int) -> None:
        """Note that the job was submitted as this run of Flower.

        Raises:
            FedwardError: The disk is full or fails.
        """
        append_line(self.path / RUNS, {"run": run})

    @property
    def stop_requested(self) -> bool:
        """Whether somebody asked for the job's end."""
        return (self.path / STOP).exists()

    def request_stop(self) -> None:
        """Ask for the job's end; whoever runs it looks while it waits.

        Raises:
            FedwardError: The disk is full or fails.
        """
        replace_whole(self.path / STOP, b"")


def named_folder(name: str, digest: str) -> str:
    """Name of a folder: people know the name, and the digest makes it unique."""
    return f"{name}-{digest[:12]}"


def load_whole(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        IntegrityError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{path}: cannot be read", found=error.strerror) from None


def replace_whole(path: Path, data: bytes) -> None:
    """Put a file in place of the one before, in one step.

    Raises:
        FedwardError: The disk is full or fails; the file is as before.
    """
    try:
        replace_file(path, data)
    except InputError as error:
        raise _full(path, error.found) from None


def append_line(path: Path, document: Mapping[str, Any]) -> None:
    """One line more, or none: what a crash tore off before is cut, and so is a line that fails."""
    line = json.dumps(document, sort_keys=True, allow_nan=False).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        whole = path.read_bytes().rfind(b"\n") + 1
        os.ftruncate(descriptor, whole)
        try:
            _write(descriptor, line, whole)
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, whole)
            raise _full(path, error.strerror) from None
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes, place: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, place)
        view, place = view[written:], place + written


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; what stands behind the last line's end was torn off."""
    if not path.exists():
        return []
    *lines, _ = load_whole(path).split(b"\n")
    try:
        return [json.loads(line) for line in lines]
    except ValueError:
        raise IntegrityError(
            f"{path}: a line is damaged", remedy="restore it or move it away"
        ) from None


def _full(path: Path, found: str | None) -> FedwardError:
    return FedwardError(
        f"{path}: cannot be written",
        found=found,
        remedy="free space or repair the disk, then resume the job; nothing kept before is lost",
    )
