"""The end of a job at a hospital: the model and its card go into the store."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from client.hospital import Hospital
from client.release import Releaser
from learning.artefact import save, versions
from learning.card import Digests, Guarantee, ModelCard
from privacy.accounting import SLACK, Event, epsilon
from privacy.plan import DpPlan
from protocol.jobs import Job
from protocol.tensors import weights_digest


def store_model(hospital: Hospital, releaser: Releaser, attempts: int) -> Path:
    """Write the finished model and its card into this hospital's store.

    Args:
        hospital: The hospital.
        releaser: The last step, with the final weights and the pooled metrics.
        attempts: Attempts in which this hospital released an update.
    """
    job, weights = releaser.job, releaser.weights
    past = versions(hospital.models, job.name)
    card = ModelCard(
        name=job.name,
        version=max(past, default=0) + 1,
        created=hospital.clock().isoformat(timespec="seconds"),
        intended_use=job.intended_use,
        task=job.task,
        schema=job.schema,
        strategy=job.strategy,
        rounds=job.training.rounds,
        cohort_size=releaser.cohort.size,
        privacy=guarantee(job, attempts),
        metrics=releaser.metrics,
        digests=Digests(
            job=job.digest,
            roster=job.roster,
            layout=job.layout,
            weights=weights_digest(weights),
        ),
    )
    return save(hospital.models, card, weights)


def guarantee(job: Job, attempts: int) -> Guarantee:
    """What the job stated and what it came to, for the model's card."""
    privacy = job.privacy
    stated = Guarantee(mode=privacy.mode, unit=privacy.unit, delta=privacy.delta)
    if privacy.mode == "none":
        return stated
    settled, settled_worst = settled_epsilons(job, attempts)
    evaluated = privacy.evaluation is not None
    return replace(
        stated,
        epsilon=privacy.epsilon,
        epsilon_worst=privacy.epsilon_worst,
        epsilon_settled=settled,
        epsilon_settled_worst=settled_worst,
        epsilon_evaluation=privacy.epsilon_evaluation if evaluated else None,
        epsilon_evaluation_worst=privacy.epsilon_evaluation_worst if evaluated else None,
    )


def settled_epsilons(job: Job, attempts: int) -> tuple[float, float]:
    """Both epsilons of the training releases that happened, at the ledger's share of delta.

    As in the ledger, the worst case is that of the full cohort, where one hospital's share of the
    noise is smallest: some of the attempts may have had it, whoever was there at the end.
    """
    plan = DpPlan.of(job.privacy, "train", len(job.sites))
    steps = attempts * job.training.local_steps
    if steps == 0:
        return 0.0, 0.0
    delta = SLACK * job.privacy.delta
    values = [
        epsilon([Event(sigma, plan.release.sampling_rate, steps)], delta)
        for sigma in (plan.sigma_effective, plan.sigma_own)
    ]
    return (values[0], values[1]) if all(map(math.isfinite, values)) else (math.inf, math.inf)
