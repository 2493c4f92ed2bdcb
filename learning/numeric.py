"""The numbers of a schema all at once: their constants as arrays, their values as one matrix.

Most schemas are numbers and most requests have one row, so a step for each column would cost more
than the model. Every value still meets the same operations as by itself, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from learning.schema import Column

# No quantity in medicine reaches this in any unit; larger numbers (float32's 3.4e38 is a usual one)
# are codes for "unknown" and must not become the upper bound.
ABSURD = 1e30

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Numbers:
    """K numbers of a schema with F features.

    Args:
        names: Of the columns.
        place_K: Which of the schema's columns each is.
        feature_K: Its feature.
        indicated: Those with an indicator, by number and feature of the indicator.
        low_K1: Lower bound; the following are one column each, too.
        high_K1: Upper bound.
        middle_K1: What becomes 0.
        width_K1: What becomes 1 above it.
        neutral_K1: What stands in for a missing value.
    """

    names: tuple[str, ...]
    place_K: npt.NDArray[np.int64]  # noqa: N815 - the shape is part of the name
    feature_K: npt.NDArray[np.int64]  # noqa: N815
    indicated: tuple[tuple[int, int], ...]
    low_K1: Array  # noqa: N815
    high_K1: Array  # noqa: N815
    middle_K1: Array  # noqa: N815
    width_K1: Array  # noqa: N815
    neutral_K1: Array  # noqa: N815

    @classmethod
    def of(cls, columns: Sequence[Column], starts: Sequence[int]) -> Numbers:
        """The numbers among columns.

        Args:
            columns: All columns of the schema.
            starts: The first feature of each.
        """
        chosen = [place for place, column in enumerate(columns) if column.kind == "number"]
        found = [columns[place] for place in chosen]
        indicated = [
            (number, starts[place] + 1)
            for number, place in enumerate(chosen)
            if columns[place].may_be_missing
        ]
        return cls(
            names=tuple(column.name for column in found),
            place_K=np.array(chosen, dtype=np.int64),
            feature_K=np.array([starts[place] for place in chosen], dtype=np.int64),
            indicated=tuple(indicated),
            low_K1=_upright([column.bounds[0] for column in found]),
            high_K1=_upright([column.bounds[1] for column in found]),
            middle_K1=_upright([column.middle for column in found]),
            width_K1=_upright([column.width for column in found]),
            neutral_K1=_upright(
                [
                    column.middle if column.neutral is None else float(column.neutral)
                    for column in found
                ]
            ),
        )

    def judged(self, table: Mapping[str, Any]) -> tuple[Array, bool] | None:
        """K x N values as `stacked` has them, and whether all are `within`; judged once a table."""
        if isinstance(table, MatrixTable) and table.names == self.names:
            if table.judged is None:
                table.judged = self._judged(table.value_KN)
            return table.judged
        value_KN = self.stacked(table)
        return None if value_KN is None else (value_KN, self.within(value_KN))

    def _judged(self, value_KN: Array) -> tuple[Array, bool]:
        # What is within bounds is no code for "unknown", unless the bounds are as wide.
        if self.within(value_KN) and self.narrow:
            return value_KN, True
        value_KN = _usable(value_KN)
        return value_KN, self.within(value_KN)

    @cached_property
    def narrow(self) -> bool:
        """Whether no bound reaches what no quantity does."""
        return bool((np.abs(self.low_K1) < ABSURD).all() and (np.abs(self.high_K1) < ABSURD).all())

    def stacked(self, table: Mapping[str, Any]) -> Array | None:
        """The values K x N of a table whose cells are arrays of floats, None of any other table.

        What no quantity reaches is infinite, NaN stays. They may be the table's own: who changes
        them copies them first.
        """
        if isinstance(table, MatrixTable) and table.names == self.names:
            return _usable(table.value_KN)
        cells = [table[name] for name in self.names]
        if not all(isinstance(one, np.ndarray) and one.dtype == np.float64 for one in cells):
            return None
        return _usable(np.concatenate(cells).reshape(len(cells), -1))

    def within(self, value_KN: Array) -> bool:
        """Whether every value is given and between its bounds."""
        fits_KN = (value_KN >= self.low_K1) & (value_KN <= self.high_K1)
        return int(np.count_nonzero(fits_KN)) == fits_KN.size


class MatrixTable(Mapping[str, Array]):
    """A table of numbers alone that came as one matrix, which need not be put together again.

    Args:
        names: The columns, in the schema's order.
        value_KN: Their values.
    """

    def __init__(self, names: tuple[str, ...], value_KN: Array) -> None:
        self.names = names
        self.value_KN = value_KN
        self.judged: tuple[Array, bool] | None = None

    def __getitem__(self, name: str) -> Array:
        try:
            return np.asarray(self.value_KN[self.names.index(name)])
        except ValueError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _usable(value_KN: Array) -> Array:
    absurd_KN = np.abs(value_KN) >= ABSURD
    return np.where(absurd_KN, np.inf, value_KN) if absurd_KN.any() else value_KN


def _upright(values: Sequence[float]) -> Array:
    return np.array(values, dtype=np.float64)[:, None]
