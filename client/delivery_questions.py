"""What a node asks of a delivery: pure functions of document, policy, roster and time.

Each yields a reason for every answer that is no, the first of which counts; see `client.questions`
for the same about jobs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from client.policy import Policy
from learning.card import ModelCard
from protocol.deliveries import VERSION, Delivery, quorum_of
from protocol.errors import Code, RefusalError
from protocol.jobs import Job, Mode


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a hospital stands that is asked to hand a model on, or to take one.

    Args:
        name: Its name in the roster.
        coordinator: Fingerprint of the coordinator that signed the pinned roster.
        roster: Digest of that roster.
        members: Name to fingerprint of the hospitals that its administrator confirmed.
        policy: Its policy.
        now: Present time, with a time zone.
    """

    name: str
    coordinator: str
    roster: str
    members: Mapping[str, str]
    policy: Policy
    now: datetime


def asked_of_origin(delivery: Delivery, here: Place) -> Iterator[RefusalError]:
    """Version, coordinator, roster, expiry, and whether it asks this hospital at all."""
    if delivery.version != VERSION:
        yield RefusalError(
            Code.VERSION,
            "delivery version",
            expected=str(VERSION),
            found=str(delivery.version),
            remedy="install the same release of fedward as the coordinator",
        )
    if delivery.coordinator != here.coordinator:
        yield RefusalError(
            Code.SIGNATURE, "the delivery names another coordinator than the pinned roster"
        )
    if delivery.roster != here.roster:
        yield RefusalError(
            Code.ROSTER,
            "the delivery is for another roster than the one pinned here",
            expected=here.roster,
            found=delivery.roster,
            remedy="pin the coordinator's newest one: fedward client trust ROSTER",
        )
    if here.name not in (*delivery.holders, *delivery.recipients):
        yield RefusalError(Code.ROSTER, f"the delivery does not ask {here.name}")
    if here.now >= delivery.ends:
        yield RefusalError(Code.EXPIRED, "the delivery has expired", found=delivery.expires)
    allowed = here.policy.coordinators
    if allowed is not None and delivery.coordinator not in allowed:
        yield RefusalError(
            Code.POLICY,
            f"coordinator {delivery.coordinator} is not allowed",
            remedy="name it under policy.coordinators in hospital.yaml, or leave it so",
        )


def asked_of_holder(delivery: Delivery, here: Place) -> Iterator[RefusalError]:
    """Whether models may go to all these recipients, whatever is in the store.

    A recipient that is not allowed refuses the whole delivery: nothing is handed on by halves.
    """
    for name in delivery.recipients:
        if name not in here.policy.hand_on_to:
            yield RefusalError(
                Code.POLICY,
                f"models may not be handed on to {name}",
                remedy=f"name {name} under policy.hand_on_to in hospital.yaml, or leave it so",
            )
        if name not in here.members:
            yield _unconfirmed(name)


def asked_of_model(card: ModelCard) -> Iterator[RefusalError]:
    """Whether this hospital can vouch for a model in its store."""
    yield from asked_of_mode(card.privacy.mode)
    if card.handed_on_by:
        # Its word would rest on theirs: two that collude would count as three.
        yield RefusalError(
            Code.SESSION,
            f"model {card.label} was itself handed on, by {', '.join(card.handed_on_by)}",
            expected="one that this hospital finished",
        )


def asked_of_mode(mode: Mode) -> Iterator[RefusalError]:
    """Whether a model that was trained in this mode is handed on at all."""
    if mode == "none":
        yield RefusalError(
            Code.POLICY,
            "a model of mode 'none' is not handed on: nothing bounds what it tells of a patient",
            remedy="train one in mode 'distributed' or 'local'",
        )


def asked_of_recipient(delivery: Delivery, job: Job, here: Place) -> Iterator[RefusalError]:
    """Whether this model may come in, and whether enough could vouch for it."""
    if (job.digest, job.name) != (delivery.job, delivery.name):
        yield RefusalError(Code.SIGNATURE, "the delivery came with another job than it names")
    if not here.policy.accept_models:
        yield RefusalError(
            Code.POLICY,
            "models of others are not accepted",
            remedy="say accept_models: true under policy in hospital.yaml, or leave it so",
        )
    if job.task.name not in here.policy.tasks:
        yield RefusalError(
            Code.POLICY,
            f"task {job.task.name!r} is not allowed",
            remedy="name it under policy.tasks in hospital.yaml, or leave it so",
        )
    yield from asked_of_mode(job.privacy.mode)
    needed, there = needed_of(job, here.policy), len(vouchers(delivery, job, here.members))
    if there < needed:
        yield RefusalError(
            Code.COHORT,
            "too few hospitals could vouch for the model",
            expected=f"{needed} that the job asked, this one confirmed and the delivery asks",
            found=str(there),
            remedy="confirm more of them: fedward client trust; or ask for more holders",
        )


def needed_of(job: Job, policy: Policy) -> int:
    """How many holders must say the same before this hospital believes them.

    The job says how many may collude, and the coordinator could have signed one that says too few:
    a policy that assumes more stands.
    """
    return max(quorum_of(job), policy.min_colluding_sites + 1)


def vouchers(delivery: Delivery, job: Job, members: Mapping[str, str]) -> tuple[str, ...]:
    """Holders whose word counts: asked in this delivery, asked by the job, confirmed here."""
    trained = {site.name for site in job.sites}
    return tuple(one for one in delivery.holders if one in trained and one in members)


def require(reasons: Iterator[RefusalError]) -> None:
    """Raise the first reason, if there is one."""
    for reason in reasons:
        raise reason


def _unconfirmed(name: str) -> RefusalError:
    return RefusalError(
        Code.ROSTER,
        f"hospital {name!r} is not confirmed here",
        remedy="compare its fingerprint with the hospital, then confirm: fedward client trust",
    )
