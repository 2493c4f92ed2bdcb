"""A finished statistics job's table: what hospitals handed over, and the noise that it bears."""

from __future__ import annotations

import numpy as np

from learning.pooled_statistics import Statistics
from learning.table_histograms import Shape, shapes
from learning.table_one import TableOne
from learning.tables import table_one
from learning.task import FloatVector, load_task
from privacy.plan import DpPlan
from protocol.errors import InputError
from protocol.jobs import Job
from server.job_folder import JobFolder


def released(kept: JobFolder) -> TableOne:
    """The table of a job that was completed here.

    Guarantee: it is computed from the released sums alone, so that it costs no patient anything.

    Raises:
        InputError: The job counts no statistics, has not been completed, or its table stayed in
            the hospitals.
        IntegrityError: What was kept has another length than the job says.
    """
    return table_one(*_sums(kept))


def released_shapes(kept: JobFolder) -> dict[str, Shape]:
    """The histograms of that table by column, with the same guarantee.

    Raises:
        InputError: As of `released`.
        IntegrityError: As of `released`.
    """
    return shapes(*_sums(kept))


def _sums(kept: JobFolder) -> tuple[Statistics, FloatVector, float]:
    """A job's task, its finished sums and the noise of each."""
    job, outcome = kept.job, kept.outcome
    task = statistics_of(job)
    if outcome is None or outcome.status != "completed":
        raise InputError(
            f"job {job.name!r} has no table",
            expected="one that was completed",
            found="one that is under way" if outcome is None else outcome.status,
        )
    if outcome.model is None:
        raise InputError(
            f"the table of job {job.name!r} stayed in the hospitals",
            expected="publication.model: true in the job, publish_model: true in their policies",
        )
    sums_P = np.frombuffer(outcome.model, dtype="<f8").astype(np.float64)
    rounds = [event.sites for event in outcome.events if event.kind == "round"]
    contributors = len(rounds[-1]) if rounds else len(job.sites)
    return task, sums_P, noise_of(job, contributors)


def statistics_of(job: Job) -> Statistics:
    """The task of a statistics job.

    Raises:
        InputError: The job learns a model.
    """
    task = load_task(job.task, job.schema)
    if not isinstance(task, Statistics):
        raise InputError(
            f"job {job.name!r}", expected="task 'statistics'", found=f"task {job.task.name!r}"
        )
    return task


def noise_of(job: Job, contributors: int) -> float:
    """Standard deviation of the noise of one sum over so many hospitals."""
    return DpPlan.of(job.privacy, "train", contributors).noise_std(contributors)
