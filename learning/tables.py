"""From a statistics job's finished sums to its table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from learning.cells import LevelCells, NumberCells, levels_of
from learning.description import CURVES, PATIENTS
from learning.intervals import Z, normal_interval
from learning.pooled_statistics import Statistics
from learning.quantiles import quantiles
from learning.survival_metrics import hazards, kaplan_meier
from learning.table_one import Curve, Levels, Number, TableOne
from learning.task import FloatVector, Metric
from protocol.errors import InputError

QUARTILES: Final = (0.25, 0.5, 0.75)
EVERYBODY: Final = "all"


def table_one(task: Statistics, sums_P: FloatVector, noise: float) -> TableOne:
    """Read a job's finished sums.

    Args:
        task: The job's task.
        sums_P: The finished weights.
        noise: Standard deviation of the noise of each of them.

    Raises:
        IntegrityError: The sums have another length, or are not finite.
        InputError: The noise is no standard deviation.
    """
    if not 0 <= noise < math.inf:
        raise InputError("noise", expected="a finite number >= 0", found=str(noise))
    return _Reader(task, task.layout().split(sums_P), noise).table()


@dataclass(frozen=True)
class _Reader:
    """The sums by name, and how the table's numbers are made of them."""

    task: Statistics
    sums: Mapping[str, FloatVector]
    noise: float

    @property
    def least(self) -> int:
        """Smallest count that is shown."""
        return self.task.options.fewer_than

    @property
    def total(self) -> float:
        """All patients."""
        return float(self.sums[PATIENTS][0])

    def table(self) -> TableOne:
        """Everything."""
        schema, description = self.task.schema, self.task.evaluation
        columns = tuple(
            self.number(cells, column.name, column.unit, column.bounds)
            if isinstance(cells, NumberCells)
            else self.levels(cells, column.name, levels_of(column))
            for column, cells in zip(schema.columns, description.columns, strict=True)
        )
        time = schema.targets[0] if schema.targets else None
        return TableOne(
            patients=self.count(self.total),
            columns=columns,
            label=self.label(),
            curves=self.curves(),
            time=("", "") if time is None else (time.name, time.unit),
            fewer_than=self.least,
            noise=self.noise,
        )

    def count(self, value: float, cells: int = 1) -> Metric | None:
        """A sum of so many cells, None where it is too small to be shown."""
        if value < self.least:
            return None
        metric = normal_interval(value, cells * self.noise**2)
        return Metric(metric.value, max(metric.low, 0.0), metric.high)

    def label(self) -> Number | Levels:
        """What a model would predict."""
        label, cells = self.task.schema.label, self.task.evaluation.label
        if isinstance(cells, LevelCells):
            return self.levels(cells, label.name, label.texts)
        return self.number(cells, label.name, "", (float(label.low or 0), float(label.high or 0)))

    def levels(self, cells: LevelCells, name: str, levels: tuple[str, ...]) -> Levels:
        """A category, a flag or the classes of the label."""
        found = self.sums[f"{cells.name}/levels"].tolist()
        return Levels(
            name=name,
            levels={level: self.count(one) for level, one in zip(levels, found, strict=False)},
            missing=self.count(found[-1]) if cells.optional else None,
            optional=cells.optional,
        )

    def number(
        self, cells: NumberCells, name: str, unit: str, bounds: tuple[float, float]
    ) -> Number:
        """A number's counts, moments and quartiles."""
        missing = float(self.sums[f"{cells.name}/missing"][0]) if cells.optional else 0.0
        present = self.total - missing
        behind = 1 + int(cells.optional)
        bins_B = self.sums[f"{cells.name}/bins"] if cells.bins else np.zeros(0)
        shown = present >= max(self.least, Z * self.noise * math.sqrt(behind))
        mean, sd = _moments(self.sums[f"{cells.name}/moments"], present, bounds, self.noise, behind)
        return Number(
            name=name,
            unit=unit,
            bounds=bounds,
            present=self.count(present, behind),
            missing=self.count(missing) if cells.optional else None,
            optional=cells.optional,
            mean=mean if shown else None,
            sd=sd if shown else None,
            quantiles=quantiles(bins_B, bounds, self.noise, QUARTILES) if shown else {},
            bins=tuple(self.count(one) for one in bins_B.tolist()),
        )

    def curves(self) -> tuple[Curve, ...]:
        """Everybody's curve, then each group's."""
        if CURVES not in self.sums:
            return ()
        table_GO, groups = self.sums[CURVES], self.task.evaluation.groups
        everybody = self.curve(EVERYBODY, table_GO.sum(axis=0), len(table_GO))
        each = (self.curve(name, table_O, 1) for name, table_O in zip(groups, table_GO))  # noqa: B905 - the last row has no group
        return (everybody, *each)

    def curve(self, group: str, table_O: FloatVector, rows: int) -> Curve:
        """A curve up to the first interval with too few at risk, or no more than noise can make."""
        noise = self.noise * math.sqrt(rows)
        _, _, risk_T = hazards(table_O)
        cells_T = len(table_O) - 1 - 2 * np.arange(len(risk_T))
        few_T = risk_T < np.maximum(self.least, Z * noise * np.sqrt(cells_T))
        shown = int(few_T.argmax()) if few_T.any() else len(risk_T)
        survival, error = kaplan_meier(table_O), noise * _slopes(table_O)
        return Curve(
            group=group,
            times=tuple(self.task.cuts[:shown].tolist()),
            survival=tuple(map(_chance, survival[:shown].tolist(), error[:shown].tolist())),
            at_risk=tuple(
                map(normal_interval, risk_T[:shown].tolist(), cells_T[:shown] * noise**2)
            ),
        )


def _moments(
    sums_2: FloatVector, present: float, bounds: tuple[float, float], noise: float, behind: int
) -> tuple[Metric, Metric]:
    """Mean and standard deviation, in the column's unit.

    With n patients and sums A of v and B of v^2 - 1/2, the mean is m = A / n and the variance
    q + 1/2 - m^2 with q = B / n. Intervals come from their differentials in A, B and n, whose
    noises have the variances 1, 1 and `behind`, the number of cells that n is made of.
    """
    low, high = bounds
    half, size = (high - low) / 2, max(present, 1.0)
    mean = min(max(float(sums_2[0]) / size, -1.0), 1.0)
    q = float(sums_2[1]) / size
    sd = math.sqrt(min(max(q + 0.5 - mean**2, 0.0), 1.0))
    error = noise / size
    moved = error * math.sqrt(1 + 4 * mean**2 + behind * (2 * mean**2 - q) ** 2)
    # At zero the root has no differential; there it moves by the root of what its square moves by.
    sd_error = min(moved / (2 * sd), math.sqrt(moved)) if sd > 0 else math.sqrt(moved)
    middle = normal_interval(mean, (1 + behind * mean**2) * error**2)
    wide = normal_interval(sd, sd_error**2)
    return (
        Metric(*(low + half + half * min(max(at, -1.0), 1.0) for at in _triple(middle))),
        Metric(*(half * min(max(at, 0.0), 1.0) for at in _triple(wide))),
    )


def _triple(metric: Metric) -> tuple[float, float, float]:
    return metric.value, metric.low, metric.high


def _chance(value: float, error: float) -> Metric:
    return Metric(value, max(value - Z * error, 0.0), min(value + Z * error, 1.0))


def _slopes(table_O: FloatVector) -> FloatVector:
    """Norm of the gradient of Kaplan-Meier survival in the table's cells, at each of T times.

    With hazard h = d / r, d the cell 2 t + 1 and r the sum of it and all later cells, survival
    moves by -1 / r for each death and by h / r for each patient at risk, times all other factors.
    Hazards that noise puts outside [0, 1] count as its ends, where survival moves all the same.
    """
    died_T, _, risk_T = hazards(table_O)
    risk_T = np.where(risk_T > 0, risk_T, np.inf)
    hazard_T = np.clip(died_T / risk_T, 0.0, 1.0)
    gradient_OT = np.zeros((len(table_O), len(risk_T)))
    for place, (hazard, risk) in enumerate(zip(hazard_T.tolist(), risk_T.tolist(), strict=True)):
        others_T = np.cumprod(np.where(np.arange(len(risk_T)) == place, 1.0, 1.0 - hazard_T))
        others_T[:place] = 0.0
        gradient_OT[2 * place + 1] -= others_T / risk
        gradient_OT[2 * place + 1 :] += others_T * hazard / risk
    return np.asarray(np.linalg.norm(gradient_OT, axis=0), dtype=np.float64)
