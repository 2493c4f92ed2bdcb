"""Where attacks are tried: hospitals under each defence, invented records, and who sides with whom.

Everything public is drawn from the configuration's seed, so that every defence meets the same
records and the same attacker. Noise is the operating system's unless a test asks otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from privacy.noise import Entropy, SeededEntropy, SystemEntropy
from simulations.attack_bench import Bench
from simulations.attack_config import AttackConfig
from simulations.attack_jobs import Defence, Plan, defences
from simulations.attack_records import FloatArray, deal, invent
from simulations.attack_score import Score, score
from simulations.consortium import hospital_names
from strategies.base import FloatVector

_AVERAGED = 4096
_FRESH = 256


@dataclass(frozen=True)
class Range:
    """The shooting range of one configuration."""

    config: AttackConfig

    @property
    def names(self) -> tuple[str, ...]:
        """The hospitals."""
        return hospital_names(self.config.hospitals)

    @property
    def defences(self) -> tuple[Defence, ...]:
        """Every defence, in the order of the table."""
        return defences(self.config)

    def rng(self, *context: str | int) -> np.random.Generator:
        """A public generator for one purpose."""
        text = "/".join(str(part) for part in context)
        return np.random.Generator(np.random.PCG64([self.config.seed, *text.encode()]))

    @cached_property
    def average_F(self) -> FloatVector:  # noqa: N802 - the shape is part of the name
        """The average record, which anybody may know."""
        average_F: FloatVector = invent(_AVERAGED, self.rng("average")).x_NF.mean(axis=0)
        return average_F

    @cached_property
    def fresh_NF(self) -> FloatArray:  # noqa: N802
        """Records that are in nobody's data."""
        return invent(_FRESH, self.rng("fresh")).x_NF

    def score(self, truth_NF: FloatArray, candidates_MF: FloatArray) -> Score:
        """Compare an attacker's candidates with the records."""
        return score(truth_NF, candidates_MF, average_F=self.average_F, fresh_NF=self.fresh_NF)

    def colluders(self, victim: str, count: int) -> tuple[str, ...]:
        """So many hospitals, other than the victim, that pool what they hold."""
        return tuple(name for name in self.names if name != victim)[:count]

    def benches(
        self, plan: Plan, defence: Defence, rng: np.random.Generator, *, trials: int = 1
    ) -> Iterator[Bench]:
        """Consortia of one job under one defence, each with records and keys of its own."""
        job, task = plan.job(defence)
        for trial in range(trials):
            yield Bench(
                defence=defence,
                job=job,
                task=task,
                records=deal(invent(len(self.names) * plan.records, rng), self.names),
                entropy=self._entropy(job.task.name, defence.label, plan.records, trial),
            )

    def _entropy(self, *context: str | int) -> Entropy:
        if not self.config.seeded_noise:
            return SystemEntropy()
        return SeededEntropy(self.config.seed, *(str(part) for part in context))
