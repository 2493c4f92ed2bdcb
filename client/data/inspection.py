"""What a job would meet in a table, column by column: counts and places, never a value.

The counting is done by the code that a job runs, so that what is found here is what happens there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from learning.preprocess import features
from learning.schema import Column, Schema
from learning.task import Report, Table, Task

Verdict = Literal["ok", "as declared", "clamped", "wrong unit?", "replaced", "left out", "absent"]
Raw = Sequence[str | float | None]

_EXPECTED = frozenset({"ok", "as declared", "clamped"})
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+\s*")


@dataclass(frozen=True, kw_only=True)
class ColumnProfile:
    """One column of the schema as the hospital's source fills it.

    Args:
        name: The column's name in the schema.
        kind: `number`, `category`, `flag`, `label`, `patient`, `time` or `site`.
        optional: Whether the schema says that a value may be missing.
        missing: Cells that are empty or say that nothing is known.
        unreadable: Cells with NaN, an infinity, or what is not of the column's kind.
        outside: Numbers beyond the schema's bounds.
        unknown: Categories or classes that the schema does not list.
        verdict: What a job makes of the cells that are counted here.
        remedy: What to do about it; empty where nothing need be done.
    """

    name: str
    kind: str
    optional: bool = False
    missing: int = 0
    unreadable: int = 0
    outside: int = 0
    unknown: int = 0
    verdict: Verdict = "ok"
    remedy: str = ""

    @property
    def clean(self) -> bool:
        """Whether a job would read this column as the schema foresees."""
        return self.verdict in _EXPECTED

    @property
    def problems(self) -> tuple[str, ...]:
        """Why cells of this column are not used as they stand, in words."""
        unreadable = "NaN or no number" if self.kind == "number" else "unreadable"
        counts = {
            "missing": 0 if self.optional else self.missing,
            unreadable: self.unreadable,
            "unknown": self.unknown,
        }
        return tuple(problem for problem, count in counts.items() if count)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A data set as a job would read it. It holds exact counts and stays inside the hospital.

    Args:
        rows: Rows of the source.
        kept: Rows with a known class and a patient.
        unit: Whom a job protects: `patient`, or `record` where the schema names no patient.
        patients: Different patients among them.
        classes: Rows that are kept, by class.
        columns: Every column of the schema, inputs first.
    """

    rows: int
    kept: int
    unit: str
    patients: int
    classes: dict[str, int]
    columns: tuple[ColumnProfile, ...]

    @property
    def findings(self) -> tuple[ColumnProfile, ...]:
        """Columns of which something would be replaced or left out, or that look wrong."""
        return tuple(column for column in self.columns if not column.clean)

    @property
    def clean(self) -> bool:
        """Whether there are records and every column is as the schema foresees."""
        return self.kept > 0 and not self.findings


def inspect(task: Task, table: Table, absent: Collection[str] = ()) -> Profile:
    """Count what a job with this task would meet in a table.

    Args:
        task: What turns columns into records.
        table: Every column of its schema, equally long.
        absent: Columns that the source lacks; in `table` all their cells are None.
    """
    records, report = task.records(table)
    texts = task.schema.label.texts
    count_C = np.bincount(records.y_N.astype(np.int64), minlength=len(texts))
    return Profile(
        rows=report.rows,
        kept=report.kept,
        unit=task.schema.unit,
        patients=records.num_patients,
        classes=dict(zip(texts, count_C.tolist(), strict=True)),
        columns=tuple(_columns(task.schema, table, report, absent)),
    )


def _columns(
    schema: Schema, table: Table, report: Report, absent: Collection[str]
) -> Iterator[ColumnProfile]:
    for column in schema.columns:
        if column.name in absent:
            yield _absent(column.name, column.kind)
        else:
            yield _judged(column, table[column.name], _counted(schema, column, table))
    kinds = {
        schema.label.name: "label",
        schema.patient: "patient",
        schema.time: "time",
        schema.site: "site",
    }
    for name, kind in kinds.items():
        if name is not None:
            yield _absent(name, kind) if name in absent else _key(schema, name, kind, report)


def _absent(name: str, kind: str) -> ColumnProfile:
    remedy = f"name the source's column under source.columns.{name}"
    return ColumnProfile(name=name, kind=kind, verdict="absent", remedy=remedy)


def _counted(schema: Schema, column: Column, table: Table) -> ColumnProfile:
    """The counts of an input column.

    NaN is no empty cell: it is what a failed computation leaves, so here it counts as unreadable,
    although a job treats both alike.
    """
    raw = table[column.name]
    _, report = features(Schema(columns=(column,), label=schema.label), {column.name: raw})
    found = _found(report, column.name)
    nans = sum(map(_is_nan, raw)) if column.kind == "number" else 0
    return ColumnProfile(
        name=column.name,
        kind=column.kind,
        optional=column.may_be_missing,
        missing=found.get("missing", 0) - nans,
        unreadable=found.get("unreadable", 0) + nans,
        outside=found.get("outside bounds", 0),
        unknown=found.get("unknown category", 0),
    )


def _is_nan(value: str | float | None) -> bool:
    if isinstance(value, str):
        return value.strip().lower() == "nan"
    return value is not None and math.isnan(value)


def _found(report: Report, name: str) -> dict[str, int]:
    return {item.problem: item.count for item in report.findings if item.column == name}


def _judged(column: Column, raw: Raw, counted: ColumnProfile) -> ColumnProfile:
    """The verdict on an input column; the gravest problem chooses the remedy."""
    readable = len(raw) - counted.missing - counted.unreadable
    verdict: Verdict = "ok"
    remedy = ""
    if counted.unreadable:
        verdict, remedy = "replaced", _how_to_write(column, raw)
    elif counted.unknown:
        verdict, remedy = "replaced", f"translate the source's words to {_listed(column.labels)}"
    elif counted.missing and not column.may_be_missing:
        verdict = "replaced"
        remedy = "complete the source, or ask for may_be_missing in the schema"
    elif 2 * counted.outside > readable:
        low, high = column.bounds
        verdict = "wrong unit?"
        unit = f" {column.unit}" if column.unit else ""
        remedy = f"most numbers lie outside {low:g} to {high:g}{unit}: convert at the source"
    elif counted.outside:
        verdict, remedy = "clamped", "numbers beyond the bounds count as the bound: look for typos"
    elif counted.missing:
        verdict = "as declared"
    return replace(counted, verdict=verdict, remedy=remedy)


def _how_to_write(column: Column, raw: Raw) -> str:
    if column.kind == "flag":
        return "write yes or no, true or false, 1 or 0"
    if any(isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value) for value in raw):
        return "write decimals with a point"
    return "write plain numbers, and leave the cell empty where there is none"


def _key(schema: Schema, name: str, kind: str, report: Report) -> ColumnProfile:
    """Label and patient decide whether a row is used; time and site do not."""
    found = _found(report, name) if kind in {"label", "patient"} else {}
    missing, unknown = found.get("missing", 0), found.get("unknown class", 0)
    verdict: Verdict = "left out" if missing or unknown else "ok"
    remedy = ""
    if unknown:
        remedy = f"translate the source's words to {_listed(schema.label.texts)}"
    elif missing:
        remedy = f"rows without a {kind} are not used: complete them or take them out"
    return ColumnProfile(
        name=name, kind=kind, missing=missing, unknown=unknown, verdict=verdict, remedy=remedy
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
