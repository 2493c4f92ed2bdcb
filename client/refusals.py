"""Refusals in the journal, as many as an administrator would read.

Whoever can send messages can be refused as often as they like. Were each refusal a line of its own,
a hostile or broken coordinator could fill the hospital's disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

from protocol.errors import Code
from protocol.journal import Journal

PER_HOUR = 100
_HOUR = timedelta(hours=1)


class Ration:
    """How often something may happen within an hour.

    Args:
        most: So often.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._times: deque[datetime] = deque()

    def used_up(self, now: datetime) -> bool:
        """Whether it may not happen now."""
        while self._times and now - self._times[0] >= _HOUR:
            self._times.popleft()
        return len(self._times) >= self._most

    def take(self, now: datetime) -> None:
        """Count that it happens."""
        self._times.append(now)


class Refusals:
    """Writes refusals down; beyond `PER_HOUR` it counts them, and the next line tells the count.

    Args:
        journal: Where they are written.
        clock: Present time.
    """

    def __init__(self, journal: Journal, clock: Callable[[], datetime]) -> None:
        self._journal = journal
        self._clock = clock
        self._ration = Ration(PER_HOUR)
        self._unwritten = 0

    def note(self, job: str, code: Code, reason: str, *, bundle: str = "") -> None:
        """Write a refusal down, or count it.

        Args:
            job: Digest of the job, empty where that is not known.
            code: What the coordinator learns.
            reason: What it does not.
            bundle: SHA-256 of what came in place of a job, under which the coordinator's SuperLink
                keeps it.

        Raises:
            FedwardError: As `protocol.journal.Journal.append` does.
        """
        now = self._clock()
        if self._ration.used_up(now):
            self._unwritten += 1
            return
        fields: dict[str, str | int] = {"job": job, "code": str(code), "reason": reason}
        if bundle:
            fields["bundle"] = bundle
        if self._unwritten:
            fields["unwritten"] = self._unwritten
        self._journal.append("refused", fields)
        self._ration.take(now)
        self._unwritten = 0
