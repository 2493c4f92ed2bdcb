"""What a hospital verifies of a job's privacy numbers before it agrees to anything.

The numbers are judged as they stand: the closed form or the privacy-loss distribution is evaluated
at the stated noise, never inverted, so that no root finding has to agree between machines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from privacy.accounting import SLACK, Event, epsilon
from privacy.grid import MAX_MAGNITUDE, MIN_SHARE, sensitivity
from privacy.noise import MAX_SIGMA
from protocol.errors import InputError
from protocol.jobs import Mode, Privacy, Release, Site

Unit = Literal["patient", "record"]

MIN_DELTA, MAX_DELTA = 1e-12, 1e-3
MAX_EPSILON = 1000.0
TOLERANCE = 1e-6
"""Relative difference that is allowed between a stated and a recomputed number.

Machines differ in the last digits of exp, erfcx and the FFT, by less than 1e-9; a millionth of an
epsilon is far below what anybody could tell.
"""
BETA_PART = 2.0**-14
"""Most of delta that rounding may use up, over all releases of a family.

The ledger counts at 0.99 delta; the rest covers a hundred jobs at this limit, and what discrete
noise differs from continuous.
"""


def check_plan(privacy: Privacy, sites: Sequence[Site]) -> None:
    """Verify that a job's numbers give what the job states, if all its sites take part.

    A smaller cohort makes each site's own noise larger and changes nothing else, so the check
    holds for every cohort; `DpPlan.of` refuses the ones that are too small.

    Guarantee: Over all steps and spare attempts the stated epsilons hold at `privacy.delta`, both
    under the stated trust and if every other hospital colludes with the coordinator.

    Args:
        privacy: The job's numbers, as received.
        sites: The hospitals that are asked to take part.

    Raises:
        InputError: A number is out of range or does not support what is stated; the message has
            what was expected and what was found.
    """
    check_cohort(privacy.mode, len(sites), privacy.colluding_sites)
    delta = privacy.delta
    require(MIN_DELTA <= delta <= MAX_DELTA, "delta", f"{MIN_DELTA} to {MAX_DELTA}", delta)
    _check_family(
        privacy, privacy.update, "update", (privacy.epsilon, privacy.epsilon_worst), len(sites)
    )
    stated = (privacy.epsilon_evaluation, privacy.epsilon_evaluation_worst)
    if privacy.evaluation is None:
        require(stated == (0.0, 0.0), "epsilon_evaluation", "0 without evaluation", stated[0])
        return
    rate = privacy.evaluation.sampling_rate
    require(rate == 1, "evaluation.sampling_rate", "1", rate)
    _check_family(privacy, privacy.evaluation, "evaluation", stated, len(sites))


def check_cohort(mode: Mode, cohort_size: int, colluding_sites: int) -> None:
    """Verify that a sum over a cohort hides and protects each member as the mode promises.

    Raises:
        InputError: There are too few sites for the mode and the stated trust.
    """
    require(
        0 <= colluding_sites < cohort_size,
        "colluding_sites",
        f"0 to {cohort_size - 1} with {cohort_size} sites",
        colluding_sites,
    )
    if mode == "distributed":
        # With one honest site the sum, less what the others know of it, is that site's update.
        require(
            cohort_size >= 3 and cohort_size - colluding_sites >= 2,
            "sites in mode distributed",
            "at least 3, and at least 2 beyond colluding_sites",
            cohort_size,
        )


def own_multiplier(mode: Mode, sigma: float, cohort_size: int, colluding_sites: int) -> float:
    """One site's noise over the sensitivity, given the noise of the sum.

    In mode `distributed` the honest sites' shares together must make up sigma; in mode `local`
    each site trusts only itself and adds all of it.
    """
    if mode == "distributed":
        return sigma / math.sqrt(cohort_size - colluding_sites)
    return sigma


def delta_left(release: Release, delta: float) -> float:
    """The delta at which a family's noise is accounted, after rounding has had its part."""
    return SLACK * delta - release.runs * release.beta


def require(right: bool, name: str, expected: str, found: object) -> None:  # noqa: FBT001
    """Raise an error that names a number, unless it is right."""
    if not right:
        raise InputError(f"privacy.{name}", expected=expected, found=str(found))


def _check_family(
    privacy: Privacy, release: Release, name: str, stated: tuple[float, float], cohort_size: int
) -> None:
    _check_ranges(release, name, privacy.delta)
    sigma = release.noise_multiplier
    if privacy.mode == "none":
        require(sigma == 0, f"{name}.noise_multiplier", "0 in mode none", sigma)
        require(stated == (0.0, 0.0), f"{name}: epsilon", "0.0, no guarantee", stated[0])
        return
    own = own_multiplier(privacy.mode, sigma, cohort_size, privacy.colluding_sites)
    share = own * release.sensitivity
    require(
        MIN_SHARE <= share <= MAX_SIGMA,
        f"{name}: one site's noise",
        f"{MIN_SHARE:g} to 2^40 grid units",
        share,
    )
    _check_stated(release, sigma, stated[0], f"{name}: epsilon", privacy.delta)
    _check_stated(release, own, stated[1], f"{name}: worst-case epsilon", privacy.delta)


def _check_ranges(release: Release, name: str, delta: float) -> None:
    require(release.length >= 1, f"{name}.length", "an integer >= 1", release.length)
    require(release.steps >= 1, f"{name}.steps", "an integer >= 1", release.steps)
    require(release.spare >= 0, f"{name}.spare", "an integer >= 0", release.spare)
    require(release.repeats >= 1, f"{name}.repeats", "an integer >= 1", release.repeats)
    for field in ("clip", "scale", "bound"):
        value = getattr(release, field)
        require(0 < value < math.inf, f"{name}.{field}", "a finite number > 0", value)
    require(math.frexp(release.scale)[0] == 0.5, f"{name}.scale", "a power of two", release.scale)
    reach = release.bound * release.scale
    require(reach <= MAX_MAGNITUDE, f"{name}.bound times scale", "at most 2^50", reach)
    rate = release.sampling_rate
    require(0 < rate <= 1, f"{name}.sampling_rate", "0 < q <= 1", rate)
    require(
        0 < release.runs * release.beta <= BETA_PART * delta,
        f"{name}.beta",
        "above 0, and all of them at most 2^-14 delta",
        release.beta,
    )
    needed = sensitivity(release.scale, release.clip, release.length, release.beta)
    require(
        needed * (1 - TOLERANCE) <= release.sensitivity < math.inf,
        f"{name}.sensitivity",
        f"at least {needed}",
        release.sensitivity,
    )


def _check_stated(release: Release, sigma: float, stated: float, name: str, delta: float) -> None:
    require(0 < stated <= MAX_EPSILON, name, f"above 0, up to {MAX_EPSILON:g}", stated)
    event = Event(sigma, release.sampling_rate, release.runs)
    given = epsilon([event], delta_left(release, delta))
    require(given <= stated * (1 + TOLERANCE), name, f"at least {given:.6g}", stated)
