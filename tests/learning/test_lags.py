"""Lags of daily series: what they hold, and that nothing of them is from the future."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.lags import Lags, lagged
from protocol.errors import InputError

DAYS = [(date(2026, 1, 1) + timedelta(days=day)).isoformat() for day in range(60)]


def table(values: Any) -> dict[str, Any]:
    return {"day": DAYS[: len(values)], "beds": list(values)}


def asked(**changes: Any) -> Lags:
    written: dict[str, Any] = {"value": "beds", "day": "day", "ahead": 7, "means": (7,)}
    return Lags(**(written | changes))


def test_lags_are_values_of_earlier_days_of_the_same_ward() -> None:
    beds = np.arange(30.0)
    rows = lagged(
        {
            "day": [*DAYS[:30], *reversed(DAYS[:30])],
            "beds": [*beds, *(100 + beds[::-1])],
            "ward": ["b"] * 30 + ["a"] * 30,
        },
        asked(ward="ward"),
    )
    assert list(rows) == ["ward", "day", "beds", "weekday", "lag_7", "lag_14", "mean_7"]
    assert rows["ward"] == ["a"] * 30 + ["b"] * 30
    assert rows["day"] == DAYS[:30] * 2
    assert rows["lag_7"] == [None] * 7 + [*(100 + beds[:23])] + [None] * 7 + [*beds[:23]]
    assert rows["lag_14"][30:] == [None] * 14 + [*beds[:16]]
    # Made on day 13, the first mean has days 7 to 13.
    assert rows["mean_7"][30 + 13 : 30 + 15] == [3.0, 4.0]
    assert rows["weekday"][:2] == ["Thu", "Fri"]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 10), st.integers(20, 59), st.floats(-1e6, 1e6))
def test_no_value_after_the_forecast_changes_its_row(ahead: int, day: int, other: float) -> None:
    values = np.random.default_rng(0).normal(size=60)
    changed = values.copy()
    changed[day - ahead + 1 :] = other
    lags = asked(ahead=ahead, lags=(ahead, ahead + 3), means=(1, 5))
    before, after = lagged(table(values), lags), lagged(table(changed), lags)
    assert all(before[name][day] == after[name][day] for name in lags.names)


def test_a_missing_day_is_a_gap_and_moves_no_other() -> None:
    whole = lagged(table(np.arange(30.0)), asked())
    holed = table(np.arange(30.0))
    holed["beds"][10] = ""
    rows = lagged(holed, asked())
    assert DAYS[10] not in rows["day"]
    at = {day: place for place, day in enumerate(rows["day"])}
    assert rows["lag_7"][at[DAYS[17]]] is None
    assert rows["lag_7"][at[DAYS[18]]] == whole["lag_7"][18]
    assert rows["mean_7"][at[DAYS[20]]] is None
    assert rows["mean_7"][at[DAYS[25]]] == whole["mean_7"][25]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lags": (6,)}, "lag_6 of a forecast made 7 days ahead"),
        ({"lags": (), "means": ()}, "at least one"),
        ({"ahead": 0}, "a day or more ahead"),
        ({"means": (0,)}, "one day or more"),
    ],
)
def test_what_looks_ahead_or_at_nothing_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        asked(**changes)


def test_tables_that_are_no_daily_series() -> None:
    with pytest.raises(InputError, match="a ward has a day twice"):
        lagged({"day": ["2026-01-01"] * 2, "beds": [1, 2]}, asked())
    with pytest.raises(InputError, match="such as 2026-11-21"):
        lagged({"day": ["21.11.2026"], "beds": [1]}, asked())
    with pytest.raises(InputError, match="lacks beds"):
        lagged({"day": DAYS}, asked())
