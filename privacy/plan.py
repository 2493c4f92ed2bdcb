"""One frozen plan for what the engine does at a site and what the ledger charges for it.

Where its numbers come from is privacy.request; what a hospital verifies of them before it makes a
plan is privacy.conformance. Both are offered here, since whoever needs a plan needs them too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from privacy.charges import Charge, Partition
from privacy.conformance import Unit, check_cohort, check_plan, own_multiplier
from privacy.recipe import Recipe, default_recipe
from privacy.request import PrivacyRequest, resolve_privacy
from protocol.errors import InputError
from protocol.jobs import Mode, Privacy, Release

__all__ = [
    "DpPlan",
    "Partition",
    "PrivacyRequest",
    "Recipe",
    "Unit",
    "check_plan",
    "default_recipe",
    "digit_radix",
    "resolve_privacy",
]

CLIP_MARGIN = 1e-6
"""Relative distance between the bound that is charged and the one the engine clips at.

It absorbs the rounding of a sum in float64.
"""

_OVERFLOW_LOG = 40 * math.log(2)
"""Log of the inverse probability that a digit of a job overflows: 2^-40."""


@dataclass(frozen=True, kw_only=True)
class DpPlan:
    """What one family of releases does at one site and what it costs.

    Args:
        release: The job's numbers.
        mode: Who adds the noise.
        unit: Whose contribution is bounded.
        partition: Whose budget pays, `train` or `test`.
        delta: Delta of the job.
        colluding_sites: t, hospitals whose noise is not counted on.
        cohort_size: K, hospitals in the sum.

    >>> from protocol.jobs import Release
    >>> numbers = Release(length=1, clip=1.0, scale=2.0**14, sensitivity=16390.0, beta=1e-12,
    ...     noise_multiplier=4.0, sampling_rate=1.0, bound=100.0, steps=10, spare=2, repeats=1)
    >>> plan = DpPlan(release=numbers, mode="distributed", unit="patient", partition="train",
    ...     delta=1e-5, colluding_sites=1, cohort_size=5)
    >>> plan.sigma_effective, plan.sigma_own
    (4.0, 2.0)
    """

    release: Release
    mode: Mode
    unit: Unit
    partition: Partition
    delta: float
    colluding_sites: int
    cohort_size: int

    @classmethod
    def of(cls, privacy: Privacy, partition: Partition, cohort_size: int) -> DpPlan:
        """The plan of one partition's releases in a cohort.

        Raises:
            InputError: The job releases nothing of this partition, or the cohort is too small.
        """
        release = privacy.update if partition == "train" else privacy.evaluation
        if release is None:
            raise InputError("no evaluation is part of this job")
        check_cohort(privacy.mode, cohort_size, privacy.colluding_sites)
        return cls(
            release=release,
            mode=privacy.mode,
            unit=privacy.unit,
            partition=partition,
            delta=privacy.delta,
            colluding_sites=privacy.colluding_sites,
            cohort_size=cohort_size,
        )

    @property
    def guaranteed(self) -> bool:
        """Whether anything is guaranteed; if not, the job's epsilons are 0.0 and say nothing."""
        return self.mode != "none"

    @property
    def sigma_effective(self) -> float:
        """Noise of the sum over the sensitivity, under the stated trust."""
        return self.release.noise_multiplier

    @property
    def sigma_own(self) -> float:
        """This site's noise over the sensitivity: what is left if everyone else colludes."""
        return own_multiplier(
            self.mode, self.sigma_effective, self.cohort_size, self.colluding_sites
        )

    @property
    def share(self) -> float:
        """Standard deviation of this site's noise in grid units."""
        return self.sigma_own * self.release.sensitivity

    def noise_std(self, contributors: int) -> float:
        """Standard deviation of the noise of one coordinate of a sum, in its own unit.

        Args:
            contributors: Hospitals whose shares are in it.
        """
        return self.share * math.sqrt(contributors) / self.release.scale

    @property
    def engine_clip(self) -> float:
        """The L2 bound at which the engine clips, a little inside the one that is charged."""
        return self.release.clip * (1 - CLIP_MARGIN)

    def charge(self, *, population: str, job: str, declared_size: int) -> Charge:
        """What the ledger reserves: every step and every spare attempt."""
        return Charge(
            population=population,
            partition=self.partition,
            job=job,
            purpose="update" if self.partition == "train" else "evaluation",
            sigma_effective=self.sigma_effective,
            sigma_own=self.sigma_own,
            q=self.release.sampling_rate,
            steps=self.release.steps + self.release.spare,
            clip=self.release.clip,
            declared_size=declared_size,
            cohort_size=self.cohort_size,
            colluding_sites=self.colluding_sites,
            repeats=self.release.repeats,
        )


def digit_radix(privacy: Privacy, release: Release, cohort_size: int) -> int:
    """The radix B in which digits of the sum of a cohort's releases do not overflow.

    Args:
        privacy: The job's numbers.
        release: The family, `privacy.update` or `privacy.evaluation`.
        cohort_size: K_max, most sites in a sum.

    Returns:
        Odd B with |digit of the sum| <= (B - 1) / 2, but for a probability of 2^-40 over all
        coordinates, steps and spare attempts together, for every admissible smaller cohort too.

    Source: Canonne, Kamath, Steinke 2020: a discrete Gaussian is sub-Gaussian with its sigma.
    """
    values = cohort_size * (math.ceil(release.scale * release.bound) + 1)
    sigma = release.noise_multiplier * release.sensitivity
    shares = float(cohort_size)
    if privacy.mode == "distributed":
        # The sum carries K shares where K - t make up sigma; most in excess in small cohorts.
        smallest = max(3, privacy.colluding_sites + 2)
        shares = smallest / (smallest - privacy.colluding_sites)
    draws = release.length * release.runs
    tail = sigma * math.sqrt(2 * shares * (math.log(2 * draws) + _OVERFLOW_LOG))
    return 2 * (values + math.ceil(tail)) + 1
