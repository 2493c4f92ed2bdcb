"""What a mechanism is charged, and what a hospital allows: the two sides of its privacy budget."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from protocol.errors import InputError

Partition = Literal["train", "test"]
Purpose = Literal["update", "evaluation"]

_PARTITIONS = ("train", "test")
_PURPOSES = ("update", "evaluation")


@dataclass(frozen=True, kw_only=True)
class Charge:
    """One mechanism of a job and how often it may run: what the engine does and the ledger counts.

    Args:
        population: The hospital's name for a group of patients; every data set made of the same
            patients belongs to the same population.
        partition: `train` or `test`; their patients are disjoint, so each has its own budget.
        job: SHA-256 of the job, hexadecimal.
        purpose: `update` or `evaluation`; at most one charge of a job has it.
        sigma_effective: Noise multiplier of the sum under the stated trust; 0 is no noise.
        sigma_own: Noise multiplier of this hospital's share alone, if everyone else colludes.
        q: Probability with which a patient is in one release; 1 is full batch.
        steps: Releases that may happen, spare attempts included.
        clip: L2 bound of one patient's contribution.
        declared_size: Public, rounded number of patients.
        cohort_size: K, hospitals in the sum.
        colluding_sites: t, hospitals that may pool what they see with the coordinator.
        repeats: Noised sums behind one release; each of them composes.

    Raises:
        InputError: A number lies outside its range.
    """

    population: str
    partition: Partition
    job: str
    purpose: Purpose
    sigma_effective: float
    sigma_own: float
    q: float
    steps: int
    clip: float
    declared_size: int
    cohort_size: int
    colluding_sites: int
    repeats: int = 1

    def __post_init__(self) -> None:
        # Own noise is a part of the whole; the tolerance is for shares recomputed in floats.
        own_limit = self.sigma_effective * (1 + 1e-9)
        for name, right, expected in (
            ("population", bool(self.population), "a name"),
            ("partition", self.partition in _PARTITIONS, "train or test"),
            ("job", is_digest(self.job), "64 hexadecimal digits"),
            ("purpose", self.purpose in _PURPOSES, "update or evaluation"),
            ("sigma_effective", 0 <= self.sigma_effective < math.inf, "a finite number >= 0"),
            ("sigma_own", 0 <= self.sigma_own <= own_limit, "0 <= sigma_own <= sigma_effective"),
            ("q", 0 < self.q <= 1, "0 < q <= 1"),
            ("steps", self.steps >= 1, "an integer >= 1"),
            ("repeats", self.repeats >= 1, "an integer >= 1"),
            ("clip", 0 < self.clip < math.inf, "a finite number > 0"),
            ("declared_size", self.declared_size >= 0, "an integer >= 0"),
            ("cohort_size", self.cohort_size >= 1, "an integer >= 1"),
            (
                "colluding_sites",
                0 <= self.colluding_sites < self.cohort_size,
                "0 <= colluding_sites < cohort_size",
            ),
        ):
            if not right:
                raise InputError(
                    f"charge.{name}", expected=expected, found=repr(getattr(self, name))
                )


@dataclass(frozen=True, kw_only=True)
class Caps:
    """The most a hospital allows per population and partition; `inf` allows everything.

    Args:
        epsilon: Cap under the stated trust.
        epsilon_worst: Cap if every other hospital colludes with the coordinator.
        delta: The delta at which both are counted.

    Raises:
        InputError: A number lies outside its range.
    """

    epsilon: float
    epsilon_worst: float
    delta: float

    def __post_init__(self) -> None:
        for name in ("epsilon", "epsilon_worst"):
            if not getattr(self, name) > 0:
                raise InputError(
                    f"caps.{name}", expected="a number > 0", found=repr(getattr(self, name))
                )
        if not 0 < self.delta < 1:
            raise InputError("caps.delta", expected="0 < delta < 1", found=repr(self.delta))


def is_digest(text: str) -> bool:
    """Whether a text is a SHA-256 in lower-case hexadecimal.

    >>> is_digest("0" * 64), is_digest("A" * 64), is_digest("00")
    (True, False, False)
    """
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def select(charges: Iterable[Charge], population: str, partition: Partition) -> tuple[Charge, ...]:
    """The charges of one population and partition."""
    return tuple(
        charge
        for charge in charges
        if (charge.population, charge.partition) == (population, partition)
    )
