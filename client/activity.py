"""What happened at a node since it was started: what `fedward client status` shows, and the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from client.reception import Arrival
from protocol.messages import Packet, Refused, open_header, read_body

MOST_SHOWN = 200
"""Jobs and deliveries of which the last message is remembered; the status is written often."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What `status` shows of one job: the last message and what became of it."""

    name: str
    message: str
    round: int | None
    outcome: str
    at: str


class Activity:
    """What happened so far.

    Args:
        key: The hospital's Ed25519 key, 32 bytes; its own answers are read with it.
        clock: Present time with a time zone.
    """

    def __init__(self, key: bytes, clock: Callable[[], datetime]) -> None:
        self._key = key
        self._clock = clock
        self.answered = 0
        self.last_error: str | None = None
        self.jobs: dict[str, Progress] = {}

    def note(self, arrival: Arrival, outcome: str) -> None:
        """What became of a message so far."""
        digest, kind = arrival.digest, arrival.packet.kind
        place: dict[str, Any] = {
            "job": digest[:12],
            "kind": kind,
            "round": arrival.header.body.get("round"),
        }
        self.jobs.pop(digest, None)
        self.jobs[digest] = Progress(
            name=arrival.title,
            message=kind,
            round=place["round"],
            outcome=outcome,
            at=self._clock().isoformat(timespec="milliseconds"),
        )
        for older in list(self.jobs)[:-MOST_SHOWN]:
            del self.jobs[older]
        _LOG.info(outcome, extra=place)

    def note_reply(self, arrival: Arrival, reply: Packet) -> None:
        """What became of a message; a refusal also with its code, and where its reason stands."""
        if reply.kind != Refused.KIND:
            self.note(arrival, reply.kind)
            return
        said = read_body(reply, open_header(reply, self._key), Refused)
        self.note(arrival, f"refused: {said.reason}")
        what, kind = f"{arrival.kind} {arrival.title!r}", arrival.packet.kind
        self.note_error(f"{what}: {kind} was refused ({said.reason}); the journal says why")

    def note_error(self, text: str) -> None:
        """What went wrong last; the text holds nothing private."""
        self.last_error = f"{self._clock().isoformat(timespec='seconds')} {text}"
        _LOG.warning(text)

    def note_answered(self, moments_s: Sequence[float]) -> None:
        """Another message was answered, well or not.

        Args:
            moments_s: Seconds at which it was claimed, had arrived and was answered, as far as it
                came, and at which it was over.
        """
        self.answered += 1
        _LOG.info("answered", extra=_spent(moments_s))


def _spent(moments_s: Sequence[float]) -> dict[str, float]:
    """Seconds until a message had arrived, until it was answered, until the answer was handed over.

    >>> _spent([1.0, 1.5, 3.5, 3.75])
    {'seconds': 2.75, 'arriving': 0.5, 'answering': 2.0, 'replying': 0.25}
    """
    names = ("arriving", "answering", "replying")
    parts = {n: round(b - a, 3) for n, a, b in zip(names, moments_s, moments_s[1:], strict=False)}
    return {"seconds": round(moments_s[-1] - moments_s[0], 3), **parts}
