"""Which values of a request a model could not take as they were.

The counts agree with those of preprocessing; here they are told for each row, to whoever sent it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.preprocess import ABSURD, FLAG_WORDS, as_numbers, codes_of
from learning.schema import Column, Schema
from learning.task import Cells, Table

FlagVector = npt.NDArray[np.uint8]


class Flag(IntEnum):
    """What happened to a value; the protocol carries the number."""

    GIVEN = 0
    MISSING = 1
    UNREADABLE = 2
    OUTSIDE = 3
    LENGTH = 4


def flags_of(schema: Schema, table: Table) -> npt.NDArray[np.uint8]:
    """One flag for each row and column, N x columns."""
    return np.column_stack([_column(column, table[column.name]) for column in schema.columns])


def _column(column: Column, cells: Cells) -> FlagVector:
    if column.kind == "array":
        return _array(column, np.asarray(cells, dtype=np.float64))
    if column.kind == "number":
        return _number(column, cells)
    labels = column.labels
    if column.kind == "flag":
        labels = tuple(FLAG_WORDS)
        cells = [cell.lower() if isinstance(cell, str) else cell for cell in cells]
    code_N = codes_of(labels, cells)
    return _chosen(MISSING=code_N == -1, UNREADABLE=code_N < -1)


def _number(column: Column, cells: Cells) -> FlagVector:
    value_N = as_numbers(cells)
    low, high = column.bounds
    return _chosen(
        MISSING=np.isnan(value_N),
        UNREADABLE=np.isinf(value_N),
        OUTSIDE=(value_N < low) | (value_N > high),
    )


def _array(column: Column, value_NTS: npt.NDArray[np.float64]) -> FlagVector:
    """Of an array the first that is true of any of its numbers."""
    steps = column.shape[0]
    flat_NTS = value_NTS.reshape(*value_NTS.shape[:2], -1)
    used_NT = ~np.isnan(flat_NTS).all(axis=2)
    place_T = np.arange(1, flat_NTS.shape[1] + 1)
    end_N = (used_NT * place_T).max(axis=1, initial=0)
    kept_NTS = flat_NTS[:, :steps]
    nan_NTS = np.isnan(kept_NTS)
    absurd_NTS = np.abs(np.where(nan_NTS, 0.0, kept_NTS)) >= ABSURD
    low, high = column.bounds
    outside_NTS = ((kept_NTS < low) | (kept_NTS > high)) & ~absurd_NTS
    every, some = (1, 2), (1, 2)
    return _chosen(
        MISSING=(nan_NTS | absurd_NTS).all(axis=every),
        UNREADABLE=absurd_NTS.any(axis=some),
        OUTSIDE=outside_NTS.any(axis=some),
        LENGTH=(end_N != steps) & (end_N != 0),
    )


def _chosen(**masks: Any) -> FlagVector:
    """For each row the first flag whose mask is true."""
    flags = [np.uint8(Flag[name]) for name in masks]
    found: FlagVector = np.select(list(masks.values()), flags, np.uint8(Flag.GIVEN))
    return found
