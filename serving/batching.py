"""Requests that arrive together are answered together; nobody waits for company.

Features, flags and predictions of a row depend on that row alone, to the last bit, see
`learning.task.Task`, so a batch changes nothing but the time it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.numeric import MatrixTable
from learning.task import Table

Answer = Mapping[str, npt.NDArray[Any]]
"""Arrays by name, the row first."""

# Below this many cells another thread costs more than the answer.
SMALL = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class _Waiting:
    """A request: its table, how many rows and cells that has, and who waits for the answer."""

    table: Table
    rows: int
    cells: int
    future: asyncio.Future[Answer]


@dataclass(eq=False)
class Batcher:
    """Collects what is asked in one turn of the event loop, or while a batch is under way.

    Those that come in one turn are answered together at its end. Where the turn before had only one
    request, the first of a turn is answered at once, since mostly it is the only one again.

    Args:
        answer: What to say of a table.
        most_rows: Largest batch; a request is never split.
        told: Called with the requests and rows of every batch.
    """

    answer: Callable[[Table], Answer]
    most_rows: int = 4096
    told: Callable[[int, int], None] = lambda _requests, _rows: None
    _waiting: list[_Waiting] = field(default_factory=list)
    _busy: bool = False
    _company: bool = False
    _apart: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Requests that wait for a batch."""
        return len(self._waiting)

    async def submit(self, table: Table, rows: int, cells: int) -> Answer:
        """The answer to a table.

        Args:
            table: Columns by name.
            rows: How long they are.
            cells: How many numbers and texts that is.
        """
        loop, first = asyncio.get_running_loop(), not self._busy
        if first:
            self._busy = True
            loop.call_soon(self._end_turn)
        if first and not self._company and cells <= SMALL:
            self.told(1, rows)
            return self.answer(table)
        one = _Waiting(table=table, rows=rows, cells=cells, future=loop.create_future())
        self._waiting.append(one)
        return await one.future

    def _end_turn(self) -> None:
        """Answer who waits, and remember whether anybody had company."""
        answered = 0 if self._company else 1
        self._company = answered + len(self._waiting) > 1
        self._run()

    def _run(self) -> None:
        """Answer who waits: small batches here, a large one in a thread, the rest after it."""
        while self._waiting:
            batch = self._next()
            if sum(one.cells for one in batch) > SMALL:
                self._apart = asyncio.create_task(self._answer_apart(batch))
                return
            self._hand_out(batch, self._answered(batch))
        self._busy = False

    def _next(self) -> list[_Waiting]:
        """Waiting requests, oldest first, up to the largest batch."""
        rows, count = 0, 0
        for one in self._waiting:
            rows += one.rows
            if count and rows > self.most_rows:
                break
            count += 1
        chosen, self._waiting = self._waiting[:count], self._waiting[count:]
        return chosen

    async def _answer_apart(self, batch: list[_Waiting]) -> None:
        try:
            self._hand_out(batch, await asyncio.to_thread(self._answered, batch))
        finally:
            self._run()

    def _answered(self, batch: list[_Waiting]) -> list[Answer | Exception]:
        """The answer to each; if they cannot be answered together, each by itself."""
        try:
            joined = batch[0].table if len(batch) == 1 else _joined([one.table for one in batch])
            if joined is not None:
                return _parted(self.answer(joined), [one.rows for one in batch])
        except Exception as error:  # noqa: BLE001 - whoever waits must be told
            if len(batch) == 1:
                return [error]
        return list(chain.from_iterable(self._answered([one]) for one in batch))

    def _hand_out(self, batch: list[_Waiting], answers: list[Answer | Exception]) -> None:
        self.told(len(batch), sum(one.rows for one in batch))
        for one, answer in zip(batch, answers, strict=True):
            if one.future.done():
                continue
            if isinstance(answer, Exception):
                one.future.set_exception(answer)
            else:
                one.future.set_result(answer)


def _joined(tables: list[Table]) -> Table | None:
    """One table with the rows of all; None where arrays have series of different lengths."""
    first = tables[0]
    if isinstance(first, MatrixTable):
        matrices = [table.value_KN for table in tables if isinstance(table, MatrixTable)]
        if len(matrices) == len(tables):
            return MatrixTable(first.names, np.concatenate(matrices, axis=1))
    joined: dict[str, Any] = {}
    for name in first:
        parts = [table[name] for table in tables]
        arrays = [part for part in parts if isinstance(part, np.ndarray)]
        if not arrays:
            joined[name] = list(chain.from_iterable(parts))
        elif len(arrays) == len(parts) and len({array.shape[1:] for array in arrays}) == 1:
            joined[name] = np.concatenate(arrays)
        else:
            return None
    return joined


def _parted(answer: Answer, rows: list[int]) -> list[Answer | Exception]:
    """Each request's rows of an answer."""
    if len(rows) == 1:
        return [answer]
    ends = np.cumsum(rows).tolist()
    return [
        {name: array[start:end] for name, array in answer.items()}
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]
