"""What a hospital allows, frozen when it is loaded; a job's numbers can only be stricter."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol.errors import InputError
from protocol.jobs import Mode


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The hospital's own rules. Every default is the careful choice.

    Args:
        tasks: Registered tasks that may run here.
        strategies: Registered strategies that may run here.
        modes: Privacy modes that may run here; `none` gives no privacy against the other members.
        epsilon_per_job: Cap on a job's epsilon under the stated trust.
        epsilon_worst_per_job: Cap on a job's epsilon if every other hospital colludes.
        delta: Largest delta of a job.
        min_cohort: Fewest hospitals in one sum.
        min_colluding_sites: Fewest colluding hospitals that a job must assume.
        max_rounds: Most rounds of one job.
        max_parameters: Most parameters of one model.
        clear_runs: Allow unencrypted research runs; they need a data set marked public as well.
        publish_metrics: Pooled metrics may go to the coordinator.
        publish_model: The finished model may go to the coordinator.
    """

    tasks: tuple[str, ...] = ("diagnosis",)
    strategies: tuple[str, ...] = (
        "fedavg",
        "fedprox",
        "fedavgm",
        "fedadam",
        "fedyogi",
        "fedadagrad",
        "fedsgd",
        "one_shot",
    )
    modes: tuple[Mode, ...] = ("distributed", "local")
    epsilon_per_job: float = 3.0
    epsilon_worst_per_job: float = 10.0
    delta: float = 1e-5
    min_cohort: int = 3
    min_colluding_sites: int = 1
    max_rounds: int = 1000
    max_parameters: int = 10_000_000
    clear_runs: bool = False
    publish_metrics: bool = False
    publish_model: bool = False

    def __post_init__(self) -> None:
        if self.min_cohort < 3:
            raise InputError(
                "min_cohort",
                expected=">= 3, since a sum of two tells each hospital the other's part",
                found=str(self.min_cohort),
            )
        if not (self.epsilon_per_job > 0 and self.epsilon_worst_per_job >= self.epsilon_per_job):
            raise InputError(
                "epsilon caps",
                expected="0 < epsilon_per_job <= epsilon_worst_per_job",
                found=f"{self.epsilon_per_job} and {self.epsilon_worst_per_job}",
            )
        if not 0 < self.delta < 1:
            raise InputError("delta", expected="0 < delta < 1", found=str(self.delta))
        for name, least in (("min_colluding_sites", 0), ("max_rounds", 1), ("max_parameters", 1)):
            value = getattr(self, name)
            if value < least:
                raise InputError(name, expected=f">= {least}", found=str(value))


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Lifetime caps of one population, over all jobs and data sets of the same patients.

    Args:
        epsilon: Cap under the stated trust.
        epsilon_worst: Cap if every other hospital colludes with the coordinator.
        delta: The delta at which both are computed.
    """

    epsilon: float = 3.0
    epsilon_worst: float = 10.0
    delta: float = 1e-5

    def __post_init__(self) -> None:
        if not (0 < self.epsilon <= self.epsilon_worst and 0 < self.delta < 1):
            raise InputError(
                "budget",
                expected="0 < epsilon <= epsilon_worst and 0 < delta < 1",
                found=f"{self.epsilon}, {self.epsilon_worst} and {self.delta}",
            )


@dataclass(frozen=True, kw_only=True)
class Population:
    """Patients who share one budget, however many data sets hold their records.

    Args:
        budget: Caps of training patients; held-out patients have the same caps of their own.
        public: The records are public or synthetic: seeded noise and clear runs are possible.
    """

    budget: Budget = field(default_factory=Budget)
    public: bool = False
