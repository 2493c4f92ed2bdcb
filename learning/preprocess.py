"""Columns to numbers, with the schema's public constants only.

Every value is treated by itself: nothing is fitted, so no feature of one patient depends on
another. Whatever cannot be used becomes the schema's neutral value and is counted in a report that
stays in the hospital; one infinity would otherwise void a round, and tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from learning.schema import Column, Schema, as_text
from learning.task import Finding, FloatArray, IntVector, Records, Report, Table
from protocol.errors import InputError

BoolVector = npt.NDArray[np.bool_]
Raw = Sequence[str | float | None]

# Raised whenever the same table would become other features, so that no old model meets them.
VERSION = 1

MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "."})
FLAG_WORDS = {
    "1": 1, "true": 1, "yes": 1, "y": 1, "t": 1,
    "0": 0, "false": 0, "no": 0, "n": 0, "f": 0,
}  # fmt: skip

# No quantity in medicine reaches this in any unit; larger numbers (float32's 3.4e38 is a usual one)
# are codes for "unknown" and must not become the upper bound.
ABSURD = 1e30

_MISSING, _UNKNOWN = -1, -2


def _is_nan(value: str | float) -> bool:
    return not isinstance(value, str | int) and math.isnan(value)


def _is_missing(value: str | float | None) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in MISSING_WORDS
    return value is None or _is_nan(value)


def _as_number(value: str | float | None) -> float:
    """The number, NaN for a missing one, infinity for one that cannot be used."""
    if value is None or _is_missing(value):
        return math.nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.inf
    return number if abs(number) < ABSURD else math.inf


def _as_code(value: str | float | None, codes: dict[str, int]) -> int:
    """The value's code; listed words win, so that 'none' can be a category."""
    if value is None or _is_nan(value):
        return _MISSING
    code = codes.get(as_text(value))
    if code is not None:
        return code
    return _MISSING if _is_missing(value) else _UNKNOWN


def _codes(raw: Raw, codes: dict[str, int]) -> IntVector:
    return np.fromiter((_as_code(value, codes) for value in raw), np.int64, count=len(raw))


def _findings(column: str, **masks: BoolVector) -> list[Finding]:
    """One finding per problem that occurred; underscores in a problem's name read as blanks."""
    counted = ((problem.replace("_", " "), int(mask.sum())) for problem, mask in masks.items())
    return [Finding(column, problem, count) for problem, count in counted if count]


def _with_indicator(column: Column, value_NK: FloatArray, absent_N: BoolVector) -> FloatArray:
    if not column.may_be_missing:
        return value_NK
    return np.column_stack([value_NK, absent_N.astype(np.float64)])


def _number(column: Column, raw: Raw) -> tuple[FloatArray, list[Finding]]:
    value_N = np.fromiter((_as_number(value) for value in raw), np.float64, count=len(raw))
    low, high = column.bounds
    missing_N, unreadable_N = np.isnan(value_N), np.isinf(value_N)
    absent_N = missing_N | unreadable_N
    value_N[absent_N] = column.middle if column.neutral is None else float(column.neutral)
    outside_N = (value_N < low) | (value_N > high)
    scaled_N = (np.clip(value_N, low, high) - column.middle) / column.width
    found = _findings(
        column.name, missing=missing_N, unreadable=unreadable_N, outside_bounds=outside_N
    )
    return _with_indicator(column, scaled_N[:, None], absent_N), found


def _category(column: Column, raw: Raw) -> tuple[FloatArray, list[Finding]]:
    codes = {label: code for code, label in enumerate(column.labels)}
    code_N = _codes(raw, codes)
    absent_N = code_N < 0
    found = _findings(column.name, missing=code_N == _MISSING, unknown_category=code_N == _UNKNOWN)
    if column.neutral is not None:
        code_N = np.where(absent_N, codes[as_text(column.neutral)], code_N)
    one_hot_NK = (code_N[:, None] == np.arange(len(codes))).astype(np.float64)
    return _with_indicator(column, one_hot_NK, absent_N), found


def _flag(column: Column, raw: Raw) -> tuple[FloatArray, list[Finding]]:
    words = [value.lower() if isinstance(value, str) else value for value in raw]
    code_N = _codes(words, FLAG_WORDS)
    absent_N = code_N < 0
    found = _findings(column.name, missing=code_N == _MISSING, unreadable=code_N == _UNKNOWN)
    neutral = 0.0 if column.neutral is None else float(column.neutral)
    value_N = np.where(absent_N, neutral, code_N.astype(np.float64))
    return _with_indicator(column, value_N[:, None], absent_N), found


_BY_KIND = {"number": _number, "category": _category, "flag": _flag}


def _checked(table: Table, names: Sequence[str]) -> int:
    """Number of rows of a table that has all of the columns, equally long."""
    absent = [name for name in names if name not in table]
    if absent:
        raise InputError(
            "the table lacks columns of the schema: " + ", ".join(absent),
            remedy="map them in the hospital's configuration",
        )
    lengths = {len(table[name]) for name in names}
    if len(lengths) > 1:
        raise InputError("the table's columns differ in length")
    return lengths.pop()


def features(schema: Schema, table: Table) -> tuple[FloatArray, Report]:
    """Features N x F of every row, finite whatever the table holds.

    Raises:
        InputError: A column is absent, or columns differ in length.

    >>> from learning.schema import Label
    >>> age = Column(name="age", kind="number", low=0, high=120)
    >>> sex = Column(name="sex", kind="category", categories=("f", "m"))
    >>> schema = Schema(columns=(age, sex), label=Label(name="ill", classes=("no", "yes")))
    >>> x_NF, report = features(schema, {"age": [60, "300", None], "sex": ["f", "m", "x"]})
    >>> x_NF.tolist()
    [[0.0, 1.0, 0.0], [2.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    >>> [(found.column, found.problem, found.count) for found in report.findings]
    [('age', 'missing', 1), ('age', 'outside bounds', 1), ('sex', 'unknown category', 1)]
    """
    rows = _checked(table, [column.name for column in schema.columns])
    blocks: list[FloatArray] = []
    found: list[Finding] = []
    for column in schema.columns:
        block_NK, problems = _BY_KIND[column.kind](column, table[column.name])
        blocks.append(block_NK)
        found += problems
    return np.hstack(blocks), Report(rows=rows, kept=rows, findings=tuple(found))


def _patients(schema: Schema, table: Table, rows: int) -> tuple[IntVector, BoolVector]:
    """Each row's patient, numbered by first appearance, and which rows have none."""
    if schema.patient is None:
        return np.arange(rows, dtype=np.int64), np.zeros(rows, dtype=np.bool_)
    numbers: dict[str, int] = {}
    patient_N = np.full(rows, _MISSING, dtype=np.int64)
    for row, value in enumerate(table[schema.patient]):
        if value is not None and not _is_missing(value):
            patient_N[row] = numbers.setdefault(as_text(value), len(numbers))
    return patient_N, patient_N == _MISSING


def labelled(schema: Schema, table: Table) -> tuple[Records, Report]:
    """Records of the rows that have a known class and a patient; the others are counted.

    Guarantee: a row's features, class and fate depend on that row alone; patients are equal where
    the schema's patient column is. A row without its patient has no unit and is left out.

    Raises:
        InputError: A column is absent, or columns differ in length.
    """
    rows = _checked(table, schema.column_names)
    x_NF, report = features(schema, table)
    codes = {text: code for code, text in enumerate(schema.label.texts)}
    y_N = _codes(table[schema.label.name], codes)
    patient_N, orphan_N = _patients(schema, table, rows)
    found = _findings(
        schema.label.name, missing=y_N == _MISSING, unknown_class=y_N == _UNKNOWN
    ) + _findings(schema.patient or "", missing=orphan_N)
    keep_N = (y_N >= 0) & ~orphan_N
    records = Records(x_NF=x_NF, y_N=y_N, patient_N=patient_N).take(keep_N)
    kept = Report(rows=rows, kept=len(records), findings=(*report.findings, *found))
    return records, kept


def invent(schema: Schema, n: int, rng: np.random.Generator) -> FloatArray:
    """Features N x F of invented rows that fill the schema's bounds, missing values included."""
    table: dict[str, Raw] = {}
    for column in schema.columns:
        table[column.name] = _invented(column, n, rng)
    return features(schema, table)[0]


def _invented(column: Column, n: int, rng: np.random.Generator) -> Raw:
    if column.kind == "number":
        low, high = column.bounds
        values: list[str | float | None] = list((low + (high - low) * rng.random(n)).tolist())
    else:
        choices = column.labels or ("0", "1")
        values = [choices[code] for code in rng.integers(len(choices), size=n)]
    if not column.may_be_missing:
        return values
    absent_N = rng.random(n) < 0.1
    return [None if absent else value for value, absent in zip(values, absent_N, strict=True)]
