"""What a fresh process needs to go on with a job that another one began.

Keys are not in it: the coordinator has none but its own. Neither are the members' key bundles; an
epoch that not everybody has entered is given up for a new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from protocol.canonical import to_canonical
from protocol.config import decode
from server.launch import Metrics
from server.terms import State


@dataclass(frozen=True, kw_only=True)
class Seat:
    """A hospital that enrolled.

    Args:
        node: Flower's identifier of its node.
        signing: Its Ed25519 key, 32 bytes.
        fingerprint: SHA-256 of that key.
        member: Canonical bytes of its signed ephemeral keys.
    """

    node: int
    signing: bytes
    fingerprint: str
    member: bytes


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A sum that members may not have yet.

    Args:
        attempt: The attempt whose releases are in it.
        purpose: `update` or `evaluation`.
        contributors: Whose, in the job's order.
        total: The sum.
    """

    attempt: int
    purpose: str
    contributors: tuple[str, ...]
    total: bytes


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What members signed when they finished; `Stop` hands it on to all of them.

    Args:
        attempt: The attempt that finished, 0 before.
        confirmations: Their signatures by name.
    """

    attempt: int = 0
    confirmations: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where a job stands between two commands.

    Args:
        state: The machine's state, whose command has not been answered.
        sites: Hospitals that enrolled, by name.
        cohort: The present cohort document, None before the first.
        pending: Sums on their way.
        metrics: Pooled metrics published so far.
        weights_tag: What hospitals last reported of their weights.
        model: The finished weights, where they were handed over.
        finished: Members' confirmations of the model.
    """

    state: State
    sites: Mapping[str, Seat]
    cohort: bytes | None
    pending: tuple[Pending, ...]
    metrics: Metrics
    weights_tag: str
    model: bytes | None
    finished: Finished = field(default_factory=Finished)

    @property
    def parts(self) -> tuple[bytes, ...]:
        """What is kept beside `to_bytes`, each under its SHA-256."""
        sums = tuple(one.total for one in self.pending)
        return sums if self.model is None else (*sums, self.model)

    def to_bytes(self) -> bytes:
        """The checkpoint with digests in the place of its parts, canonical bytes."""
        return to_canonical(
            _Outline(
                state=self.state,
                sites=self.sites,
                cohort=self.cohort,
                pending=tuple(
                    _Entry(one.attempt, one.purpose, one.contributors, _digest(one.total))
                    for one in self.pending
                ),
                metrics=self.metrics,
                weights_tag=self.weights_tag,
                model=None if self.model is None else _digest(self.model),
                finished=self.finished,
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes, part: Callable[[str], bytes]) -> Checkpoint:
        """The checkpoint that `to_bytes` spelled.

        Args:
            data: Its bytes.
            part: A part by its SHA-256.

        Raises:
            InputError: The bytes are no checkpoint of this release.
        """
        outline = decode(_Outline, data, "checkpoint")
        return cls(
            state=outline.state,
            sites=outline.sites,
            cohort=outline.cohort,
            pending=tuple(
                Pending(
                    attempt=one.attempt,
                    purpose=one.purpose,
                    contributors=one.contributors,
                    total=part(one.total),
                )
                for one in outline.pending
            ),
            metrics=outline.metrics,
            weights_tag=outline.weights_tag,
            model=None if outline.model is None else part(outline.model),
            finished=outline.finished,
        )


@dataclass(frozen=True)
class _Entry:
    attempt: int
    purpose: str
    contributors: tuple[str, ...]
    total: str


@dataclass(frozen=True, kw_only=True)
class _Outline:
    state: State
    sites: Mapping[str, Seat]
    cohort: bytes | None
    pending: tuple[_Entry, ...]
    metrics: Metrics
    weights_tag: str
    model: str | None
    finished: Finished = field(default_factory=Finished)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
