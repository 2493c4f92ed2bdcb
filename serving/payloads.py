"""Tensors of the Open Inference Protocol, whatever brought them: raw bytes or typed values.

Source: Open Inference Protocol v2, sections "Tensor Data Types" and "Binary Tensor Data Extension".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.refusal import invalid

BYTES = "BYTES"
DTYPES: Mapping[str, npt.DTypeLike] = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
# Above this many bytes a request's values are read in a thread: others shall not wait for seconds.
LARGE = 1 << 16
_MOST_AXES = 8
_MOST_VALUES = 1 << 48
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, eq=False)
class Tensor:
    """A named array; of BYTES an array of text objects.

    Args:
        name: The tensor's name.
        datatype: As the protocol spells it.
        array: Its values, of the tensor's shape.
    """

    name: str
    datatype: str
    array: npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """An inference request.

    Args:
        version: Version of the model as text, empty for the one in use.
        id: What the client calls the request.
        inputs: Its tensors.
        outputs: Names of the outputs that it wants, empty for all.
    """

    version: str = ""
    id: str = ""
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Reply:
    """The answer to an inference request."""

    model: str
    version: str
    id: str
    outputs: tuple[Tensor, ...]
    parameters: Mapping[str, str]


def from_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Tensor:
    """A tensor from its little-endian bytes, row-major.

    Raises:
        Refusal: Type, shape and number of bytes do not fit each other.

    >>> from_raw("age", "FP32", [2], bytes(8)).array.tolist()
    [0.0, 0.0]
    """
    size = _size(name, datatype, shape)
    if datatype == BYTES:
        return Tensor(name, datatype, _texts(name, raw, size).reshape(tuple(shape)))
    dtype = np.dtype(DTYPES[datatype])
    if len(raw) != size * dtype.itemsize:
        raise invalid(
            f"tensor {name!r}", expected=f"{size * dtype.itemsize} bytes", found=str(len(raw))
        )
    return Tensor(name, datatype, np.frombuffer(raw, dtype).reshape(tuple(shape)))


def from_values(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> Tensor:
    """A tensor from a flat or nested list; None stands for a missing number or text.

    Raises:
        Refusal: Type, shape and values do not fit each other.
    """
    size = _size(name, datatype, shape)
    flat, sizes = _flat(values)
    if not _fits(sizes, shape):
        told = " x ".join(map(str, shape))
        raise invalid(f"tensor {name!r}", expected=f"lists of shape {told}", found="other lists")
    if len(flat) != size:
        raise invalid(f"tensor {name!r}", expected=f"{size} values", found=str(len(flat)))
    if not set(map(type, flat)) <= _types(datatype):
        raise invalid(f"tensor {name!r}", expected=f"values of {datatype}", found="other types")
    if datatype == BYTES:
        array = np.empty(size, dtype=object)
        array[:] = [_text(name, value) if isinstance(value, bytes) else value for value in flat]
    else:
        try:
            with np.errstate(over="ignore"):
                array = np.array(flat, dtype=DTYPES[datatype])
        except (OverflowError, ValueError):
            raise invalid(f"tensor {name!r}", expected=f"values of {datatype}") from None
    return Tensor(name, datatype, array.reshape(tuple(shape)))


def to_raw(tensor: Tensor) -> bytes:
    """The bytes that `from_raw` reads."""
    if tensor.datatype != BYTES:
        return np.ascontiguousarray(tensor.array, DTYPES[tensor.datatype]).tobytes()
    texts = (str(value).encode() for value in tensor.array.flat)
    return b"".join(_LENGTH.pack(len(text)) + text for text in texts)


def _types(datatype: str) -> set[type]:
    if datatype == BYTES:
        return {str, bytes, type(None)}
    if datatype.startswith("FP"):
        return {int, float, type(None)}
    return {bool} if datatype == "BOOL" else {int}


def _size(name: str, datatype: str, shape: Sequence[int]) -> int:
    """Number of elements of a shape that is one."""
    if datatype != BYTES and datatype not in DTYPES:
        raise invalid(f"tensor {name!r}: datatype", expected=", ".join((*DTYPES, BYTES)))
    whole = all(type(size) is int and size >= 0 for size in shape)
    # NumPy counts what an array would have were none of its axes empty.
    if not (
        1 <= len(shape) <= _MOST_AXES
        and whole
        and math.prod(size or 1 for size in shape) < _MOST_VALUES
    ):
        raise invalid(f"tensor {name!r}: shape", expected=f"1 to {_MOST_AXES} sizes from 0")
    return math.prod(shape)


def _flat(values: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """What stands in the innermost lists, and how long those of each depth are, -1 if unequally."""
    flat, sizes = list(values), [len(values)]
    for _ in range(_MOST_AXES):
        if not (flat and all(isinstance(one, list) for one in flat)):
            break
        lengths = {len(one) for one in flat}
        sizes.append(lengths.pop() if len(lengths) == 1 else -1)
        flat = [value for one in flat for value in one]
    return flat, sizes


def _fits(sizes: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether lists are of a shape, its last axes in one list or not, axes of one place aside.

    Lists of another shape have as many values when somebody mixed up rows and columns.
    """
    if len(sizes) == 1:
        return True
    *outer, inner = [size for size in sizes if size != 1] or [1]
    axes = [size for size in shape if size != 1]
    return outer == axes[: len(outer)] and inner == math.prod(axes[len(outer) :])


def _texts(name: str, raw: bytes, size: int) -> npt.NDArray[Any]:
    """Texts, each with its length in front."""
    # Each takes four bytes at least: nothing is allocated for what was not sent.
    if size * _LENGTH.size > len(raw):
        raise invalid(f"tensor {name!r}", expected=f"{size} values", found="fewer")
    array, start = np.empty(size, dtype=object), 0
    for index in range(size):
        stop = start + _LENGTH.size
        end = stop + _LENGTH.unpack_from(raw, start)[0] if stop <= len(raw) else len(raw) + 1
        if end > len(raw):
            raise invalid(f"tensor {name!r}", expected=f"{size} values", found="fewer")
        array[index] = _text(name, raw[stop:end])
        start = end
    if start != len(raw):
        raise invalid(f"tensor {name!r}", expected=f"{size} values", found="more bytes")
    return array


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise invalid(f"tensor {name!r}", expected="text in UTF-8", found="other bytes") from None
