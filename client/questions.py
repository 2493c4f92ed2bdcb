"""What a node asks of a job before it builds a model: origin, the hospital's policy, columns.

Each function yields a reason for every answer that is no. None reads a record or a clock; what
they know of the hospital is one frozen `Situation`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from client.policy import Approval, Policy, Population
from learning.schema import Schema
from protocol.config import parse
from protocol.errors import Code, FedwardError, RefusalError
from protocol.jobs import VERSION, Job

_CHANGE = "change `policy` in hospital.yaml, or leave the job to others"


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What a hospital holds a job against; no record is behind any of it.

    Args:
        name: This hospital's name in the roster.
        roster: Digest of the roster that this hospital pinned.
        policy: This hospital's policy.
        population: The population of the job's data set here, None when there is no such set.
        columns: Columns that the data set's source declares.
        now: Present time, with a time zone; None for a job that has begun here in its time.
        coordinator: Fingerprint of the coordinator that signed the pinned roster; None where the
            caller compares it.
        members: Hospitals of the roster that were confirmed; None where the cohort is compared
            only.
        unreadable: Why the source's columns could not be read; empty where they could.
        away: Whether that is because the source went away, so that asking again later helps.
        train_size: Training patients that the hospital declared, None where it declared none.
        test_size: The same of held-out patients.
        patient: Column that the hospital declared to name the patient.
    """

    name: str
    roster: str
    policy: Policy
    population: Population | None
    columns: Collection[str]
    now: datetime | None
    coordinator: str | None = None
    members: Collection[str] | None = None
    unreadable: str = ""
    away: bool = False
    train_size: int | None = None
    test_size: int | None = None
    patient: str | None = None


def asked_of_origin(job: Job, situation: Situation) -> Iterator[RefusalError]:
    """Version, coordinator, roster, members, expiry."""
    if job.version != VERSION:
        yield RefusalError(
            Code.VERSION, "job version", expected=str(VERSION), found=str(job.version)
        )
    if situation.coordinator not in (None, job.coordinator):
        yield RefusalError(
            Code.SIGNATURE,
            "the job names another coordinator than the pinned roster",
            expected=situation.coordinator,
            found=job.coordinator,
        )
    if job.roster != situation.roster:
        yield RefusalError(
            Code.ROSTER,
            "the job is for another roster than the one pinned here",
            expected=situation.roster,
            found=job.roster,
            remedy="compare its fingerprint with the coordinator's and pin the newer one",
        )
    yield from _members(job, situation)
    if situation.now is not None:
        yield from _expiry(job, situation.now)


def _members(job: Job, situation: Situation) -> Iterator[RefusalError]:
    names = [site.name for site in job.sites]
    if situation.name not in names:
        yield RefusalError(Code.ROSTER, f"the job does not ask {situation.name} to take part")
    if situation.members is None:
        return
    # Keys would be sealed to them and masks shared with them.
    strange = [name for name in names if name not in situation.members]
    if strange:
        yield RefusalError(
            Code.ROSTER,
            f"the job asks hospitals that were not confirmed here: {', '.join(strange)}",
            remedy="compare their fingerprints with them, then confirm: fedward client trust",
        )


def _expiry(job: Job, now: datetime) -> Iterator[RefusalError]:
    end = _time(job.expires)
    if end is None:
        yield RefusalError(
            Code.EXPIRED,
            "the job's end",
            expected="an RFC 3339 time with a zone",
            found=job.expires,
        )
    elif now >= end:
        yield RefusalError(Code.EXPIRED, "the job has expired", found=job.expires)


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else None


def asked_of_policy(job: Job, situation: Situation) -> Iterator[RefusalError]:
    """Every rule of the hospital's policy."""
    policy, population = situation.policy, situation.population
    if population is None:
        yield RefusalError(
            Code.SCHEMA,
            f"there is no data set named {job.dataset!r} here",
            remedy="add it to the hospital's configuration or ask for another name",
        )
        return
    yield from _hours(policy, situation.now)
    approval = policy.approval(job.dataset)
    for problem, allowed in (
        *_what_runs(job, policy, approval),
        *_what_protects(job, policy, population),
        *_what_it_costs(job, policy, approval),
    ):
        if not allowed:
            yield RefusalError(Code.POLICY, problem, remedy=_CHANGE)


def _hours(policy: Policy, now: datetime | None) -> Iterator[RefusalError]:
    hours = policy.hours
    if hours is None or now is None or hours.covers(now):
        return
    opening = hours.opening(now)
    yield RefusalError(
        Code.POLICY,
        "outside the hours in which jobs may begin here",
        expected=str(hours),
        remedy="no hour is ever open" if opening is None else f"ask again at {opening.isoformat()}",
    )


def _what_runs(job: Job, policy: Policy, approval: Approval) -> Iterator[tuple[str, bool]]:
    task, strategy = job.task.name, job.strategy.name
    clear = job.encryption.scheme == "none"
    yield f"task {task!r} is not allowed", task in policy.tasks
    yield (
        f"task {task!r} is not allowed on data set {job.dataset!r}",
        approval.tasks is None or task in approval.tasks,
    )
    for allowed, where in (
        (policy.coordinators, ""),
        (approval.coordinators, f" on data set {job.dataset!r}"),
    ):
        yield (
            f"coordinator {job.coordinator} is not allowed{where}",
            allowed is None or job.coordinator in allowed,
        )
    yield (
        f"strategy {strategy!r} is not allowed",
        strategy in policy.strategies or (clear and strategy.startswith("flwr:")),
    )
    yield f"mode {job.privacy.mode!r} is not allowed", job.privacy.mode in policy.modes


def _what_protects(job: Job, policy: Policy, population: Population) -> Iterator[tuple[str, bool]]:
    privacy, masks = job.privacy, job.encryption.masks
    clear = job.encryption.scheme == "none"
    yield (
        "unencrypted runs need a policy that allows them and public data",
        not clear or (policy.clear_runs and population.public),
    )
    yield "masks must be on in this mode", clear or masks or privacy.mode == "local"
    yield (
        "masks must be on by this policy",
        clear or masks or privacy.mode != "local" or not policy.require_masks,
    )
    yield f"min_sites {job.min_sites} is too small", job.min_sites >= policy.min_cohort
    yield (
        f"colluding_sites {privacy.colluding_sites} is too small",
        privacy.mode != "distributed" or privacy.colluding_sites >= policy.min_colluding_sites,
    )


def _what_it_costs(job: Job, policy: Policy, approval: Approval) -> Iterator[tuple[str, bool]]:
    privacy, publication = job.privacy, job.publication
    guaranteed = privacy.mode != "none"
    # Training and held-out patients are different people with caps of their own.
    epsilon = max(privacy.epsilon, privacy.epsilon_evaluation)
    worst = max(privacy.epsilon_worst, privacy.epsilon_evaluation_worst)
    for name, value, cap, own in (
        ("epsilon", epsilon, policy.epsilon_per_job, approval.epsilon_per_job),
        ("worst-case epsilon", worst, policy.epsilon_worst_per_job, approval.epsilon_worst_per_job),
    ):
        yield (
            f"{name} {value:.3g} passes the cap per job {cap:.3g}",
            (not guaranteed or value <= cap),
        )
        if own is not None:
            yield (
                f"{name} {value:.3g} passes the cap {own:.3g} of data set {job.dataset!r}",
                not guaranteed or value <= own,
            )
    yield f"delta {privacy.delta} is too large", not guaranteed or privacy.delta <= policy.delta
    rounds = job.training.rounds
    yield f"{rounds} rounds are too many", rounds <= policy.max_rounds
    for name, what, asked, allowed in (
        ("publish_metrics", "pooled metrics stay", publication.metrics, policy.publish_metrics),
        ("publish_model", "the model stays", publication.model, policy.publish_model),
    ):
        yield f"{name}: {what} here", allowed or not asked


def asked_of_columns(job: Job, situation: Situation) -> Iterator[RefusalError]:
    """Whether the source declares what the schema reads, and who is protected."""
    try:
        schema = parse(Schema, job.schema, "job.schema")
    except FedwardError as error:
        yield RefusalError(Code.SCHEMA, str(error))
        return
    missing = sorted(set(schema.column_names) - set(situation.columns))
    if situation.unreadable:
        yield RefusalError(Code.BUSY if situation.away else Code.SCHEMA, situation.unreadable)
    elif missing and situation.population is not None:
        yield RefusalError(
            Code.SCHEMA,
            f"the source lacks {', '.join(missing)}",
            remedy="map the columns in the hospital's configuration",
        )
    if job.privacy.unit != schema.unit:
        yield RefusalError(
            Code.POLICY, "unit of privacy", expected=schema.unit, found=job.privacy.unit
        )
