"""How much may be asked."""

from __future__ import annotations

import pytest

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
