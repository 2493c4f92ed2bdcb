"""What a node remembers of one job between two messages, and where it keeps it.

The keys of an epoch live in memory only. A node that restarts has lost them on purpose: it comes
back with a new ephemeral key, in a new epoch, and with what `client.store` kept of the session on
disk. In a simulation on Flower's Ray engine a virtual hospital moves between processes, so there
its session travels in Flower's `Context.state`, which never leaves the driver's memory.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, fields, replace
from typing import Protocol

from privacy.envelope import EpochKeys
from privacy.keys import Ephemeral
from protocol.canonical import to_canonical
from protocol.cohort import Cohort
from protocol.config import decode
from protocol.jobs import Job
from protocol.messages import Packet
from strategies.base import State

Measured = Mapping[str, tuple[float, float, float]]
"""Pooled metrics by name: value, low and high end of the interval."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What outlasts a restart: everything of a session but keys and answers.

    Args:
        job: The accepted job.
        signature: The coordinator's signature over it.
        state: The strategy's state.
        epoch: Last epoch entered.
        attempt: Last attempt used.
        counted: Last attempt whose evaluation counts were read.
        released: Last round of which each purpose was released, or was about to be.
        metrics: Pooled metrics of the finished model; empty before.
        model: Folder of the stored model under its name, empty before.
    """

    job: Job
    signature: bytes
    state: State
    epoch: int
    attempt: int
    counted: int
    released: Mapping[str, int]
    metrics: Measured
    model: str

    def resume(self, ephemeral: Ephemeral, member: bytes, attempt: int) -> Session:
        """The session that goes on from here, with new ephemeral keys and outside any epoch.

        Args:
            ephemeral: The new keys.
            member: Canonical bytes of the signed statement about them.
            attempt: The last attempt that the ledger knows.
        """
        return Session(
            job=self.job,
            signature=self.signature,
            ephemeral=ephemeral,
            member=member,
            state=self.state,
            epoch=self.epoch,
            attempt=max(attempt, self.attempt),
            counted=self.counted,
            released=self.released,
            metrics=self.metrics,
            model=self.model,
        )


@dataclass(frozen=True, kw_only=True)
class Session:
    """One job at one node.

    Args:
        job: The accepted job.
        signature: The coordinator's signature over it.
        ephemeral: This job's ephemeral keys.
        member: Canonical bytes of the signed statement about them.
        state: The strategy's state; `state.step` is the number of rounds applied.
        epoch: Current epoch, 0 before the first cohort.
        attempt: Last attempt used, 0 before the first.
        counted: Last attempt whose evaluation counts were read.
        cohort: Current cohort, None before the first and after a restart.
        keys: Keys of the epoch; None before it, after a failed check, and in clear runs.
        released: Last round of which each purpose was released, or was about to be.
        metrics: Pooled metrics of the finished model; empty before.
        model: Folder of the stored model under its name, empty before.
        made: Epoch for which this node made keys as the cohort's maker, 0 for none.
        summed: Last attempt whose sum of updates was decrypted. Not kept on disk: what could
            decrypt it again is not, either.
        request: SHA-256 of the last request that was answered.
        reply: The answer to it, sent again when the same request comes again.
    """

    job: Job
    signature: bytes = b""
    ephemeral: Ephemeral
    member: bytes
    state: State
    epoch: int = 0
    attempt: int = 0
    counted: int = 0
    cohort: Cohort | None = None
    keys: EpochKeys | None = None
    released: Mapping[str, int] = field(default_factory=dict)
    metrics: Measured = field(default_factory=dict)
    model: str = ""
    made: int = 0
    summed: int = 0
    request: str = ""
    reply: Packet | None = None

    @property
    def record(self) -> Record:
        """What of it may be on a disk."""
        return Record(**{item.name: getattr(self, item.name) for item in fields(Record)})

    def destroy_keys(self) -> Session:
        """The session after a failed check: nothing can be decrypted in this epoch any more."""
        return replace(self, keys=None)


class Sessions(Protocol):
    """Where sessions live between two messages."""

    def load(self, job: str) -> Session | None:
        """The session of a job's digest, None when there is none."""

    def recall(self, job: str) -> Record | None:
        """What a restart left of a job's session, None when there is nothing."""

    def save(self, session: Session) -> None:
        """Keep this session in place of the job's earlier one.

        Raises:
            FedwardError: It could not be made to last; this process goes on with it all the same.
        """

    def drop(self, job: str) -> None:
        """Forget a job and its keys."""

    def jobs(self) -> tuple[Job, ...]:
        """The jobs of which there is a session, or what a restart left of one."""


class MemorySessions:
    """Sessions of one process, in its memory."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def load(self, job: str) -> Session | None:
        """See Sessions."""
        return self._sessions.get(job)

    def recall(self, job: str) -> Record | None:
        """See Sessions; a memory outlasts nothing."""

    def save(self, session: Session) -> None:
        """See Sessions."""
        self._sessions[session.job.digest] = session

    def drop(self, job: str) -> None:
        """See Sessions."""
        self._sessions.pop(job, None)

    def jobs(self) -> tuple[Job, ...]:
        """See Sessions."""
        return tuple(session.job for session in self._sessions.values())


class PackedSessions:
    """Sessions as bytes in a mapping that moves between a simulation's processes.

    Args:
        store: From a job's digest to the packed session; Flower's `Context.state` in a simulation.
    """

    def __init__(self, store: MutableMapping[str, bytes]) -> None:
        self._store = store

    def load(self, job: str) -> Session | None:
        """See Sessions."""
        packed = self._store.get(job)
        return None if packed is None else _unpack(packed)

    def recall(self, job: str) -> Record | None:
        """See Sessions; what is packed is a whole session, or gone."""

    def save(self, session: Session) -> None:
        """See Sessions."""
        self._store[session.job.digest] = _pack(session)

    def drop(self, job: str) -> None:
        """See Sessions."""
        self._store.pop(job, None)

    def jobs(self) -> tuple[Job, ...]:
        """See Sessions."""
        return tuple(_unpack(packed).job for packed in self._store.values())


@dataclass(frozen=True, kw_only=True)
class _Packed:
    job: bytes
    signature: bytes
    ephemeral: bytes
    member: bytes
    state: bytes
    epoch: int
    attempt: int
    counted: int
    cohort: bytes | None
    keys: tuple[bytes, bytes] | None
    released: dict[str, int]
    metrics: dict[str, tuple[float, float, float]]
    model: str
    made: int
    summed: int
    request: str
    reply: dict[str, bytes] | None


def _pack(session: Session) -> bytes:
    keys = session.keys
    return to_canonical(
        _Packed(
            job=session.job.to_bytes(),
            signature=session.signature,
            ephemeral=session.ephemeral.to_bytes(),
            member=session.member,
            state=session.state.to_bytes(),
            epoch=session.epoch,
            attempt=session.attempt,
            counted=session.counted,
            cohort=None if session.cohort is None else session.cohort.to_bytes(),
            keys=None if keys is None else (keys.bfv, keys.data),
            released=dict(session.released),
            metrics=dict(session.metrics),
            model=session.model,
            made=session.made,
            summed=session.summed,
            request=session.request,
            reply=None if session.reply is None else session.reply.to_wire(),
        )
    )


def _unpack(data: bytes) -> Session:
    packed = decode(_Packed, data, "session")
    return Session(
        job=Job.from_bytes(packed.job),
        signature=packed.signature,
        ephemeral=Ephemeral.from_bytes(packed.ephemeral),
        member=packed.member,
        state=State.from_bytes(packed.state),
        epoch=packed.epoch,
        attempt=packed.attempt,
        counted=packed.counted,
        cohort=None if packed.cohort is None else Cohort.from_bytes(packed.cohort),
        keys=None if packed.keys is None else EpochKeys(*packed.keys),
        released=packed.released,
        metrics=packed.metrics,
        model=packed.model,
        made=packed.made,
        summed=packed.summed,
        request=packed.request,
        reply=None if packed.reply is None else Packet.from_wire(packed.reply),
    )
