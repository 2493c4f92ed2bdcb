"""A batch changes the time that an answer takes and no bit of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from learning.numeric import MatrixTable
from learning.task import Table
from serving.batching import SMALL, Answer, Batcher


def doubled(table: Table) -> Answer:
    """Twice each number of the column x; refuses what is negative."""
    x_N = np.asarray(table["x"], dtype=np.float64).reshape(len(table["x"]), -1)[:, 0]
    if (x_N < 0).any():
        raise ValueError
    return {"twice": 2 * x_N}


def asked(tables: Sequence[Mapping[str, Any]], most_rows: int = 8) -> tuple[list[Any], list[int]]:
    """All answers, or their errors, and the requests of each batch."""
    batches: list[int] = []
    batcher = Batcher(doubled, most_rows, lambda requests, _: batches.append(requests))

    async def ask() -> list[Any]:
        sizes = [len(table["x"]) for table in tables]
        return await asyncio.gather(
            *(batcher.submit(*one) for one in zip(tables, sizes, sizes, strict=True)),
            return_exceptions=True,
        )

    answers = asyncio.run(asyncio.wait_for(ask(), 20))
    assert batcher.waiting == 0
    return [
        one if isinstance(one, Exception) else one["twice"].tolist() for one in answers
    ], batches


@pytest.mark.parametrize("kind", [np.array, list, lambda x: np.array(x)[:, None]])
def test_requests_of_one_turn_but_the_first_are_one_batch(kind: Any) -> None:
    tables = [kind([0.0]), kind([1.0, 2.0]), kind([3.0]), kind([4.0])]
    answers, batches = asked([{"x": table} for table in tables])
    assert answers == [[0.0], [2.0, 4.0], [6.0], [8.0]]
    assert batches == [1, 3]


def test_matrices_are_joined_as_matrices() -> None:
    tables = [MatrixTable(("x",), np.array([[value, 0.5]])) for value in (1.0, 2.0)]
    first = {"x": np.zeros(1)}
    assert asked([first, *tables])[0][1:] == [[2.0, 1.0], [4.0, 1.0]]
    assert asked([first, *tables, {"x": np.array([7.0])}])[0][3] == [14.0]


def test_a_batch_has_no_more_rows_than_allowed_and_no_request_is_split() -> None:
    answers, batches = asked([{"x": np.ones(size)} for size in (9, 5, 3, 1, 20, 1)])
    assert [len(one) for one in answers] == [9, 5, 3, 1, 20, 1]
    assert batches == [1, 2, 1, 1, 1]


def test_tables_that_cannot_be_joined_are_answered_apart() -> None:
    tables = [{"x": [value], "y": [0.0]} for value in (1.0, 2.0)] + [{"x": [3.0]}, {"x": [4.0]}]
    answers, batches = asked(tables)
    assert answers == [[2.0], [4.0], [6.0], [8.0]]
    assert batches == [1, 3]


def test_a_request_that_fails_spoils_no_other() -> None:
    for first in (7.0, -7.0):
        values = (first, 1.0, -1.0, 2.0)
        (alone, good, bad, fine), batches = asked([{"x": np.array([v])} for v in values])
        assert (good, fine) == ([2.0], [4.0])
        assert isinstance(bad, ValueError)
        assert isinstance(alone, ValueError) == (first < 0)
        assert batches == [1, 3]


def test_series_of_different_lengths_are_answered_apart() -> None:
    answers, _ = asked([{"x": np.full((1, length), 3.0)} for length in (1, 2, 4)])
    assert answers == [[6.0]] * 3


def test_a_large_batch_leaves_the_loop_free_and_small_ones_follow() -> None:
    large = SMALL + 1
    answers, batches = asked([{"x": np.ones(large)}, {"x": np.ones(1)}], most_rows=2 * large)
    assert [len(one) for one in answers] == [large, 1]
    assert batches == [2]


def test_who_had_company_waits_for_it_and_who_is_alone_does_not() -> None:
    batches: list[int] = []
    batcher = Batcher(doubled, 8, lambda requests, _: batches.append(requests))

    async def turn(requests: int) -> None:
        tables = [{"x": np.array([float(place)])} for place in range(requests)]
        answers = await asyncio.gather(*(batcher.submit(one, 1, 1) for one in tables))
        assert [one["twice"].tolist() for one in answers] == [[2.0 * n] for n in range(requests)]
        await asyncio.sleep(0)

    async def turns() -> None:
        for requests in (3, 3, 1, 1, 2, 2):
            await turn(requests)

    asyncio.run(turns())
    assert batches == [1, 2, 3, 1, 1, 1, 1, 2]
