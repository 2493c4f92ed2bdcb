"""One job on the coordinator's disk: what was signed, where it stands, what happened, how it ended.

Every file is there whole or not at all, whenever the machine stops; only the last line of the list
of events may be torn, and then it counts as not written. A disk that is full stops the job with an
error and loses nothing that was there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from protocol.config import parse
from protocol.errors import FedwardError, InputError, IntegrityError
from protocol.jobs import Job
from protocol.keyfile import replace_file
from server.checkpoint import Checkpoint
from server.launch import Event, Metrics, Outcome

JOB = "job.json"
SIGNATURE = "job.sig"
CHECKPOINT = "checkpoint"
EVENTS = "events.jsonl"
RUNS = "runs.jsonl"
OUTCOME = "outcome.json"
MODEL = "model.f64"
ANNOUNCED = "announced"
STOP = "stop"
PART = ".part"


class JobFolder:
    """The folder of one job. One process writes it at a time; anybody may read it meanwhile.

    Args:
        path: The folder.
        save_heads: Keeps what hospitals said of their ledgers; the archive's.
    """

    def __init__(
        self, path: Path, *, save_heads: Callable[[Mapping[str, bytes]], None] = lambda _: None
    ) -> None:
        self.path = path
        self.save_heads = save_heads

    # -- what was signed ------------------------------------------------------------------------

    @cached_property
    def job(self) -> Job:
        """The job.

        Raises:
            IntegrityError: The file holds another job than the folder's name says.
        """
        job = Job.from_bytes(_load(self.path / JOB))
        if self.path.name != folder_name(job):
            raise IntegrityError(
                f"{self.path / JOB}: not the job of this folder",
                expected=folder_name(job),
                found=self.path.name,
            )
        return job

    @property
    def signature(self) -> bytes:
        """The coordinator's signature over the job's bytes, 64 bytes."""
        return _load(self.path / SIGNATURE)

    @property
    def digest(self) -> str:
        """SHA-256 of the job's bytes, hexadecimal."""
        return self.job.digest

    # -- where it stands ------------------------------------------------------------------------

    @property
    def checkpoint(self) -> Checkpoint | None:
        """What the last `save_checkpoint` kept, None before the first.

        Raises:
            IntegrityError: A file that it names is missing or is not what was kept.
        """
        path = self.path / CHECKPOINT
        if not path.exists():
            return None
        return Checkpoint.from_bytes(_load(path), self._part)

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep where the job stands, in place of what was kept before.

        Sums are large and change once a round: each has a file of its own, which is written before
        the checkpoint that names it and removed after the first one that does not.

        Raises:
            FedwardError: The disk is full or fails; what was kept before still stands.
        """
        parts = {hashlib.sha256(part).hexdigest(): part for part in checkpoint.parts}
        present = {path.stem for path in self.path.glob(f"*{PART}")}
        for digest in set(parts) - present:
            _replace(self.path / f"{digest}{PART}", parts[digest])
        _replace(self.path / CHECKPOINT, checkpoint.to_bytes())
        for digest in present - set(parts):
            (self.path / f"{digest}{PART}").unlink(missing_ok=True)

    def _part(self, digest: str) -> bytes:
        data = _load(self.path / f"{digest}{PART}")
        if hashlib.sha256(data).hexdigest() != digest:
            raise IntegrityError(f"{self.path.name}: a kept sum is not what was kept")
        return data

    # -- what happened --------------------------------------------------------------------------

    def events(self) -> tuple[Event, ...]:
        """What happened so far, in order.

        Raises:
            IntegrityError: A line before the last is damaged.
        """
        return tuple(
            parse(Event, line, f"{EVENTS}:{number}")
            for number, line in enumerate(_lines(self.path / EVENTS), start=1)
        )

    def append(self, event: Event) -> None:
        """Add an event to the list.

        Raises:
            FedwardError: The disk is full or fails; the list is as before.
        """
        _append(self.path / EVENTS, asdict(event))

    @property
    def runs(self) -> tuple[int, ...]:
        """Flower's runs of this job, the present one last."""
        return tuple(int(line["run"]) for line in _lines(self.path / RUNS))

    def add_run(self, run: int) -> None:
        """Note that the job was submitted as this run of Flower.

        Raises:
            FedwardError: The disk is full or fails.
        """
        _append(self.path / RUNS, {"run": run})

    # -- how it ends ----------------------------------------------------------------------------

    @property
    def stop_requested(self) -> bool:
        """Whether somebody asked for the job's end."""
        return (self.path / STOP).exists()

    def request_stop(self) -> None:
        """Ask for the job's end; whoever runs it looks while it waits.

        Raises:
            FedwardError: The disk is full or fails.
        """
        _replace(self.path / STOP, b"")

    @property
    def outcome(self) -> Outcome | None:
        """How the job ended, None while it has not."""
        path = self.path / OUTCOME
        if not path.exists():
            return None
        ended = parse(_Ended, json.loads(_load(path)), OUTCOME)
        model = self.path / MODEL
        return Outcome(
            status=ended.status,
            reason=ended.reason,
            refusals=ended.refusals,
            events=self.events(),
            metrics=ended.metrics,
            weights_tag=ended.weights_tag,
            model=_load(model) if model.exists() else None,
        )

    def save_outcome(self, outcome: Outcome) -> None:
        """Keep how the job ended; its checkpoint and sums are removed.

        Raises:
            FedwardError: The disk is full or fails; the job counts as under way.
        """
        if outcome.model is not None:
            _replace(self.path / MODEL, outcome.model)
        ended = _Ended(
            status=outcome.status,
            reason=outcome.reason,
            refusals=outcome.refusals,
            metrics=outcome.metrics,
            weights_tag=outcome.weights_tag,
        )
        _replace(self.path / OUTCOME, json.dumps(asdict(ended), indent=2, sort_keys=True).encode())
        for path in (self.path / CHECKPOINT, *self.path.glob(f"*{PART}")):
            path.unlink(missing_ok=True)

    def mark_announced(self) -> None:
        """Note that whoever wants to hear of the job's end has heard of it.

        Raises:
            FedwardError: The disk is full or fails.
        """
        _replace(self.path / ANNOUNCED, b"")


@dataclass(frozen=True, kw_only=True)
class _Ended:
    status: str
    reason: str
    refusals: Mapping[str, str]
    metrics: Metrics
    weights_tag: str


def folder_name(job: Job) -> str:
    """Name of a job's folder: people know the name, and the digest makes it unique."""
    return f"{job.name}-{job.digest[:12]}"


def _load(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{path}: cannot be read", found=error.strerror) from None


def _replace(path: Path, data: bytes) -> None:
    try:
        replace_file(path, data)
    except InputError as error:
        raise _full(path, error.found) from None


def _append(path: Path, document: Mapping[str, Any]) -> None:
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


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; what stands behind the last line's end was torn off."""
    if not path.exists():
        return []
    *lines, _ = _load(path).split(b"\n")
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
