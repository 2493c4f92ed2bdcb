"""What a coordinator starts a job with, what it may watch, what it keeps, and how the job ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from protocol.jobs import Job
from protocol.roster import Roster
from protocol.signing import SigningKey

Metrics = Mapping[str, tuple[float, float, float]]
"""Name to value and 95 % interval, of the patients of all hospitals together."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that a coordinator may watch: declared, pooled or public, never one hospital's.

    Args:
        kind: `enrolled`, `keys`, `shared`, `round`, `evaluated`, `delivered`, `void`, `finished`,
            `resumed`, `stopping`, `ended`.
        round: Round that the event belongs to.
        sites: Hospitals in the job afterwards.
        at: Unix time in seconds.
        seconds: How long the exchange took.
        bytes_up: Bytes of all answers.
        bytes_down: Bytes of all messages.
        detail: One line for people.
        metrics: Pooled metrics, where they are published.
        epoch: The epoch afterwards.
        attempt: The last attempt's number.
        voids: Attempts lost so far.
        arrivals: Seconds until each hospital's answer was there.
        lost: Code of each hospital that is not in the job.
    """

    kind: str
    round: int
    sites: tuple[str, ...]
    at: float = 0.0
    seconds: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    detail: str = ""
    metrics: Metrics = field(default_factory=dict)
    epoch: int = 0
    attempt: int = 0
    voids: int = 0
    arrivals: Mapping[str, float] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended.

    Args:
        status: `completed`, `failed` or `stopped`.
        reason: Why it did not complete, for people.
        refusals: Code by hospital that did not take part to the end.
        events: What happened, in order.
        metrics: Pooled metrics of the finished model, where they are published.
        weights_tag: What all hospitals reported of the finished model.
        model: The finished weights (float64 bytes), where job and policies hand them over.
    """

    status: str
    reason: str
    refusals: Mapping[str, str]
    events: tuple[Event, ...]
    metrics: Metrics
    weights_tag: str
    model: bytes | None


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a coordinator waits; an answer to a message has the job's `timeout_s`.

    Args:
        join_s: For hospitals to connect before the job begins.
        rejoin_s: For hospitals that were lost, where the job cannot go on without them, and at
            its end.
        enrol_s: For the answer of a hospital that is asked to come back.
        settle_s: For members whose nodes come back while the job is being closed.
        dismiss_s: For the last word of a hospital that was lost.
    """

    join_s: float = 120.0
    rejoin_s: float = 600.0
    enrol_s: float = 60.0
    settle_s: float = 30.0
    dismiss_s: float = 5.0


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a coordinator starts a job with.

    Args:
        job: The resolved job.
        signature: Ed25519 over its bytes, context `job`.
        key: The coordinator's key.
        roster: The roster that the job names.
        heads: Each hospital's last statement of its ledger head, by fingerprint; updated in place.
        watch: Called with every event.
        patience: How long it waits.
    """

    job: Job
    signature: bytes
    key: SigningKey
    roster: Roster
    heads: dict[str, bytes]
    watch: Callable[[Event], None] = lambda _: None
    patience: Patience = field(default_factory=Patience)
