"""A schema whose numbers are scaled by means and deviations that a statistics job has released.

They take the place of the public guesses `centre` and `spread`, stand in the new job's text, and
are as public as those: what is computed from released numbers costs no patient anything more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from learning.schema import Column, Schema
from learning.table_one import Number, TableOne
from learning.task import Metric
from protocol.config import parse
from protocol.errors import InputError

SMALLEST_SPREAD: Final = 1e-3
"""Least deviation, as a part of the bounds' width: patients may all be alike."""

MOST_NOISE: Final = 0.5
"""Most that noise may have moved mean and deviation by, 95 % sure, in standard deviations."""


def scaled_by(schema: Mapping[str, Any], table: TableOne, digest: str) -> dict[str, Any]:
    """The schema with `centre` and `spread` of every number from a table.

    A number keeps its own where fewer were counted than may be shown, or where the noise is large
    against the deviation.

    Args:
        schema: A job's schema, as a document.
        table: A released table.
        digest: The statistics job, which the schema names as `scaled_by`.

    Raises:
        InputError: The schema is wrong, or a number is not in the table or has another unit or
            other bounds there.
    """
    read = parse(Schema, schema, "job.schema")
    columns = []
    for document, column in zip(schema["columns"], read.columns, strict=True):
        scale = _scale(column, table.numbers) if column.kind == "number" else {}
        columns.append({**document, **scale})
    return {**schema, "columns": columns, "scaled_by": digest}


def _scale(column: Column, numbers: Mapping[str, Number]) -> dict[str, float]:
    found = numbers.get(column.name)
    if found is None or (found.unit, found.bounds) != (column.unit, column.bounds):
        low, high = column.bounds
        raise InputError(
            f"scaling of {column.name!r}",
            expected=f"a statistics job that counted it in {column.unit or 'no unit'},"
            f" from {low:g} to {high:g}",
            found="none"
            if found is None
            else f"{found.unit or 'no unit'}, from {found.bounds[0]:g} to {found.bounds[1]:g}",
        )
    if found.mean is None or found.sd is None or not _clear(found.mean, found.sd):
        return {}
    low, high = column.bounds
    spread = max(found.sd.value, SMALLEST_SPREAD * (high - low))
    return {"centre": min(max(found.mean.value, low), high), "spread": spread}


def _clear(mean: Metric, sd: Metric) -> bool:
    """Whether the noise moved neither by much of a standard deviation.

    A deviation that noise made too small would blow one feature up until it alone fills every
    patient's clip; a guess is better than that.
    """
    width = max(mean.high - mean.low, sd.high - sd.low)
    return width / 2 <= MOST_NOISE * sd.value
