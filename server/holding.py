"""What the coordinator holds of a job between two commands: public keys, ciphertexts, signatures.

Nothing in it opens anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from protocol.cohort import Cohort
from protocol.cohort import Member as CohortMember
from protocol.errors import IntegrityError
from protocol.jobs import Job
from protocol.messages import Place
from server.checkpoint import Checkpoint, Finished, Pending, Seat
from server.launch import Metrics
from server.terms import State


class Holding:
    """One job's enrolled hospitals, present epoch, sums on their way, and what was published.

    Args:
        job: The job.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self.sites: dict[str, Seat] = {}
        self.cohort: Cohort | None = None
        self.bundles: dict[str, bytes] = {}
        self.snapshots: dict[str, bytes] = {}
        self.snapshot_sender = ""
        self.attestations: dict[str, bytes] = {}
        self.pending: dict[tuple[int, str], Pending] = {}
        self.metrics: Metrics = {}
        self.weights_tag = ""
        self.model: bytes | None = None
        self.finished = Finished()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over what another process held."""
        self.sites = dict(checkpoint.sites)
        self.cohort = None if checkpoint.cohort is None else Cohort.from_bytes(checkpoint.cohort)
        self.keep(checkpoint.pending)
        self.metrics = checkpoint.metrics
        self.weights_tag = checkpoint.weights_tag
        self.model = checkpoint.model
        self.finished = checkpoint.finished

    def checkpoint(self, state: State) -> Checkpoint:
        """What a fresh process needs to go on from a state."""
        return Checkpoint(
            state=state,
            sites=self.sites,
            cohort=None if self.cohort is None else self.cohort.to_bytes(),
            pending=tuple(self.pending.values()),
            metrics=self.metrics,
            weights_tag=self.weights_tag,
            model=self.model,
            finished=self.finished,
        )

    def keep(self, sums: Iterable[Pending]) -> None:
        """Hold these sums, too."""
        self.pending.update({(one.attempt, one.purpose): one for one in sums})

    def prune(self, state: State) -> None:
        """Let go of the sums that a state does not send any more."""
        wanted = {(state.total_attempt, "update"), (state.counts_attempt, "evaluation")}
        self.pending = {place: one for place, one in self.pending.items() if place in wanted}

    def begin_epoch(self, epoch: int, members: tuple[str, ...]) -> None:
        """Make the cohort document; what belonged to the epoch before is gone."""
        self.cohort = Cohort.assemble(
            job=self._job.digest,
            roster=self._job.roster,
            epoch=epoch,
            members=[CohortMember.from_bytes(self.sites[site].member) for site in members],
        )
        self.bundles = {}
        self.snapshots = {}
        self.attestations = {}
        self.pending = {}
        self.finished = Finished()

    @property
    def present(self) -> Cohort:
        """The present cohort.

        Raises:
            IntegrityError: No epoch has begun.
        """
        if self.cohort is None:
            raise IntegrityError("an exchange without a cohort")
        return self.cohort

    def place(self, attempt: int) -> Place:
        """Where a message of the present epoch belongs."""
        if self.cohort is None:
            return Place(job=self._job.digest)
        return Place(
            job=self._job.digest,
            epoch=self.cohort.epoch,
            attempt=attempt,
            cohort=self.cohort.digest,
        )
