"""From a hospital's files to the one value that admission decides on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from client.hospital import HospitalConfig
from client.questions import Situation
from privacy.charges import Charge
from privacy.plan import DpPlan
from protocol.errors import BusyError, FedwardError
from protocol.jobs import Job
from protocol.roster import Roster, Trust


def situation_of(
    config: HospitalConfig,
    columns: Callable[[], Collection[str]],
    *,
    trust: Trust,
    roster: Roster,
    dataset: str,
    now: datetime | None,
) -> Situation:
    """What a job over one data set is held against.

    Args:
        config: The hospital's configuration.
        columns: Tells the columns that the data set's source declares, and reads no record; asked
            only where there is such a data set.
        trust: What its administrator confirmed.
        roster: The pinned roster.
        dataset: The job's data set.
        now: See `client.questions.Situation`.
    """
    here = config.datasets.get(dataset)
    declared: Collection[str] = ()
    unreadable, away = "", False
    if here is not None:
        try:
            declared = columns()
        except FedwardError as error:
            unreadable, away = str(error), isinstance(error, BusyError)
    return Situation(
        name=config.name,
        roster=trust.roster,
        coordinator=trust.coordinator,
        members=frozenset(trust.members(roster)),
        policy=config.policy,
        population=None if here is None else config.populations[here.population],
        columns=declared,
        unreadable=unreadable,
        away=away,
        now=now,
        train_size=None if here is None else here.train_size,
        test_size=None if here is None else here.test_size,
        patient=None if here is None else here.patient,
    )


def charges_of(job: Job, name: str, population: str) -> dict[str, Charge]:
    """The whole job's worst case at one hospital, by purpose.

    Args:
        job: A job that asks this hospital.
        name: The hospital's name in the roster.
        population: Whose patients are in the job's data set here.
    """
    site, cohort = job.site(name), len(job.sites)
    plans: Mapping[str, tuple[DpPlan, int]] = {
        "update": (DpPlan.of(job.privacy, "train", cohort), site.train_size)
    }
    if job.privacy.evaluation is not None:
        evaluation = (DpPlan.of(job.privacy, "test", cohort), site.test_size)
        plans = {**plans, "evaluation": evaluation}
    return {
        purpose: plan.charge(population=population, job=job.digest, declared_size=size)
        for purpose, (plan, size) in plans.items()
    }
