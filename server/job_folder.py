"""One job on the coordinator's disk: what was signed, where it stands, what happened, how it ended.

Every file is there whole or not at all, whenever the machine stops; only the last line of the list
of events may be torn, and then it counts as not written. A disk that is full stops the job with an
error and loses nothing that was there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from protocol.bundle import SignedJob
from protocol.config import parse
from protocol.errors import IntegrityError
from protocol.jobs import Job
from server.checkpoint import Checkpoint
from server.launch import Metrics, Outcome
from server.run_folder import OUTCOME, RunFolder, load_whole, replace_whole

JOB = "job.json"
SIGNATURE = "job.sig"
CHECKPOINT = "checkpoint"
MODEL = "model.f64"
ANNOUNCED = "announced"
PART = ".part"


class JobFolder(RunFolder):
    """The folder of one job. One process writes it at a time; anybody may read it meanwhile.

    Args:
        path: The folder.
        save_heads: Keeps what hospitals said of their ledgers; the archive's.
    """

    KIND: ClassVar[str] = "job"

    def __init__(
        self, path: Path, *, save_heads: Callable[[Mapping[str, bytes]], None] = lambda _: None
    ) -> None:
        super().__init__(path)
        self.save_heads = save_heads

    # -- what was signed ------------------------------------------------------------------------

    @cached_property
    def job(self) -> Job:
        """The job.

        Raises:
            IntegrityError: The file holds another job than the folder's name says.
        """
        job = Job.from_bytes(load_whole(self.path / JOB))
        self.check_name(job.name, job.digest, JOB)
        return job

    @property
    def signature(self) -> bytes:
        """The coordinator's signature over the job's bytes, 64 bytes."""
        return load_whole(self.path / SIGNATURE)

    @property
    def digest(self) -> str:
        """SHA-256 of the job's bytes, hexadecimal."""
        return self.job.digest

    @property
    def title(self) -> str:
        """What people call it."""
        return self.job.name

    @property
    def names(self) -> tuple[str, ...]:
        """What else they may call it by: its folder is one of several of this name."""
        return (self.job.name,)

    @property
    def signed(self) -> SignedJob:
        """What a run of it brings along."""
        return SignedJob(job=self.job.to_bytes(), signature=self.signature)

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
        return Checkpoint.from_bytes(load_whole(path), self._part)

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
            replace_whole(self.path / f"{digest}{PART}", parts[digest])
        replace_whole(self.path / CHECKPOINT, checkpoint.to_bytes())
        for digest in present - set(parts):
            (self.path / f"{digest}{PART}").unlink(missing_ok=True)

    def _part(self, digest: str) -> bytes:
        data = load_whole(self.path / f"{digest}{PART}")
        if hashlib.sha256(data).hexdigest() != digest:
            raise IntegrityError(f"{self.path.name}: a kept sum is not what was kept")
        return data

    # -- how it ends ----------------------------------------------------------------------------

    @property
    def outcome(self) -> Outcome | None:
        """How the job ended, None while it has not."""
        path = self.path / OUTCOME
        if not path.exists():
            return None
        ended = parse(_Ended, json.loads(load_whole(path)), OUTCOME)
        model = self.path / MODEL
        return Outcome(
            status=ended.status,
            reason=ended.reason,
            refusals=ended.refusals,
            events=self.events(),
            metrics=ended.metrics,
            weights_tag=ended.weights_tag,
            model=load_whole(model) if model.exists() else None,
        )

    def save_outcome(self, outcome: Outcome) -> None:
        """Keep how the job ended; its checkpoint and sums are removed.

        Raises:
            FedwardError: The disk is full or fails; the job counts as under way.
        """
        if outcome.model is not None:
            replace_whole(self.path / MODEL, outcome.model)
        ended = _Ended(
            status=outcome.status,
            reason=outcome.reason,
            refusals=outcome.refusals,
            metrics=outcome.metrics,
            weights_tag=outcome.weights_tag,
        )
        replace_whole(
            self.path / OUTCOME, json.dumps(asdict(ended), indent=2, sort_keys=True).encode()
        )
        for path in (self.path / CHECKPOINT, *self.path.glob(f"*{PART}")):
            path.unlink(missing_ok=True)

    def mark_announced(self) -> None:
        """Note that whoever wants to hear of the job's end has heard of it.

        Raises:
            FedwardError: The disk is full or fails.
        """
        replace_whole(self.path / ANNOUNCED, b"")


@dataclass(frozen=True, kw_only=True)
class _Ended:
    status: str
    reason: str
    refusals: Mapping[str, str]
    metrics: Metrics
    weights_tag: str
