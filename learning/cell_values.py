"""Single cells as numbers, codes and texts: what is missing, what cannot be read, what is known.

Every cell is read by itself, so no value of one patient depends on another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from learning.numeric import ABSURD
from learning.schema import as_text
from learning.task import Cells, FloatArray, IntVector

MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "."})
FLAG_WORDS = {
    "1": 1, "true": 1, "yes": 1, "y": 1, "t": 1,
    "0": 0, "false": 0, "no": 0, "n": 0, "f": 0,
}  # fmt: skip

MISSING, UNKNOWN = -1, -2
"""Codes of a cell that is missing, and of one that is none of the listed words."""


def _is_nan(value: str | float) -> bool:
    return not isinstance(value, str | int) and math.isnan(value)


def _is_missing(value: str | float | None) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in MISSING_WORDS
    return value is None or _is_nan(value)


def as_number(value: str | float | None) -> float:
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
        return MISSING
    code = codes.get(as_text(value))
    if code is not None:
        return code
    return MISSING if _is_missing(value) else UNKNOWN


def as_numbers(raw: Cells) -> FloatArray:
    """N cells by `as_number`, (N,); numbers that are an array already are only copied."""
    if isinstance(raw, np.ndarray) and raw.dtype.kind in "fiu":
        value_N = raw.astype(np.float64)
        value_N[np.abs(value_N) >= ABSURD] = np.inf
        return value_N
    return np.fromiter((as_number(value) for value in raw), np.float64, count=len(raw))


def codes_of(labels: Sequence[str], raw: Cells) -> IntVector:
    """Each cell's place among the labels, (N,), negative where it is missing or none of them.

    >>> codes_of(["no", "yes"], ["yes", None, "perhaps"]).tolist()
    [1, -1, -2]
    """
    return coded(raw, {label: code for code, label in enumerate(labels)})


def coded(raw: Cells, codes: dict[str, int]) -> IntVector:
    """N cells by their codes, (N,); `MISSING` and `UNKNOWN` where there is none."""
    return np.fromiter((_as_code(value, codes) for value in raw), np.int64, count=len(raw))


def text_of(value: str | float | None) -> str | None:
    """The text of a cell; None where it is missing."""
    return None if value is None or _is_missing(value) else as_text(value)


def patient_key(value: str | float | None) -> str | None:
    """What is compared to tell patients apart; nothing where the cell names none."""
    return None if value is None or _is_missing(value) else as_text(value)
