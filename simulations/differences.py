"""How much better or worse an arm is than another on the same patients, seed by seed.

All arms of a seed have the same hospitals, splits and held-out patients. Who is held out moves all
of them together, so a difference varies far less than the two scores that it is of.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from protocol.errors import InputError
from simulations.results import Result, Row
from simulations.wording import label, ordered

REFERENCE = "pooled"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One arm minus another.

    Args:
        mean: Mean over seeds.
        error: Standard error of that mean; None for a single seed.
    """

    mean: float
    error: float | None

    def __str__(self) -> str:
        return f"{self.mean:+.3f}" + ("" if self.error is None else f" ± {self.error:.3f}")


def difference(row: Row, other: Row, seeds: int) -> Difference:
    """One arm's scores minus another's; several models of one seed count by their mean.

    Raises:
        InputError: An arm's scores are not as many for every seed.

    >>> alone = Row(arm="local_only", scores=(0.80, 0.84, 0.70, 0.74))
    >>> str(difference(alone, Row(arm="pooled", scores=(0.90, 0.81)), seeds=2))
    '-0.085 ± 0.005'
    """
    gaps = [a - b for a, b in zip(_by_seed(row, seeds), _by_seed(other, seeds), strict=True)]
    error = statistics.stdev(gaps) / seeds**0.5 if seeds > 1 else None
    return Difference(mean=statistics.fmean(gaps), error=error)


def against_pooled(result: Result) -> str:
    """Every other arm beside all data in one place, in one line; empty where there is no such arm.

    >>> rows = (Row(arm="pooled", scores=(0.90, 0.80)), Row(arm="clear", scores=(0.89, 0.80)))
    >>> against_pooled(Result(name="x", rows=rows, delta=1e-5, seeds=(0, 1)))
    'Against all data in one place, seed by seed: federated, in the clear -0.005 ± 0.005'
    """
    reference = [row for row in result.rows if row.arm == REFERENCE]
    others = [row for row in ordered(result.rows) if row.arm != REFERENCE]
    if not reference or not others:
        return ""
    found = [(label(row), difference(row, reference[0], len(result.seeds))) for row in others]
    words = "; ".join(f"{name} {gap}" for name, gap in found)
    return f"Against {label(reference[0])}, seed by seed: {words}"


def _by_seed(row: Row, seeds: int) -> list[float]:
    """Mean score of each seed; an arm's scores come seed after seed."""
    each, left = divmod(len(row.scores), seeds)
    if left or not each:
        raise InputError(
            f"scores of arm {row.arm!r}",
            expected=f"as many for each of {seeds} seeds",
            found=str(len(row.scores)),
        )
    return [statistics.fmean(row.scores[seed * each : (seed + 1) * each]) for seed in range(seeds)]
