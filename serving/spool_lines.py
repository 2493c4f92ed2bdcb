"""Rows as lines of text, in the schema's own words: whatever is none of them is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final

import numpy as np
import numpy.typing as npt

from learning.cell_values import FLAG_WORDS, codes_of
from learning.preprocess import number_matrix
from learning.schema import Column, Schema
from learning.task import Cells, Table

LABEL: Final = "taken_as_given"
"""A column that says `yes` where no value was missing, unreadable or moved to a bound."""

_KINDS = frozenset({"number", "category", "flag"})


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that wait; of each whether a value was not taken as it was, and the patient."""

    table: Table
    moved_N: npt.NDArray[np.bool_]  # noqa: N815 - the shape is part of the name
    patients: Sequence[str | None]


def header(schema: Schema) -> tuple[str, ...]:
    """Names of the columns of every line."""
    patient = () if schema.patient is None else (schema.patient,)
    return (*patient, *(one.name for one in kept(schema)), LABEL)


def kept(schema: Schema) -> Iterator[Column]:
    """The columns that fit into a line: no arrays, and no texts."""
    return (column for column in schema.columns if column.kind in _KINDS)


def lines(schema: Schema, rows: Rows) -> Iterator[tuple[str, ...]]:
    """Rows as lines; what training could not read is empty."""
    names = schema.numbers.names
    number_KN = number_matrix(schema.numbers, rows.table).tolist() if names else ()
    numbers = dict(zip(names, number_KN, strict=True))
    columns = [] if schema.patient is None else [[one or "" for one in rows.patients]]
    for column in kept(schema):
        if column.kind == "number":
            columns.append([repr(one) if isfinite(one) else "" for one in numbers[column.name]])
        else:
            columns.append(_words(column, rows.table[column.name]))
    columns.append(["no" if moved else "yes" for moved in rows.moved_N.tolist()])
    return zip(*columns, strict=True)


def _words(column: Column, cells: Cells) -> list[str]:
    """The schema's word for each cell, empty where it is none."""
    if column.kind == "category":
        words, codes = column.labels, codes_of(column.labels, cells).tolist()
    else:
        read = codes_of(
            tuple(FLAG_WORDS), [one.lower() if isinstance(one, str) else one for one in cells]
        )
        words, values = ("no", "yes"), [*FLAG_WORDS.values()]
        codes = [values[code] if code >= 0 else code for code in read.tolist()]
    return [words[code] if code >= 0 else "" for code in codes]
