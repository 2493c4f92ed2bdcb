"""Labels and targets of a table as numbers, for tasks whose outcome is more than one class.

A cell is read by itself, as a feature is; a row that lacks what the task needs is left out and
counted. Numbers keep their own unit and are not scaled: each task knows what its bounds mean.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from learning.cell_values import FLAG_WORDS, as_numbers, codes_of
from learning.column_blocks import findings_of
from learning.preprocess import checked, features, patients_of
from learning.schema import Column, Label, Schema
from learning.task import Cells, Finding, FloatArray, FloatVector, IntVector, Records, Report, Table
from protocol.errors import InputError

Encode = Callable[[FloatArray], npt.NDArray[np.int64] | npt.NDArray[np.float64]]
"""From label and targets, N x (1 + T), to the task's code of the outcome."""


def targeted(
    schema: Schema, table: Table, encode: Encode, *, partial: bool = False
) -> tuple[Records, Report]:
    """Records whose outcome is coded from the label and the schema's targets.

    Guarantee: a row's features, outcome and fate depend on that row alone.

    Args:
        schema: Names the columns.
        table: Raw columns.
        encode: Codes the outcome; it sees rows with a label only, the label first.
        partial: Whether rows whose targets are missing stay (NaN there); a label is needed always.

    Raises:
        InputError: A column is absent, or columns differ in length.
    """
    rows = checked(table, schema.column_names)
    x_NF, report = features(schema, table)
    label_N, found = _label(schema.label, table[schema.label.name])
    values = [label_N]
    for column in schema.targets:
        value_N, problems = _target(column, table[column.name])
        values.append(value_N)
        found += problems
    value_NT = np.column_stack(values)
    patient_N, orphan_N = patients_of(schema, table, rows)
    found += findings_of(schema.patient or "", missing=orphan_N)
    needed_NT = value_NT[:, :1] if partial else value_NT
    keep_N = ~np.isnan(needed_NT).any(axis=1) & ~orphan_N
    records = Records(x_NF=x_NF[keep_N], y_N=encode(value_NT[keep_N]), patient_N=patient_N[keep_N])
    return records, Report(rows=rows, kept=len(records), findings=(*report.findings, *found))


def _label(label: Label, raw: Cells) -> tuple[FloatVector, list[Finding]]:
    if label.classes:
        return _coded(label.name, codes_of(label.texts, raw), "unknown class")
    return _number(label.name, raw, (float(label.low or 0.0), float(label.high or 0.0)))


def _target(column: Column, raw: Cells) -> tuple[FloatVector, list[Finding]]:
    if column.kind == "number":
        return _number(column.name, raw, column.bounds)
    if column.kind == "category":
        return _coded(column.name, codes_of(column.labels, raw), "unknown category")
    if column.kind == "flag":
        words = [value.lower() if isinstance(value, str) else value for value in raw]
        flag_N = codes_of(list(FLAG_WORDS), words)
        meaning = np.array([*FLAG_WORDS.values()])
        code_N = np.where(flag_N >= 0, meaning[np.maximum(flag_N, 0)], flag_N)
        return _coded(column.name, code_N, "unreadable")
    raise InputError(f"target {column.name!r}", expected="a number, category or flag")


def _coded(name: str, code_N: IntVector, unknown: str) -> tuple[FloatVector, list[Finding]]:
    found = findings_of(name, missing=code_N == -1, **{unknown: code_N < -1})
    return np.where(code_N < 0, np.nan, code_N.astype(np.float64)), found


def _number(
    name: str, raw: Cells, bounds: tuple[float, float]
) -> tuple[FloatVector, list[Finding]]:
    """Numbers as they are, bounds only counted: what lies beyond is the task's to say."""
    value_N = as_numbers(raw)
    missing_N, unreadable_N = np.isnan(value_N), np.isinf(value_N)
    value_N[unreadable_N] = np.nan
    outside_N = (value_N < bounds[0]) | (value_N > bounds[1])
    return value_N, findings_of(
        name, missing=missing_N, unreadable=unreadable_N, outside_bounds=outside_N
    )
