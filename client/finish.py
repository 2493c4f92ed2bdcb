"""The end of a job at a hospital: the model and its card go into the store."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from client.hospital import Hospital
from client.release import Releaser
from client.session import Session
from learning.artefact import save, verify, versions
from learning.card import Digests, Guarantee, ModelCard
from learning.importance import importance
from learning.pooled_statistics import Statistics
from learning.promotion import next_version
from learning.tables import table_one
from learning.task import FloatVector, Metric, load_task
from privacy.accounting import SLACK, Event, epsilon
from privacy.plan import DpPlan
from protocol.errors import FedwardError, InputError
from protocol.jobs import Job
from protocol.tensors import weights_digest

# The hospitals of a simulation end a job with one model, one after the other in one process.
_LAST: deque[tuple[tuple[str, str], Mapping[str, float]]] = deque(maxlen=1)


def finish(hospital: Hospital, releaser: Releaser, save_session: Callable[[Session], None]) -> None:
    """Store the model and settle the budget, once; asked again, nothing changes.

    A crash between any two steps is made good by the next finish: a model of this job that is in
    the store already is the one, and the same settlement may come again. The budget is settled
    last, so that a node which does not say that it finished can still release. The session stays
    until the job is closed: others may need its state.

    Args:
        hospital: The hospital.
        releaser: The last step, with the final weights and the pooled metrics.
        save_session: Makes the session last.
    """
    session, job = releaser.session, releaser.job
    if not session.model:
        folder = find_model(hospital.models, job) or store_model(hospital, releaser)
        hospital.journal.append("model", {"job": job.digest, "folder": folder.name})
        save_session(replace(session, model=folder.name))
    hospital.ledger.settle(job.digest, hospital.clock())
    hospital.forget()


def find_model(store: Path, job: Job) -> Path | None:
    """The folder of the model that a job made, None where there is none that holds."""
    for version in reversed(versions(store, job.name)):
        place = store / job.name / str(version)
        # A model that was damaged is the business of whoever predicts with it.
        with suppress(FedwardError):
            if verify(place).digests.job == job.digest:
                return place
    return None


def store_model(hospital: Hospital, releaser: Releaser) -> Path:
    """Write the finished model and its card into this hospital's store, signed by its node.

    Args:
        hospital: The hospital.
        releaser: The last step, with the final weights and the pooled metrics.
    """
    job, weights = releaser.job, releaser.weights
    noise = _noise(releaser)
    account = hospital.ledger.account(job.digest)
    attempts = 0 if account is None else account.least_used["update"]
    card = ModelCard(
        name=job.name,
        version=next_version(hospital.models, job.name),
        created=hospital.clock().isoformat(timespec="seconds"),
        intended_use=job.intended_use,
        task=job.task,
        schema=job.schema,
        strategy=job.strategy,
        rounds=job.training.rounds,
        cohort_size=releaser.cohort.size,
        privacy=guarantee(job, attempts),
        metrics=_metrics(releaser, noise),
        digests=Digests(
            job=job.digest,
            roster=job.roster,
            layout=job.layout,
            weights=weights_digest(weights),
        ),
        importance=importance_of(job, weights),
        noise=noise,
    )
    return save(hospital.models, card, weights, hospital.key)


def _noise(releaser: Releaser) -> float | None:
    """Standard deviation of the noise of a table's sums, None of a model."""
    if not isinstance(releaser.admitted.task, Statistics):
        return None
    size = releaser.cohort.size
    return DpPlan.of(releaser.job.privacy, "train", size).noise_std(size)


def _metrics(releaser: Releaser, noise: float | None) -> Mapping[str, Metric]:
    """Pooled metrics of held-out patients; of a table, what it says."""
    task = releaser.admitted.task
    if noise is None or not isinstance(task, Statistics):
        return {name: Metric(*one) for name, one in releaser.session.metrics.items()}
    return table_one(task, releaser.weights, noise).figures


def importance_of(job: Job, weights: FloatVector) -> Mapping[str, float]:
    """What moves the model; nothing of a task that predicts nothing."""
    model = (job.digest, weights_digest(weights))
    for last, known in _LAST:
        if last == model:
            return known
    try:
        found = importance(load_task(job.task, job.schema), weights)
    except InputError:
        found = {}
    _LAST.append((model, found))
    return found


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
