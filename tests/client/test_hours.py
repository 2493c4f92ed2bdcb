"""Windows of the week: half open, across midnight, in the hospital's own time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from client.hours import Hours, Window
from protocol.config import parse
from protocol.errors import InputError

NIGHTS = Window(days=("mon", "sun"), begin="22:00", end="06:00")
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """A time in the week that begins on MONDAY."""
    return MONDAY + timedelta(days=day, hours=hour, minutes=minute)


@pytest.mark.parametrize(
    ("time", "inside"),
    [
        (at(0, 21, 59), False),
        (at(0, 22), True),
        (at(1, 0), True),
        (at(1, 5, 59), True),
        (at(1, 6), False),
        (at(1, 22), False),
        (at(6, 23), True),
        (at(0, 3), True),  # the Sunday before begins a window that ends on Monday
        (at(2, 3), False),
    ],
)
def test_across_midnight_the_day_is_that_of_the_beginning(time: datetime, inside: bool) -> None:
    assert Hours(windows=(NIGHTS,)).covers(time) is inside


def test_a_whole_day_and_a_day_around_the_clock() -> None:
    whole = Hours(windows=(Window(days=("tue",), begin="00:00", end="24:00"),))
    assert [whole.covers(at(day, 0)) for day in range(3)] == [False, True, False]
    assert whole.covers(at(1, 23, 59))
    round_the_clock = Hours(windows=(Window(days=("tue",), begin="08:00", end="08:00"),))
    assert round_the_clock.covers(at(2, 7, 59))
    assert not round_the_clock.covers(at(2, 8))


def test_the_time_is_the_hospitals() -> None:
    berlin = Hours(
        time_zone="Europe/Berlin", windows=(Window(days=("mon",), begin="00:00", end="01:00"),)
    )
    sunday = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)
    assert berlin.covers(sunday)
    assert berlin.covers(sunday.astimezone(timezone(timedelta(hours=-8))))
    assert not berlin.covers(MONDAY)
    assert berlin.opening(MONDAY) == datetime(2026, 11, 29, 23, 0, tzinfo=UTC)


def test_the_next_opening_is_the_first_minute_inside() -> None:
    hours = Hours(windows=(NIGHTS,))
    assert hours.opening(at(1, 6)) == at(6, 22)
    assert Hours(windows=()).opening(MONDAY) is None


def test_they_say_what_they_are() -> None:
    assert str(Hours(windows=(NIGHTS,))) == "mon, sun 22:00-06:00 (UTC)"
    assert str(Hours(windows=())) == "never (UTC)"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"windows": [{"days": ["mon"], "begin": "25:00", "end": "06:00"}]}, "begin; expected a"),
        ({"windows": [{"days": ["mon"], "begin": "22:00", "end": "6"}]}, "end; expected a time"),
        ({"windows": [{"days": [], "begin": "22:00", "end": "23:00"}]}, "at least one day"),
        ({"windows": [{"days": ["mon"], "begin": "24:00", "end": "06:00"}]}, "before 24:00"),
        ({"windows": [{"days": ["Mo"], "begin": "22:00", "end": "06:00"}]}, "no such choice"),
        ({"windows": [], "time_zone": "Middle/Earth"}, "time_zone.*install the system's package"),
        ({"windows": [], "time_zone": "../etc/passwd"}, "time_zone"),
    ],
)
def test_mistakes_are_named(document: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(Hours, document, "policy.hours")
