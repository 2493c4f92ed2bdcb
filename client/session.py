"""What a node remembers of one job between two messages, and where it keeps it.

The keys of an epoch live in memory only. A node that restarts has lost them on purpose: it comes
back with a new ephemeral key, in a new epoch. In a simulation on Flower's Ray engine a virtual
hospital moves between processes, so there its session travels in Flower's `Context.state`, which
never leaves the driver's memory.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from privacy.envelope import EpochKeys
from privacy.keys import Ephemeral
from protocol.canonical import to_canonical
from protocol.cohort import Cohort
from protocol.config import decode
from protocol.jobs import Job
from protocol.messages import Packet
from strategies.base import State


@dataclass(frozen=True, kw_only=True)
class Session:
    """One job at one node.

    Args:
        job: The accepted job.
        ephemeral: This job's ephemeral keys.
        member: Canonical bytes of the signed statement about them.
        state: The strategy's state; `state.step` is the number of rounds applied.
        epoch: Current epoch, 0 before the first cohort.
        attempt: Last attempt answered, 0 before the first.
        counted: Last attempt whose evaluation counts were read.
        cohort: Current cohort, None before the first.
        keys: Keys of the epoch; None before it, after a failed check, and in clear runs.
        released: Last round of which each purpose was released.
        made: Epoch for which this node made keys as the cohort's maker, 0 for none.
        request: SHA-256 of the last request that was answered.
        reply: The answer to it, sent again when the same request comes again.
    """

    job: Job
    ephemeral: Ephemeral
    member: bytes
    state: State
    epoch: int = 0
    attempt: int = 0
    counted: int = 0
    cohort: Cohort | None = None
    keys: EpochKeys | None = None
    released: Mapping[str, int] = field(default_factory=dict)
    made: int = 0
    request: str = ""
    reply: Packet | None = None

    def destroy_keys(self) -> Session:
        """The session after a failed check: nothing can be decrypted in this epoch any more."""
        return replace(self, keys=None)


class Sessions(Protocol):
    """Where sessions live between two messages."""

    def load(self, job: str) -> Session | None:
        """The session of a job's digest, None when there is none."""

    def save(self, session: Session) -> None:
        """Keep this session in place of the job's earlier one."""

    def drop(self, job: str) -> None:
        """Forget a job and its keys."""


class MemorySessions:
    """Sessions of one process, in its memory."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def load(self, job: str) -> Session | None:
        """See Sessions."""
        return self._sessions.get(job)

    def save(self, session: Session) -> None:
        """See Sessions."""
        self._sessions[session.job.digest] = session

    def drop(self, job: str) -> None:
        """See Sessions."""
        self._sessions.pop(job, None)


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

    def save(self, session: Session) -> None:
        """See Sessions."""
        self._store[session.job.digest] = _pack(session)

    def drop(self, job: str) -> None:
        """See Sessions."""
        self._store.pop(job, None)


@dataclass(frozen=True, kw_only=True)
class _Packed:
    job: bytes
    ephemeral: bytes
    member: bytes
    state: bytes
    epoch: int
    attempt: int
    counted: int
    cohort: bytes | None
    keys: tuple[bytes, bytes] | None
    released: dict[str, int]
    made: int
    request: str
    reply: dict[str, bytes] | None


def _pack(session: Session) -> bytes:
    keys = session.keys
    return to_canonical(
        _Packed(
            job=session.job.to_bytes(),
            ephemeral=session.ephemeral.to_bytes(),
            member=session.member,
            state=session.state.to_bytes(),
            epoch=session.epoch,
            attempt=session.attempt,
            counted=session.counted,
            cohort=None if session.cohort is None else session.cohort.to_bytes(),
            keys=None if keys is None else (keys.bfv, keys.data),
            released=dict(session.released),
            made=session.made,
            request=session.request,
            reply=None if session.reply is None else session.reply.to_wire(),
        )
    )


def _unpack(data: bytes) -> Session:
    packed = decode(_Packed, data, "session")
    return Session(
        job=Job.from_bytes(packed.job),
        ephemeral=Ephemeral.from_bytes(packed.ephemeral),
        member=packed.member,
        state=State.from_bytes(packed.state),
        epoch=packed.epoch,
        attempt=packed.attempt,
        counted=packed.counted,
        cohort=None if packed.cohort is None else Cohort.from_bytes(packed.cohort),
        keys=None if packed.keys is None else EpochKeys(*packed.keys),
        released=packed.released,
        made=packed.made,
        request=packed.request,
        reply=None if packed.reply is None else Packet.from_wire(packed.reply),
    )
