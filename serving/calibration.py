"""Whether predictions come true, for all patients and for groups of them, once labels are known.

Sums are kept, nothing else. Of few labels nothing is told, and what is told of a group changes when
ten more of its labels are known: the gap of one would be that patient's label and prediction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from learning.few import LEAST
from learning.schema import Schema
from learning.task import FloatArray
from serving.feedback import Feedback
from serving.fields import group_labels
from serving.window import Window, taken

BINS = 10
_SUMS = 4  # rows, chances p, their spread p (1 - p), and what came true
_CHANCE = 0.001
_ENOUGH = 100

Place = tuple[str, str, str]
"""Outcome, column and group; empty for the only outcome, and for everybody."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """How far a group's outcomes are from what was predicted.

    Args:
        rows: Labels known of the group.
        predicted: Mean prediction.
        observed: Share that came true.
        sure: Whether the difference is beyond chance.
    """

    rows: int
    predicted: float
    observed: float
    sure: bool


@dataclass(eq=False)
class Calibration:
    """Sums over the last predictions whose labels are known.

    Args:
        schema: Of the model; its categories and flags are the groups.
        outcomes: What its predictions give a chance to, see `serving.feedback.Reader`.
        window_rows: How many are remembered.
    """

    schema: Schema
    outcomes: tuple[str, ...]
    window_rows: int
    rows: int = 0
    groups: tuple[tuple[str, str], ...] = field(init=False)
    recent: Window = field(init=False)
    _told: FloatArray = field(init=False)
    _fresh: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        columns = group_labels(self.schema).items()
        self.groups = (("", ""), *((name, one) for name, labels in columns for one in labels))
        cells = np.zeros((len(self.outcomes), BINS + len(self.groups), _SUMS))
        self.recent = Window(cells.size, max(self.window_rows // 2, 1))
        self._told, self._fresh = cells, np.zeros(cells.shape[:2], dtype=np.int64)

    def add(self, feedback: Feedback) -> None:
        """Take labels into account."""
        cells = np.zeros(self._told.shape)
        for place in range(len(self.outcomes)):
            self._count(cells[place], feedback, place)
        self.recent.add(cells.reshape(-1), feedback.rows)
        self.rows += feedback.rows
        self._tell(cells[..., 0].astype(np.int64))

    def _count(self, cells: FloatArray, feedback: Feedback, place: int) -> None:
        """Add one outcome's sums to its cells."""
        known_N = ~np.isnan(feedback.true_NT[:, place])
        p_N, true_N = feedback.chance_NT[known_N, place], feedback.true_NT[known_N, place]
        sums_N4 = np.column_stack([np.ones_like(p_N), p_N, p_N * (1 - p_N), true_N])
        np.add.at(cells, np.minimum((p_N * BINS).astype(np.int64), BINS - 1), sums_N4)
        cells[BINS] = sums_N4.sum(axis=0)
        for name, place_N in feedback.groups.items():
            first = BINS + self.groups.index((name, group_labels(self.schema)[name][0]))
            np.add.at(cells, first + place_N[known_N], sums_N4)

    def _tell(self, added: npt.NDArray[np.int64]) -> None:
        """Tell what has enough new labels; bins together with everybody."""
        self._fresh += added
        due = self._fresh >= LEAST
        due[:, :BINS] = due[:, BINS : BINS + 1]
        self._told = np.where(due[..., None], self._total, self._told)
        self._fresh[due] = 0

    @property
    def _total(self) -> FloatArray:
        return self.recent.total.reshape(self._told.shape)

    def errors(self) -> dict[str, float]:
        """Expected calibration error of each outcome over ten bins, not below `LEAST` labels."""
        found = {}
        for outcome, cells in zip(self.outcomes, self._told, strict=True):
            rows = cells[:BINS, 0].sum()
            if rows >= LEAST:
                found[outcome] = float(np.abs(cells[:BINS, 1] - cells[:BINS, 3]).sum() / rows)
        return found

    def gaps(self) -> dict[Place, Gap]:
        """Of each outcome those of all and of each group with `LEAST` labels or more."""
        sure = -float(ndtri(_CHANCE / 2 / max(len(self.outcomes), 1)))
        return {
            (outcome, *group): _gap(sure, *sums)
            for outcome, cells in zip(self.outcomes, self._told.tolist(), strict=True)
            for group, sums in zip(self.groups, cells[BINS:], strict=True)
            if sums[0] >= LEAST
        }

    def state(self) -> dict[str, Any]:
        """What a restart must not lose, as JSON."""
        return {
            "settings": self._settings,
            "rows": self.rows,
            "recent": self.recent.plain(),
            "told": self._told.tolist(),
            "fresh": self._fresh.tolist(),
        }

    @property
    def _settings(self) -> list[Any]:
        return [self.window_rows, list(self.outcomes)]

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take a state back; one of other settings is left alone.

        Raises:
            ValueError: It is none; `KeyError` and `TypeError` say the same.
        """
        if state["settings"] != self._settings:
            return
        told = np.array(state["told"], dtype=np.float64).reshape(self._told.shape)
        fresh = np.array(state["fresh"], dtype=np.int64).reshape(self._fresh.shape)
        self.recent = taken(self.recent, state["recent"])
        self.rows, self._told, self._fresh = int(state["rows"]), told, fresh


def _gap(least: float, rows: float, predicted: float, spread: float, right: float) -> Gap:
    """A test of the mean: outcomes vary by p (1 - p) around predictions that are right.

    Source: Spiegelhalter 1986, Probabilistic Prediction in Patient Management, section 3.
    """
    sure = rows >= _ENOUGH and abs(right - predicted) > least * math.sqrt(max(spread, 1e-12))
    return Gap(rows=round(rows), predicted=predicted / rows, observed=right / rows, sure=sure)
