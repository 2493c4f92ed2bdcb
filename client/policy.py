"""What a hospital allows, frozen when it is loaded; a job's numbers can only be stricter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from client.hours import Hours
from privacy.charges import Caps
from protocol.errors import InputError
from protocol.jobs import Job, Mode


@dataclass(frozen=True, kw_only=True)
class Approval:
    """What may be done with one data set, in addition to the rules for all.

    Args:
        tasks: Only these tasks; None for all that the policy allows.
        coordinators: Only jobs of these coordinators, by fingerprint; None for all.
        epsilon_per_job: A cap below the policy's, on a job's epsilon under the stated trust.
        epsilon_worst_per_job: The same if every other hospital colludes.
    """

    tasks: tuple[str, ...] | None = None
    coordinators: tuple[str, ...] | None = None
    epsilon_per_job: float | None = None
    epsilon_worst_per_job: float | None = None

    def __post_init__(self) -> None:
        _check_coordinators(self.coordinators)
        for name in ("epsilon_per_job", "epsilon_worst_per_job"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(name, expected="> 0", found=str(value))


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The hospital's own rules. Every default is the careful choice.

    Args:
        tasks: Registered tasks that may run here.
        coordinators: Only jobs of these coordinators, by fingerprint; None for whoever signed the
            pinned roster.
        strategies: Registered strategies that may run here.
        modes: Privacy modes that may run here; `none` gives no privacy against the other members.
        epsilon_per_job: Cap on a job's epsilon under the stated trust.
        epsilon_worst_per_job: Cap on a job's epsilon if every other hospital colludes.
        delta: Largest delta of a job.
        min_cohort: Fewest hospitals in one sum.
        min_colluding_sites: Fewest colluding hospitals that a job must assume.
        max_rounds: Most rounds of one job.
        max_parameters: Most parameters of one model.
        min_cell: Smallest noised count that a table of statistics may show, the least `fewer_than`
            of such a job; 1 for any.
        hours: When a job may begin; None for always.
        datasets: Further rules for single data sets, by name.
        require_masks: Refuse jobs of mode `local` without pairwise masks, too; in the other modes
            nothing runs without them.
        clear_runs: Allow unencrypted research runs; they need a data set marked public as well.
            Where it is false, every contribution must be encrypted.
        publish_metrics: Pooled metrics may go to the coordinator.
        publish_model: The finished model may go to the coordinator.
        hand_on_to: Hospitals to which finished models may be handed on, sealed so that the
            coordinator cannot read them.
        accept_models: Whether models that other hospitals finished, and enough of them vouch for,
            are taken into the store.
    """

    tasks: tuple[str, ...] = ("diagnosis",)
    coordinators: tuple[str, ...] | None = None
    strategies: tuple[str, ...] = (
        "fedavg",
        "fedprox",
        "fedavgm",
        "fedadam",
        "fedyogi",
        "fedadagrad",
        "fedsgd",
        "one_shot",
        "tally",
    )
    modes: tuple[Mode, ...] = ("distributed", "local")
    epsilon_per_job: float = 3.0
    epsilon_worst_per_job: float = 10.0
    delta: float = 1e-5
    min_cohort: int = 3
    min_colluding_sites: int = 1
    max_rounds: int = 1000
    max_parameters: int = 10_000_000
    min_cell: int = 10
    hours: Hours | None = None
    datasets: Mapping[str, Approval] = field(default_factory=dict)
    require_masks: bool = False
    clear_runs: bool = False
    publish_metrics: bool = False
    publish_model: bool = False
    hand_on_to: tuple[str, ...] = ()
    accept_models: bool = False

    def __post_init__(self) -> None:
        _check_coordinators(self.coordinators)
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
        for name, least in (
            ("min_colluding_sites", 0),
            ("max_rounds", 1),
            ("max_parameters", 1),
            ("min_cell", 1),
        ):
            value = getattr(self, name)
            if value < least:
                raise InputError(name, expected=f">= {least}", found=str(value))

    def approval(self, dataset: str) -> Approval:
        """The further rules of a data set; none where it is not listed."""
        return self.datasets.get(dataset, Approval())


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


def _check_coordinators(fingerprints: tuple[str, ...] | None) -> None:
    for digits in fingerprints or ():
        if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
            raise InputError(
                "coordinators",
                expected="fingerprints of 64 hexadecimal digits",
                found=repr(digits),
                remedy="copy them as: fedward client trust shows them, without blanks",
            )


def caps_of(job: Job, budget: Budget) -> Caps:
    """The lifetime caps that a job's releases count against.

    A job of mode `none`, where the policy lets it in, has no epsilon and meets no cap; the ledger
    records it, and no private job of the same population fits afterwards.
    """
    if job.privacy.mode == "none":
        return Caps(epsilon=math.inf, epsilon_worst=math.inf, delta=budget.delta)
    return Caps(epsilon=budget.epsilon, epsilon_worst=budget.epsilon_worst, delta=budget.delta)
