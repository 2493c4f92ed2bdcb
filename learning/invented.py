"""Invented records that fill a schema: what guards and first looks are tried on."""

from __future__ import annotations

import numpy as np

from learning.column_blocks import BoolVector
from learning.preprocess import features
from learning.schema import Column, Schema
from learning.task import Cells, FloatArray, IntVector
from learning.tokens import PRIME


def invent(schema: Schema, n: int, rng: np.random.Generator) -> FloatArray:
    """Features N x F of invented rows that fill the schema's bounds, missing values included."""
    table: dict[str, Cells] = {}
    for column in schema.columns:
        table[column.name] = _invented(column, n, rng)
    return features(schema, table)[0]


def invented_patients(schema: Schema, n: int) -> IntVector:
    """Patients of `n` rows, (n,): two rows in a row share one where patients are told apart."""
    patient_N: IntVector = np.arange(n, dtype=np.int64)
    return patient_N if schema.patient is None else patient_N // 2


def _invented(column: Column, n: int, rng: np.random.Generator) -> Cells:
    if column.kind == "array":
        low, high = column.bounds
        return low + (high - low) * rng.random((n, *column.shape))
    if column.kind == "text":
        word_NL = rng.integers(1, PRIME, size=(n, column.length or 0))
        # Texts differ in length, and some are missing.
        end_N = rng.integers((column.length or 0) + 1, size=n)
        return np.where(np.arange(column.length or 0) < end_N[:, None], word_NL, 0)
    if column.kind == "number":
        low, high = column.bounds
        value_N = low + (high - low) * rng.random(n)
        return np.where(_absent(column, n, rng), np.nan, value_N)
    choices = column.labels or ("0", "1")
    values = [choices[code] for code in rng.integers(len(choices), size=n)]
    absent_N = _absent(column, n, rng)
    return [None if absent else value for value, absent in zip(values, absent_N, strict=True)]


def _absent(column: Column, n: int, rng: np.random.Generator) -> BoolVector:
    """Which of `n` invented values are missing: one in ten where any may be."""
    if not column.may_be_missing:
        return np.zeros(n, dtype=np.bool_)
    missing_N: BoolVector = rng.random(n) < 0.1
    return missing_N
