"""Features scaled by a table that the same virtual hospitals have released first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from learning.scaling import scaled_by
from learning.table_one import TableOne
from learning.tables import table_one
from privacy.he.sum import SumProcess
from protocol.errors import FedwardError
from protocol.jobs import Job, Publication
from server.jobs import resolve
from server.released import noise_of, statistics_of
from server.requests import JobRequest
from simulations.config import Arm, Simulation
from simulations.consortium import Consortium
from simulations.engine import run_job


@dataclass(frozen=True, kw_only=True)
class Released:
    """What a statistics job told.

    Args:
        table: Its figures.
        job: The job, with the epsilon that it cost.
    """

    table: TableOne
    job: Job


def release(
    consortium: Consortium, request: JobRequest, simulation: Simulation, child: SumProcess
) -> Released:
    """Run a statistics job over virtual hospitals, and read its table.

    Args:
        consortium: The hospitals, whose ledgers are charged.
        request: The job, with the hospitals' sizes; the coordinator gets the table.
        simulation: Says which engine runs it.
        child: The keyless adding process.

    Raises:
        FedwardError: It ended without a table.
        InputError: It is no statistics job, or something in it does not fit.
    """
    published = replace(request, publication=Publication(metrics=False, model=True))
    job = resolve(published, consortium.origin())
    task = statistics_of(job)
    outcome = run_job(consortium, job, engine=simulation.config.engine, child=child)
    if outcome.model is None:
        raise FedwardError(f"job {job.name!r} ended without a table", found=outcome.reason)
    sums_P = np.frombuffer(outcome.model, dtype="<f8").astype(np.float64)
    return Released(table=table_one(task, sums_P, noise_of(job, len(job.sites))), job=job)


def scaled(
    simulation: Simulation,
    arm: Arm,
    sizes: Mapping[str, tuple[int, int]],
    consortium: Consortium,
    child: SumProcess,
) -> tuple[JobRequest, Job | None]:
    """The request of a federated arm, its features scaled by a table where the job asks for one.

    The statistics job runs first, in the arm's mode and with its own epsilon, at the same
    hospitals: their ledgers compose both.

    Args:
        simulation: Arms and jobs.
        arm: The arm.
        sizes: Declared training and held-out patients by hospital.
        consortium: The arm's hospitals.
        child: The keyless adding process.

    Returns:
        The request, and the statistics job; None where nothing is scaled.

    Raises:
        FedwardError: The statistics job failed.
        InputError: Its table does not fit the schema.
    """
    request = simulation.job_request(arm, sizes)
    asked = simulation.table_request(arm, sizes)
    if asked is None:
        return request, None
    found = release(consortium, asked, simulation, child)
    schema = scaled_by(request.schema, found.table, found.job.digest)
    return replace(request, schema=schema, scaling=None), found.job


def spent(consortium: Consortium) -> tuple[float, float]:
    """Epsilon of all jobs so far as the ledgers count it: that of the hospital with most.

    Returns:
        Under the stated trust, and if every other hospital colludes.
    """
    found = [(0.0, 0.0)]
    for name in consortium.names:
        with consortium.open(name) as hospital:
            balances = hospital.ledger.report().balances
        found += [(one.epsilon, one.epsilon_worst) for one in balances if one.partition == "train"]
    trusted, worst = zip(*found, strict=True)
    return max(trusted), max(worst)
