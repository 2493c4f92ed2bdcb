"""From a request's tensors to the columns of a model's schema.

A client sends raw columns, one tensor each, or all of them as one matrix of FP64 when no column is
an array. NaN, and empty text, say that a value is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from learning.cell_values import patient_key
from learning.numeric import MatrixTable
from learning.schema import Column, Schema
from learning.task import Cells
from serving.payloads import BYTES, DTYPES, Tensor
from serving.refusal import Kind, Refusal, invalid

MATRIX = "columns"
_LONGEST_KEY = 64
_NUMBERS = tuple(name for name in DTYPES if name != "BOOL")
_NAMES = (BYTES, *(name for name in DTYPES if "INT" in name))
_TYPES = {
    "number": _NUMBERS,
    "array": _NUMBERS,
    "category": (BYTES, *_NUMBERS),
    "flag": ("BOOL", BYTES, *_NUMBERS),
    "text": (BYTES,),
}
# What metadata suggests; every type above is taken.
_USUAL = {"number": "FP64", "array": "FP64", "category": BYTES, "flag": "BOOL", "text": BYTES}


def describe(schema: Schema) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, datatype and shape of each input; -1 stands for the number of rows."""
    return [(column.name, _USUAL[column.kind], (-1, *column.shape)) for column in schema.columns]


def table_of(schema: Schema, inputs: Sequence[Tensor], most_rows: int) -> Mapping[str, Cells]:
    """Columns by name, equally long.

    Raises:
        Refusal: A tensor is missing, unknown, repeated, or of a wrong type or shape; the message
            names it and holds no value.
    """
    if schema.patient is not None and len(inputs) == 2:
        inputs = _without_patient(schema.patient, inputs)
    if len(inputs) == 1 and inputs[0].name == MATRIX and MATRIX not in schema.names:
        return _split(schema, inputs[0], most_rows)
    tensors = _by_name(schema, inputs)
    _check_rows(_rows_of(tensors.values()), most_rows)
    return {column.name: _cells(column, tensors[column.name]) for column in schema.columns}


def _without_patient(patient: str, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """The matrix alone where the patients stand beside one; whatever else there is as it is."""
    names = {tensor.name for tensor in inputs}
    if names != {MATRIX, patient}:
        return inputs
    _rows_of(inputs)
    return [tensor for tensor in inputs if tensor.name == MATRIX]


def _rows_of(inputs: Collection[Tensor]) -> int:
    """How many rows all of them have: a batch would part at wrong rows, were they not the same."""
    rows = {len(tensor.array) for tensor in inputs}
    if len(rows) > 1:
        raise invalid("inputs differ in their number of rows", expected="one first size for all")
    return rows.pop()


def _by_name(schema: Schema, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    names = schema.names
    tensors = {tensor.name: tensor for tensor in inputs}
    if len(tensors) < len(inputs):
        raise invalid("an input occurs twice", expected="each column once")
    if missing := [name for name in names if name not in tensors]:
        raise invalid("missing inputs", expected=", ".join(map(repr, missing)))
    if unknown := sorted(set(tensors) - {*names, schema.patient}):
        raise invalid(f"unknown input {unknown[0][:64]!r}", expected=", ".join(map(repr, names)))
    return tensors


def patients_of(schema: Schema, inputs: Sequence[Tensor], rows: int) -> list[str | None]:
    """Each row's patient, where the request has a tensor by the name of the schema's patient.

    Raises:
        Refusal: The tensor holds no names or numbers of patients.
    """
    found = next((one for one in inputs if one.name == schema.patient), None)
    if found is None:
        return [None] * rows
    if found.datatype not in _NAMES or found.array.shape not in {(rows,), (rows, 1)}:
        raise invalid(f"input {found.name!r}", expected=f"texts or whole numbers of shape {rows}")
    keys = [patient_key(one) for one in found.array.reshape(-1).tolist()]
    if not all(len(key) <= _LONGEST_KEY and key.isprintable() for key in filter(None, keys)):
        raise invalid(f"input {found.name!r}", expected="texts of at most 64 printable letters")
    return keys


def _check_rows(count: int, most_rows: int) -> None:
    if not 1 <= count <= most_rows:
        kind = Kind.TOO_LARGE if count else Kind.INVALID
        raise Refusal(kind, "rows of a request", expected=f"1 to {most_rows}", found=str(count))


def _split(schema: Schema, matrix: Tensor, most_rows: int) -> Mapping[str, Cells]:
    """The columns of a matrix N x columns."""
    columns, shape = schema.columns, matrix.array.shape
    if any(column.kind == "array" for column in columns):
        raise invalid(f"input {MATRIX!r}", expected="one tensor a column: some are arrays")
    if matrix.datatype != "FP64" or len(shape) != 2 or shape[1] != len(columns):
        raise invalid(
            f"input {MATRIX!r}",
            expected=f"FP64 of shape N x {len(columns)}",
            found=f"{matrix.datatype} of shape {_shown(shape)}",
        )
    _check_rows(shape[0], most_rows)
    # Row-major by column, and aligned, whatever the request's bytes were.
    value_KN = np.array(matrix.array.T, dtype=np.float64, order="C")
    if len(schema.numbers.names) == len(columns):
        return MatrixTable(schema.names, value_KN)
    return {
        column.name: value_N if column.kind == "number" else value_N.tolist()
        for column, value_N in zip(columns, value_KN, strict=True)
    }


def _cells(column: Column, tensor: Tensor) -> Cells:
    """A column's values as preprocessing takes them."""
    if tensor.datatype not in _TYPES[column.kind]:
        raise invalid(
            f"input {column.name!r}: datatype",
            expected=" or ".join(_TYPES[column.kind]),
            found=tensor.datatype,
        )
    array, shape = tensor.array, tensor.array.shape
    if column.kind == "array":
        if len(shape) != len(column.shape) + 1 or shape[2:] != column.shape[1:] or not shape[1]:
            raise _misshapen(column, shape)
        return array.astype(np.float64)
    if len(shape) > 1 and shape[1:] != (1,):
        raise _misshapen(column, shape)
    if column.kind == "number":
        return array.reshape(-1).astype(np.float64)
    return array.reshape(-1).tolist()


def _misshapen(column: Column, shape: tuple[int, ...]) -> Refusal:
    expected = " x ".join(("N", *map(str, column.shape)))
    return invalid(f"input {column.name!r}: shape", expected=expected, found=_shown(shape))


def _shown(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
