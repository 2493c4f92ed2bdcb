"""A simulation's results by subgroup: exact, since its data are public."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from learning.few import TOO_FEW


@dataclass(frozen=True, kw_only=True)
class SubgroupRow:
    """One value of one marked column, under one arm.

    Args:
        arm: The arm's name.
        epsilon: Its epsilon, None without one.
        column: The marked column.
        level: The value.
        scores: The measure of every model that the arm gave; of too few patients there is none.
    """

    arm: str
    epsilon: float | None
    column: str
    level: str
    scores: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        """Mean over models."""
        return statistics.fmean(self.scores) if self.scores else None

    def to_json(self) -> dict[str, Any]:
        """The row as JSON's types."""
        return {
            "arm": self.arm,
            "epsilon": self.epsilon,
            "column": self.column,
            "level": self.level,
            "mean": self.mean,
            "scores": list(self.scores),
        }


def gap(rows: Iterable[SubgroupRow]) -> float | None:
    """Largest difference between means; None where fewer than two are known.

    >>> one, two = (
    ...     SubgroupRow(arm="pooled", epsilon=None, column="sex", level=level, scores=scores)
    ...     for level, scores in (("f", (0.5, 1.0)), ("m", (0.5,)))
    ... )
    >>> gap([one, two]), gap([one])
    (0.25, None)
    """
    known = [row.mean for row in rows if row.mean is not None]
    return max(known) - min(known) if len(known) > 1 else None


def cells(rows: Sequence[SubgroupRow]) -> tuple[list[str], list[list[str]]]:
    """Heads and lines of a table: a line for each value and each gap, a column for each arm."""
    arms = list(dict.fromkeys((row.arm, row.epsilon) for row in rows))
    heads = ["subgroup", *(arm if eps is None else f"{arm}, ε = {eps:g}" for arm, eps in arms)]
    lines = []
    for column in dict.fromkeys(row.column for row in rows):
        here = [row for row in rows if row.column == column]
        for level in dict.fromkeys(row.level for row in here):
            means = {(row.arm, row.epsilon): row.mean for row in here if row.level == level}
            lines.append([f"{column} = {level}", *(_cell(means[arm]) for arm in arms)])
        gaps = (gap(row for row in here if (row.arm, row.epsilon) == arm) for arm in arms)
        lines.append([f"{column}: largest difference", *map(_cell, gaps)])
    return heads, lines


def table(rows: Sequence[SubgroupRow], measure: str) -> Table:
    """The results for the terminal.

    Args:
        rows: At least one.
        measure: What the scores are.
    """
    heads, lines = cells(rows)
    shown = Table(title=f"{measure} by subgroup", title_justify="left")
    shown.add_column(heads[0])
    for head in heads[1:]:
        shown.add_column(head.replace(", ", "\n"), justify="right")
    for line in lines:
        shown.add_row(*line, end_section="difference" in line[0])
    return shown


def _cell(value: float | None) -> str:
    return TOO_FEW if value is None else f"{value:.3f}"
