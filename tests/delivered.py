"""A model that three of four hospitals hold, and everything that a delivery of it needs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from client.finish import guarantee
from client.hospital import Hospital
from learning.artefact import save
from learning.card import Digests, ModelCard
from learning.task import FloatVector, Metric
from protocol.deliveries import Delivery
from protocol.jobs import Job
from protocol.tensors import weights_digest
from simulations.consortium import Consortium
from tests.consortium import make_consortium, make_job, make_request
from tests.models import card_of as invented_card
from tests.models import invented_weights

HOLDERS = ("north", "south", "east")
RECIPIENT = "west"
ROWS = 8
LET: Mapping[str, Mapping[str, Any]] = {
    **{name: {"hand_on_to": [RECIPIENT]} for name in HOLDERS},
    RECIPIENT: {"accept_models": True},
}
"""What each policy must say."""


def four(folder: Path, policies: Mapping[str, Mapping[str, Any]] = LET) -> Consortium:
    """Four hospitals whose policies let models through, or say what is given here."""
    consortium = make_consortium(folder, hospitals=4, rows=ROWS)
    for name, changes in policies.items():
        change_policy(consortium, name, **changes)
    return consortium


def change_policy(consortium: Consortium, name: str, **changes: Any) -> None:
    """Write other rules into a hospital's configuration."""
    path = consortium.folder / name / "hospital.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["policy"] |= changes
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


def job_of(consortium: Consortium, **changes: Any) -> Job:
    """A job of the first three of them."""
    return make_job(consortium, make_request(hospitals=3, rows=ROWS, **changes))


def weights_of(job: Job, seed: int = 1) -> FloatVector:
    """Weights that a job could have ended with."""
    return invented_weights(job.task, job.schema, seed)


def card_of(job: Job, weights: FloatVector, **changes: Any) -> ModelCard:
    """The card that hospitals write for a job's model."""
    made = {
        "name": job.name,
        "intended_use": job.intended_use,
        "strategy": job.strategy,
        "privacy": guarantee(job, 2),
        "metrics": {"auroc": Metric(0.8, 0.7, 0.9)},
        "digests": Digests(
            job=job.digest, roster=job.roster, layout=job.layout, weights=weights_digest(weights)
        ),
    }
    return invented_card(job.task, job.schema, weights, **{**made, **changes})


def store(hospital: Hospital, job: Job, *, seed: int = 1, **changes: Any) -> None:
    """As a finished job leaves it at a hospital."""
    weights = weights_of(job, seed)
    save(hospital.models, card_of(job, weights, **changes), weights, hospital.key)


def fill(consortium: Consortium, job: Job, names: tuple[str, ...] = HOLDERS) -> None:
    """Let hospitals hold the job's model."""
    with ExitStack() as stack:
        for name in names:
            store(stack.enter_context(consortium.open(name)), job)


def delivery_of(consortium: Consortium, job: Job, **changes: Any) -> Delivery:
    """The delivery that `fedward server deliver` would sign now."""
    now = datetime.now(UTC)
    delivery = Delivery(
        version=1,
        name=job.name,
        nonce="0" * 32,
        created=now.isoformat(timespec="seconds"),
        expires=(now + timedelta(hours=1)).isoformat(timespec="seconds"),
        coordinator=consortium.coordinator.fingerprint,
        roster=consortium.roster.digest,
        job=job.digest,
        holders=HOLDERS,
        recipients=(RECIPIENT,),
        timeout_s=5,
    )
    return replace(delivery, **changes)
