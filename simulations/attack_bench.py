"""One consortium under one defence, and everything that a round of it leaves with anybody.

Hospitals contribute through `client.training`, `privacy.grid` and `privacy.channel`; their sums are
added and stepped as in a job. What differs is that the defence can be taken away, and that what
each party holds is kept, for an attacker to be given exactly what it would have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from client.admission import Admitted
from client.training import Local, contribution, folded_weight, local_update, total_of
from learning.task import Records, Task
from privacy import cohort_keys
from privacy.channel import Channel
from privacy.envelope import EpochKeys, weights_tag
from privacy.he.parameters import num_words
from privacy.he.sum import CiphertextSum
from privacy.he.words import framed_size
from privacy.keys import Ephemeral
from privacy.noise import Entropy
from privacy.plan import DpPlan
from protocol.cohort import Cohort
from protocol.jobs import Job, Packing
from protocol.signing import SigningKey
from simulations.attack_jobs import Defence
from strategies.base import FloatVector, State, Strategy, Total, strategy_of

IntVector = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Keys:
    """What the hospitals of an encrypted job hold and the coordinator does not.

    Args:
        cohort: The cohort document, which is public.
        ephemeral: Each hospital's own keys.
        epoch: The epoch's keys, which every hospital has.
    """

    cohort: Cohort
    ephemeral: Mapping[str, Ephemeral]
    epoch: EpochKeys

    @classmethod
    def make(cls, job: Job, names: tuple[str, ...]) -> Keys:
        """Fresh keys of a new cohort."""
        ephemeral = {name: Ephemeral.generate() for name in names}
        members = [
            keys.member(name=name, job=job.digest, roster=job.roster, key=SigningKey.generate())
            for name, keys in ephemeral.items()
        ]
        cohort = Cohort.assemble(job=job.digest, roster=job.roster, epoch=1, members=members)
        return cls(cohort, ephemeral, cohort_keys.make(job.encryption))


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One round: what everybody holds after it.

    Args:
        bench: The consortium.
        state: The model that the round started from.
        attempt: The round's number.
        own: Each hospital's integers before encryption, known to that hospital alone; in clear
            runs there are none.
        sent: What each hospital sent to the coordinator.
        returned: The sum as the coordinator sends it back.
    """

    bench: Bench
    state: State
    attempt: int
    own: Mapping[str, IntVector]
    sent: Mapping[str, bytes]
    returned: bytes

    def reveal(self) -> IntVector:
        """The sum of all integers, as any hospital decrypts and checks it.

        Raises:
            IntegrityError: The sum was changed.
        """
        names = self.bench.names
        channel = self.channel(names[0])
        return channel.reveal(self.returned, self.bench.length, names)

    def channel(self, site: str) -> Channel:
        """The channel of one hospital in this round."""
        return self.bench.channel(site, self.state, self.attempt)

    def after(self) -> State:
        """The next model, as every hospital computes it."""
        bench = self.bench
        if bench.defence.encrypted:
            total = bench.total(self.reveal(), bench.names)
        else:
            total = bench.total_in_clear(self.returned, bench.names)
        return bench.strategy.step(self.state, total)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The hospitals of one job with their records.

    Args:
        defence: What protects them.
        job: The job.
        task: The job's task.
        records: Each hospital's training records.
        entropy: Where noise and coins come from.
        attempts: Numbers of the rounds: keys serve one attempt once.
    """

    defence: Defence
    job: Job
    task: Task
    records: Mapping[str, Records]
    entropy: Entropy
    attempts: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def names(self) -> tuple[str, ...]:
        """The hospitals."""
        return tuple(self.records)

    @property
    def length(self) -> int:
        """S, integers of one contribution."""
        return self.job.privacy.update.length

    @cached_property
    def strategy(self) -> Strategy:
        """The job's strategy."""
        return strategy_of(self.job, self.task.layout().size)

    @cached_property
    def keys(self) -> Keys:
        """The cohort's keys."""
        return Keys.make(self.job, self.names)

    @property
    def packing(self) -> Packing:
        """Encryption parameters of updates."""
        packing = self.job.encryption.update
        if packing is None:
            raise TypeError("only encrypted jobs have parameters of encryption")
        return packing

    @property
    def framed(self) -> int:
        """Words of one encrypted contribution."""
        return framed_size(num_words(self.length, self.packing), len(self.names))

    def start(self) -> State:
        """The model that hospitals build themselves."""
        return self.strategy.init(self.task.initial(self.job.training.seed))

    def rounds(self, count: int) -> State:
        """The model after so many rounds."""
        state = self.start()
        for _ in range(count):
            state = self.exchange(state).after()
        return state

    def exchange(self, state: State) -> Exchange:
        """One round from a model on, whosever model it is."""
        attempt = next(self.attempts)
        if self.defence.clear:
            own: dict[str, IntVector] = {}
            plain = {name: self._plain(name, state) for name in self.names}
            sent, returned = _in_the_open(plain)
        else:
            own = {name: contribution(self._local(name), state) for name in self.names}
            sent, returned = (
                self._encrypted(own, state, attempt)
                if self.defence.encrypted
                else _in_the_open(own)
            )
        return Exchange(
            bench=self, state=state, attempt=attempt, own=own, sent=sent, returned=returned
        )

    def _encrypted(
        self, own: Mapping[str, IntVector], state: State, attempt: int
    ) -> tuple[dict[str, bytes], bytes]:
        total = CiphertextSum(self.packing, self.framed)
        sent = {
            name: self.channel(name, state, attempt).protect(values) for name, values in own.items()
        }
        for name, payload in sent.items():
            total.add(payload, sender=name)
        return sent, total.residues()

    def channel(self, site: str, state: State, attempt: int) -> Channel:
        """One hospital's way to encrypt and decrypt updates."""
        keys = self.keys
        return Channel(
            packing=self.packing,
            cohort=keys.cohort,
            site=site,
            ephemeral=keys.ephemeral[site],
            keys=keys.epoch,
            masked=self.job.masked,
            attempt=attempt,
            purpose="update",
            weights_tag=weights_tag(keys.epoch.data, state.weights, *state.moments),
        )

    def total(self, values: IntVector, contributors: tuple[str, ...]) -> Total:
        """What integers mean to the strategy."""
        return total_of(self.job, values, contributors, self.strategy.contribution)

    def total_in_clear(self, data: bytes, contributors: tuple[str, ...]) -> Total:
        """What a readable message means to the strategy."""
        if not self.defence.clear:
            return self.total(np.frombuffer(data, dtype=np.int64), contributors)
        weight = sum(folded_weight(self.job, name) for name in contributors)
        return Total(np.frombuffer(data, dtype=np.float64), weight)

    def with_records(self, records: Mapping[str, Records]) -> Bench:
        """The same job over other records, with keys of its own."""
        return replace(self, records=records, attempts=count(1))

    def _local(self, site: str) -> Local:
        return Local(
            admitted=Admitted(self.job, self.task, self.strategy),
            site=site,
            plan=DpPlan.of(self.job.privacy, "train", len(self.names)),
            records=self.records[site],
            entropy=self.entropy,
        )

    def _plain(self, site: str, state: State) -> FloatVector:
        """As `client.release` sends it in unencrypted research runs."""
        return folded_weight(self.job, site) * local_update(self._local(site), state)


def _in_the_open(vectors: Mapping[str, npt.NDArray[Any]]) -> tuple[dict[str, bytes], bytes]:
    """What hospitals send and get back where nothing is encrypted."""
    sent = {name: vector.tobytes() for name, vector in vectors.items()}
    return sent, np.sum(list(vectors.values()), axis=0).tobytes()
