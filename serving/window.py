"""Sums over the last rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.task import FloatArray


@dataclass(eq=False)
class Window:
    """Sums over the last rows: two halves, the older one forgotten when the newer one is full.

    Args:
        length: Numbers of a sum.
        rows: Rows of a half.
    """

    length: int
    rows: int
    halves: list[FloatArray] = field(default_factory=list)
    seen: list[int] = field(default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        self.halves = self.halves or [np.zeros(self.length), np.zeros(self.length)]

    def add(self, sums: npt.NDArray[Any], rows: int) -> None:
        """Add the sums of some rows."""
        if self.seen[1] >= self.rows:
            self.halves = [self.halves[1], np.zeros(self.length)]
            self.seen = [self.seen[1], 0]
        self.halves[1] = self.halves[1] + sums
        self.seen[1] += rows

    @property
    def total(self) -> FloatArray:
        """The sum over both halves."""
        return np.asarray(self.halves[0] + self.halves[1])

    def plain(self) -> dict[str, Any]:
        """The sums as JSON's types."""
        return {"halves": [half.tolist() for half in self.halves], "seen": self.seen}


def taken(like: Window, state: Mapping[str, Any]) -> Window:
    """A window from `Window.plain`.

    Args:
        like: One of the same length.
        state: What stands in the file.

    Raises:
        ValueError: It has another length, or is none; `KeyError` and `TypeError` say the same.
    """
    halves = [np.array(half, dtype=np.float64) for half in state["halves"]]
    older, newer = state["seen"]
    if [half.shape for half in halves] != [(like.length,)] * 2 or not np.isfinite(halves).all():
        raise ValueError
    return Window(like.length, like.rows, halves, [int(older), int(newer)])
