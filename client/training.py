"""Where what is learnt and what is protected meet: records in, integers for the sum out.

Every number that this module hands on is a bounded integer. In mode `distributed` it carries this
hospital's share of the noise, in mode `local` the whole noise; in mode `none` it carries none, and
only encryption and masks stand between it and the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.admission import Admitted
from learning.subgroups import beside
from learning.task import Metric, Records
from learning.trainer import train
from privacy.engine import Engine
from privacy.grid import Quantiser, release
from privacy.guards import run_guards
from privacy.noise import Entropy, poisson_sample
from privacy.plan import DpPlan
from protocol.jobs import Job
from strategies.base import FloatVector, State, Total, summing

IntVector = npt.NDArray[np.int64]
_GUARDED: deque[str] = deque(maxlen=16)
"""Digests of the last jobs that passed here: the guards' invented records are always the same."""
MAX_BATCH = 4096
MAX_GRADIENTS = 1 << 25
"""Float64 values of per-record gradients that are held at once: 256 MiB."""


@dataclass(frozen=True, kw_only=True)
class Local:
    """What one hospital trains with in one attempt.

    Args:
        admitted: The job and what it names.
        site: This hospital's name.
        plan: Noise and bounds for the present cohort.
        records: Training records.
        entropy: Where sampling, rounding and noise draw from.
    """

    admitted: Admitted
    site: str
    plan: DpPlan
    records: Records
    entropy: Entropy

    @property
    def job(self) -> Job:
        """The job."""
        return self.admitted.job


def check_guards(admitted: Admitted) -> None:
    """Try the known holes on invented records before anything is trained privately.

    Raises:
        InputError: Names the hole.
    """
    job, task = admitted.job, admitted.task
    if (
        job.digest in _GUARDED
        or job.privacy.mode == "none"
        or admitted.strategy.contribution == "statistics"
    ):
        return
    run_guards(
        task.model, task.loss, task.generate, clip=job.privacy.update.clip, unit=job.privacy.unit
    )
    _GUARDED.append(job.digest)


def quantiser(job: Job) -> Quantiser:
    """The public grid of updates in modes `local` and `none`."""
    return Quantiser(job.encryption.digit_bits, job.encryption.digit_bound)


def folded_weight(job: Job, site: str) -> float:
    """This hospital's weight in an average of updates, at most 1, from declared sizes."""
    return job.site(site).train_size / max(one.train_size for one in job.sites)


def contribution(local: Local, state: State) -> IntVector:
    """This hospital's integers for the round's sum.

    Guarantee: in mode `distributed` the sum over a cohort, and in mode `local` each contribution,
    is what `local.plan` says in privacy: clipped per unit, summed, clamped, rounded with coins
    independent of the data, noised, in this order.
    """
    kind = local.admitted.strategy.contribution
    if kind == "update":
        return quantiser(local.job).to_digits(
            local_update(local, state), folded_weight(local.job, local.site), local.entropy
        )
    total = _gradient_sum(local, state.weights) if kind == "gradient" else statistics_sum(local)
    return release(total, local.plan.release, local.plan.share, local.entropy)


def local_update(local: Local, state: State) -> FloatVector:
    """New weights minus the round's first, after the job's local steps; P float64 values.

    Guarantee: in mode `local` every gradient is noised before it is used, so the update is
    post-processing of private sums.
    """
    training, task = local.job.training, local.admitted.task

    def private_mean(_: Records, weights: FloatVector, __: int) -> FloatVector:
        return _private_mean(local, weights)

    weights = train(
        task,
        local.records,
        state.weights,
        steps=training.local_steps,
        learning_rate=training.learning_rate,
        l2=training.l2,
        proximal=training.proximal,
        gradient=None if local.plan.mode == "none" else private_mean,
    )
    return weights - state.weights


def total_of(job: Job, values: IntVector, contributors: Sequence[str], kind: str) -> Total:
    """What the decrypted sum of these hospitals' integers means to the strategy.

    Args:
        job: The job.
        values: The sum, one integer per coordinate.
        contributors: Whose contributions are in it.
        kind: The strategy's kind of contribution.
    """
    if kind == "update":
        sums = quantiser(job).from_digits(values)
        return Total(sums, total_weight(job, contributors, kind))
    return Total(values / job.privacy.update.scale, total_weight(job, contributors, kind))


def total_weight(job: Job, contributors: Sequence[str], kind: str) -> float:
    """The public divisor of a sum of these hospitals' contributions."""
    if kind == "update":
        return sum(folded_weight(job, site) for site in contributors)
    declared = sum(job.site(site).train_size for site in contributors)
    return job.privacy.update.sampling_rate * declared


def evaluation_counts(local: Local, weights: FloatVector) -> IntVector:
    """This hospital's noised counts of the model on `local.records` (held-out patients)."""
    return release(
        plain_counts(local, weights), local.plan.release, local.plan.share, local.entropy
    )


def plain_counts(local: Local, weights: FloatVector) -> FloatVector:
    """The same counts without noise; they stay here, or leave in clear runs on public data."""
    task, records = local.admitted.task, local.records
    probs_NC = task.predict(weights, records.x_NF)
    seen_NC = beside(task.schema, probs_NC, records.x_NF)
    return task.evaluation.counts(seen_NC, records.y_N, records.patient_N)


def pooled_metrics(
    admitted: Admitted, plan: DpPlan, counts: FloatVector, contributors: int
) -> dict[str, Metric]:
    """Metrics of the pooled counts, their intervals widened by the noise of all contributors."""
    return admitted.task.evaluation.metrics(counts, plan.noise_std(contributors))


def _gradient_sum(local: Local, weights: FloatVector) -> FloatVector:
    task, records = local.admitted.task, local.records
    engine = Engine(
        task.model(),
        task.loss,
        clip=local.plan.release.clip,
        unit=local.job.privacy.unit,
        clipping="auto",
        max_batch=max(1, min(MAX_BATCH, MAX_GRADIENTS // len(weights))),
    )
    engine.load(weights)
    return engine.clipped_sum(
        records.x_NF, records.y_N, patient=records.patient_N, mask=_sample(local)
    )


def _sample(local: Local) -> npt.NDArray[np.bool_] | None:
    """Which records are in this step: whole units by independent coins, all at rate 1."""
    rate = local.plan.release.sampling_rate
    if rate >= 1:
        return None
    units, unit_N = np.unique(local.records.patient_N, return_inverse=True)
    return poisson_sample(len(units), rate, local.entropy)[unit_N]


def _private_mean(local: Local, weights: FloatVector) -> FloatVector:
    numbers = local.plan.release
    noised = release(_gradient_sum(local, weights), numbers, local.plan.share, local.entropy)
    declared = local.job.site(local.site).train_size
    return noised / (numbers.scale * numbers.sampling_rate * declared)


def statistics_sum(local: Local) -> FloatVector:
    """This hospital's sum of its units' statistics, without noise; see `plain_counts`.

    Raises:
        TypeError: The strategy asks for something else.
    """
    strategy = summing(local.admitted.strategy)
    if strategy is None:
        raise TypeError("the strategy asks for no statistics")
    return strategy.sums(local.admitted.task, local.records, local.job.privacy.unit)
