"""What an inspection says of a data set. It holds exact counts and stays inside the hospital."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal[
    "ok",
    "as declared",
    "clamped",
    "wrong unit?",
    "replaced",
    "left out",
    "absent",
    "empty",
    "tells the label?",
    "two spellings?",
    "two patients?",
    "both sides?",
]

_EXPECTED = frozenset({"ok", "as declared", "clamped"})


@dataclass(frozen=True)
class Bar:
    """How many cells are alike; a bar of a plot."""

    label: str
    count: int


@dataclass(frozen=True, kw_only=True)
class ColumnProfile:
    """One column of the schema as the hospital's source fills it.

    Args:
        name: The column's name in the schema.
        kind: `number`, `category`, `flag`, `array`, `label`, `patient`, `time` or `site`.
        optional: Whether the schema says that a value may be missing.
        missing: Cells that are empty or say that nothing is known.
        unreadable: Cells with NaN, an infinity, or what is not of the column's kind.
        outside: Numbers beyond the schema's bounds.
        unknown: Categories or classes that the schema does not list.
        verdict: What a job makes of the cells that are counted here.
        remedy: What to do about it; empty where nothing need be done.
        bars: Cells by the schema's categories, or by equal parts of the schema's bounds.
        unit: Of numbers, as the schema names it; empty where it names none.
        span: The schema's bounds, in this unit, where bars are parts of them.
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
    bars: tuple[Bar, ...] = ()
    unit: str = ""
    span: tuple[float, float] | None = None

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
    """A data set as a job would read it.

    Args:
        rows: Rows of the source.
        kept: Rows with a known class and a patient.
        unit: Whom a job protects: `patient`, or `record` where the schema names no patient.
        patients: Different patients among them.
        classes: Rows that are kept, by class.
        columns: Every column of the schema, inputs first.
        dropped: Identifying tags that the source's files have and that no record keeps.
    """

    rows: int
    kept: int
    unit: str
    patients: int
    classes: dict[str, int]
    columns: tuple[ColumnProfile, ...]
    dropped: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[ColumnProfile, ...]:
        """Columns of which something would be replaced or left out, or that look wrong."""
        return tuple(column for column in self.columns if not column.clean)

    @property
    def clean(self) -> bool:
        """Whether there are records and every column is as the schema foresees."""
        return self.kept > 0 and not self.findings
