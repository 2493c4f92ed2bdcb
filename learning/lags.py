"""From a daily series of each ward to lagged columns for task `demand`, never from the future.

A row is one ward on the day that is forecast. The forecast is made some days before, so a lag that
is shorter than that would look ahead: it is refused. Days are found by their dates, so a day that
is missing in the series leaves a gap and does not shift the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from learning.cell_values import as_number, text_of
from learning.task import Table
from protocol.errors import InputError

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

Series = Mapping[date, float]


@dataclass(frozen=True, kw_only=True)
class Lags:
    """Which columns are made of a series.

    Args:
        value: Column of the number that is forecast, such as admissions.
        day: Column of the date, as 2026-11-21.
        ward: Column that tells series apart; None where there is one.
        ahead: Days between the forecast and the day that it is for.
        lags: `lag_K` is the value K days before the day that is forecast.
        means: `mean_K` is the mean of the last K days that are known when the forecast is made;
            missing if one of them is.

    Raises:
        InputError: A lag looks into the future, or nothing is asked for.
    """

    value: str
    day: str
    ward: str | None = None
    ahead: int = 1
    lags: tuple[int, ...] = (7, 14)
    means: tuple[int, ...] = (7,)

    def __post_init__(self) -> None:
        if self.ahead < 1 or not (self.lags or self.means):
            raise InputError("lags", expected="at least one, for a forecast of a day or more ahead")
        early = [lag for lag in self.lags if lag < self.ahead]
        if early:
            raise InputError(
                f"lag_{early[0]} of a forecast made {self.ahead} days ahead",
                expected=f"lags of {self.ahead} days or more: later days are not known yet",
            )
        if min(self.means, default=1) < 1:
            raise InputError("means", expected="of one day or more")

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are made."""
        return (*(f"lag_{lag}" for lag in self.lags), *(f"mean_{days}" for days in self.means))


def lagged(table: Table, asked: Lags) -> dict[str, list[str | float | None]]:
    """The table's rows in order of ward and day, with lags, means and the weekday.

    Args:
        table: Columns of day, value and ward, in any order of rows. A row without a value or day
            is left out.
        asked: Which columns.

    Returns:
        Columns of ward and day, the value, `weekday`, and those of `Lags.names`; None is missing.

    Raises:
        InputError: A column is absent, a date is none, or a ward has a day twice.

    >>> rows = lagged(
    ...     {"day": ["2026-11-20", "2026-11-21", "2026-11-23"], "admissions": [4, 6, 5]},
    ...     Lags(value="admissions", day="day", lags=(1, 2), means=(2,)),
    ... )
    >>> rows["lag_1"], rows["lag_2"], rows["mean_2"], rows["weekday"]
    ([None, 4.0, None], [None, None, 6.0], [None, None, None], ['Fri', 'Sat', 'Mon'])
    """
    found: dict[str, list[str | float | None]] = {
        name: []
        for name in (*filter(None, [asked.ward]), asked.day, asked.value, "weekday", *asked.names)
    }
    for ward, series in sorted(_by_ward(table, asked).items()):
        for day in sorted(series):
            row = _row(series, day, asked)
            if asked.ward is not None:
                row[asked.ward] = ward
            for name, cells in found.items():
                cells.append(row[name])
    return found


def _row(series: Series, day: date, asked: Lags) -> dict[str, str | float | None]:
    """One day of one ward; only days up to `ahead` days before it are looked at."""
    known = day - timedelta(days=asked.ahead)
    lags: dict[str, str | float | None] = {
        f"lag_{lag}": series.get(day - timedelta(days=lag)) for lag in asked.lags
    }
    for days in asked.means:
        past = [series.get(known - timedelta(days=back)) for back in range(days)]
        present = [value for value in past if value is not None]
        lags[f"mean_{days}"] = float(np.mean(present)) if len(present) == days else None
    return {
        asked.day: day.isoformat(),
        asked.value: series[day],
        "weekday": WEEKDAYS[day.weekday()],
        **lags,
    }


def _by_ward(table: Table, asked: Lags) -> dict[str, dict[date, float]]:
    names = [asked.day, asked.value, *([] if asked.ward is None else [asked.ward])]
    missing = [name for name in names if name not in table]
    if missing:
        raise InputError(f"the table lacks {', '.join(missing)}", expected=", ".join(names))
    days, values = table[asked.day], table[asked.value]
    wards: Sequence[object] = [""] * len(days) if asked.ward is None else list(table[asked.ward])
    found: dict[str, dict[date, float]] = {}
    for raw_day, raw_value, ward in zip(days, values, wards, strict=True):
        value, text = as_number(raw_value), text_of(raw_day)
        if text is None or not np.isfinite(value):
            continue
        series = found.setdefault(str(ward), {})
        day = _date(text)
        if day in series:
            raise InputError(
                "a ward has a day twice", remedy="sum the rows of each day, or name the ward"
            )
        series[day] = value
    return found


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        raise InputError("dates of a daily series", expected="such as 2026-11-21") from None
