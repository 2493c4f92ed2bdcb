"""Whether a job's charges fit a hospital's caps.

Everything here is pure: mechanisms and caps go in, a decision comes out. Storage is privacy.ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from privacy.charges import Caps, Charge, Partition, Purpose, select
from privacy.composition import admission_epsilons
from protocol.errors import BudgetError, InputError

__all__ = ["Caps", "Charge", "Decision", "Partition", "Purpose", "Standing", "decide"]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One population and partition before and after the asked charges, against the caps.

    Args:
        population: Whose patients.
        partition: Which of them.
        counted: Charges that are reserved or settled.
        asked: Charges that are asked for.
        caps: What the hospital allows.
    """

    population: str
    partition: Partition
    counted: tuple[Charge, ...]
    asked: tuple[Charge, ...]
    caps: Caps

    @cached_property
    def spent(self) -> tuple[float, float]:
        """Both epsilons of what is counted."""
        return admission_epsilons(self.counted, self.caps)

    @cached_property
    def alone(self) -> tuple[float, float]:
        """Both epsilons of what is asked for, as if nothing had been spent."""
        return admission_epsilons(self.asked, self.caps)

    @cached_property
    def total(self) -> tuple[float, float]:
        """Both epsilons after the asked charges."""
        return admission_epsilons(self.counted + self.asked, self.caps)

    @property
    def fits(self) -> bool:
        """Whether both epsilons stay within their caps."""
        return self.total[0] <= self.caps.epsilon and self.total[1] <= self.caps.epsilon_worst


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The answer to a request, and what it rests on.

    Args:
        at: When it was asked.
        standings: One for each population and partition that the charges touch.
    """

    at: datetime
    standings: tuple[Standing, ...]

    @property
    def granted(self) -> bool:
        """Whether every standing fits."""
        return all(standing.fits for standing in self.standings)

    def require(self) -> None:
        """Do nothing if granted.

        Raises:
            BudgetError: Names population, caps, spent and asked-for epsilon, of both kinds.
        """
        for standing in self.standings:
            if not standing.fits:
                raise _refusal(standing)


def decide(
    *, rows: Sequence[Charge], charges: Sequence[Charge], caps: Caps, clock: datetime
) -> Decision:
    """Compose what is counted with what is asked for and hold it against the caps.

    Guarantee: for each population and partition, all granted releases together stay within the
    caps' (epsilon, delta) under add/remove-one-patient, also where a job is chosen after seeing
    the results of others (privacy.composition.admission_epsilons).

    Args:
        rows: Charges that are reserved or settled, with the steps that count.
        charges: What one job asks for.
        caps: The caps, equal for each population and partition.
        clock: The time of the request.

    Raises:
        InputError: No charge is asked for, or the time has no zone.
    """
    if not charges or clock.tzinfo is None:
        raise InputError("request", expected="at least one charge and a time with a zone")
    budgets = sorted({(charge.population, charge.partition) for charge in charges})
    return Decision(
        at=clock,
        standings=tuple(
            Standing(
                population=population,
                partition=partition,
                counted=select(rows, population, partition),
                asked=select(charges, population, partition),
                caps=caps,
            )
            for population, partition in budgets
        ),
    )


def _refusal(standing: Standing) -> BudgetError:
    caps = standing.caps
    found = " and ".join(
        f"{name} {standing.total[kind]:.6g} (spent {standing.spent[kind]:.6g}, "
        f"asked for {standing.alone[kind]:.6g})"
        for kind, name in enumerate(("epsilon", "worst-case epsilon"))
    )
    return BudgetError(
        f"the privacy budget of population {standing.population!r} ({standing.partition}) does not "
        f"cover job {standing.asked[0].job[:12]}",
        expected=f"epsilon <= {caps.epsilon:g} and worst-case epsilon <= {caps.epsilon_worst:g} "
        f"at delta {caps.delta:g}",
        found=found,
        remedy="ask for fewer rounds or more noise; only this hospital's policy can raise a cap",
    )
