"""Demand: quantiles of tomorrow's or next week's admissions or occupied beds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from learning.base import Chosen
from learning.demand_evaluation import DemandEvaluation
from learning.dense import check_hidden, entries, first_weights, outputs
from learning.invented import invent, invented_patients
from learning.outputs import Answers, Output
from learning.subgroup_evaluation import with_subgroups
from learning.subgroup_parts import DemandBlock
from learning.targets import targeted
from learning.task import (
    Evaluation,
    FloatArray,
    FloatVector,
    Measure,
    Recipe,
    Records,
    Report,
    Table,
)
from protocol.errors import InputError
from protocol.tensors import Layout

DEFAULT_HIDDEN = (32, 16)
R1 = Measure(name="R1", title="Pinball loss saved against constant forecasts")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a job may choose.

    Args:
        model: `linear` or `mlp`.
        hidden: Widths of the network's hidden layers, (32, 16) if not given.
        quantiles: Levels that are forecast, ascending.
        scale: What a forecast is usually wrong by, in the label's unit; a public guess, an eighth
            of the label's range if not given.
        naive: A number among the columns that is itself a forecast (the value a week before); the
            model then learns what to add to it.
    """

    model: Literal["linear", "mlp"] = "linear"
    hidden: tuple[int, ...] | None = None
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    scale: float | None = None
    naive: str | None = None

    def __post_init__(self) -> None:
        check_hidden(self.hidden, self.model)
        levels = (0.0, *self.quantiles, 1.0)
        if not self.quantiles or any(later <= earlier for earlier, later in pairwise(levels)):
            raise InputError("quantiles", expected="ascending levels between 0 and 1")
        if self.scale is not None and not self.scale > 0:
            raise InputError("scale", expected="a positive number")


@dataclass(frozen=True)
class Demand(Chosen):
    """Quantile forecasts; see docs/tasks/demand.md. A record's target is the label's number."""

    options: Options

    def __post_init__(self) -> None:
        if self.schema.label.classes or self.schema.targets:
            raise InputError("label of demand", expected="a number with low and high, no targets")
        _ = self.anchor

    @property
    def bounds(self) -> tuple[float, float]:
        """Bounds of the label."""
        label = self.schema.label
        return float(label.low or 0.0), float(label.high or 0.0)

    @property
    def scale(self) -> float:
        """What one of the network's output is in the label's unit."""
        low, high = self.bounds
        return (high - low) / 8 if self.options.scale is None else self.options.scale

    @cached_property
    def anchor(self) -> tuple[int, float, float] | None:
        """Feature of the naive forecast, what its 1 means in scales, and what its 0 means."""
        place = 0
        for column in self.schema.columns:
            if column.name == self.options.naive and column.kind == "number":
                return place, column.width / self.scale, column.middle / self.scale
            place += column.num_features
        if self.options.naive is not None:
            raise InputError("naive", expected="the name of a number among the columns")
        return None

    @property
    def recipe(self) -> Recipe:
        """A forecast starts near the truth, so the path is short."""
        return Recipe(kappa=0.05 if self.options.model == "linear" else 0.2, rounds=20)

    @property
    def evaluation(self) -> Evaluation:
        """Everybody's counts, and losses and coverage of subgroups."""
        return with_subgroups(self.schema, self.everybody, DemandBlock(self.everybody))

    @cached_property
    def everybody(self) -> DemandEvaluation:
        """Pinball losses, coverage and absolute errors."""
        return DemandEvaluation(self.options.quantiles, *self.bounds, naive=self.anchor is not None)

    @property
    def measure(self) -> Measure:
        """Pinball loss saved against constant forecasts (Koenker and Machado 1999)."""
        return R1

    @property
    def _widths(self) -> tuple[int, ...]:
        hidden = () if self.options.model == "linear" else self.options.hidden or DEFAULT_HIDDEN
        return (self.schema.num_features, *hidden, len(self.options.quantiles))

    @cached_property
    def _layout(self) -> Layout:
        return Layout(entries(self._widths))

    def layout(self) -> Layout:
        """Names and shapes of the P parameters, in order."""
        return self._layout

    def initial(self, seed: int) -> FloatVector:
        """P public initial weights: the naive forecast, or the middle of the label's range."""
        arrays = first_weights(self._layout, seed)
        if self.anchor is None:
            arrays["output.bias"][:] = sum(self.bounds) / (2 * self.scale)
        return self._layout.join(arrays)

    def records(self, table: Table) -> tuple[Records, Report]:
        """Turn raw columns into records; rows without a label are left out."""
        return targeted(self.schema, table, self.encode)

    def encode(self, value_N1: FloatArray) -> FloatVector:
        """The label's number, put between its bounds, (N,)."""
        return np.asarray(np.clip(value_N1[:, 0], *self.bounds), dtype=np.float64)

    def model(self) -> Any:
        """A `torch.nn.Module` in double precision; its output is B x K, in scales."""
        from learning.networks import Anchored, Dense  # noqa: PLC0415 - no torch elsewhere

        if self.anchor is None:
            return Dense(self._widths)
        return Anchored(self._widths, *self.anchor)

    def loss(self, output: Any, target: Any) -> Any:
        """Smoothed pinball loss of each record over all quantiles, a tensor (B,)."""
        from learning.networks import quantile_loss  # noqa: PLC0415 - no torch elsewhere

        return quantile_loss(output, target / self.scale, self.options.quantiles)

    def predict(self, weights_P: FloatVector, x_NF: FloatArray) -> FloatArray:
        """Quantiles in the label's unit, ascending and between its bounds, N x K.

        Where a column is a naive forecast, it follows as a last column.
        """
        x_NF = np.asarray(x_NF, dtype=np.float64)
        level_NK = outputs(self._layout.split(weights_P), x_NF)
        blocks = [level_NK]
        if self.anchor is not None:
            place, width, middle = self.anchor
            naive_N1 = x_NF[:, [place]] * width + middle
            blocks = [level_NK + naive_N1, naive_N1]
        blocks[0] = np.sort(blocks[0], axis=1)
        return np.asarray(np.clip(np.hstack(blocks) * self.scale, *self.bounds))

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        """The quantiles, and the naive forecast where a column is one."""
        levels = tuple(f"{level:g}" for level in self.options.quantiles)
        told = f"What {self.schema.label.name} stays below with each probability"
        found = [Output(name="quantiles", columns=levels, meaning=told)]
        if self.anchor is not None:
            naive = f"The forecast that {self.options.naive} is by itself"
            found.append(Output(name="naive", meaning=naive))
        return tuple(found)

    def answers(self, predicted_NC: FloatArray) -> Answers:
        """The outputs of predictions N x K, or N x (K + 1) where a column is a naive forecast."""
        levels = len(self.options.quantiles)
        found = {"quantiles": predicted_NC[:, :levels]}
        if self.anchor is not None:
            found["naive"] = predicted_NC[:, levels]
        return found

    def score(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> float:
        """Exact R1."""
        return self.everybody.explained(predicted_NC, y_N)

    def generate(self, n: int, rng: np.random.Generator) -> Records:
        """Invent `n` records within the schema's bounds, for guards and tests."""
        low, high = self.bounds
        return Records(
            x_NF=invent(self.schema, n, rng),
            y_N=low + (high - low) * rng.random(n),
            patient_N=invented_patients(self.schema, n),
        )
