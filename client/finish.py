"""The end of a job at a hospital: the model and its card go into the store."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from client.hospital import Hospital
from client.release import Releaser
from client.session import Session
from learning.artefact import save
from learning.card import Guarantee
from learning.finished import card_of, find_model, stated
from learning.importance import importance
from learning.pooled_statistics import Statistics
from learning.tables import table_one
from learning.task import FloatVector, Metric, load_task
from privacy.accounting import SLACK, Event, epsilon
from privacy.plan import DpPlan
from protocol.errors import InputError
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
    card = card_of(
        job,
        weights,
        store=hospital.models,
        now=hospital.clock(),
        cohort_size=releaser.cohort.size,
        privacy=guarantee(job, attempts),
        metrics=_metrics(releaser, noise),
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
    found = stated(job)
    if found.mode == "none":
        return found
    settled, settled_worst = settled_epsilons(job, attempts)
    return replace(found, epsilon_settled=settled, epsilon_settled_worst=settled_worst)


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
