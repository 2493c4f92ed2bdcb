"""Statistics: a table of counts, means, quantiles and curves in place of a model.

The weights are the pooled sums themselves, so everything that protects, signs, stores and hands out
a model does the same for a table. There is nothing to train and nothing to predict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Never, Self

import numpy as np
import numpy.typing as npt

from learning.counted import Curves, counted
from learning.description import Description
from learning.invented import invent
from learning.outputs import Answers, Output
from learning.preprocess import features
from learning.schema import Schema
from learning.survival_times import encode, ends
from learning.targets import targeted
from learning.task import (
    FloatArray,
    FloatVector,
    IntVector,
    Measure,
    Recipe,
    Records,
    Report,
    Table,
)
from protocol.config import parse
from protocol.errors import InputError
from protocol.tensors import Layout

MOST_BINS = 64


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a job may choose.

    Args:
        bins: Bins of each number between its bounds, for quantiles and histograms; 0 for none,
            which leaves less noise on everything else.
        fewer_than: A count below it is shown as "fewer than", and nothing is computed from it.
        curves: Outcomes over time.
    """

    bins: int = 16
    fewer_than: int = 10
    curves: Curves | None = None

    def __post_init__(self) -> None:
        if not (self.bins == 0 or 2 <= self.bins <= MOST_BINS):
            raise InputError("bins", expected=f"0, or 2 to {MOST_BINS}", found=str(self.bins))
        if self.fewer_than < 1:
            raise InputError("fewer_than", expected="at least 1", found=str(self.fewer_than))


@dataclass(frozen=True)
class Statistics:
    """Pooled statistics of a schema's columns, targets included; see docs/statistics.md.

    Args:
        options: What the job chose.
        asked: The job's schema.
        schema: How it is counted: numbers scaled to [-1, 1] by their bounds, targets among the
            columns, and for every column whether it is missing. Of curves the time stays a target.
    """

    options: Options
    asked: Schema
    schema: Schema = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", counted(self.asked, self.options.curves))

    @classmethod
    def from_options(cls, options: Mapping[str, Any], schema: Schema) -> Self:
        """Build the task from a job's options.

        Raises:
            InputError: An option is unknown, ill-typed or does not fit the schema.
        """
        return cls(parse(Options, options, "options"), schema)

    @cached_property
    def cuts(self) -> FloatVector:
        """End of each of T intervals of curves, (T,), in the time's unit; none without curves."""
        curves = self.options.curves
        if curves is None:
            return np.zeros(0)
        return ends(curves.intervals, curves.cuts, self.schema.targets[0].bounds[1])

    @cached_property
    def evaluation(self) -> Description:
        """The vector that is summed. It counts training patients here, and evaluates nothing."""
        curves = self.options.curves
        return Description(
            schema=self.schema,
            bins=self.options.bins,
            intervals=len(self.cuts),
            group=None if curves is None else curves.group,
        )

    @property
    def is_logistic(self) -> bool:
        """It never is one linear score of two classes."""
        return False

    @property
    def recipe(self) -> Recipe:
        """One sum, and nothing is descended."""
        return Recipe(kappa=1.0, rounds=1)

    @property
    def measure(self) -> Measure:
        """Nothing is scored; `fedward simulate` compares tables instead."""
        return Measure(name="none", title="A table has no score")

    @cached_property
    def _layout(self) -> Layout:
        return Layout(self.evaluation.entries)

    def layout(self) -> Layout:
        """Names and shapes of the cells, in order."""
        return self._layout

    def initial(self, seed: int) -> FloatVector:
        """Nobody is counted yet: P zeros, (P,)."""
        del seed
        return np.zeros(self._layout.size)

    def records(self, table: Table) -> tuple[Records, Report]:
        """Turn raw columns into records; rows without a label or a patient are left out."""
        return targeted(self.schema, table, self._encode, partial=True)

    def _encode(self, value_NT: FloatArray) -> npt.NDArray[np.int64] | FloatVector:
        """The label; with curves 2 (1 + outcome) + label, the outcome -1 where time is missing."""
        label = self.schema.label
        if not label.classes:
            return np.clip(value_NT[:, 0], float(label.low or 0.0), float(label.high or 0.0))
        label_N = value_NT[:, 0].astype(np.int64)
        if not len(self.cuts):
            return label_N
        timed_N = ~np.isnan(value_NT[:, 1])
        outcome_N = encode(np.where(timed_N[:, None], value_NT[:, :2], 0.0), self.cuts)
        code_N: IntVector = 2 * np.where(timed_N, outcome_N + 1, 0) + label_N
        return code_N

    def features(self, table: Table) -> tuple[FloatArray, Report]:
        """Turn raw columns into what is counted, N x F, one row each."""
        return features(self.schema, table)

    def generate(self, n: int, rng: np.random.Generator) -> Records:
        """Invent `n` records within the schema's bounds, for tests."""
        patient_N: IntVector = np.arange(n, dtype=np.int64)
        label, columns = self.schema.label, []
        if label.classes:
            columns.append(rng.integers(len(label.classes), size=n).astype(np.float64))
        else:
            columns.append(float(label.low or 0.0) + rng.random(n))
        columns += [rng.random(n) * 1.1 * self.cuts[-1] for _ in self.schema.targets]
        return Records(
            x_NF=invent(self.schema, n, rng),
            y_N=self._encode(np.column_stack(columns)),
            patient_N=patient_N if self.schema.patient is None else patient_N // 2,
        )

    def model(self) -> Any:
        """There is none.

        Raises:
            InputError: Always.
        """
        return _nothing_learnt()

    def loss(self, output: Any, target: Any) -> Any:
        """There is none.

        Raises:
            InputError: Always.
        """
        del output, target
        return _nothing_learnt()

    def predict(self, weights_P: FloatVector, x_NF: FloatArray) -> FloatArray:
        """There is nothing to predict: no N x C.

        Raises:
            InputError: Always.
        """
        del weights_P, x_NF
        return _nothing_learnt()

    @property
    def outputs(self) -> tuple[Output, ...]:
        """A table answers no patient."""
        return ()

    def answers(self, predicted_NC: FloatArray) -> Answers:
        """Nothing, as there is nothing to answer with."""
        del predicted_NC
        return {}

    def score(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> float:
        """There is nothing to score.

        Raises:
            InputError: Always.
        """
        del predicted_NC, y_N
        return _nothing_learnt()


def _nothing_learnt() -> Never:
    raise InputError(
        "task 'statistics' learns no model",
        expected="strategy 'tally', and no evaluation",
        remedy="read its table: fedward server table",
    )
