"""How the columns of a job's schema are counted for its statistics."""

from __future__ import annotations

from dataclasses import dataclass, replace

from learning.schema import Column, Schema
from learning.survival_times import check_intervals, check_timed
from protocol.errors import InputError

COUNTED = ("number", "category", "flag")


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Kaplan-Meier curves: the label is the event, its second class that it happened.

    Args:
        time: The target with the time until the event or the last visit, from 0 on.
        intervals: T, equal parts of the time up to the target's upper bound.
        cuts: Ends of the intervals instead, ascending, in the target's unit.
        group: A category or flag; left out, there is one curve.
    """

    time: str
    intervals: int = 8
    cuts: tuple[float, ...] | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        check_intervals(self.intervals, self.cuts)


def counted(schema: Schema, curves: Curves | None) -> Schema:
    """The schema by which a job's columns are counted.

    Numbers are scaled to [-1, 1] by their bounds; targets stand among the columns, but for the time
    of curves; and every column says whether it is missing.

    Raises:
        InputError: A column cannot be counted, or the curves do not fit.
    """
    kept = tuple(one for one in schema.targets if curves is not None and one.name == curves.time)
    others = tuple(one for one in schema.targets if one not in kept)
    columns = tuple(_column(one) for one in (*schema.columns, *others))
    if curves is not None:
        if not kept:
            raise InputError("time of curves", expected="one of the targets", found=curves.time)
        levels = [one.name for one in columns if one.kind != "number"]
        if curves.group not in (None, *levels):
            found = str(curves.group)
            raise InputError("group of curves", expected="a category or flag", found=found)
        check_timed(replace(schema, targets=kept))
    return replace(schema, columns=columns, targets=kept)


def _column(column: Column) -> Column:
    if column.kind not in COUNTED:
        raise InputError(
            f"column {column.name!r}",
            expected="a number, category or flag",
            found=column.kind,
            remedy="leave it out of the schema of a statistics job",
        )
    if column.subgroup:
        raise InputError(
            f"column {column.name!r} is marked as telling subgroups apart",
            expected="no mark in a statistics job, which evaluates nothing",
            remedy="leave the mark out; 'group' of its curves tells survival by a column's values",
        )
    if column.kind != "number":
        return replace(column, neutral=None, may_be_missing=True)
    low, high = column.bounds
    return replace(
        column,
        centre=low + (high - low) / 2,
        spread=(high - low) / 2,
        neutral=None,
        may_be_missing=True,
    )
