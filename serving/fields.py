"""Fields of a document about what came true, each refused by its name and never by its value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from learning.schema import Column, Schema
from learning.task import FloatArray, IntVector
from serving.refusal import invalid

YES_NO = ("no", "yes")


def places(values: object, what: str, allowed: Sequence[str], rows: int) -> IntVector:
    """The place of each text among those that are allowed.

    Raises:
        Refusal: It is no list of such texts, or has not one for each label.
    """
    expected = "a list of " + ", ".join(map(repr, allowed))
    if not isinstance(values, list):
        raise invalid(what, expected=expected)
    if len(values) != rows:
        raise invalid(what, expected=f"{rows} texts", found=str(len(values)))
    place = {text: number for number, text in enumerate(allowed)}
    if not all(type(one) is str and one in place for one in values):
        raise invalid(what, expected=expected)
    return np.array([place[one] for one in values], dtype=np.int64)


def numbers(document: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> FloatArray:
    """A field of finite numbers.

    Raises:
        Refusal: It has another shape, or holds something else.
    """
    flat = list(_entries(document.get(name), shape))
    # Types first: an array of texts has room for the longest of them in every place.
    if set(map(type, flat)) <= {int, float}:
        with suppress(OverflowError):
            found = np.array(flat, dtype=np.float64)
            if len(found) == math.prod(shape) and np.isfinite(found).all():
                return found.reshape(shape)
    sizes = " rows of ".join(map(str, shape))
    raise invalid(name, expected=f"{sizes} numbers")


def _entries(value: object, shape: tuple[int, ...]) -> Iterator[object]:
    """What stands in lists of a shape; nothing of other lists."""
    if not shape:
        yield value
    elif isinstance(value, list) and len(value) == shape[0]:
        for one in value:
            yield from _entries(one, shape[1:])


def chances(document: Mapping[str, Any], name: str, rows: int, columns: int) -> FloatArray:
    """A field of chances, as the model answered them.

    Raises:
        Refusal: They are none.
    """
    found = numbers(document, name, (rows, columns))
    if not ((found >= 0) & (found <= 1)).all():
        raise invalid(name, expected="numbers from 0 to 1, as the model answered them")
    return found


def group_labels(schema: Schema) -> dict[str, tuple[str, ...]]:
    """The columns whose values are groups, and these."""
    kinds = {"category", "flag"}
    return {one.name: _values(one) for one in schema.columns if one.kind in kinds}


def _values(column: Column) -> tuple[str, ...]:
    return column.labels or YES_NO


def group(schema: Schema, name: str, values: object, rows: int) -> IntVector:
    """Each row's place among a column's groups.

    Raises:
        Refusal: The column has none, or the field holds something else.
    """
    labels = group_labels(schema).get(name)
    if labels is None:
        expected = ", ".join(map(repr, group_labels(schema))) or "none: no column has few values"
        raise invalid("groups", expected=expected)
    return places(values, f"groups of {name!r}", labels, rows)
