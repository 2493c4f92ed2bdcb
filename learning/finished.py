"""What a finished job leaves, wherever it is stored: the card of its model, and where that is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from learning.artefact import verify, versions
from learning.card import Digests, Guarantee, ModelCard
from learning.promotion import next_version
from learning.task import FloatVector, Metric
from protocol.errors import FedwardError
from protocol.jobs import Job
from protocol.tensors import weights_digest


def find_model(store: Path, job: Job) -> Path | None:
    """The folder of the model that a job made, None where there is none that holds."""
    for version in reversed(versions(store, job.name)):
        place = store / job.name / str(version)
        # A model that was damaged is the business of whoever predicts with it.
        with suppress(FedwardError):
            if verify(place).digests.job == job.digest:
                return place
    return None


def card_of(
    job: Job,
    weights_P: FloatVector,
    *,
    store: Path,
    now: datetime,
    cohort_size: int,
    privacy: Guarantee,
    metrics: Mapping[str, Metric],
    importance: Mapping[str, float],
    noise: float | None,
) -> ModelCard:
    """The card of the model that a job made, under the next version of a store.

    Args:
        job: The job.
        weights_P: The finished weights.
        store: Where the model will be.
        now: When it was finished.
        cohort_size: Hospitals that trained it.
        privacy: With which guarantee.
        metrics: Pooled metrics; of a table, what it says.
        importance: See `learning.importance`.
        noise: Of a table's sums; None of a model.
    """
    return ModelCard(
        name=job.name,
        version=next_version(store, job.name),
        created=now.isoformat(timespec="seconds"),
        intended_use=job.intended_use,
        task=job.task,
        schema=job.schema,
        strategy=job.strategy,
        rounds=job.training.rounds,
        cohort_size=cohort_size,
        privacy=privacy,
        metrics=metrics,
        digests=Digests(
            job=job.digest,
            roster=job.roster,
            layout=job.layout,
            weights=weights_digest(weights_P),
        ),
        importance=importance,
        noise=noise,
    )


def stated(job: Job) -> Guarantee:
    """The privacy that a job states, without what any hospital's ledger came to."""
    privacy = job.privacy
    found = Guarantee(mode=privacy.mode, unit=privacy.unit, delta=privacy.delta)
    if privacy.mode == "none":
        return found
    evaluated = privacy.evaluation is not None
    return replace(
        found,
        epsilon=privacy.epsilon,
        epsilon_worst=privacy.epsilon_worst,
        epsilon_evaluation=privacy.epsilon_evaluation if evaluated else None,
        epsilon_evaluation_worst=privacy.epsilon_evaluation_worst if evaluated else None,
    )
