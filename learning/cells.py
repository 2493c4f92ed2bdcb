"""The cells of one column of a table of statistics, and what a record adds to them at most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from learning.counting import Raised, raised
from learning.schema import Column
from learning.task import FloatArray, IntVector

Entry = tuple[str, tuple[int, ...]]
"""Name and shape of some cells."""

FLAG_LEVELS: Final = ("no", "yes")


@dataclass(frozen=True, kw_only=True)
class NumberCells:
    """Cells of a number: missing, two moments, bins of equal width between its bounds.

    Args:
        name: The column, after its role: `column/age`, `label/beds`.
        bins: B, 0 for none.
        optional: Whether a record may lack it.
    """

    name: str
    bins: int
    optional: bool = True

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Names and shapes of the cells, in order."""
        sizes = {"missing": int(self.optional), "moments": 2, "bins": self.bins}
        return tuple((f"{self.name}/{part}", (size,)) for part, size in sizes.items() if size)

    @property
    def square(self) -> float:
        """Bound on the square of a record's L2 norm here; a quarter's multiple, so exact."""
        return 2.25 if self.bins else 1.25

    def raised(self, x_N2: FloatArray, start: int) -> Iterator[Raised]:
        """What records raise.

        Args:
            x_N2: Scaled value, and 1 where it is missing.
            start: Number of the first cell.
        """
        present_N1 = (x_N2[:, 1:] < 0.5) | (not self.optional)
        scaled_N1 = np.clip(x_N2[:, :1], -1.0, 1.0)
        one_11 = np.ones((1, 1))
        yield raised(~present_N1, np.array([[start]]), one_11)
        moments_N2 = np.hstack([scaled_N1, scaled_N1**2 - 0.5])
        first = start + int(self.optional)
        present_N2 = np.broadcast_to(present_N1, moments_N2.shape)
        yield raised(present_N2, np.array([[first, first + 1]]), moments_N2)
        if self.bins:
            yield raised(present_N1, first + 2 + bins_of(scaled_N1, self.bins), one_11)


def bins_of(scaled_N: FloatArray, bins: int) -> IntVector:
    """The bin of each scaled value, of equally many of any shape.

    >>> bins_of(np.array([-1.0, -0.01, 0.0, 1.0]), 4).tolist()
    [0, 1, 2, 3]
    """
    place_N = np.floor((scaled_N + 1.0) / 2.0 * bins).astype(np.int64)
    return np.asarray(np.minimum(place_N, bins - 1))


@dataclass(frozen=True, kw_only=True)
class LevelCells:
    """Cells of a category, a flag or a class: one for each level, the last for none of them.

    Args:
        name: The column, after its role.
        levels: C.
        optional: Whether a record may lack it.
    """

    name: str
    levels: int
    optional: bool = True

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Names and shapes of the cells, in order."""
        return ((f"{self.name}/levels", (self.levels + int(self.optional),)),)

    @property
    def square(self) -> float:
        """Bound on the square of a record's L2 norm here: one cell, by 1."""
        return 1.0

    def raised(self, x_NK: FloatArray, start: int) -> Iterator[Raised]:
        """What records raise; `x_NK` as `codes` reads it."""
        code_N = codes(x_NK, self.levels)
        yield raised(np.ones((len(code_N), 1)), start + code_N[:, None], np.ones((1, 1)))


def codes(x_NK: FloatArray, levels: int) -> IntVector:
    """Each record's level from its features, (N,), `levels` where it has none.

    Args:
        x_NK: One feature for each level (or one alone, where there are two), then one for missing.
        levels: C.
    """
    if x_NK.shape[1] == levels + 1:
        return np.asarray(x_NK.argmax(axis=1), dtype=np.int64)
    missing_N, yes_N = x_NK[:, 1] >= 0.5, x_NK[:, 0] >= 0.5
    return np.where(missing_N, levels, yes_N.astype(np.int64))


def levels_of(column: Column) -> tuple[str, ...]:
    """What a category or flag may be."""
    return column.labels if column.kind == "category" else FLAG_LEVELS
