"""Sums over a cohort as they arrive: ciphertext in a keyless child, or plain in clear runs."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

import numpy as np

from learning.task import load_task
from privacy.he.parameters import num_words
from privacy.he.sum import RemoteSum, SumProcess
from privacy.he.words import framed_size
from protocol.errors import IntegrityError
from protocol.jobs import Job
from protocol.tensors import FloatVector
from strategies.base import CLEAR_PREFIX, strategy_of
from strategies.clear import FlowerStrategy


class Collector(Protocol):
    """Takes one release of every member of a cohort and gives what goes back to all of them."""

    def check(self, site: str, payload: bytes) -> None:
        """Look at a release without adding it.

        Raises:
            IntegrityError: It has another size than the job's parameters say.
        """

    def add(self, site: str, payload: bytes) -> None:
        """Take a site's release.

        Raises:
            IntegrityError: It is not what the job's parameters describe; nothing of it is added.
        """

    def result(self) -> bytes:
        """What every member receives.

        Raises:
            IntegrityError: The sum is lost.
        """

    @property
    def lost(self) -> bool:
        """Whether the sum is lost, through nobody's fault who comes now."""

    def close(self) -> None:
        """Free the memory of the sum."""


class EncryptedCollector:
    """Adds ciphertexts in a process that holds no key and parses nothing else."""

    def __init__(self, total: RemoteSum) -> None:
        self._total = total

    def check(self, site: str, payload: bytes) -> None:
        """See Collector."""
        self._total.check(payload, sender=site)

    def add(self, site: str, payload: bytes) -> None:
        """See Collector."""
        self._total.add(payload, sender=site)

    def result(self) -> bytes:
        """See Collector."""
        return self._total.residues()

    @property
    def lost(self) -> bool:
        """See Collector."""
        return self._total.lost

    def close(self) -> None:
        """See Collector; where the child has ended, its memory is free."""
        with suppress(IntegrityError):
            self._total.close()


class ClearCollector:
    """Adds plain vectors in the order of the sites' names, so that the sum has one value."""

    def __init__(self, length: int) -> None:
        self._length = length
        self.vectors: dict[str, FloatVector] = {}

    def check(self, site: str, payload: bytes) -> None:
        """See Collector."""
        if len(payload) != 8 * self._length:
            raise IntegrityError(f"plain release of {site}", expected=f"{self._length} float64")

    def add(self, site: str, payload: bytes) -> None:
        """See Collector."""
        self.check(site, payload)
        vector = np.frombuffer(payload, dtype="<f8").astype(np.float64)
        if not np.isfinite(vector).all():
            raise IntegrityError(f"plain release of {site}", expected="finite numbers")
        self.vectors[site] = vector

    def result(self) -> bytes:
        """See Collector."""
        total = np.zeros(self._length)
        for site in sorted(self.vectors):
            total = total + self.vectors[site]
        return total.tobytes()

    @property
    def lost(self) -> bool:
        """See Collector."""
        return False

    def close(self) -> None:
        """See Collector."""
        self.vectors = {}


class Sums:
    """Makes the collectors of one job.

    Args:
        job: The job.
        process: The keyless child, None in clear runs.
    """

    def __init__(self, job: Job, process: SumProcess | None) -> None:
        self._job = job
        self._process = process
        clear = job.encryption.scheme == "none" and job.strategy.name.startswith(CLEAR_PREFIX)
        self._flower = _FlowerRun(job) if clear else None

    @property
    def resumable(self) -> bool:
        """Whether another process can go on; Flower's strategies keep their state in this one."""
        return self._flower is None

    def collector(self, purpose: str, *, cohort_size: int) -> Collector:
        """A new sum of one purpose over a cohort of this size."""
        privacy, encryption = self._job.privacy, self._job.encryption
        release = privacy.update if purpose == "update" else privacy.evaluation
        packing = encryption.update if purpose == "update" else encryption.evaluation
        if release is None:
            raise IntegrityError(f"the job releases no {purpose}")
        if packing is None or self._process is None:
            if purpose == "update" and self._flower is not None:
                return self._flower.collector()
            return ClearCollector(release.length)
        words = framed_size(num_words(release.length, packing), cohort_size)
        return EncryptedCollector(self._process.sum(packing, words))


class _FlowerRun:
    """One of Flower's strategies and the weights that it acts on, over a clear run's rounds."""

    def __init__(self, job: Job) -> None:
        task = load_task(job.task, job.schema)
        self._job = job
        self._strategy = FlowerStrategy(job.strategy.name, job.strategy.options)
        node_side = strategy_of(job, task.layout().size)
        self._weights = node_side.init(task.initial(job.training.seed)).weights
        self._largest = max(site.train_size for site in job.sites)
        self._round = 0

    def collector(self) -> Collector:
        return _FlowerCollector(self, len(self._weights))

    def aggregate(self, vectors: dict[str, FloatVector]) -> bytes:
        """The step from the present weights to Flower's, times the folded weights' sum.

        Nodes divide what they receive by that sum, as they do with every sum of updates.
        """
        self._round += 1
        factors = {s: self._job.site(s).train_size / self._largest for s in vectors}
        updates = {
            site: (vector / factors[site], float(self._job.site(site).train_size))
            for site, vector in vectors.items()
        }
        chosen = self._strategy.aggregate(self._round, updates, self._weights)
        total = (chosen - self._weights) * sum(factors[site] for site in factors)
        self._weights = chosen
        return total.tobytes()


class _FlowerCollector(ClearCollector):
    def __init__(self, run: _FlowerRun, length: int) -> None:
        super().__init__(length)
        self._run = run

    def result(self) -> bytes:
        return self._run.aggregate(self.vectors)
