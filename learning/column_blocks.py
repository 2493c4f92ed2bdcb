"""Columns of one kind to blocks of features: categories, flags, arrays and texts.

Whatever cannot be used becomes the schema's neutral value, and is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from learning.cell_values import FLAG_WORDS, MISSING, UNKNOWN, coded, text_of
from learning.numeric import ABSURD
from learning.schema import Column, as_text
from learning.task import Cells, Finding, FloatArray
from learning.tokens import PRIME, hashed
from protocol.errors import InputError

BoolVector = npt.NDArray[np.bool_]


def findings_of(column: str, **masks: BoolVector) -> list[Finding]:
    """One finding per problem that occurred; underscores in a problem's name read as blanks."""
    counted = ((problem.replace("_", " "), int(mask.sum())) for problem, mask in masks.items())
    return [Finding(column, problem, count) for problem, count in counted if count]


def _with_indicator(column: Column, value_NK: FloatArray, absent_N: BoolVector) -> FloatArray:
    if not column.may_be_missing:
        return value_NK
    return np.column_stack([value_NK, absent_N.astype(np.float64)])


def _category(column: Column, raw: Cells) -> tuple[FloatArray, list[Finding]]:
    codes = {label: code for code, label in enumerate(column.labels)}
    code_N = coded(raw, codes)
    absent_N = code_N < 0
    found = findings_of(column.name, missing=code_N == MISSING, unknown_category=code_N == UNKNOWN)
    if column.neutral is not None:
        code_N = np.where(absent_N, codes[as_text(column.neutral)], code_N)
    one_hot_NK = (code_N[:, None] == np.arange(len(codes))).astype(np.float64)
    return _with_indicator(column, one_hot_NK, absent_N), found


def _flag(column: Column, raw: Cells) -> tuple[FloatArray, list[Finding]]:
    words = [value.lower() if isinstance(value, str) else value for value in raw]
    code_N = coded(words, FLAG_WORDS)
    absent_N = code_N < 0
    found = findings_of(column.name, missing=code_N == MISSING, unreadable=code_N == UNKNOWN)
    neutral = 0.0 if column.neutral is None else float(column.neutral)
    value_N = np.where(absent_N, neutral, code_N.astype(np.float64))
    return _with_indicator(column, value_N[:, None], absent_N), found


def _array(column: Column, raw: Cells) -> tuple[FloatArray, list[Finding]]:
    """Arrays row after row, flattened with the last axis fastest.

    A record that is shorter than the shape along its first axis ends in neutral values, a longer
    one is cut: series differ in length, images do not.
    """
    value_NS, fits_N = _fitted(column, raw)
    low, high = column.bounds
    nan_NS = np.isnan(value_NS)
    unreadable_NS: BoolVector = ~(np.abs(value_NS) < ABSURD)
    absent_N = _each(unreadable_NS, np.all)
    value_NS[unreadable_NS] = column.middle if column.neutral is None else float(column.neutral)
    found = findings_of(
        column.name,
        missing=absent_N,
        unreadable=_each(unreadable_NS & ~nan_NS, np.any) & ~absent_N,
        outside_bounds=_each((value_NS < low) | (value_NS > high), np.any),
        other_length=~fits_N,
    )
    scaled_NS = (np.clip(value_NS, low, high) - column.middle) / column.width
    return _with_indicator(column, scaled_NS, absent_N), found


def _each(mask_NS: BoolVector, of: Callable[..., Any]) -> BoolVector:
    """All or any along the last axis."""
    found: BoolVector = of(mask_NS, axis=-1)
    return found


def _fitted(column: Column, raw: Cells) -> tuple[FloatArray, BoolVector]:
    """Numbers N x S, NaN where there is none, and which records had the declared length or none."""
    shape = column.shape
    array_NT = _stacked(column, raw)
    value_NT = np.full((len(raw), *shape), np.nan)
    length = min(shape[0], array_NT.shape[1])
    value_NT[:, :length] = array_NT[:, :length]
    nan_NTS = np.isnan(array_NT).reshape(*array_NT.shape[:2], math.prod(shape[1:]))
    used_NT = ~_each(nan_NTS, np.all)
    last_N = used_NT.shape[1] - used_NT[:, ::-1].argmax(axis=1)
    end_N = np.where(_each(used_NT, np.any), last_N, 0)
    return value_NT.reshape(len(raw), math.prod(shape)), (end_N == shape[0]) | (end_N == 0)


def _stacked(column: Column, raw: Cells) -> FloatArray:
    """The column as one array of numbers, all axes but the first two as the schema says."""
    if all(value is None for value in raw):
        return np.full((len(raw), *column.shape), np.nan)
    if not isinstance(raw, np.ndarray) or raw.dtype.kind not in "fiub":
        raise _misshapen(column, "single values")
    if raw.ndim != len(column.shape) + 1 or raw.shape[2:] != column.shape[1:]:
        raise _misshapen(column, "x".join(map(str, raw.shape[1:])) or "single values")
    return raw.astype(np.float64)


def _misshapen(column: Column, found: str) -> InputError:
    return InputError(
        f"array {column.name!r} has another shape",
        expected="x".join(map(str, column.shape)),
        found=found,
        remedy="resize at the source, or name the shape that all hospitals have in the schema",
    )


def words_of(column: Column, raw: Cells) -> tuple[FloatArray, dict[str, BoolVector]]:
    """Numbers of a text's first words, N x L, zeros behind them, and which texts have a problem.

    Whole numbers N x L are taken for those of words that somebody else has read.
    """
    if isinstance(raw, np.ndarray) and raw.ndim > 1:
        number_NL, cut_N = _numbered(column, raw)
        missing_N = ~_each(number_NL > 0, np.any)
    else:
        texts = [text_of(value) for value in raw]
        number_NL, cut_N = hashed(texts, column.length or 0)
        missing_N = np.array([text is None for text in texts], dtype=np.bool_)
    wordless_N = ~_each(number_NL > 0, np.any) & ~missing_N
    return number_NL, {"missing": missing_N, "without_words": wordless_N, "cut_off": cut_N}


def _text(column: Column, raw: Cells) -> tuple[FloatArray, list[Finding]]:
    number_NL, problems = words_of(column, raw)
    absent_N = problems["missing"] | problems["without_words"]
    return _with_indicator(column, number_NL, absent_N), findings_of(column.name, **problems)


def _numbered(column: Column, raw: npt.NDArray[Any]) -> tuple[FloatArray, BoolVector]:
    """Numbers of words that somebody else read, N x L, and which texts were longer."""
    length = column.length or 0
    if raw.ndim != 2 or raw.dtype.kind not in "iu":
        raise InputError(f"text {column.name!r} is an array", expected="one text a row")
    number_NL = np.zeros((len(raw), length))
    number_NL[:, : raw.shape[1]] = np.clip(raw[:, :length], 0, PRIME - 1)
    return number_NL, _each(raw[:, length:] > 0, np.any)


BLOCKS: Final = {
    "category": _category,
    "flag": _flag,
    "array": _array,
    "text": _text,
}
"""By kind: a column's features N x K, an indicator last where it has one, and what was found."""
