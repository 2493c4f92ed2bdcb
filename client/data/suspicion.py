"""What makes a column look wrong although every cell of it can be read.

Each suspicion is gathered batch by batch, from codes and scaled numbers, and asks at the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from client.data.units import Conversion, conversion
from learning.schema import Column
from learning.task import FloatArray, FloatVector, IntVector
from protocol.errors import InputError

# Fewer rows than these of each of two classes are told apart by chance.
FEWEST = 10
# Different numbers of a column that are codes rather than measurements, at most.
CODES = 64
# Rows that agree in so many different numbers are hardly two people's; all zeros may be anybody's.
TELLING = 6
# A unit is suspected if converting it brings nearly all numbers to where they are expected.
_NEARLY_ALL, _HARDLY_ANY = 0.9, 0.05
_UNITS = (
    "mmol/l", "mg/dl", "µmol/l", "g/l", "g/dl", "mg/l", "µg/l", "ng/ml",
    "degC", "degF", "K", "mmHg", "kPa", "hPa", "kg", "g", "lb", "m", "cm", "mm", "in",
    "years", "months", "days", "hours", "minutes", "s", "1/s", "1/min", "mV", "µV", "1", "%",
)  # fmt: skip


class UnitSuspicion:
    """Whether numbers of a column are in another unit than the schema's, or some of them are.

    Args:
        column: The column, whose bounds and centre say where numbers are expected.
    """

    def __init__(self, column: Column) -> None:
        self._column = column
        self._candidates = _candidates(column)
        self._fits = dict.fromkeys(self._candidates, 0)
        self._near = dict.fromkeys(self._candidates, 0)
        self._outside = self._usable = self._near_now = 0

    def add(self, value_N: FloatVector) -> None:
        """Take usable numbers in."""
        low, high = self._column.bounds
        outside_N = (value_N < low) | (value_N > high)
        self._usable += len(value_N)
        self._outside += int(outside_N.sum())
        self._near_now += int(self._is_near(value_N).sum())
        for unit, how in self._candidates.items():
            converted_N = value_N * how.scale + how.offset
            within_N = (converted_N >= low) & (converted_N <= high)
            self._fits[unit] += int((within_N & outside_N).sum())
            self._near[unit] += int(self._is_near(converted_N).sum())

    def suspected(self) -> str | None:
        """The unit that many numbers seem to be in, if there is one."""
        if self._outside >= FEWEST and self._outside > _HARDLY_ANY * self._usable:
            return self._best(self._fits, self._outside)
        # Numbers within wide bounds tell something only if the schema says where they lie.
        told = self._column.centre is not None and self._column.spread is not None
        if told and self._usable >= FEWEST and self._near_now <= _HARDLY_ANY * self._usable:
            return self._best(self._near, self._usable)
        return None

    def most_outside(self) -> bool:
        """Whether more numbers lie outside the bounds than within."""
        return 2 * self._outside > self._usable

    def _is_near(self, value_N: FloatVector) -> npt.NDArray[np.bool_]:
        near_N: npt.NDArray[np.bool_] = (
            np.abs(value_N - self._column.middle) <= 2 * self._column.width
        )
        return near_N

    def _best(self, counts: dict[str, int], of: int) -> str | None:
        """Of the units that nearly all numbers fit, the one that brings most to the centre."""
        units = [unit for unit in counts if counts[unit] >= _NEARLY_ALL * of]
        return max(units, key=lambda unit: self._near[unit], default=None)


def _candidates(column: Column) -> dict[str, Conversion]:
    """Usual units from which a column's could be converted, except those that change nothing."""
    if not column.unit:
        return {}
    found: dict[str, Conversion] = {}
    for unit in _UNITS:
        try:
            how = conversion(column, unit)
        except InputError:
            continue
        if abs(how.scale - 1) > 1e-9 or abs(how.offset) > 1e-9:
            found[unit] = how
    return found


class LabelSuspicion:
    """Whether a column tells every record's class: then it was most likely written after it.

    Args:
        num_classes: C, the number of classes.
        num_codes: Different codes, one of them for a missing value.
    """

    def __init__(self, num_classes: int, num_codes: int) -> None:
        self._count_KC = np.zeros((num_codes, num_classes), dtype=np.int64)
        self._low_C = np.full(num_classes, np.inf)
        self._high_C = np.full(num_classes, -np.inf)
        self._present_C = np.zeros(num_classes, dtype=np.int64)
        self._pair_M2: npt.NDArray[np.float64] | None = np.empty((0, 2))

    def add_codes(self, code_N: IntVector, class_N: IntVector) -> None:
        """Take codes and classes of records in."""
        np.add.at(self._count_KC, (code_N, class_N), 1)

    def add_numbers(self, value_N: FloatVector, class_N: IntVector) -> None:
        """Take present numbers and their records' classes in."""
        np.minimum.at(self._low_C, class_N, value_N)
        np.maximum.at(self._high_C, class_N, value_N)
        self._present_C += np.bincount(class_N, minlength=len(self._present_C))
        if self._pair_M2 is not None:
            pair_N2 = np.column_stack([value_N, class_N])
            pair_M2 = np.unique(np.concatenate([self._pair_M2, pair_N2]), axis=0)
            # None once a number stands with two classes, or there are too many to be codes.
            pure = len(np.unique(pair_M2[:, 0])) == len(pair_M2) <= CODES
            self._pair_M2 = pair_M2 if pure else None

    def tells(self) -> bool:
        """Whether one look at the column gives the class away."""
        pure = bool(((self._count_KC > 0).sum(axis=1) <= 1).all())
        return (pure and _enough(self._count_KC.sum(axis=0))) or (
            (self._apart() or self._coded()) and _enough(self._present_C)
        )

    def _coded(self) -> bool:
        """Whether numbers are codes, each of one class, and too few for that to be chance."""
        return self._pair_M2 is not None and FEWEST * len(self._pair_M2) <= int(
            self._present_C.sum()
        )

    def _apart(self) -> bool:
        """Whether the classes' numbers lie in ranges that do not overlap."""
        seen_C = np.flatnonzero(self._present_C)
        order = seen_C[np.argsort(self._low_C[seen_C])]
        return bool((self._high_C[order[:-1]] < self._low_C[order[1:]]).all())


def _enough(count_C: npt.NDArray[Any]) -> bool:
    return int((count_C >= FEWEST).sum()) >= 2


class PatientSuspicion:
    """Whether one person seems to have several numbers, and could be on both sides of the split.

    Codes are kept and no texts: at most 40 bytes a record.
    """

    def __init__(self) -> None:
        self._key_M3 = [np.empty((0, 3), dtype=np.int64)]
        self._row_M2 = [np.empty((0, 2), dtype=np.int64)]

    def add(
        self, keys: Sequence[str | None], split_by: Sequence[object], number_NK: FloatArray
    ) -> None:
        """Take the rows of a batch in.

        Args:
            keys: Each row's patient by the job's column.
            split_by: The same by the column that the hospital splits by.
            number_NK: The row's numbers, NaN where there is none.
        """
        rises_NK = np.diff(np.sort(number_NK, axis=1), axis=1) > 0
        telling_N = 1 + rises_NK.sum(axis=1) >= TELLING
        pairs = [(key, other) for key, other in zip(keys, split_by, strict=True) if key]
        codes = [(hash(key), hash(_plain(key)), hash(other)) for key, other in pairs]
        rows = [
            (hash(number_NK[place].tobytes()), hash(keys[place]))
            for place in np.flatnonzero(telling_N).tolist()
            if keys[place]
        ]
        self._key_M3.append(np.array(codes, dtype=np.int64).reshape(-1, 3))
        self._row_M2.append(np.array(rows, dtype=np.int64).reshape(-1, 2))

    def two_spellings(self) -> bool:
        """Whether numbers of patients differ in zeros in front, case or punctuation only."""
        key_M3 = np.concatenate(self._key_M3)
        return _several(key_M3[:, 1], key_M3[:, 0])

    def both_sides(self) -> bool:
        """Whether a patient of the job is several patients of the hospital's split."""
        key_M3 = np.concatenate(self._key_M3)
        return _several(key_M3[:, 0], key_M3[:, 2])

    def two_patients(self) -> bool:
        """Whether rows that agree in many numbers stand under different patients."""
        row_M2 = np.concatenate(self._row_M2)
        return _several(row_M2[:, 0], row_M2[:, 1])


def _plain(key: str) -> str:
    """A patient's number as somebody types it who does not care.

    >>> _plain("P-0017") == _plain("p17"), _plain("1-001") == _plain("10-01")
    (True, False)
    """
    parts = re.findall(r"\d+|[^\W\d_]+", key.casefold())
    return "-".join(part.lstrip("0") or "0" if part.isdigit() else part for part in parts) or key


def _several(of_N: npt.NDArray[np.int64], different_N: npt.NDArray[np.int64]) -> bool:
    """Whether one value of the first stands beside several values of the second."""
    pair_NK = np.unique(np.column_stack([of_N, different_N]), axis=0)
    return len(pair_NK) > len(np.unique(of_N))
