"""Columns to numbers, with the schema's public constants only.

Every value is treated by itself: nothing is fitted, so no feature of one patient depends on
another. Whatever cannot be used becomes the schema's neutral value and is counted in a report that
stays in the hospital; one infinity would otherwise void a round, and tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.numeric import ABSURD, MatrixTable, Numbers
from learning.schema import Column, Label, Schema, as_text
from learning.task import Cells, Finding, FloatArray, IntVector, Records, Report, Table
from learning.tokens import PRIME, hashed
from protocol.errors import InputError

BoolVector = npt.NDArray[np.bool_]

# Raised whenever the same table would become other features, so that no old model meets them.
VERSION = 1

MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "."})
FLAG_WORDS = {
    "1": 1, "true": 1, "yes": 1, "y": 1, "t": 1,
    "0": 0, "false": 0, "no": 0, "n": 0, "f": 0,
}  # fmt: skip

_MISSING, _UNKNOWN = -1, -2


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
        return _MISSING
    code = codes.get(as_text(value))
    if code is not None:
        return code
    return _MISSING if _is_missing(value) else _UNKNOWN


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
    return _codes(raw, {label: code for code, label in enumerate(labels)})


def _codes(raw: Cells, codes: dict[str, int]) -> IntVector:
    return np.fromiter((_as_code(value, codes) for value in raw), np.int64, count=len(raw))


def findings_of(column: str, **masks: BoolVector) -> list[Finding]:
    """One finding per problem that occurred; underscores in a problem's name read as blanks."""
    counted = ((problem.replace("_", " "), int(mask.sum())) for problem, mask in masks.items())
    return [Finding(column, problem, count) for problem, count in counted if count]


def _with_indicator(column: Column, value_NK: FloatArray, absent_N: BoolVector) -> FloatArray:
    if not column.may_be_missing:
        return value_NK
    return np.column_stack([value_NK, absent_N.astype(np.float64)])


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


def _category(column: Column, raw: Cells) -> tuple[FloatArray, list[Finding]]:
    codes = {label: code for code, label in enumerate(column.labels)}
    code_N = _codes(raw, codes)
    absent_N = code_N < 0
    found = findings_of(
        column.name, missing=code_N == _MISSING, unknown_category=code_N == _UNKNOWN
    )
    if column.neutral is not None:
        code_N = np.where(absent_N, codes[as_text(column.neutral)], code_N)
    one_hot_NK = (code_N[:, None] == np.arange(len(codes))).astype(np.float64)
    return _with_indicator(column, one_hot_NK, absent_N), found


def _flag(column: Column, raw: Cells) -> tuple[FloatArray, list[Finding]]:
    words = [value.lower() if isinstance(value, str) else value for value in raw]
    code_N = _codes(words, FLAG_WORDS)
    absent_N = code_N < 0
    found = findings_of(column.name, missing=code_N == _MISSING, unreadable=code_N == _UNKNOWN)
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


def text_of(value: str | float | None) -> str | None:
    """The text of a cell; None where it is missing."""
    return None if value is None or _is_missing(value) else as_text(value)


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


_BY_KIND = {
    "category": _category,
    "flag": _flag,
    "array": _array,
    "text": _text,
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

    >>> from learning.schema import Label
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
        block_NK, found[column.name] = _BY_KIND[column.kind](column, table[column.name])
        x_NF[:, start : start + block_NK.shape[1]] = block_NK
    findings = [one for name in schema.names for one in found.get(name, ())] if found else []
    return x_NF, Report(rows=rows, kept=rows, findings=tuple(findings))


def patient_key(value: str | float | None) -> str | None:
    """What is compared to tell patients apart; nothing where the cell names none."""
    return None if value is None or _is_missing(value) else as_text(value)


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
    patient_N = np.full(rows, _MISSING, dtype=np.int64)
    for row, value in enumerate(table[schema.patient]):
        key = patient_key(value)
        if key:
            patient_N[row] = numbers.setdefault(key, len(numbers))
    return patient_N, patient_N == _MISSING


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
        schema.label.name, missing=y_N == _MISSING, unknown_class=y_N == _UNKNOWN
    ) + findings_of(schema.patient or "", missing=orphan_N)
    keep_N = (y_N >= 0) & ~orphan_N
    records = Records(x_NF=x_NF, y_N=y_N, patient_N=patient_N).take(keep_N)
    kept = Report(rows=rows, kept=len(records), findings=(*report.findings, *found))
    return records, kept


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
