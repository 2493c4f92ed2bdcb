"""What charged mechanisms cost together: by the filter that admits, and by the tighter display.

Both count at SLACK * delta; the rest of delta pays for rounding and for noise on a grid.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from privacy import accounting
from privacy.accounting import SLACK, Event
from privacy.charges import Caps, Charge


def admission_epsilons(charges: Sequence[Charge], caps: Caps) -> tuple[float, float]:
    """Both epsilons as the admission filter counts them, to be compared with these caps only.

    Each filter is valid for jobs that are chosen after seeing the results of others: Gaussian
    differential privacy while every mechanism has q = 1, Rényi differential privacy once one is
    sub-sampled. Where the first sub-sampled job itself is chosen by earlier results, the two
    certificates add up to at most twice delta. The Rényi filter's one order follows from delta and
    cap alone, so it is known before any result; each other cap that a hospital puts in force later
    is another filter, and its delta adds up in the same way.

    Args:
        charges: Everything admitted so far and everything asked for.
        caps: What must not be passed.

    Returns:
        Epsilon under the stated trust, and if every other hospital colludes.

    Source: Smith, Thakurta 2022, Fully adaptive composition for Gaussian differential privacy;
    Feldman, Zrnic 2021, Individual privacy accounting via a Rényi filter.
    """
    return (
        _filter(to_events(charges, worst=False), SLACK * caps.delta, caps.epsilon),
        _filter(to_events(charges, worst=True), SLACK * caps.delta, caps.epsilon_worst),
    )


def displayed_epsilons(charges: Sequence[Charge], delta: float) -> tuple[float, float]:
    """The same two by the privacy-loss distribution: tighter, for display, never for admission."""
    return (
        _display(to_events(charges, worst=False), SLACK * delta),
        _display(to_events(charges, worst=True), SLACK * delta),
    )


def to_events(charges: Sequence[Charge], *, worst: bool) -> tuple[Event, ...]:
    """The mechanisms in canonical form: equal ones are added up, in a fixed order."""
    steps: Counter[tuple[float, float]] = Counter()
    for charge in charges:
        sigma = charge.sigma_own if worst else charge.sigma_effective
        steps[sigma, charge.q] += charge.steps * charge.repeats
    return tuple(Event(sigma, q, count) for (sigma, q), count in sorted(steps.items()))


def _filter(events: Sequence[Event], delta: float, cap: float) -> float:
    if all(event.q == 1 for event in events):
        return accounting.gaussian_epsilon(accounting.mu_of(events), delta)
    # Without a cap there is nothing to choose the order by, and nothing to refuse.
    finite_cap = cap if math.isfinite(cap) else None
    return accounting.rdp_epsilon(events, delta, cap=finite_cap)


def _display(events: Sequence[Event], delta: float) -> float:
    if any(event.sigma == 0 for event in events):
        return math.inf
    return accounting.epsilon(events, delta)
