"""Requests that arrive together are predicted together; nobody waits for company.

A row's prediction does not depend on its neighbours, to the last bit, see
`learning.task.Task.predict`, so a batch changes nothing but the time it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from learning.task import FloatArray

# Below this many numbers another thread costs more than the prediction.
SMALL = 4096


@dataclass(eq=False)
class Batcher:
    """Collects what is asked in one turn of the event loop, or while a batch is under way.

    Args:
        predict: Probabilities N x C of features N x F.
        most_rows: Largest batch; a request is never split.
    """

    predict: Callable[[FloatArray], FloatArray]
    most_rows: int = 4096
    batches: int = 0
    _waiting: list[tuple[FloatArray, asyncio.Future[FloatArray]]] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None

    async def submit(self, x_NF: FloatArray) -> FloatArray:
        """Probabilities N x C of these rows."""
        future: asyncio.Future[FloatArray] = asyncio.get_running_loop().create_future()
        self._waiting.append((x_NF, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._answer(self._next())
        finally:
            self._task = None

    def _next(self) -> list[tuple[FloatArray, asyncio.Future[FloatArray]]]:
        """Waiting requests, oldest first, up to the largest batch."""
        rows, count = 0, 0
        for x_NF, _ in self._waiting:
            rows += len(x_NF)
            if count and rows > self.most_rows:
                break
            count += 1
        chosen, self._waiting = self._waiting[:count], self._waiting[count:]
        return chosen

    async def _answer(self, batch: list[tuple[FloatArray, asyncio.Future[FloatArray]]]) -> None:
        self.batches += 1
        x_NF = np.concatenate([rows for rows, _ in batch])
        try:
            if x_NF.size <= SMALL:
                probs_NC = self.predict(x_NF)
            else:
                probs_NC = await asyncio.to_thread(self.predict, x_NF)
        except Exception as error:  # noqa: BLE001 - whoever waits must be told
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        start = 0
        for rows, future in batch:
            if not future.done():
                future.set_result(probs_NC[start : start + len(rows)])
            start += len(rows)
