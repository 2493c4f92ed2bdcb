"""When a node takes on jobs: windows of the week in the hospital's own time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from protocol.errors import InputError

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = get_args(Day)
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, kw_only=True)
class Window:
    """Some days of the week, from one time to another.

    Args:
        days: Days on which the window begins.
        begin: First minute, as "18:00".
        end: First minute that is outside again, up to "24:00"; not after `begin` means on the
            next day.

    >>> str(Window(days=("sat", "sun"), begin="22:00", end="06:00"))
    'sat, sun 22:00-06:00'
    """

    days: tuple[Day, ...]
    begin: str
    end: str

    def __post_init__(self) -> None:
        for name, text in (("begin", self.begin), ("end", self.end)):
            if not _TIME.fullmatch(text):
                raise InputError(name, expected='a time such as "18:00"', found=repr(text))
        if not self.days or self.begin == "24:00":
            raise InputError("window", expected="at least one day, and a begin before 24:00")

    def __str__(self) -> str:
        return f"{', '.join(self.days)} {self.begin}-{self.end}"

    def covers(self, local: datetime) -> bool:
        """Whether a local time is inside."""
        minute = local.hour * 60 + local.minute
        begin, end = _minutes(self.begin), _minutes(self.end)
        today, yesterday = DAYS[local.weekday()], DAYS[local.weekday() - 1]
        if begin < end:
            return today in self.days and begin <= minute < end
        return (today in self.days and minute >= begin) or (yesterday in self.days and minute < end)


@dataclass(frozen=True, kw_only=True)
class Hours:
    """Windows in which a job may begin; one that has begun goes on outside of them.

    Args:
        windows: Being inside one of them is enough; none means never.
        time_zone: A name of the IANA database, such as Europe/Berlin.

    Raises:
        InputError: This machine does not know the time zone.
    """

    windows: tuple[Window, ...]
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        _ = self._zone

    def __str__(self) -> str:
        return f"{'; '.join(map(str, self.windows)) or 'never'} ({self.time_zone})"

    def covers(self, now: datetime) -> bool:
        """Whether a job may begin now; `now` has a time zone."""
        local = now.astimezone(self._zone)
        return any(window.covers(local) for window in self.windows)

    def opening(self, now: datetime) -> datetime | None:
        """The next full minute in which a job may begin, in the hospital's time; None for never."""
        start = now.astimezone(UTC).replace(second=0, microsecond=0)
        minutes = (start + timedelta(minutes=step) for step in range(1, 8 * _DAY_MINUTES))
        found = next((minute for minute in minutes if self.covers(minute)), None)
        return None if found is None else found.astimezone(self._zone)

    @cached_property
    def _zone(self) -> tzinfo:
        if self.time_zone == "UTC":
            return UTC
        try:
            return ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise InputError(
                "time_zone",
                expected="a time zone that this machine knows, such as Europe/Berlin",
                found=repr(self.time_zone),
                remedy="install the system's package tzdata, or say UTC",
            ) from None


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return 60 * int(hours) + int(minutes)
