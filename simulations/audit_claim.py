"""What a job claims of its final weights, in numbers that can be tested.

The claim is worked out from the job's public numbers alone: sigma, sensitivity, scale, clip, sites
and colluding sites. Nothing of `privacy.plan` is asked, since it is under audit too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from privacy.accounting import Event, calibrate, epsilon
from protocol.jobs import Job
from simulations.audit_bounds import implied_epsilon, needed_sigma
from simulations.audit_config import MOVE, AuditConfig

GUESS_DELTA = 1e-10
"""Delta at which guesses are held against the claimed noise.

At the job's own delta the theorem's p-value cannot fall below 2 delta (1 + e^epsilon), which is far
above any alarm; the claimed noise implies an epsilon at this delta as well.
"""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a job's numbers say of the final weights, in clips of one round.

    Args:
        epsilon: The job's epsilon.
        delta: Its delta.
        noise: Standard deviation of the noise of one score, over all rounds and sites.
        rounding: Variance that rounding may add to it at most.
        step: What one round adds to the score of a canary that is in the batch.
        rounds: T.
        rate: Sampling probability.
        trusted: Share of the noise's variance that the guarantee counts on.
    """

    epsilon: float
    delta: float
    noise: float
    rounding: float
    step: float
    rounds: int
    rate: float
    trusted: float

    @classmethod
    def of(cls, config: AuditConfig, job: Job) -> Claim:
        """The claim of a job over all hospitals of the audit."""
        numbers, privacy, sites = job.privacy.update, job.privacy, config.hospitals
        clips = numbers.scale * numbers.clip  # grid units
        rounds = job.training.rounds
        sigma = numbers.noise_multiplier * numbers.sensitivity / clips
        # distributed: the sites beyond those that may collude make up sigma; local: each site does
        trusted = (sites - privacy.colluding_sites) if privacy.mode == "distributed" else 1
        rounding = sites * rounds / (4 * clips**2)
        if privacy.mode == "local":
            rounding += sites * rounds * _digit(job) ** 2 / 4
        return cls(
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            noise=sigma * math.sqrt(rounds * sites / trusted),
            rounding=rounding,
            step=config.influence,
            rounds=rounds,
            rate=numbers.sampling_rate,
            trusted=trusted / sites,
        )

    @property
    def sigma(self) -> float:
        """Noise multiplier of one round that the guarantee counts on."""
        return self.noise * math.sqrt(self.trusted / self.rounds)

    @property
    def signal(self) -> float:
        """Expected score of a canary that is in the data."""
        return self.step * self.rounds * self.rate

    @cached_property
    def needed_sigma(self) -> float:
        """The noise multiplier that the claimed epsilon needs in every round."""
        if self.rate == 1:
            return needed_sigma(self.epsilon, self.delta, self.rounds)
        # Of sampled batches the accountant alone knows.
        return calibrate(self.epsilon, self.delta, self.rounds, self.rate)

    @cached_property
    def epsilon_guessed(self) -> float:
        """Epsilon of the claimed noise at `GUESS_DELTA`."""
        return self.epsilon_of(self.sigma, GUESS_DELTA)

    def epsilon_of(self, sigma: float, delta: float | None = None) -> float:
        """Epsilon of all rounds with this noise multiplier, at the job's delta or another."""
        delta = self.delta if delta is None else delta
        if self.rate == 1 or not 0 < sigma < math.inf:
            return implied_epsilon(sigma, delta, self.rounds)
        return epsilon([Event(sigma, self.rate, self.rounds)], delta)


def _digit(job: Job) -> float:
    """One digit of a site's update in the final weights, in clips of one round (mode `local`)."""
    levels = (1 << (job.encryption.digit_bits - 1)) - 1
    sizes = [site.train_size for site in job.sites]
    return job.encryption.digit_bound / levels * max(sizes) / sum(sizes) / MOVE
