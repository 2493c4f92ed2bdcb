"""Whether a job may run here: a pure function of job, trust, policy, columns and time.

The answer depends on declared columns, policy and budget, never on records, because the answer
itself leaves the hospital. The budget is asked last, by `privacy.ledger`, in the transaction that
reserves it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from client.agreement import check_encryption, check_releases
from client.policy import Policy, Population
from learning.schema import Schema
from learning.task import Task, load_task
from privacy.plan import check_plan
from protocol.config import parse
from protocol.errors import Code, FedwardError, RefusalError
from protocol.jobs import VERSION, Job
from protocol.tensors import weights_digest
from strategies.base import Strategy, strategy_of


@dataclass(frozen=True)
class Admitted:
    """A job that may run, with what it names made from installed code.

    Args:
        job: The verified job.
        task: The task it names.
        strategy: The strategy that this node steps with.
    """

    job: Job
    task: Task
    strategy: Strategy


def admit(
    job: Job,
    *,
    name: str,
    roster: str,
    policy: Policy,
    population: Population | None,
    columns: Collection[str],
    now: datetime | None,
) -> Admitted:
    """Decide on a job whose signature has been verified.

    Args:
        job: The job.
        name: This hospital's name in the roster.
        roster: Digest of the roster that this hospital pinned.
        policy: This hospital's policy.
        population: The population of the job's data set here, None when there is no such set.
        columns: Columns that the data set's source declares.
        now: Present time, with a time zone; None for a job that has begun here in its time.

    Raises:
        RefusalError: With the code that may leave the hospital and a local reason.
    """
    _check_origin(job, name=name, roster=roster, now=now)
    _check_policy(job, policy, population)
    _check_columns(job, columns)
    return _check_numbers(job, policy)


def _check_origin(job: Job, *, name: str, roster: str, now: datetime | None) -> None:
    if job.version != VERSION:
        raise RefusalError(
            Code.VERSION, "job version", expected=str(VERSION), found=str(job.version)
        )
    if job.roster != roster:
        raise RefusalError(
            Code.ROSTER,
            "the job is for another roster than the one pinned here",
            expected=roster,
            found=job.roster,
            remedy="compare its fingerprint with the coordinator's and pin the newer one",
        )
    if name not in {site.name for site in job.sites}:
        raise RefusalError(Code.ROSTER, f"the job does not ask {name} to take part")
    if now is not None and now >= _time(job.expires):
        raise RefusalError(Code.EXPIRED, "the job has expired", found=job.expires)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise RefusalError(
            Code.EXPIRED, "the job's end", expected="an RFC 3339 time with a zone", found=text
        )
    return time


def _check_policy(job: Job, policy: Policy, population: Population | None) -> None:
    if population is None:
        raise RefusalError(
            Code.SCHEMA,
            f"there is no data set named {job.dataset!r} here",
            remedy="add it to the hospital's configuration or ask for another name",
        )
    for problem, allowed in _policy_questions(job, policy, population):
        if not allowed:
            raise RefusalError(
                Code.POLICY, problem, remedy="change the policy, or leave the job to others"
            )


def _policy_questions(
    job: Job, policy: Policy, population: Population
) -> tuple[tuple[str, bool], ...]:
    privacy = job.privacy
    clear = job.encryption.scheme == "none"
    guaranteed = privacy.mode != "none"
    # Training and held-out patients are different people with caps of their own.
    epsilon = max(privacy.epsilon, privacy.epsilon_evaluation)
    worst = max(privacy.epsilon_worst, privacy.epsilon_evaluation_worst)
    return (
        (f"task {job.task.name!r} is not allowed", job.task.name in policy.tasks),
        (
            f"strategy {job.strategy.name!r} is not allowed",
            job.strategy.name in policy.strategies
            or (clear and job.strategy.name.startswith("flwr:")),
        ),
        (f"mode {privacy.mode!r} is not allowed", privacy.mode in policy.modes),
        (
            "unencrypted runs need a policy that allows them and public data",
            not clear or (policy.clear_runs and population.public),
        ),
        (
            "masks must be on in this mode",
            clear or job.encryption.masks or privacy.mode == "local",
        ),
        (f"min_sites {job.min_sites} is too small", job.min_sites >= policy.min_cohort),
        (
            f"colluding_sites {privacy.colluding_sites} is too small",
            privacy.mode != "distributed" or privacy.colluding_sites >= policy.min_colluding_sites,
        ),
        (
            f"epsilon {epsilon:.3g} passes the cap per job {policy.epsilon_per_job:.3g}",
            not guaranteed or epsilon <= policy.epsilon_per_job,
        ),
        (
            f"worst-case epsilon {worst:.3g} passes the cap {policy.epsilon_worst_per_job:.3g}",
            not guaranteed or worst <= policy.epsilon_worst_per_job,
        ),
        (f"delta {privacy.delta} is too large", not guaranteed or privacy.delta <= policy.delta),
        (f"{job.training.rounds} rounds are too many", job.training.rounds <= policy.max_rounds),
        ("pooled metrics stay here", policy.publish_metrics or not job.publication.metrics),
        ("the model stays here", policy.publish_model or not job.publication.model),
    )


def _check_columns(job: Job, columns: Collection[str]) -> None:
    try:
        schema = parse(Schema, job.schema, "job.schema")
    except FedwardError as error:
        raise RefusalError(Code.SCHEMA, str(error)) from error
    missing = sorted(set(schema.column_names) - set(columns))
    if missing:
        raise RefusalError(
            Code.SCHEMA,
            f"the source lacks {', '.join(missing)}",
            remedy="map the columns in the hospital's configuration",
        )
    if job.privacy.unit != schema.unit:
        raise RefusalError(
            Code.POLICY, "unit of privacy", expected=schema.unit, found=job.privacy.unit
        )


def _check_numbers(job: Job, policy: Policy) -> Admitted:
    try:
        task = load_task(job.task, job.schema)
        layout = task.layout()
        strategy = strategy_of(job, layout.size)
    except FedwardError as error:
        raise RefusalError(Code.TASK, str(error)) from error
    if layout.size > policy.max_parameters:
        raise RefusalError(
            Code.POLICY,
            "model size",
            expected=f"<= {policy.max_parameters} parameters",
            found=str(layout.size),
        )
    weights = strategy.init(task.initial(job.training.seed)).weights
    if layout.digest != job.layout or weights_digest(weights) != job.initial_weights:
        raise RefusalError(
            Code.VERSION,
            "this installation builds another model than the job states",
            remedy="install the same release of fedward as the coordinator",
        )
    try:
        check_plan(job.privacy, job.sites)
        check_releases(job, task, strategy)
        check_encryption(job)
    except RefusalError:
        raise
    except FedwardError as error:
        raise RefusalError(Code.POLICY, str(error)) from error
    return Admitted(job, task, strategy)
