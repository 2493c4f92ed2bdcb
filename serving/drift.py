"""Whether today's inputs are distributed as they were: histograms by the schema's own bins.

Bins come from the schema's public constants, counts from what was asked. A count is of one
hospital's patients without noise, so all of it stays on this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri

from learning.schema import Schema
from learning.task import FloatArray
from serving.flags import Flag, FlagArray

# Of a number, in spreads from its centre: ten bins, the outer ones open.
EDGES = np.linspace(-2.0, 2.0, 9)
_BINS = len(EDGES) + 1
_CHANCE = 0.001
_AT_ONCE = 256

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Bins:
    """Where each column's counts stand in one row of counts, missing values last.

    Args:
        schema: The model's schema; arrays and texts are not watched.
        names: Columns that are.
        starts: The first count of each, and the end.
        watched: Of each its place in the schema, first feature and number of values.
    """

    schema: Schema
    names: tuple[str, ...]
    starts: tuple[int, ...]
    watched: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, schema: Schema) -> Bins:
        """The bins of a schema."""
        names: list[str] = []
        starts, watched = [0], []
        for place, column in enumerate(schema.columns):
            sizes = {"number": _BINS, "flag": 2, "category": len(column.labels)}
            if column.kind in sizes:
                names.append(column.name)
                watched.append((place, schema.starts[place], sizes[column.kind]))
                starts.append(starts[-1] + sizes[column.kind] + 1)
        return cls(schema=schema, names=(*names,), starts=(*starts,), watched=(*watched,))

    @property
    def length(self) -> int:
        """How many counts there are."""
        return self.starts[-1]

    def count(self, x_NF: FloatArray, flag_NC: FlagArray) -> Counts:
        """Counts of rows.

        Args:
            x_NF: Their features.
            flag_NC: What happened to each value.
        """
        found: Counts = np.zeros(self.length, dtype=np.int64)
        absent_NC = (flag_NC == Flag.MISSING) | (flag_NC == Flag.UNREADABLE)
        for start, (place, feature, size) in zip(self.starts, self.watched, strict=False):
            value_NS = x_NF[~absent_NC[:, place], feature : feature + size]
            kind = self.schema.columns[place].kind
            if kind == "category":
                bin_N = value_NS.argmax(axis=1)
            elif kind == "flag":
                bin_N = (value_NS[:, 0] > 0.5).astype(np.int64)
            else:
                bin_N = np.searchsorted(EDGES, value_NS[:, 0], side="right")
            found[start : start + size] = np.bincount(bin_N, minlength=size)
            found[start + size] = len(x_NF) - len(bin_N)
        return found


def stability(expected: Counts, found: Counts) -> tuple[float, bool]:
    """Population stability index of two histograms, and whether it is beyond chance.

    Half a count is added to every bin. Without any drift the index over (1/n + 1/m) follows a
    chi-squared distribution with one degree less than there are bins.

    Source: Yurdakul 2018, Statistical Properties of Population Stability Index, theorem 3.1.

    >>> stability(np.array([50, 50]), np.array([50, 50]))
    (0.0, False)
    """
    n, m, bins = int(expected.sum()), int(found.sum()), len(expected)
    if not n or not m:
        return 0.0, False
    share_B = (expected + 0.5) / (n + 0.5 * bins)
    other_B = (found + 0.5) / (m + 0.5 * bins)
    index = float(((other_B - share_B) * np.log(other_B / share_B)).sum())
    return index, index / (1 / n + 1 / m) > float(chdtri(bins - 1, _CHANCE))


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


@dataclass(eq=False)
class Drift:
    """Inputs of one version: a reference, and the last rows beside it.

    Large batches are answered in another thread than the one that looks after alerts, so both may
    ask at a time.

    Args:
        bins: How they are counted.
        reference_rows: How many of the first rows are the reference.
        window_rows: How many rows stand beside it.
    """

    bins: Bins
    reference_rows: int
    window_rows: int
    reference: Counts = field(init=False)
    rows: int = 0
    recent: Window = field(init=False)
    _pending: list[tuple[FloatArray, FlagArray]] = field(default_factory=list)
    _waiting: int = 0
    _lock: RLock = field(default_factory=RLock)

    def __post_init__(self) -> None:
        self.reference = np.zeros(self.bins.length, dtype=np.int64)
        self.recent = Window(self.bins.length, max(self.window_rows // 2, 1))

    def observe(self, x_NF: FloatArray, flag_NC: FlagArray) -> None:
        """Take note of rows; they are counted together with others, later."""
        with self._lock:
            self._pending.append((x_NF, flag_NC))
            self._waiting += len(x_NF)
            if self._waiting >= _AT_ONCE:
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
        first = max(self.reference_rows - self.rows, 0)
        if first:
            self.reference += self.bins.count(x_NF[:first], flag_NC[:first])
        if len(x_NF) > first:
            self.recent.add(self.bins.count(x_NF[first:], flag_NC[first:]), len(x_NF) - first)
        self.rows += len(x_NF)

    def indices(self) -> dict[str, tuple[float, bool]]:
        """Of each column the stability index, and whether it is beyond chance."""
        self.settle()
        found_L = self.recent.total.astype(np.int64)
        ends: Sequence[int] = self.bins.starts[1:]
        return {
            name: stability(self.reference[start:end], found_L[start:end])
            for name, start, end in zip(self.bins.names, self.bins.starts, ends, strict=False)
        }
