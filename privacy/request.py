"""From the privacy that a person asks for to the exact numbers that a job carries.

This is the only place where noise is searched for; it runs once, where a job is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from privacy.accounting import SLACK, Event, calibrate, epsilon
from privacy.conformance import (
    MAX_DELTA,
    MAX_EPSILON,
    MIN_DELTA,
    Unit,
    check_cohort,
    check_plan,
    delta_left,
    own_multiplier,
    require,
)
from privacy.grid import choose_scale, sensitivity
from protocol.errors import InputError
from protocol.jobs import Mode, Privacy, Release, Site

_BETA_PART = 2.0**-20
"""Rounding's part of delta in a job: the ledger's slack has room for ten thousand such jobs."""


@dataclass(frozen=True, kw_only=True)
class PrivacyRequest:
    """The privacy a person asks for in a job's YAML.

    Args:
        mode: `distributed`, `local` or `none`.
        epsilon: Of training patients over all attempts; left out in mode `none` only.
        delta: Of every guarantee.
        colluding_sites: Hospitals that may pool what they see with the coordinator.
        clip: L2 bound of one patient's gradient.
        sampling_rate: Poisson sampling probability of a patient; 1 is full batch.
        evaluation_epsilon: Of held-out patients; left out, the same as `epsilon`.
        coordinate_clamp: Public bound on a coordinate of one site's sum; left out, one that no sum
            of the declared size can exceed.

    Raises:
        InputError: A number lies outside its range.
    """

    mode: Mode = "distributed"
    epsilon: float | None = None
    delta: float = 1e-5
    colluding_sites: int = 1
    clip: float = 1.0
    sampling_rate: float = 1.0
    evaluation_epsilon: float | None = None
    coordinate_clamp: float | None = None

    def __post_init__(self) -> None:
        if (self.epsilon is None) != (self.mode == "none"):
            raise InputError(
                "privacy.epsilon",
                expected="a number, or mode none without one",
                remedy="mode none guarantees nothing, so it takes no epsilon",
            )
        if self.mode == "none" and self.evaluation_epsilon is not None:
            raise InputError("privacy.evaluation_epsilon", expected="nothing in mode none")
        for name in ("epsilon", "evaluation_epsilon"):
            value = getattr(self, name)
            sane = value is None or 0 < value <= MAX_EPSILON
            require(sane, name, f"above 0, up to {MAX_EPSILON:g}", value)
        deltas = f"{MIN_DELTA} to {MAX_DELTA}"
        require(MIN_DELTA <= self.delta <= MAX_DELTA, "delta", deltas, self.delta)
        require(self.colluding_sites >= 0, "colluding_sites", ">= 0", self.colluding_sites)
        require(0 < self.clip < math.inf, "clip", "> 0", self.clip)
        require(0 < self.sampling_rate <= 1, "sampling_rate", "0 < q <= 1", self.sampling_rate)
        clamp = self.coordinate_clamp
        require(clamp is None or 0 < clamp < math.inf, "coordinate_clamp", "> 0", clamp)


def resolve_privacy(
    request: PrivacyRequest,
    *,
    sites: Sequence[Site],
    length: int,
    steps: int,
    spare: int,
    unit: Unit,
    evaluation_length: int,
    evaluation_norm: float,
    evaluation_steps: int,
    repeats: int = 1,
) -> Privacy:
    """Turn a request into the numbers that a job carries.

    Args:
        request: What a person asked for.
        sites: Hospitals that are asked to take part, with declared sizes.
        length: Coordinates of an update.
        steps: Releases of training if nothing fails.
        spare: Releases beyond that, for attempts that fail.
        unit: Whose contribution is bounded.
        evaluation_length: Coordinates of an evaluation vector.
        evaluation_norm: L2 bound of one held-out patient's part of it.
        evaluation_steps: Evaluations if nothing fails; 0 for none.
        repeats: Noised sums behind one release of training: local steps in mode `local`.

    Returns:
        Numbers that `check_plan` accepts. The noise is the smallest for which epsilon holds over
        all steps and spare attempts at 0.99 delta less what rounding uses.

    Raises:
        InputError: The request cannot be met with these sites.
    """
    check_cohort(request.mode, len(sites), request.colluding_sites)
    family = _Family(request=request, cohort_size=len(sites), spare=spare)
    update = family.release(
        epsilon_target=request.epsilon,
        length=length,
        clip=request.clip,
        rate=request.sampling_rate,
        steps=steps,
        repeats=repeats,
        bound=request.coordinate_clamp
        or request.clip * _batch(max(site.train_size for site in sites), request.sampling_rate),
    )
    evaluation, target = None, request.evaluation_epsilon or request.epsilon
    if evaluation_steps > 0:
        evaluation = family.release(
            epsilon_target=target,
            length=evaluation_length,
            clip=evaluation_norm,
            rate=1.0,
            steps=evaluation_steps,
            bound=evaluation_norm * max(1, *(site.test_size for site in sites)),
        )
    privacy = Privacy(
        mode=request.mode,
        unit=unit,
        epsilon=request.epsilon or 0.0,
        epsilon_worst=family.worst(update, request.epsilon),
        epsilon_evaluation=(target or 0.0) if evaluation else 0.0,
        epsilon_evaluation_worst=family.worst(evaluation, target) if evaluation else 0.0,
        delta=request.delta,
        colluding_sites=request.colluding_sites,
        update=update,
        evaluation=evaluation,
    )
    check_plan(privacy, sites)
    return privacy


@dataclass(frozen=True, kw_only=True)
class _Family:
    """What the two families of releases of a job share while they are made."""

    request: PrivacyRequest
    cohort_size: int
    spare: int

    def release(
        self,
        *,
        epsilon_target: float | None,
        length: int,
        clip: float,
        rate: float,
        steps: int,
        bound: float,
        repeats: int = 1,
    ) -> Release:
        """The numbers of one family; without a target there is no noise."""
        if steps < 1 or self.spare < 0 or repeats < 1:
            raise InputError("releases", expected="steps >= 1, spare >= 0 and repeats >= 1")
        total = (steps + self.spare) * repeats
        beta = self.request.delta * _BETA_PART / total
        sigma = 0.0
        if epsilon_target is not None:
            delta = SLACK * self.request.delta - total * beta
            sigma = calibrate(epsilon_target, delta, total, rate)
        scale = choose_scale(
            clip=clip, length=length, beta=beta, own_multiplier=self.own_multiplier(sigma)
        )
        return Release(
            length=length,
            clip=clip,
            scale=scale,
            sensitivity=sensitivity(scale, clip, length, beta),
            beta=beta,
            noise_multiplier=sigma,
            sampling_rate=rate,
            bound=bound,
            steps=steps,
            spare=self.spare,
            repeats=repeats,
        )

    def worst(self, release: Release, target: float | None) -> float:
        """Epsilon if every other hospital colludes; 0.0 where nothing is guaranteed."""
        own = self.own_multiplier(release.noise_multiplier)
        if target is None or own == release.noise_multiplier:
            return target or 0.0
        event = Event(own, release.sampling_rate, release.runs)
        return epsilon([event], delta_left(release, self.request.delta))

    def own_multiplier(self, sigma: float) -> float:
        """One site's noise over the sensitivity in the full cohort."""
        return own_multiplier(
            self.request.mode, sigma, self.cohort_size, self.request.colluding_sites
        )


def _batch(size: int, rate: float) -> int:
    """Most units in a batch of Poisson sampling, but for a probability below 1e-12."""
    if rate == 1:
        return size
    mean = size * rate
    return min(size, math.ceil(mean + 8 * math.sqrt(mean) + 20))
