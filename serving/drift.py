"""Whether today's inputs are distributed as they should be: histograms beside a reference.

The reference of a column is a released table's histogram, whose bins are used then, or else that of
the first rows, in bins by the schema's own centre and spread. A count of what was asked is of one
hospital's patients without noise, so all of it stays on this machine; and so that nobody reads one
patient's row off two answers, what is told changes in steps of ten rows or more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.stability import Histogram, Stability, stability
from learning.task import FloatArray
from serving.bins import Bins, Counts
from serving.flags import FlagArray
from serving.reference import Reference
from serving.window import Window, taken

STEP = 10
# Rows and features that wait to be counted: few rows of volumes are gigabytes.
_AT_ONCE, _MOST_WAITING = 256, 1 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnDrift:
    """A column's histograms, as they are told.

    Args:
        expected: The reference.
        found: The last rows.
        table: Whether the reference is a table.
    """

    expected: Histogram
    found: Histogram
    table: bool

    @cached_property
    def stability(self) -> Stability | None:
        """How far they are from each other; None while there are too few to tell."""
        return stability(self.expected, self.found)

    def drifts(self, psi: float) -> bool:
        """Whether the index is above `psi`, and beyond what chance and noise explain."""
        found = self.stability
        return found is not None and found.sure and found.index > psi


@dataclass(eq=False)
class Drift:
    """Inputs of one version: the first rows, and the last ones beside them and a table.

    Large batches are answered in another thread than the one that looks after alerts, so both may
    ask at a time.

    Args:
        bins: How they are counted.
        reference_rows: How many of the first rows are the reference of what the table lacks.
        window_rows: How many rows stand beside it.
        reference: The table; None where there is none.
    """

    bins: Bins
    reference_rows: int
    window_rows: int
    reference: Reference | None = None
    rows: int = 0
    early: Counts = field(init=False)
    recent: Window = field(init=False)
    _told: Mapping[str, ColumnDrift] | None = None
    _told_counts: tuple[Counts, Counts] = field(init=False)
    _told_rows: int = 0
    _pending: list[tuple[FloatArray, FlagArray]] = field(default_factory=list)
    _waiting: int = 0
    _lock: RLock = field(default_factory=RLock)

    def __post_init__(self) -> None:
        self.early = np.zeros(self.bins.length, dtype=np.int64)
        self.recent = Window(self.bins.length, max(self.window_rows // 2, 1))
        self._told_counts = self.early.copy(), self.early.copy()

    @cached_property
    def _tabled(self) -> npt.NDArray[np.bool_]:
        """Which counts have a table beside them, so that the first rows are watched already."""
        found = np.zeros(self.bins.length, dtype=np.bool_)
        for name in self.tabled:
            found[self.bins.place(name)] = True
        return found

    @property
    def tabled(self) -> frozenset[str]:
        """The columns whose reference is a table."""
        return frozenset() if self.reference is None else frozenset(self.reference.columns)

    def observe(self, x_NF: FloatArray, flag_NC: FlagArray) -> None:
        """Take note of rows; they are counted together with others, later."""
        with self._lock:
            self._pending.append((x_NF, flag_NC))
            self._waiting += len(x_NF)
            if self._waiting >= min(_AT_ONCE, _MOST_WAITING // x_NF.shape[1]):
                self.settle()

    def settle(self) -> None:
        """Count what was taken note of."""
        with self._lock:
            pending, self._pending, self._waiting = self._pending, [], 0
            if pending:
                self._count(pending)

    def _count(self, pending: list[tuple[FloatArray, FlagArray]]) -> None:
        x_NF = np.concatenate([x for x, _ in pending])
        flag_NC = np.concatenate([flags for _, flags in pending])
        first = min(max(self.reference_rows - self.rows, 0), len(x_NF))
        if first:
            count_L = self.bins.count(x_NF[:first], flag_NC[:first])
            self.early += np.where(self._tabled, 0, count_L)
            if self.reference is not None:
                self.recent.add(np.where(self._tabled, count_L, 0), first)
        if len(x_NF) > first:
            self.recent.add(self.bins.count(x_NF[first:], flag_NC[first:]), len(x_NF) - first)
        self.rows += len(x_NF)
        if self._due():
            self._tell(self.rows, self.early.copy(), self.recent.total.astype(np.int64))

    def _due(self) -> bool:
        """Whether to tell: of the first rows and of the last ones ten or more are new, or none.

        The first ones are not told either while fewer than ten of them are still to come.
        """
        first, told_first = (
            min(rows, self.reference_rows) for rows in (self.rows, self._told_rows)
        )
        last = (self.rows - first) - (self._told_rows - told_first)
        coming = self.reference_rows - first
        enough = self.rows - self._told_rows >= STEP
        return enough and not (0 < last < STEP or 0 < coming < STEP)

    def _tell(self, rows: int, early_L: Counts, found_L: Counts) -> None:
        """From now on tell these counts."""
        self._told_rows, self._told_counts, self._told = rows, (early_L, found_L), None

    def _column(self, name: str) -> ColumnDrift:
        place, (early_L, found_L) = self.bins.place(name), self._told_counts
        expected = Histogram(count_B=early_L[place].astype(np.float64))
        if self.reference is not None and name in self.tabled:
            expected = self.reference.columns[name].histogram
        found = Histogram(count_B=found_L[place].astype(np.float64))
        return ColumnDrift(expected=expected, found=found, table=name in self.tabled)

    def columns(self) -> Mapping[str, ColumnDrift]:
        """Each watched column's histograms, as they stood at the last step."""
        with self._lock:
            self.settle()
            if self._told is None:
                names = self.bins.names if self._told_rows else ()
                self._told = {name: self._column(name) for name in names}
            return self._told

    def state(self) -> dict[str, Any]:
        """What a restart must not lose, as JSON."""
        with self._lock:
            self.settle()
            return {
                "settings": self._settings,
                "early": self.early.tolist(),
                "rows": self.rows,
                "recent": self.recent.plain(),
                "told": [self._told_rows, *(counts.tolist() for counts in self._told_counts)],
            }

    @property
    def _settings(self) -> list[int | str]:
        table = "" if self.reference is None else self.reference.digest
        return [self.reference_rows, self.window_rows, table]

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take a state back; one of other settings or another table is left alone.

        Raises:
            ValueError: It is none; `KeyError` and `TypeError` say the same.
        """
        if state["settings"] != self._settings:
            return
        told_rows, *told = state["told"]
        counts = [np.array(one, dtype=np.int64) for one in (state["early"], *told)]
        if [one.shape for one in counts] != [self.early.shape] * 3:
            raise ValueError
        recent = taken(self.recent, state["recent"])
        self.early, self.rows, self.recent = counts[0], int(state["rows"]), recent
        self._tell(int(told_rows), counts[1], counts[2])
