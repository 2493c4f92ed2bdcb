"""Occupied beds of invented wards, day by day, whose law is known.

A ward's occupied beds are a level that depends on weekday and season, plus an error that half
remembers the last one. So the best forecast a week ahead is known: everything else is noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from learning.task import FloatArray

Cells = dict[str, list[str]]

HOSPITALS = ("north", "south", "east", "west", "centre")
WARDS = ("medicine", "surgery", "children")
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

# Beds above or below a ward's level, by weekday: planned operations begin on Mondays.
WEEK = np.array([1.0, 2.0, 2.5, 2.0, 0.5, -3.5, -4.5])
LEVELS = np.array([24.0, 18.0, 12.0])
AHEAD, MEMORY, SPREAD = 7, 0.9, 3.0


@dataclass(frozen=True)
class Wards:
    """Invented wards.

    Args:
        table: Their days, as they would stand in a file.
        mean_N: Mean of the occupied beds a week ahead, given everything known on the day.
        spread: Standard deviation around that mean.
    """

    table: Cells
    mean_N: FloatArray  # noqa: N815 - the shape is part of the name
    spread: float


def wards(each: int = 160, seed: int = 20261121) -> Wards:
    """Days of all wards of all hospitals; a row asks for the beds a week later.

    Args:
        each: Days with a forecast of every ward, after a first fortnight.
        seed: What the errors are drawn from.
    """
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, ...]] = []
    means: list[float] = []
    length = 14 + each + AHEAD
    for hospital in HOSPITALS:
        for ward, level in zip(WARDS, LEVELS.tolist(), strict=True):
            mean_D = level + WEEK[np.arange(length) % 7]
            mean_D = mean_D + 3.0 * np.cos(2 * np.pi * np.arange(length) / 365.0)
            error_D = _remembering(length, rng)
            beds_D = np.maximum(mean_D + error_D, 0.0)
            for day in range(14, 14 + each):
                now = (beds_D[day], beds_D[day - AHEAD], float(beds_D[day - 6 : day + 1].mean()))
                cells = [f"{value:.1f}" for value in (*now, beds_D[day + AHEAD])]
                rows.append((hospital, ward, WEEKDAYS[day % 7], *cells))
                means.append(mean_D[day + AHEAD] + MEMORY**AHEAD * error_D[day])
    names = ("hospital", "ward", "weekday", "lag_7", "lag_14", "week_mean", "occupied")
    table = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    return Wards(table, np.array(means), SPREAD * (1.0 - MEMORY ** (2 * AHEAD)) ** 0.5)


def _remembering(length: int, rng: np.random.Generator) -> FloatArray:
    """Errors with standard deviation SPREAD, each MEMORY times the last one plus news."""
    news_D = rng.normal(size=length) * SPREAD * (1.0 - MEMORY**2) ** 0.5
    error_D = np.empty(length)
    error_D[0] = SPREAD * rng.normal()
    for day in range(1, length):
        error_D[day] = MEMORY * error_D[day - 1] + news_D[day]
    return error_D
