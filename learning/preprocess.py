"""Columns to numbers, with the schema's public constants only.

Every value is treated by itself: nothing is fitted, so no feature of one patient depends on
another. Whatever cannot be used becomes the schema's neutral value and is counted in a report that
stays in the hospital; one infinity would otherwise void a round, and tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from learning.cell_values import MISSING, UNKNOWN, as_numbers, codes_of, patient_key
from learning.column_blocks import BLOCKS, BoolVector, findings_of
from learning.numeric import MatrixTable, Numbers
from learning.schema import Label, Schema
from learning.task import Finding, FloatArray, IntVector, Records, Report, Table
from protocol.errors import InputError

# Raised whenever the same table would become other features, so that no old model meets them.
VERSION = 1


def number_matrix(numbers: Numbers, table: Table) -> FloatArray:
    """All numbers of a table, K x N, each cell by `as_number`."""
    return judged_numbers(numbers, table)[0]


def judged_numbers(numbers: Numbers, table: Table) -> tuple[FloatArray, bool]:
    """All numbers of a table, K x N, not to be written to, and whether all are within bounds."""
    judged = numbers.judged(table)
    if judged is None:
        value_KN = np.array([as_numbers(table[name]) for name in numbers.names])
        return value_KN, numbers.within(value_KN)
    return judged


def _numbers(numbers: Numbers, table: Table, x_NF: FloatArray) -> Mapping[str, list[Finding]]:
    """Write all numbers' features, and say what happened by column."""
    value_KN, within = judged_numbers(numbers, table)
    for _, indicator in numbers.indicated:
        x_NF[:, indicator] = 0.0
    found: dict[str, list[Finding]] = {}
    if not within:
        value_KN = value_KN.copy()
        found = _replaced(numbers, value_KN, x_NF)
    scaled_NK = ((value_KN - numbers.middle_K1) / numbers.width_K1).T
    if scaled_NK.shape == x_NF.shape:
        x_NF[...] = scaled_NK
    else:
        x_NF[:, numbers.feature_K] = scaled_NK
    return found


def _replaced(numbers: Numbers, value_KN: FloatArray, x_NF: FloatArray) -> dict[str, list[Finding]]:
    """Put what cannot be used as it is into `value_KN`, and set the indicators."""
    missing_KN, unreadable_KN = np.isnan(value_KN), np.isinf(value_KN)
    absent_KN = missing_KN | unreadable_KN
    np.copyto(value_KN, numbers.neutral_K1, where=absent_KN)
    outside_KN = (value_KN < numbers.low_K1) | (value_KN > numbers.high_K1)
    np.clip(value_KN, numbers.low_K1, numbers.high_K1, out=value_KN)
    for number, indicator in numbers.indicated:
        x_NF[:, indicator] = absent_KN[number]
    return {
        name: findings_of(name, missing=missing_N, unreadable=unreadable_N, outside_bounds=out_N)
        for name, missing_N, unreadable_N, out_N in zip(
            numbers.names, missing_KN, unreadable_KN, outside_KN, strict=True
        )
    }


def checked(table: Table, names: Sequence[str]) -> int:
    """Number of rows of a table that has all of the columns, equally long."""
    if isinstance(table, MatrixTable) and table.names == names:
        return len(table.value_KN[0])
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

    >>> from learning.schema import Column, Label
    >>> age = Column(name="age", kind="number", low=0, high=120)
    >>> sex = Column(name="sex", kind="category", categories=("f", "m"))
    >>> schema = Schema(columns=(age, sex), label=Label(name="ill", classes=("no", "yes")))
    >>> x_NF, report = features(schema, {"age": [60, "300", None], "sex": ["f", "m", "x"]})
    >>> x_NF.tolist()
    [[0.0, 1.0, 0.0], [2.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    >>> [(found.column, found.problem, found.count) for found in report.findings]
    [('age', 'missing', 1), ('age', 'outside bounds', 1), ('sex', 'unknown category', 1)]
    """
    rows = checked(table, schema.names)
    x_NF = np.empty((rows, schema.num_features))
    found = dict(_numbers(schema.numbers, table, x_NF)) if schema.numbers.names else {}
    for column, start in schema.others:
        block_NK, found[column.name] = BLOCKS[column.kind](column, table[column.name])
        x_NF[:, start : start + block_NK.shape[1]] = block_NK
    findings = [one for name in schema.names for one in found.get(name, ())] if found else []
    return x_NF, Report(rows=rows, kept=rows, findings=tuple(findings))


def labelled_rows(label: Label, table: Table) -> BoolVector:
    """Which rows have a label, (N,): a known class, or a number that can be used."""
    if label.classes:
        return codes_of(label.texts, table[label.name]) >= 0
    known_N: BoolVector = np.isfinite(as_numbers(table[label.name]))
    return known_N


def patients_of(schema: Schema, table: Table, rows: int) -> tuple[IntVector, BoolVector]:
    """Each row's patient, numbered by first appearance, and which rows have none, (N,) each."""
    if schema.patient is None:
        return np.arange(rows, dtype=np.int64), np.zeros(rows, dtype=np.bool_)
    numbers: dict[str, int] = {}
    patient_N = np.full(rows, MISSING, dtype=np.int64)
    for row, value in enumerate(table[schema.patient]):
        key = patient_key(value)
        if key:
            patient_N[row] = numbers.setdefault(key, len(numbers))
    return patient_N, patient_N == MISSING


def labelled(schema: Schema, table: Table) -> tuple[Records, Report]:
    """Records of the rows that have a known class and a patient; the others are counted.

    Guarantee: a row's features, class and fate depend on that row alone; patients are equal where
    the schema's patient column is. A row without its patient has no unit and is left out.

    Raises:
        InputError: A column is absent, or columns differ in length.
    """
    rows = checked(table, schema.column_names)
    x_NF, report = features(schema, table)
    y_N = codes_of(schema.label.texts, table[schema.label.name])
    patient_N, orphan_N = patients_of(schema, table, rows)
    found = findings_of(
        schema.label.name, missing=y_N == MISSING, unknown_class=y_N == UNKNOWN
    ) + findings_of(schema.patient or "", missing=orphan_N)
    keep_N = (y_N >= 0) & ~orphan_N
    records = Records(x_NF=x_NF, y_N=y_N, patient_N=patient_N).take(keep_N)
    kept = Report(rows=rows, kept=len(records), findings=(*report.findings, *found))
    return records, kept
