"""One attempt at a hospital: apply the sums that came, then make and record what leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from client.admission import Admitted
from client.hospital import Hospital, Split
from client.session import Measured, Session
from client.training import (
    Local,
    contribution,
    evaluation_counts,
    folded_weight,
    local_update,
    plain_counts,
    pooled_metrics,
    statistics_sum,
    total_of,
    total_weight,
)
from learning.task import Metric
from privacy.channel import Channel
from privacy.confirmation import confirm
from privacy.envelope import weights_tag
from privacy.plan import DpPlan, Partition
from protocol.cohort import Cohort
from protocol.errors import Code, RefusalError
from protocol.jobs import Job
from protocol.messages import Step, Stepped
from protocol.tensors import weights_digest
from strategies.base import FloatVector, State, Total


class Releaser:
    """Carries one `Step` out. The caller has verified the message, the cohort and the epoch.

    Args:
        hospital: The opened hospital.
        admitted: The job and what it names.
        session: The job's session, in the message's epoch.
        attempt: The message's attempt.
        save: Makes a session last; called once, after the sums and before any release.
    """

    def __init__(
        self,
        hospital: Hospital,
        admitted: Admitted,
        session: Session,
        *,
        attempt: int,
        save: Callable[[Session], None],
    ) -> None:
        if session.cohort is None:
            raise RefusalError(Code.COHORT, "no cohort yet")
        if session.keys is None and session.job.encryption.scheme == "bfv":
            # Without them there is no tag of the weights but their plain digest, which stays here.
            raise RefusalError(Code.SESSION, "this epoch's keys are gone")
        self.hospital = hospital
        self.admitted = admitted
        self.session = session
        self.metrics: dict[str, Metric] = {}
        self.cohort: Cohort = session.cohort
        self._attempt = attempt
        self._save = save
        self._tagged: tuple[State, bytes] | None = None

    @property
    def job(self) -> Job:
        """The job."""
        return self.session.job

    @property
    def weights(self) -> FloatVector:
        """Present weights, P values."""
        return self.session.state.weights

    def step(self, body: Step) -> Stepped:
        """Apply what the message brings, release what it asks for.

        Raises:
            IntegrityError: A sum's presence words, tags or form are wrong.
            RefusalError: The message does not follow from what this node did before.
        """
        self._apply_total(body)
        self._apply_counts(body)
        self._write_ahead(body)
        counts = self._release("evaluation") if body.evaluate else None
        update = self._release("update") if body.train else None
        metrics = self._told_metrics(body) if self.job.publication.metrics else {}
        return Stepped(
            weights_tag=self._tag().hex(),
            head=self.hospital.ledger.statement(),
            metrics=metrics,
            model=self._told_model(body),
            update=update,
            counts=counts,
            confirmation=self._confirmation() if body.finish else None,
        )

    def _confirmation(self) -> bytes | None:
        """This hospital's word on the finished weights; clear runs have no key for it."""
        keys = self.session.keys
        if keys is None:
            return None
        return confirm(
            self.weights,
            self.cohort,
            attempt=self._attempt,
            data_key=keys.data,
            key=self.hospital.key,
        )

    def _told_metrics(self, body: Step) -> Measured:
        return self.session.metrics if body.finish else _triples(self.metrics)

    def _told_model(self, body: Step) -> bytes | None:
        return self.weights.tobytes() if body.finish and self.job.publication.model else None

    # -- sums that came -------------------------------------------------------------------------

    def _apply_total(self, body: Step) -> None:
        state = self.session.state
        # One decryption per attempt: as the sum of a later round it would be applied twice.
        fresh = body.total is not None and body.total_attempt > self.session.summed
        if body.total is not None and fresh and state.step == body.round - 2:
            self._check_contributors(body.total_attempt, body.contributors)
            self.session = replace(self.session, summed=body.total_attempt)
            total = self._read_total(body.total, body)
            state = self.admitted.strategy.step(state, total)
            self.session = replace(self.session, state=state)
        if state.step != body.round - 1:
            raise RefusalError(
                Code.SESSION,
                "this node's model is not the one that the round starts from",
                expected=f"{body.round - 1} rounds applied",
                found=str(state.step),
            )

    def _read_total(self, data: bytes, body: Step) -> Total:
        length = self.job.privacy.update.length
        kind = self.admitted.strategy.contribution
        if self.job.encryption.scheme == "none":
            return Total(_floats(data, length), total_weight(self.job, body.contributors, kind))
        channel = self._channel("update", body.total_attempt)
        values = channel.reveal(data, length, body.contributors)
        return total_of(self.job, values, body.contributors, kind)

    def _apply_counts(self, body: Step) -> None:
        plan = self.job.privacy.evaluation
        # Counts that were read before are not decrypted again.
        if body.counts is None or plan is None or body.counts_attempt <= self.session.counted:
            return
        self._check_contributors(body.counts_attempt, body.counts_contributors)
        if self.job.encryption.scheme == "none":
            counts = _floats(body.counts, plan.length)
        else:
            channel = self._channel("evaluation", body.counts_attempt)
            values = channel.reveal(body.counts, plan.length, body.counts_contributors)
            counts = values / plan.scale
        self.session = replace(self.session, counted=body.counts_attempt)
        self.metrics = pooled_metrics(
            self.admitted, self._plan("test"), counts, len(body.counts_contributors)
        )
        # After the last round whatever asks for no counts brings those of the finished model.
        if body.round > self.job.training.rounds and not body.evaluate:
            self.session = replace(self.session, metrics=_triples(self.metrics))

    def _check_contributors(self, attempt: int, contributors: Sequence[str]) -> None:
        """A sum must be of the last attempt, with this hospital and enough others in it."""
        names = {member.name for member in self.cohort.members}
        whole = set(contributors) == names
        allowed = set(contributors) <= names and len(contributors) >= self.job.min_sites
        if (
            attempt != self.session.attempt
            or self.hospital.name not in contributors
            or len(set(contributors)) != len(contributors)
            or not (whole or (allowed and not self.job.masked))
        ):
            raise RefusalError(Code.COHORT, "a sum of other contributions than the last attempt's")

    # -- what leaves ----------------------------------------------------------------------------

    def _write_ahead(self, body: Step) -> None:
        """Make last where this node stands and what it is about to release.

        Without noise each purpose is released once per round: the difference of two sums over
        unchanged weights would be the contribution of a hospital that was in one of them only.
        Nor may a crash between a release and its record bring a second.
        """
        asked = {"evaluation": body.evaluate, "update": body.train}
        due = {purpose: body.round for purpose, wanted in asked.items() if wanted}
        released = self.session.released
        repeated = any(released.get(purpose, 0) >= body.round for purpose in due)
        if repeated and self.job.privacy.mode == "none":
            raise RefusalError(Code.POLICY, "a second sum of the same weights without noise")
        self.session = replace(self.session, attempt=self._attempt, released={**released, **due})
        self._save(self.session)

    def _release(self, purpose: str) -> bytes:
        """Make one release and record it; its bytes exist nowhere else before that.

        Guarantee: one plaintext per (job, epoch, attempt, purpose): the ledger refuses a second.
        """
        if self.job.encryption.scheme == "none":
            data = self._clear(purpose)
        else:
            local = self._local(purpose)
            values = (
                contribution(local, self.session.state)
                if purpose == "update"
                else evaluation_counts(local, self.weights)
            )
            data = self._channel(purpose, self._attempt, self._tag()).protect(values)
        self._record(purpose, hashlib.sha256(data).hexdigest())
        return data

    def _record(self, purpose: str, digest: str) -> None:
        epoch, attempt = self.cohort.epoch, self._attempt
        self.hospital.ledger.record_release(
            job=self.job.digest, epoch=epoch, attempt=attempt, purpose=purpose, digest=digest
        )
        self.hospital.journal.append(
            "release",
            {
                "job": self.job.digest,
                "epoch": epoch,
                "attempt": attempt,
                "purpose": purpose,
                "digest": digest,
            },
        )

    def _clear(self, purpose: str) -> bytes:
        local = self._local(purpose)
        if purpose == "evaluation":
            return plain_counts(local, self.weights).tobytes()
        if self.admitted.strategy.contribution == "statistics":
            return statistics_sum(local).tobytes()
        factor = folded_weight(self.job, self.hospital.name)
        return (factor * local_update(local, self.session.state)).tobytes()

    def _local(self, purpose: str) -> Local:
        partition: Partition = "train" if purpose == "update" else "test"
        split = self._split()
        return Local(
            admitted=self.admitted,
            site=self.hospital.name,
            plan=self._plan(partition),
            records=split.train if partition == "train" else split.test,
            entropy=self.hospital.entropy(
                self.job.dataset, self.job.name, str(self._attempt), purpose
            ),
        )

    def _split(self) -> Split:
        return self.hospital.split(self.job.dataset, self.admitted.task, cache=self.job.digest)

    def _plan(self, partition: Partition) -> DpPlan:
        return DpPlan.of(self.job.privacy, partition, self.cohort.size)

    def _channel(self, purpose: str, attempt: int, tag: bytes = b"") -> Channel:
        """The way out and back; the weights' tag enters masks alone, so reading needs none."""
        encryption, keys = self.job.encryption, self.session.keys
        packing = encryption.update if purpose == "update" else encryption.evaluation
        if keys is None or packing is None:
            raise RefusalError(Code.SESSION, "this epoch's keys are gone")
        return Channel(
            packing=packing,
            cohort=self.cohort,
            site=self.hospital.name,
            ephemeral=self.session.ephemeral,
            keys=keys,
            masked=self.job.masked,
            attempt=attempt,
            purpose=purpose,
            weights_tag=tag,
        )

    def _tag(self) -> bytes:
        """The tag of the present state, computed once for each; the keys stay as they are."""
        state = self.session.state
        if self._tagged is None or self._tagged[0] is not state:
            self._tagged = state, self._tag_of(state)
        return self._tagged[1]

    def _tag_of(self, state: State) -> bytes:
        keys = self.session.keys
        if keys is None:
            return bytes.fromhex(weights_digest(state.weights))
        return weights_tag(keys.data, state.weights, *state.moments)


def _triples(metrics: Mapping[str, Metric]) -> Measured:
    return {name: (one.value, one.low, one.high) for name, one in metrics.items()}


def _floats(data: bytes, length: int) -> FloatVector:
    """A plain vector of a clear research run."""
    if len(data) != 8 * length:
        raise RefusalError(Code.INTEGRITY, "a plain sum has the wrong length")
    values = np.frombuffer(data, dtype="<f8").astype(np.float64)
    if not np.isfinite(values).all():
        raise RefusalError(Code.INTEGRITY, "a plain sum holds a value that is not finite")
    return values
