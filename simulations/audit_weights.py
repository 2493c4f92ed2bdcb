"""Checks of the final weights: noise, influence of a record, guesses of membership, epsilon."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from scipy import optimize, stats

from simulations.audit_bounds import (
    best_guesses,
    correct_guesses,
    one_run_epsilon,
    one_run_p,
)
from simulations.audit_claim import GUESS_DELTA, Claim
from simulations.audit_config import AuditConfig
from simulations.audit_evidence import ALARM, CONFIDENCE, Check, Evidence, statistical
from simulations.audit_statistics import (
    SMALLEST_P,
    FloatVector,
    influence_p,
    resolution,
    spread_p,
)


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """Guesses of who was in the data, and how many were right."""

    number: int
    right: int


class Weights:
    """Final weights against a claim.

    Args:
        config: The audit.
        claim: What the job claims.
        evidence: What was measured.
    """

    def __init__(self, config: AuditConfig, claim: Claim, evidence: Evidence) -> None:
        self.claim = claim
        self._config = config
        self._evidence = evidence
        inside_M, moves_MC = evidence.inside_M, evidence.moves_MC
        self.scores_M: FloatVector = (moves_MC * config.direction_MC).sum(axis=1)
        self._squares = float((moves_MC**2).sum() - (self.scores_M[inside_M] ** 2).sum())
        self._dof = moves_MC.size - int(inside_M.sum())

    def checks(self) -> tuple[Check, ...]:
        """The checks that need the final weights and nothing else."""
        return (
            self._noise(),
            self._influence(),
            self._guesses(),
            self._epsilon(),
        )

    @property
    def noise_found(self) -> float:
        """Standard deviation of the noise of one score, from weights that no record pushes."""
        return math.sqrt(self._squares / self._dof)

    @property
    def resolution(self) -> float:
        """Noise below this part of the claimed one is caught, but for one audit in a thousand."""
        return resolution(self._dof, ALARM)

    @property
    def influence_found(self) -> float:
        """Mean score of the canaries that were in the data, over all rounds."""
        return float(self.scores_M[self._evidence.inside_M].mean())

    def _noise(self) -> Check:
        claimed = self.claim.noise
        p = spread_p(
            self._squares, self._dof, least=claimed**2, most=claimed**2 + self.claim.rounding
        )
        finding = (
            f"noise of the final weights is {self.noise_found / claimed:.3f} times the claimed one"
        )
        return statistical("noise", p, finding)

    def _influence(self) -> Check:
        inside_M = self._evidence.inside_M
        p = influence_p(
            float(self.scores_M[inside_M].sum()),
            units=int(inside_M.sum()),
            rounds=self.claim.rounds,
            rate=self.claim.rate,
            step=self.claim.step,
            noise=self.claim.noise,
        )
        share = self.influence_found / self.claim.signal
        error = self._influence_error(self.claim.noise) / self.claim.signal
        finding = (
            f"a record moves the final weights by {share:.3g} clips a round "
            f"(standard error {error:.2g}); claimed 1"
        )
        return statistical("influence", p, finding)

    def _influence_error(self, noise: float) -> float:
        """Standard error of `influence_found`, given the noise of a score."""
        claim, units = self.claim, int(self._evidence.inside_M.sum())
        sampled = claim.rounds * claim.rate * (1 - claim.rate) * claim.step**2
        return math.sqrt((noise**2 + sampled) / units)

    @cached_property
    def guesses(self) -> tuple[Guesses, Guesses]:
        """The surest guesses of who was in, and guesses about everybody.

        Both numbers are fixed before anything is looked at; each bound has half of the error.
        """
        claim, canaries = self.claim, self._config.canaries
        surest = best_guesses(canaries, claim.signal / claim.noise, claim.delta)
        return self._guessed(surest), self._guessed(2 * (canaries // 2))

    def _guessed(self, number: int) -> Guesses:
        return Guesses(
            number=number, right=correct_guesses(self.scores_M, self._evidence.inside_M, number)
        )

    @cached_property
    def one_run_bound(self) -> float:
        """Lower bound on epsilon at the job's delta, at 95 % confidence."""
        return max(
            one_run_epsilon(
                correct=one.right,
                guesses=one.number,
                canaries=self._config.canaries,
                delta=self.claim.delta,
                level=(1 - CONFIDENCE) / len(self.guesses),
            )
            for one in self.guesses
        )

    def _guesses(self) -> Check:
        p_values = [
            one_run_p(
                self.claim.epsilon_guessed,
                correct=one.right,
                guesses=one.number,
                canaries=self._config.canaries,
                delta=GUESS_DELTA,
            )
            for one in self.guesses
        ]
        surest, everybody = self.guesses
        finding = (
            f"of the {surest.number} surest guesses of who was in {surest.right} were right, of "
            f"{everybody.number} in all {everybody.right}: epsilon >= {self.one_run_bound:.2f} at "
            f"{CONFIDENCE:.0%} confidence"
        )
        return statistical("guesses", min(1.0, len(p_values) * min(p_values)), finding)

    def sigma_interval(self, level: float) -> tuple[float, float, float]:
        """Noise multiplier under the stated trust: lower limit, estimate, upper limit."""
        tail = level / 4  # two limits of noise and two of influence
        noise_low = math.sqrt(self._squares / float(stats.chi2.isf(tail, self._dof)))
        noise_high = math.sqrt(self._squares / float(stats.chi2.ppf(tail, self._dof)))
        error = float(stats.norm.isf(tail)) * self._influence_error(noise_high)
        mean = self.influence_found
        return (
            self._sigma(noise_low, mean + error),
            self._sigma(self.noise_found, mean),
            self._sigma(noise_high, mean - error),
        )

    def _sigma(self, noise: float, signal: float) -> float:
        if signal <= 0:
            return math.inf
        clips = signal / self.claim.signal
        return noise * math.sqrt(self.claim.trusted / self.claim.rounds) / clips

    def epsilon_interval(self) -> tuple[float, float, float]:
        """Epsilon that noise and influence imply: lower limit, estimate, upper limit at 95 %."""
        low, middle, high = self.sigma_interval(1 - CONFIDENCE)
        of = self.claim.epsilon_of
        return of(high), of(middle), of(low)

    def _epsilon(self) -> Check:
        needed = self.claim.needed_sigma
        p = _crossing(lambda level: self.sigma_interval(level)[2] - needed)
        low, middle, high = self.epsilon_interval()
        implied = "no finite epsilon"
        if math.isfinite(middle):
            implied = f"epsilon {middle:.3g} ({low:.3g} to {high:.3g})"
        finding = f"noise and influence amount to {implied}; claimed {self.claim.epsilon:.3g}"
        return statistical("epsilon", p, finding)


def _crossing(excess: Callable[[float], float]) -> float:
    """The level at which a confidence limit meets the claim; `excess` falls as the level grows."""
    if excess(1.0) >= 0:
        return 1.0
    if excess(SMALLEST_P) < 0:
        return SMALLEST_P
    log = optimize.brentq(lambda x: _sign(excess(math.exp(x))), math.log(SMALLEST_P), 0.0)
    return math.exp(float(log))


def _sign(value: float) -> float:
    """A finite stand-in for infinity, so that a root can be bracketed."""
    return min(value, 1e300)
