"""What the answers to one attempt bring: contributions to sums, and words that must agree.

A contribution is added when it comes and not kept. Before anything of an answer is added, all of it
is held against the sizes that the job states; what only the keyless child can find out, it finds
before it adds, one contribution at a time. So an answer can be half in: its counts, which are added
first, without its update. Where all must be in a sum, the attempt is void then. Elsewhere each sum
names its own contributors, and the hospital is left out afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from protocol.errors import Code, IntegrityError
from protocol.messages import Stepped
from protocol.signing import SIGNATURE_BYTES
from server.checkpoint import Pending
from server.launch import Metrics
from server.sums import Collector
from server.terms import Answer

T = TypeVar("T")


class Harvest:
    """Takes one attempt's answers as they come.

    Args:
        collectors: A sum for each purpose that the attempt asks for.
    """

    def __init__(self, collectors: Mapping[str, Collector]) -> None:
        self._collectors = collectors
        self._contributors: dict[str, list[str]] = {purpose: [] for purpose in collectors}
        self._metrics: list[Metrics] = []
        self._models: set[bytes | None] = set()
        self.confirmations: dict[str, bytes] = {}

    def take(self, site: str, body: Stepped) -> Answer:
        """Add what a hospital released.

        Raises:
            IntegrityError: It is not what the job's parameters describe.
        """
        payloads = {"update": body.update, "evaluation": body.counts}
        if any(payloads[purpose] is None for purpose in self._collectors):
            return Answer(code=Code.FAILED)
        if len(body.confirmation or bytes(SIGNATURE_BYTES)) != SIGNATURE_BYTES:
            return Answer(code=Code.FAILED)
        for purpose, collector in self._collectors.items():
            collector.check(site, payloads[purpose] or b"")
        for purpose, collector in self._collectors.items():
            if not collector.lost:
                collector.add(site, payloads[purpose] or b"")
                # At once: it is in this sum even if what comes with it does not fit into the next.
                self._contributors[purpose].append(site)
        self._metrics.append(body.metrics)
        # A set: all hand over the same, which is then held once.
        self._models.add(body.model)
        if body.confirmation is not None:
            self.confirmations[site] = body.confirmation
        return Answer(key=body.weights_tag)

    @property
    def metrics(self) -> Metrics:
        """Pooled metrics, which every hospital computes from the same sum; none if they differ."""
        return _agreed(self._metrics) or {}

    @property
    def model(self) -> bytes | None:
        """The finished weights; None if two hospitals hand over different ones."""
        return _agreed(tuple(self._models))

    def results(
        self, members: Sequence[str], *, attempt: int, masked: bool
    ) -> tuple[Pending, ...] | None:
        """The sums; None where one is lost.

        Args:
            attempt: The attempt that they are of.
            members: The cohort, in the order of the job.
            masked: Whether only the sum of everybody's contributions means anything.
        """
        found = []
        try:
            for purpose, collector in self._collectors.items():
                came = tuple(site for site in members if site in self._contributors[purpose])
                if collector.lost:
                    return None
                if came and (came == tuple(members) or not masked):
                    found.append(
                        Pending(
                            attempt=attempt,
                            purpose=purpose,
                            contributors=came,
                            total=collector.result(),
                        )
                    )
        except IntegrityError:
            return None
        return tuple(found)

    def close(self) -> None:
        """Free the memory of the sums."""
        for collector in self._collectors.values():
            collector.close()


def _agreed(values: Sequence[T]) -> T | None:
    """What all say, None where they differ or nobody says anything."""
    return values[0] if values and all(value == values[0] for value in values) else None
