"""Whether a job's numbers are about the very releases that this node would make.

`privacy.plan.check_plan` verifies that the stated noise gives the stated epsilons for vectors of
the stated bound, so many times. Here it is verified that the strategy releases such vectors, no
longer and no more often; otherwise the epsilons would be true of something else.
"""

from __future__ import annotations

from collections.abc import Iterator

from learning.task import Task
from privacy.grid import Quantiser
from privacy.he.parameters import SEAL_LIBRARY, check_packing, digit_radix
from privacy.plan import digit_radix as release_radix
from protocol.errors import Code, RefusalError
from protocol.jobs import Job, Packing, Release
from strategies.base import Strategy, summing

TOLERANCE = 1e-6
"""Relative difference that is allowed in a radix: its tail is computed in floats."""

Question = tuple[str, bool, str, object]
"""What is asked, whether it holds, what was expected, what was found."""


def check_releases(job: Job, task: Task, strategy: Strategy) -> None:
    """Verify that the job's releases are those of its task and strategy.

    Guarantee: Each update and each evaluation is bounded by the clip that is charged, is sampled
    at the rate that is charged, and as many noised sums stand behind it as are charged.

    Raises:
        RefusalError: A number does not fit.
    """
    questions = (*_training(job, strategy), *_updates(job, task, strategy), *_counts(job, task))
    for problem, holds, expected, found in questions:
        if not holds:
            raise RefusalError(Code.POLICY, problem, expected=expected, found=str(found))


def _training(job: Job, strategy: Strategy) -> Iterator[Question]:
    training, mode, kind = job.training, job.privacy.mode, strategy.contribution
    # In mode `distributed` one hospital's share of the noise protects nothing but a sum.
    kinds = ("gradient" if mode == "distributed" else "update", "statistics")
    yield f"contribution in mode {mode!r}", kind in kinds, " or ".join(kinds), kind
    yield "training.rounds", training.rounds >= 1, ">= 1", training.rounds
    spare = training.spare_attempts
    yield "training.spare_attempts", spare >= 0, ">= 0", spare
    steps = training.local_steps
    yield "training.local_steps", steps >= 1, ">= 1", steps
    yield f"local_steps of a {kind}", kind == "update" or steps == 1, "1", steps


def _updates(job: Job, task: Task, strategy: Strategy) -> Iterator[Question]:
    training, numbers = job.training, job.privacy.update
    length = strategy.length(task.layout().size)
    yield "update.length", numbers.length == length, str(length), numbers.length
    for name, right in (
        ("steps", training.rounds),
        ("spare", training.spare_attempts),
        ("repeats", training.local_steps),
    ):
        found = getattr(numbers, name)
        yield f"update.{name}", found == right, str(right), found
    statistics = summing(strategy)
    if statistics is not None:
        # Statistics are bounded by the strategy, not by the clip, and are of all records.
        norm, rate = statistics.bound(task), numbers.sampling_rate
        yield "update.clip", numbers.clip >= norm, f"at least {norm}", numbers.clip
        yield "update.sampling_rate of statistics", rate == 1, "1", rate


def _counts(job: Job, task: Task) -> Iterator[Question]:
    numbers = job.privacy.evaluation
    if numbers is None:
        return
    length, norm = task.evaluation.length, task.evaluation.norm
    yield "evaluation.length", numbers.length == length, str(length), numbers.length
    yield "evaluation.clip", numbers.clip >= norm, f"at least {norm}", numbers.clip
    yield "evaluation.repeats", numbers.repeats == 1, "1", numbers.repeats


def check_encryption(job: Job, strategy: Strategy) -> None:
    """Verify that contributions travel as the job's mode needs it.

    Raises:
        RefusalError: Parameters are missing, or are for another library or number of hospitals.
        InputError: Parameters are unsafe or inexact.
    """
    encryption, privacy = job.encryption, job.privacy
    if encryption.scheme == "none":
        if privacy.mode != "none":
            raise RefusalError(
                Code.POLICY, "privacy without encryption", expected="mode none", found=privacy.mode
            )
        return
    if encryption.library != SEAL_LIBRARY:
        raise RefusalError(
            Code.VERSION, "SEAL version", expected=encryption.library, found=SEAL_LIBRARY
        )
    if encryption.update is None or (encryption.evaluation is None) != (privacy.evaluation is None):
        raise RefusalError(Code.POLICY, "encryption parameters", expected="some for each release")
    if not released(job, strategy):
        Quantiser(encryption.digit_bits, encryption.digit_bound)
    update = privacy.update if released(job, strategy) else None
    for purpose, packing, release in (
        ("update", encryption.update, update),
        ("evaluation", encryption.evaluation, privacy.evaluation),
    ):
        if packing is not None:
            _check_sums(job, packing, purpose, _radix(job, release))


def released(job: Job, strategy: Strategy) -> bool:
    """Whether updates leave on the grid of a release, as counts do, and not as digits."""
    return job.privacy.mode == "distributed" or summing(strategy) is not None


def _check_sums(job: Job, packing: Packing, purpose: str, needed: int) -> None:
    """A purpose's parameters are exact and secure, and for just this job's hospitals and digits."""
    check_packing(packing)
    cohort = len(job.sites)
    if packing.max_sites != cohort:
        # A larger cohort would shrink every hospital's share below what was reserved.
        raise RefusalError(
            Code.POLICY,
            "max_sites of the encryption",
            expected=f"{cohort}, the job's hospitals",
            found=str(packing.max_sites),
        )
    if packing.radix < needed * (1 - TOLERANCE):
        raise RefusalError(
            Code.POLICY,
            f"radix of the {purpose}'s digits",
            expected=f"at least {needed}",
            found=str(packing.radix),
        )


def _radix(job: Job, release: Release | None) -> int:
    """The radix in which sums of a release, or of digits, do not overflow."""
    cohort = len(job.sites)
    if release is None:
        return digit_radix(job.encryption.digit_bits, cohort)
    return release_radix(job.privacy, release, cohort)
