"""Survival: the chance of dying in each interval of time, for patients who have come so far."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from learning.base import DEEP, LINEAR, Chosen
from learning.dense import check_hidden, entries, first_weights, outputs
from learning.forward import dense, sigmoid
from learning.invented import invent, invented_patients
from learning.outputs import Answers, Output
from learning.subgroup_evaluation import with_subgroups
from learning.subgroup_parts import SurvivalBlock
from learning.survival_evaluation import SurvivalEvaluation
from learning.survival_metrics import exact_concordance
from learning.survival_times import check_intervals, check_timed, encode, ends
from learning.targets import targeted
from learning.task import (
    Evaluation,
    FloatArray,
    FloatVector,
    IntVector,
    Measure,
    Recipe,
    Records,
    Report,
    Table,
)
from protocol.errors import InputError
from protocol.tensors import Layout

DEFAULT_HIDDEN = (32, 16)
CONCORDANCE = Measure(name="C-index", title="Time-dependent concordance of survival curves")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a job may choose.

    Args:
        model: `logistic` (all intervals share one score) or `mlp` (each has an output of its own).
        hidden: Widths of the network's hidden layers, (32, 16) if not given.
        intervals: T, equal parts of the time up to the upper bound of the schema's target.
        cuts: Ends of the intervals instead, ascending, in the target's unit.
        baseline: Public log-odds of dying in an interval, where training begins.
    """

    model: Literal["logistic", "mlp"] = "logistic"
    hidden: tuple[int, ...] | None = None
    intervals: int = 8
    cuts: tuple[float, ...] | None = None
    baseline: float = -2.0

    def __post_init__(self) -> None:
        check_hidden(self.hidden, self.model)
        check_intervals(self.intervals, self.cuts)
        if not -20 <= self.baseline <= 20:
            raise InputError("baseline", expected="log-odds from -20 to 20")


@dataclass(frozen=True)
class Survival(Chosen):
    """Discrete-time survival analysis; see docs/tasks/survival.md.

    A record's target is 2 s + e: it survived s intervals and then died (e = 1) or was lost from
    sight (e = 0).
    """

    options: Options

    def __post_init__(self) -> None:
        check_timed(self.schema)

    @cached_property
    def cuts(self) -> FloatVector:
        """End of each of T intervals, (T,), in the unit of the target."""
        options = self.options
        return ends(options.intervals, options.cuts, self.schema.targets[0].bounds[1])

    @property
    def recipe(self) -> Recipe:
        """A network takes a longer path, and more rounds."""
        return LINEAR if self.options.model == "logistic" else DEEP

    @property
    def evaluation(self) -> Evaluation:
        """Everybody's counts, and predicted and observed survival of subgroups."""
        return with_subgroups(self.schema, self.everybody, SurvivalBlock(len(self.cuts)))

    @cached_property
    def everybody(self) -> SurvivalEvaluation:
        """Outcomes, squared errors and bins of survival, interval by interval."""
        return SurvivalEvaluation(tuple(np.diff(self.cuts, prepend=0.0).tolist()))

    @property
    def measure(self) -> Measure:
        """Time-dependent concordance (Antolini et al. 2005)."""
        return CONCORDANCE

    @property
    def _widths(self) -> tuple[int, ...]:
        return (
            self.schema.num_features,
            *(self.options.hidden or DEFAULT_HIDDEN),
            len(self.cuts),
        )

    @cached_property
    def _layout(self) -> Layout:
        if self.options.model == "mlp":
            return Layout(entries(self._widths))
        score = ("score.weight", (1, self.schema.num_features))
        return Layout((score, ("baseline.weight", (len(self.cuts), 1))))

    def layout(self) -> Layout:
        """Names and shapes of the P parameters, in order."""
        return self._layout

    def initial(self, seed: int) -> FloatVector:
        """P public initial weights: every patient has the baseline's chances."""
        arrays = first_weights(self._layout, seed)
        arrays["output.bias" if self.options.model == "mlp" else "baseline.weight"][:] = (
            self.options.baseline
        )
        return self._layout.join(arrays)

    def records(self, table: Table) -> tuple[Records, Report]:
        """Turn raw columns into records; rows without label, time or patient are left out."""
        return targeted(self.schema, table, self.encode)

    def encode(self, value_N2: FloatArray) -> IntVector:
        """The code 2 s + e of events and times, N x 2, see `learning.survival_times`."""
        return encode(value_N2, self.cuts)

    def model(self) -> Any:
        """A `torch.nn.Module` in double precision; its output is the log-odds B x T of dying."""
        from learning.networks import Dense, Proportional  # noqa: PLC0415 - no torch elsewhere

        if self.options.model == "mlp":
            return Dense(self._widths)
        return Proportional(self.schema.num_features, len(self.cuts))

    def loss(self, output: Any, target: Any) -> Any:
        """Negative log-likelihood of each record's intervals, a tensor (B,)."""
        from learning.networks import hazard_loss  # noqa: PLC0415 - no torch elsewhere

        return hazard_loss(output, target)

    def predict(self, weights_P: FloatVector, x_NF: FloatArray) -> FloatArray:
        """Survival at the end of each interval, N x T, rows that never rise."""
        arrays = self._layout.split(weights_P)
        if self.options.model == "mlp":
            logits_NT = outputs(arrays, x_NF)
        else:
            x_NF = np.asarray(x_NF, dtype=np.float64)
            score_N1 = dense(x_NF, arrays["score.weight"], np.zeros(1))
            logits_NT = score_N1 + arrays["baseline.weight"][:, 0]
        return np.asarray(np.cumprod(sigmoid(-logits_NT), axis=1), dtype=np.float64)

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        """The curve at the job's horizons, and the median."""
        target = self.schema.targets[0]
        unit = f" ({target.unit})" if target.unit else ""
        return (
            Output(
                name="survival",
                columns=tuple(f"{cut:g}" for cut in self.cuts.tolist()),
                meaning=f"Probability of no event up to each {target.name}{unit}",
            ),
            Output(
                name="median",
                meaning=f"First of these {target.name}{unit} by which survival is at most one half"
                "; none where it stays above",
            ),
        )

    def answers(self, predicted_NC: FloatArray) -> Answers:
        """The outputs of curves N x T; a median is NaN where the curve stays above one half."""
        low_NT = predicted_NC <= 0.5
        median_N = np.where(low_NT.any(axis=1), self.cuts[low_NT.argmax(axis=1)], np.nan)
        return {"survival": predicted_NC, "median": median_N}

    def score(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> float:
        """Exact time-dependent concordance."""
        return exact_concordance(predicted_NC, y_N.astype(np.int64))

    def generate(self, n: int, rng: np.random.Generator) -> Records:
        """Invent `n` records within the schema's bounds, for guards and tests."""
        died_N, time_N = rng.integers(2, size=n), rng.random(n) * 1.1 * self.cuts[-1]
        return Records(
            x_NF=invent(self.schema, n, rng),
            y_N=self.encode(np.column_stack([died_N, time_N])),
            patient_N=invented_patients(self.schema, n),
        )
