"""Limits and batches."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from serving.batching import Batcher
from serving.limits import Turnstile
from serving.refusal import Kind, Refusal


def test_a_client_that_asks_too_often_is_refused_until_time_passes() -> None:
    now = [0.0]
    turnstile = Turnstile(10, 2.0, lambda: now[0])
    for _ in range(4):
        with turnstile.enter("ward"):
            pass
    with pytest.raises(Refusal, match="at most 2 requests"), turnstile.enter("ward"):
        pass
    with turnstile.enter("other"):
        now[0] = 0.6
    with turnstile.enter("ward"):
        assert turnstile.under_way == 1


def test_places_are_limited_and_given_back() -> None:
    turnstile = Turnstile(1, 100.0, lambda: 0.0)
    with turnstile.enter("a"), pytest.raises(Refusal) as caught, turnstile.enter("b"):
        pass
    assert caught.value.kind is Kind.UNAVAILABLE
    with turnstile.enter("b"):
        pass


@pytest.mark.parametrize("width", [2, 3000])
def test_what_comes_together_is_one_batch_and_each_gets_its_rows(width: int) -> None:
    sizes = []

    def predict(x_NF: Any) -> Any:
        sizes.append(len(x_NF))
        return x_NF[:, :1] * 2

    batcher = Batcher(predict, most_rows=4)

    async def ask() -> list[Any]:
        rows = [np.full((2, width), float(index)) for index in range(5)]
        return await asyncio.gather(*map(batcher.submit, rows))

    found = asyncio.run(ask())
    assert [one.tolist() for one in found] == [[[2.0 * i], [2.0 * i]] for i in range(5)]
    assert sizes == [4, 4, 2]
    assert batcher.batches == 3


def test_an_error_reaches_all_who_wait_and_the_next_batch_runs() -> None:
    def predict(x_NF: Any) -> Any:
        if np.isnan(x_NF).any():
            raise ValueError("never seen")
        return x_NF

    batcher = Batcher(predict)

    async def ask() -> list[Any]:
        bad = await asyncio.gather(
            *(batcher.submit(np.full((1, 1), np.nan)) for _ in range(2)), return_exceptions=True
        )
        return [*bad, await batcher.submit(np.ones((1, 1)))]

    first, second, good = asyncio.run(ask())
    assert isinstance(first, ValueError)
    assert isinstance(second, ValueError)
    assert good.tolist() == [[1.0]]
