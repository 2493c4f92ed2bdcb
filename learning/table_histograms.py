"""The histograms of a table of statistics, and those of two tables beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from learning.cells import LevelCells, NumberCells, bins_of, levels_of
from learning.pooled_statistics import Statistics
from learning.schema import Column
from learning.stability import Histogram, Stability, stability
from learning.task import FloatVector
from protocol.errors import InputError

_HALVINGS = 200


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What was counted of a column, apart from the counts.

    Args:
        unit: Of a number.
        bounds: Of a number, None for anything else.
        bins: Of a number, between its bounds.
        levels: Of anything else.
        optional: Whether those without a value are counted, too; of a label they never are.
    """

    unit: str = ""
    bounds: tuple[float, float] | None = None
    bins: int = 0
    levels: tuple[str, ...] = ()
    optional: bool = True

    def __str__(self) -> str:
        """As errors say it."""
        known = "" if self.optional else ", of those who have one"
        if self.bounds is None:
            return f"one of {', '.join(self.levels)}{known}"
        low, high = self.bounds
        bins = f" in {self.bins} bins" if self.bins else ""
        return f"a number in {self.unit or 'no unit'} from {low:g} to {high:g}{bins}{known}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape:
    """A column's histogram.

    Args:
        counted: What its bins are.
        histogram: Bins or levels in order, those without a value last where there may be some.
    """

    counted: Counted
    histogram: Histogram


def shapes(task: Statistics, sums_P: FloatVector, noise: float) -> dict[str, Shape]:
    """The histogram of every column that has one, and of the label, by name.

    Args:
        task: The statistics job's task.
        sums_P: Its finished weights.
        noise: Standard deviation of the noise of each of them.

    Raises:
        IntegrityError: The sums have another length.
    """
    sums = task.layout().split(sums_P)
    found = {}
    for name, cells, counted in _columns(task):
        if isinstance(cells, LevelCells):
            count_B = sums[f"{cells.name}/levels"]
        elif cells.bins:
            missing = [sums[f"{cells.name}/missing"]] if cells.optional else []
            count_B = np.concatenate([sums[f"{cells.name}/bins"], *missing])
        else:
            continue
        histogram = Histogram(count_B=np.asarray(count_B, dtype=np.float64), noise=noise)
        found[name] = Shape(counted=counted, histogram=histogram)
    return found


def _columns(task: Statistics) -> Iterator[tuple[str, NumberCells | LevelCells, Counted]]:
    """Name, cells and description of every column, and of the label."""
    description, label = task.evaluation, task.schema.label
    for column, cells in zip(task.schema.columns, description.columns, strict=True):
        yield column.name, cells, counted_as(column, task.options.bins)
    counted = Counted(levels=label.texts, optional=False)
    if not label.classes:
        bounds = float(label.low or 0.0), float(label.high or 0.0)
        counted = Counted(bounds=bounds, bins=task.options.bins, optional=False)
    yield label.name, description.label, counted


def counted_as(column: Column, bins: int) -> Counted:
    """How a number, category or flag is counted."""
    if column.kind == "number":
        return Counted(unit=column.unit, bounds=column.bounds, bins=bins)
    return Counted(levels=levels_of(column))


def edges(bounds: tuple[float, float], bins: int) -> FloatVector:
    """The smallest value of each of B bins but the first, (B - 1,), in the column's unit.

    A value is in bin k or above exactly if it is not below edge k - 1; a formula for edges would be
    wrong by a rounding, which for whole numbers is a whole bin.

    >>> edges((0.0, 100.0), 4).tolist()
    [25.0, 50.0, 75.0]
    """
    low, high = bounds
    middle, half = low + (high - low) / 2, (high - low) / 2
    below_K, above_K = np.full(bins - 1, low), np.full(bins - 1, high)
    for _ in range(_HALVINGS):
        value_K = below_K + (above_K - below_K) / 2
        reached_K = bins_of((value_K - middle) / half, bins) > np.arange(bins - 1)
        above_K = np.where(reached_K, value_K, above_K)
        below_K = np.where(reached_K, below_K, value_K)
    return above_K


def drift(reference: dict[str, Shape], found: dict[str, Shape]) -> dict[str, Stability | None]:
    """How far each column of a table is from a reference; None where too few were counted.

    Columns that only one of them has are left out.

    Raises:
        InputError: A column was counted otherwise, or there is none that both have.
    """
    both = [name for name in found if name in reference]
    if not both:
        raise InputError("two tables without a column in common", expected=", ".join(reference))
    for name in both:
        check_alike(name, expected=reference[name].counted, found=found[name].counted)
    return {name: stability(reference[name].histogram, found[name].histogram) for name in both}


def check_alike(name: str, *, expected: Counted, found: Counted) -> None:
    """Refuse to compare what was counted in two ways.

    Raises:
        InputError: It was.
    """
    if expected != found:
        raise InputError(f"counts of {name!r}", expected=str(expected), found=str(found))
