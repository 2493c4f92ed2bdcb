"""Which values of a request a model could not take as they were.

The counts agree with those of preprocessing; here they are told for each row, to whoever sent it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.cell_values import FLAG_WORDS, codes_of
from learning.column_blocks import words_of
from learning.numeric import ABSURD, Numbers
from learning.preprocess import judged_numbers
from learning.schema import Column, Schema
from learning.task import Cells, Table

FlagArray = npt.NDArray[np.uint8]


class Flag(IntEnum):
    """What happened to a value; the protocol carries the number."""

    GIVEN = 0
    MISSING = 1
    UNREADABLE = 2
    OUTSIDE = 3
    LENGTH = 4


def flags_of(schema: Schema, table: Table) -> npt.NDArray[np.uint8]:
    """One flag for each row and column, N x columns."""
    columns = schema.columns
    found = np.empty((len(table[columns[0].name]), len(columns)), dtype=np.uint8)
    if len(schema.numbers.names) == len(columns):
        found[...] = _numbers(schema.numbers, table)
        return found
    if schema.numbers.names:
        found[:, schema.numbers.place_K] = _numbers(schema.numbers, table)
    for place, column in enumerate(columns):
        if column.kind != "number":
            found[:, place] = _column(column, table[column.name])
    return found


def _column(column: Column, cells: Cells) -> FlagArray:
    if column.kind == "array":
        return _array(column, np.asarray(cells, dtype=np.float64))
    if column.kind == "text":
        _, found = words_of(column, cells)
        return _chosen(
            MISSING=found["missing"], UNREADABLE=found["without_words"], LENGTH=found["cut_off"]
        )
    labels = column.labels
    if column.kind == "flag":
        labels = tuple(FLAG_WORDS)
        cells = [cell.lower() if isinstance(cell, str) else cell for cell in cells]
    code_N = codes_of(labels, cells)
    return _chosen(MISSING=code_N == -1, UNREADABLE=code_N < -1)


def _numbers(numbers: Numbers, table: Table) -> FlagArray | int:
    value_KN, within = judged_numbers(numbers, table)
    if within:
        return Flag.GIVEN
    flag_KN = _chosen(
        MISSING=np.isnan(value_KN),
        UNREADABLE=np.isinf(value_KN),
        OUTSIDE=(value_KN < numbers.low_K1) | (value_KN > numbers.high_K1),
    )
    return flag_KN.T


def _array(column: Column, value_NTS: npt.NDArray[np.float64]) -> FlagArray:
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


def _chosen(**masks: Any) -> FlagArray:
    """Of each value the first flag whose mask is true."""
    found: FlagArray = np.full(np.shape(next(iter(masks.values()))), Flag.GIVEN, dtype=np.uint8)
    for name, mask in reversed(masks.items()):
        found[mask] = Flag[name]
    return found
