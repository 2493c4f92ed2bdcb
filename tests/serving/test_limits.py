"""How much may be asked."""

from __future__ import annotations

import pytest

from serving.limits import Turnstile
from serving.refusal import Kind, Refusal


def test_a_client_that_asks_too_often_is_refused_until_time_passes() -> None:
    now = [0.0]
    turnstile = Turnstile(10, 2.0, lambda: now[0])
    for _ in range(4):
        turnstile.take("ward")
        turnstile.give_back()
    with pytest.raises(Refusal, match="at most 2 requests"):
        turnstile.take("ward")
    turnstile.take("other")
    now[0] = 0.6
    turnstile.take("ward")
    assert turnstile.under_way == 2


def test_places_are_limited_and_given_back() -> None:
    turnstile = Turnstile(1, 100.0, lambda: 0.0)
    turnstile.take("a")
    with pytest.raises(Refusal) as caught:
        turnstile.take("b")
    assert caught.value.kind is Kind.UNAVAILABLE
    turnstile.give_back()
    turnstile.take("b")
