"""Table one: what pooled, maybe noised sums say of the patients; `learning.tables` reads them.

Every number comes with the 95 % interval that the noise alone leaves: where the number would lie if
no noise had been added. How far it may be from that of other patients is another question; nothing
here answers it. A count below `fewer_than` is not shown, and neither is what would be computed from
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from learning.task import Metric


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number's summary; None stands for "fewer than".

    Args:
        name: The column.
        unit: Its unit.
        bounds: Its public bounds, between which values were put.
        present: Patients with a value.
        missing: Patients without.
        optional: Whether a patient may be without; never the label.
        mean: Mean of the values.
        sd: Their standard deviation (divided by their number, not by one less).
        quantiles: Value at each level; empty without bins.
        bins: Patients in each of B bins of equal width.
    """

    name: str
    unit: str
    bounds: tuple[float, float]
    present: Metric | None
    missing: Metric | None
    optional: bool
    mean: Metric | None
    sd: Metric | None
    quantiles: Mapping[float, Metric]
    bins: tuple[Metric | None, ...]


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Patients by level of a category, a flag or the label; None stands for "fewer than"."""

    name: str
    levels: Mapping[str, Metric | None]
    missing: Metric | None
    optional: bool


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Kaplan-Meier survival of one group, as far as enough patients are at risk.

    Args:
        group: Its name, `all` for everybody.
        times: Ends of the intervals that are shown.
        survival: Chance of no event up to each.
        at_risk: Patients at risk during the interval that ends there.
    """

    group: str
    times: tuple[float, ...]
    survival: tuple[Metric, ...]
    at_risk: tuple[Metric, ...]


@dataclass(frozen=True, kw_only=True)
class TableOne:
    """All patients together.

    Args:
        patients: How many they are.
        columns: Their columns, in the schema's order.
        label: What a model would predict: the prior of its classes.
        curves: Curves over time, one for each group; empty where none were asked for.
        time: Name and unit of their time.
        fewer_than: Smallest count that is shown.
        noise: Standard deviation of the noise of one count.
    """

    patients: Metric | None
    columns: tuple[Number | Levels, ...]
    label: Number | Levels
    curves: tuple[Curve, ...]
    time: tuple[str, str]
    fewer_than: int
    noise: float

    @property
    def numbers(self) -> dict[str, Number]:
        """Summaries of the numbers among the columns, by name."""
        return {one.name: one for one in self.columns if isinstance(one, Number)}

    @property
    def figures(self) -> dict[str, Metric]:
        """Every figure that is shown, histograms apart, by a name that people can read."""
        found = {"patients": self.patients}
        for one in (*self.columns, self.label):
            found |= {f"{one.name}: {name}": metric for name, metric in _figures(one).items()}
        for curve in self.curves:
            for time, chance in zip(curve.times, curve.survival, strict=True):
                found[f"survival {curve.group} at {time:g}"] = chance
        return {name: metric for name, metric in found.items() if metric is not None}

    def to_json(self) -> dict[str, Any]:
        """The table as JSON's types; what is not shown is `{"fewer_than": N}`."""
        return {
            "patients": self._metric(self.patients),
            "columns": [self._column(one) for one in self.columns],
            "label": self._column(self.label),
            "curves": [self._curve(one) for one in self.curves],
            "time": dict(zip(("name", "unit"), self.time, strict=True)),
            "fewer_than": self.fewer_than,
            "noise": self.noise,
        }

    def _metric(self, metric: Metric | None) -> dict[str, float]:
        if metric is None:
            return {"fewer_than": self.fewer_than}
        return {"value": metric.value, "low": metric.low, "high": metric.high}

    def _column(self, one: Number | Levels) -> dict[str, Any]:
        missing = {"missing": self._metric(one.missing)} if one.optional else {}
        if isinstance(one, Levels):
            levels = {level: self._metric(count) for level, count in one.levels.items()}
            return {"name": one.name, "levels": levels, **missing}
        return {
            "name": one.name,
            "unit": one.unit,
            "bounds": list(one.bounds),
            "present": self._metric(one.present),
            **missing,
            "mean": self._metric(one.mean),
            "sd": self._metric(one.sd),
            "quantiles": {f"{level:g}": self._metric(at) for level, at in one.quantiles.items()},
            "bins": [self._metric(count) for count in one.bins],
        }

    def _curve(self, curve: Curve) -> dict[str, Any]:
        return {
            "group": curve.group,
            "times": list(curve.times),
            "survival": [self._metric(one) for one in curve.survival],
            "at_risk": [self._metric(one) for one in curve.at_risk],
        }


def _figures(one: Number | Levels) -> dict[str, Metric | None]:
    missing = {"missing": one.missing} if one.optional else {}
    if isinstance(one, Levels):
        return {**one.levels, **missing}
    quantiles = {f"{level:.0%} are below": metric for level, metric in one.quantiles.items()}
    return {"mean": one.mean, "standard deviation": one.sd, **quantiles, **missing}
