"""One input column of the schema, counted batch by batch, and what is to be said of it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from client.data.findings import Bar, ColumnProfile, Verdict
from client.data.suspicion import LabelSuspicion, UnitSuspicion
from learning.cell_values import as_numbers
from learning.preprocess import features
from learning.schema import Column, Schema
from learning.task import Cells, FloatArray, IntVector

_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+\s*")
_BINS = 24
# What happens to values that are read in part or as another one.
_CUT = ("outside bounds", "other length", "cut off")


class ColumnCounts:
    """What is counted of a column.

    Args:
        column: The column.
        schema: Its schema, whose classes it may tell.
    """

    def __init__(self, column: Column, schema: Schema) -> None:
        self._column = column
        # With an indicator and without a neutral value it shows which cells are missing.
        seen = replace(column, neutral=None, may_be_missing=True)
        self._seen = Schema(columns=(seen,), label=schema.label)
        self._problems: dict[str, int] = {}
        self._rows = self._nans = 0
        self._commas = False
        self._bar_K = np.zeros(_num_bars(column), dtype=np.int64)
        self._units = UnitSuspicion(column) if column.kind == "number" else None
        self._label = LabelSuspicion(len(schema.label.texts), _num_bars(column) + 1)
        # A target is part of the outcome: whoever is followed to the end has no event, say.
        self._is_input = column not in schema.targets

    def add(self, raw: Cells, class_N: IntVector) -> None:
        """Count a batch; `class_N` is negative where the class is not known."""
        block_NK, report = features(self._seen, {self._column.name: raw})
        self._rows += len(raw)
        for found in report.findings:
            self._problems[found.problem] = self._problems.get(found.problem, 0) + found.count
        if self._column.kind == "number":
            self._nans += 0 if isinstance(raw, np.ndarray) else sum(map(_is_nan, raw))
            self._commas = self._commas or any(map(_has_comma, raw))
            self._add_numbers(raw, class_N)
        elif self._column.kind not in {"array", "text"}:
            self._add_codes(block_NK, class_N)

    def _add_numbers(self, raw: Cells, class_N: IntVector) -> None:
        value_N = as_numbers(raw)
        usable_N = np.isfinite(value_N)
        low, high = self._column.bounds
        inside_N = usable_N & (value_N >= low) & (value_N <= high)
        self._bar_K += np.histogram(value_N[inside_N], bins=_BINS, range=(low, high))[0]
        if self._units is not None:
            self._units.add(value_N[usable_N])
        known_N = usable_N & (class_N >= 0)
        self._label.add_numbers(value_N[known_N], class_N[known_N])
        # Only whether there is a number: a gap can tell the class as well.
        self._label.add_codes(usable_N[class_N >= 0].astype(np.int64), class_N[class_N >= 0])

    def _add_codes(self, block_NK: FloatArray, class_N: IntVector) -> None:
        absent_N = block_NK[:, -1] == 1
        code_N = block_NK[:, 0].astype(np.int64)
        if self._column.kind == "category":
            code_N = block_NK[:, :-1].argmax(axis=1)
        code_N = np.where(absent_N, len(self._bar_K), code_N)
        self._bar_K += np.bincount(code_N, minlength=len(self._bar_K) + 1)[:-1]
        self._label.add_codes(code_N[class_N >= 0], class_N[class_N >= 0])

    def judged(self) -> ColumnProfile:
        """The counts and a verdict; the gravest problem chooses the remedy.

        NaN is no empty cell: it is what a failed computation leaves, so here it counts as
        unreadable, although a job treats both alike.
        """
        column, found = self._column, self._problems
        counted = ColumnProfile(
            name=column.name,
            kind=column.kind,
            optional=column.may_be_missing,
            missing=found.get("missing", 0) - self._nans,
            unreadable=found.get("unreadable", 0) + found.get("without words", 0) + self._nans,
            outside=sum(found.get(problem, 0) for problem in _CUT),
            unknown=found.get("unknown category", 0),
            bars=self._bars(),
            unit=column.unit,
            span=column.bounds if column.kind == "number" else None,
        )
        verdict, remedy = self._suspected(counted) or self._verdict(counted)
        return replace(counted, verdict=verdict, remedy=remedy)

    def _suspected(self, counted: ColumnProfile) -> tuple[Verdict, str] | None:
        """What is wrong with the column as a whole."""
        if self._rows and counted.missing == self._rows:
            return "empty", "no record has a value: map another column, or leave this one out"
        if self._is_input and self._label.tells():
            return "tells the label?", (
                "it gives every record's class away: take out what is written after the diagnosis"
            )
        unit = None if self._units is None or counted.unreadable else self._units.suspected()
        if unit is not None:
            return "wrong unit?", (
                f"numbers look like {unit}: name the unit under source.units.{counted.name}, "
                "or convert at the source if only some are"
            )
        return None

    def _verdict(self, counted: ColumnProfile) -> tuple[Verdict, str]:
        """What becomes of single cells."""
        column = self._column
        if counted.unreadable:
            return "replaced", self._how_to_write()
        if counted.unknown:
            return "replaced", f"translate the source's words to {', '.join(column.labels)}"
        if counted.missing and not column.may_be_missing:
            return "replaced", "complete the source, or ask for may_be_missing in the schema"
        if self._units is not None and self._units.most_outside() and counted.outside:
            low, high = column.bounds
            unit = f" {column.unit}" if column.unit else ""
            return "wrong unit?", (
                f"most numbers lie outside {low:g} to {high:g}{unit}: convert at the source"
            )
        if counted.outside:
            return "clamped", self._how_to_fit()
        return ("as declared" if counted.missing else "ok"), ""

    def _how_to_fit(self) -> str:
        if self._column.kind == "text":
            return f"words after the first {self._column.length} are not read: ask for more"
        return "numbers beyond the bounds count as the bound: look for typos"

    def _how_to_write(self) -> str:
        if self._column.kind == "text":
            return "leave the cell empty where there is no note"
        if self._column.kind == "flag":
            return "write yes or no, true or false, 1 or 0"
        if self._commas:
            return "write decimals with a point"
        return "write plain numbers, and leave the cell empty where there is none"

    def _bars(self) -> tuple[Bar, ...]:
        labels: Sequence[str] = self._column.labels or ("no", "yes")
        if self._column.kind == "number":
            low, high = self._column.bounds
            edge_K = np.linspace(low, high, _BINS + 1)[:-1]
            labels = [f"from {edge:.4g}" for edge in edge_K.tolist()]
        pairs = zip(labels, self._bar_K.tolist(), strict=False)
        return tuple(Bar(label, count) for label, count in pairs)


def _num_bars(column: Column) -> int:
    return {"number": _BINS, "category": len(column.labels), "flag": 2}.get(column.kind, 0)


def _is_nan(value: str | float | None) -> bool:
    if isinstance(value, str):
        return value.strip().lower() == "nan"
    return value is not None and math.isnan(value)


def _has_comma(value: object) -> bool:
    return isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value) is not None
