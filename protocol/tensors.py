"""Named arrays and the one flat vector that is trained, packed and summed.

A layout says which name has which shape, in which order. Its digest travels with the job, so that
all parties cut the same vector in the same way. Vectors are float64, row-major, and finite.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from protocol.canonical import to_canonical
from protocol.errors import InputError, IntegrityError

FloatVector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """Names and shapes of a model's parameters, in their order within the vector.

    Args:
        entries: (name, shape) pairs; () is the shape of a scalar.

    Raises:
        InputError: A name is empty or repeated, a dimension is below 1, or there is no entry.

    >>> layout = Layout((("weight", (1, 2)), ("bias", (1,))))
    >>> layout.split(np.array([1.0, 2.0, 3.0]))["weight"]
    array([[1., 2.]])
    """

    entries: tuple[tuple[str, tuple[int, ...]], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.entries]
        if not names or "" in names or len(set(names)) != len(names):
            raise InputError("names of a layout", expected="at least one, each unlike the others")
        if any(size < 1 for _, shape in self.entries for size in shape):
            raise InputError("shapes of a layout", expected="dimensions of at least 1")

    @cached_property
    def size(self) -> int:
        """P, the number of coordinates of the vector."""
        return sum(math.prod(shape) for _, shape in self.entries)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes, hexadecimal."""
        return hashlib.sha256(to_canonical(self)).hexdigest()

    def split(self, vector_P: FloatVector) -> dict[str, FloatVector]:
        """The named arrays of a vector, as views: writing to one writes to the vector.

        Raises:
            IntegrityError: The vector has another length or type, or is not finite.
        """
        seen, views = self._split
        if vector_P is seen:
            return dict(views)
        check_vector(vector_P, self.size)
        views = self._views(vector_P)
        if not vector_P.flags.writeable:
            # A model that is served is split at every request, and does not change.
            self.__dict__["_split"] = vector_P, views
        return dict(views)

    @cached_property
    def _split(self) -> tuple[FloatVector | None, dict[str, FloatVector]]:
        """The last vector that cannot be written to, and its arrays."""
        return None, {}

    def join(self, arrays: Mapping[str, FloatVector]) -> FloatVector:
        """The vector of the named arrays, in the layout's order, as a copy.

        Raises:
            IntegrityError: A name is missing or unknown, a shape differs, or a value is not
                finite.
        """
        odd = arrays.keys() ^ {name for name, _ in self.entries}
        if odd:
            raise IntegrityError(f"missing or unknown arrays: {', '.join(sorted(odd))}")
        vector_P = np.empty(self.size)
        parts = self._views(vector_P)
        for name, shape in self.entries:
            array = np.asarray(arrays[name])
            if array.shape != shape or not np.can_cast(array.dtype, np.float64, "safe"):
                raise IntegrityError(
                    f"array {name!r}",
                    expected=f"real numbers of shape {shape}",
                    found=f"{array.dtype} of shape {array.shape}",
                )
            parts[name][...] = array
        check_vector(vector_P, self.size)
        return vector_P

    def _views(self, vector_P: FloatVector) -> dict[str, FloatVector]:
        views, start = {}, 0
        for name, shape in self.entries:
            stop = start + math.prod(shape)
            views[name] = vector_P[start:stop].reshape(shape)
            start = stop
        return views


def check_vector(vector_P: FloatVector, length: int) -> None:
    """Refuse what is no finite float64 vector of a length.

    Raises:
        IntegrityError: Type, shape or a value is wrong; the message holds no value.
    """
    if vector_P.dtype != np.float64 or vector_P.shape != (length,):
        raise IntegrityError(
            "vector",
            expected=f"float64 of shape ({length},)",
            found=f"{vector_P.dtype} of shape {vector_P.shape}",
        )
    if not np.isfinite(vector_P).all():
        raise IntegrityError("vector with a number that is not finite")


def weights_digest(vector_P: FloatVector) -> str:
    """SHA-256 over the vector's little-endian float64 bytes, hexadecimal.

    It tells 0.0 from -0.0: equal digests mean equal bits.

    Raises:
        IntegrityError: The vector is not a finite float64 vector.

    >>> weights_digest(np.zeros(1)) == hashlib.sha256(bytes(8)).hexdigest()
    True
    """
    check_vector(vector_P, vector_P.size)
    return hashlib.sha256(np.ascontiguousarray(vector_P, dtype="<f8").data).hexdigest()
