"""Models that hospitals handed to the coordinator: a store like a hospital's, signed by it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import numpy as np

from learning.artefact import save
from learning.finished import card_of, find_model, stated
from learning.importance import importance
from learning.pooled_statistics import Statistics
from learning.tables import table_one
from learning.task import FloatVector, Metric, load_task
from privacy.plan import DpPlan
from protocol.errors import InputError
from protocol.jobs import Job
from protocol.signing import SigningKey
from server.launch import Outcome


def store_model(
    store: Path, job: Job, outcome: Outcome, key: SigningKey, now: datetime
) -> Path | None:
    """Keep a completed job's model, once; None where it stayed in the hospitals.

    Guarantee: job, every policy and all hospitals agreed to hand it over, and all handed over the
    same. The card's epsilons are those that the job states: ledgers are the hospitals' own.

    Args:
        store: The coordinator's folder of models.
        job: The job.
        outcome: How it ended.
        key: The coordinator's key, which signs the model.
        now: Time of the card.

    Raises:
        InputError: The disk refuses.
        IntegrityError: The store's own records were changed.
    """
    if outcome.status != "completed" or outcome.model is None:
        return None
    if (kept := find_model(store, job)) is not None:
        return kept
    weights_P = np.frombuffer(outcome.model, dtype="<f8").astype(np.float64)
    rounds = [event.sites for event in outcome.events if event.kind == "round"]
    cohort_size = len(rounds[-1]) if rounds else len(job.sites)
    noise = _noise(job, cohort_size)
    card = card_of(
        job,
        weights_P,
        store=store,
        now=now,
        cohort_size=cohort_size,
        privacy=stated(job),
        metrics=_metrics(job, outcome, weights_P, noise),
        importance=_importance(job, weights_P),
        noise=noise,
    )
    return save(store, card, weights_P, key)


def _noise(job: Job, cohort_size: int) -> float | None:
    """Standard deviation of the noise of a table's sums, None of a model."""
    if not isinstance(load_task(job.task, job.schema), Statistics):
        return None
    return DpPlan.of(job.privacy, "train", cohort_size).noise_std(cohort_size)


def _metrics(
    job: Job, outcome: Outcome, weights_P: FloatVector, noise: float | None
) -> Mapping[str, Metric]:
    """What hospitals published of the model; of a table, what it says."""
    task = load_task(job.task, job.schema)
    if noise is None or not isinstance(task, Statistics):
        return {name: Metric(*one) for name, one in outcome.metrics.items()}
    return table_one(task, weights_P, noise).figures


def _importance(job: Job, weights_P: FloatVector) -> Mapping[str, float]:
    """What moves the model; nothing of a task that predicts nothing."""
    with suppress(InputError):
        return importance(load_task(job.task, job.schema), weights_P)
    return {}
