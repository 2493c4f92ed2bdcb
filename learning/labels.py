"""Several diagnoses at once: one network, a yes or no for each label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from learning.dense import entries, first_weights, outputs
from learning.diagnosis import AUROC, DEFAULT_HIDDEN
from learning.forward import sigmoid
from learning.label_evaluation import UNKNOWN, LabelEvaluation, states
from learning.metrics import auroc
from learning.outputs import Answers, Output
from learning.preprocess import features, invent
from learning.schema import Schema
from learning.targets import targeted
from learning.task import FloatArray, FloatVector, IntVector, Measure, Records, Report, Table
from protocol.config import parse
from protocol.errors import InputError
from protocol.tensors import Layout

MOST_LABELS = 32


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a job may choose.

    Args:
        model: `logistic` or `mlp`.
        hidden: Widths of the network's hidden layers, (64, 32, 16) if not given.
        positive_weights: Public weight of the yes of each label against its no, 1 if not given.
            Only ratios matter: both are divided by the larger.
    """

    model: Literal["logistic", "mlp"] = "logistic"
    hidden: tuple[int, ...] | None = None
    positive_weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.hidden is not None and self.model == "logistic":
            raise InputError("hidden layers belong to the model 'mlp'", found="'logistic'")
        if self.hidden is not None and (not self.hidden or min(self.hidden) < 1):
            raise InputError("hidden widths", expected="one or more, each at least 1")


@dataclass(frozen=True)
class Labels:
    """The schema's label and its targets, all of kind `flag`; see docs/tasks/diagnosis.md."""

    options: Options
    schema: Schema

    def __post_init__(self) -> None:
        if len(self.schema.label.texts) != 2:
            raise InputError("first of several labels", expected="two classes")
        kinds = {column.kind for column in self.schema.targets}
        if kinds != {"flag"} or len(self.names) > MOST_LABELS:
            raise InputError("targets", expected=f"1 to {MOST_LABELS - 1} flags: further labels")
        _ = self.factor_L2

    @classmethod
    def from_options(cls, options: Mapping[str, Any], schema: Schema) -> Self:
        """Build the task from a job's options.

        Raises:
            InputError: An option is unknown, ill-typed or does not fit the schema.
        """
        return cls(parse(Options, options, "options"), schema)

    @property
    def names(self) -> tuple[str, ...]:
        """The L labels."""
        return (self.schema.label.name, *(column.name for column in self.schema.targets))

    @cached_property
    def factor_L2(self) -> FloatArray:  # noqa: N802 - the shape is part of the name
        """Factor of each label's loss for no and for yes, L x 2, at most 1.

        Raises:
            InputError: A weight is not positive, or names no label.
        """
        weights = self.options.positive_weights or {}
        if not set(weights) <= set(self.names):
            raise InputError("positive_weights", expected="labels: " + ", ".join(self.names))
        yes_L = np.array([weights.get(name, 1.0) for name in self.names], dtype=np.float64)
        if not (np.isfinite(yes_L).all() and yes_L.min() > 0):
            raise InputError("positive_weights", expected="positive numbers")
        both_L2 = np.column_stack([np.ones_like(yes_L), yes_L])
        return np.asarray(both_L2 / both_L2.max(axis=1, keepdims=True))

    @property
    def is_logistic(self) -> bool:
        """It never is one linear score of two classes."""
        return False

    @property
    def kappa(self) -> float:
        """Path length per unit of signal in the default recipe."""
        return 0.5 if self.options.model == "logistic" else 2.0

    @property
    def default_rounds(self) -> int:
        """Rounds of the default recipe."""
        return 10 if self.options.model == "logistic" else 20

    @cached_property
    def evaluation(self) -> LabelEvaluation:
        """Hierarchical histograms of each label's scores."""
        return LabelEvaluation(self.names)

    @property
    def measure(self) -> Measure:
        """Unweighted mean over labels of the area under the ROC curve."""
        return AUROC

    @property
    def _widths(self) -> tuple[int, ...]:
        hidden = () if self.options.model == "logistic" else self.options.hidden or DEFAULT_HIDDEN
        return (self.schema.num_features, *hidden, len(self.names))

    @cached_property
    def _layout(self) -> Layout:
        return Layout(entries(self._widths))

    def layout(self) -> Layout:
        """Names and shapes of the P parameters, in order."""
        return self._layout

    def initial(self, seed: int) -> FloatVector:
        """Public initial weights, P numbers, the same bits on every machine."""
        return self._layout.join(first_weights(self._layout, seed))

    def records(self, table: Table) -> tuple[Records, Report]:
        """Turn raw columns into records; of the targets any may be missing, the label not."""
        return targeted(self.schema, table, self.encode, partial=True)

    def encode(self, value_NL: FloatArray) -> IntVector:
        """One integer for all labels: the first in base 2, the others, maybe unknown, in base 3."""
        state_NL = np.where(np.isnan(value_NL), UNKNOWN, value_NL).astype(np.int64)
        place_L = np.concatenate([[1], 2 * 3 ** np.arange(len(self.names) - 1)])
        code_N: IntVector = state_NL @ place_L
        return code_N

    def features(self, table: Table) -> tuple[FloatArray, Report]:
        """Turn raw columns into features N x F, one row each, for prediction."""
        return features(self.schema, table)

    def model(self) -> Any:
        """A `torch.nn.Module` in double precision; its output is B x L log-odds."""
        from learning.networks import Dense  # noqa: PLC0415 - the coordinator never loads torch

        return Dense(self._widths)

    def loss(self, output: Any, target: Any) -> Any:
        """Mean over labels of the weighted cross-entropy, unknown ones 0, a tensor (B,)."""
        from learning.networks import labels_loss  # noqa: PLC0415 - no torch elsewhere

        return labels_loss(output, target, self.factor_L2)

    def predict(self, weights_P: FloatVector, x_NF: FloatArray) -> FloatArray:
        """Probability of each label N x L."""
        return sigmoid(outputs(self._layout.split(weights_P), x_NF))

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        """The probability of each label."""
        told = "Probability of each label; they do not add up to 1"
        return (Output(name="probabilities", columns=self.names, meaning=told),)

    def answers(self, predicted_NC: FloatArray) -> Answers:
        """The outputs of predictions N x L."""
        return {"probabilities": predicted_NC}

    def score(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> float:
        """Mean over labels of the exact area, of the records where the label is known."""
        state_NL = states(y_N, len(self.names))
        areas = []
        for label in range(len(self.names)):
            known_N = state_NL[:, label] != UNKNOWN
            areas.append(auroc(predicted_NC[known_N, label], state_NL[known_N, label]))
        return float(np.mean(areas))

    def generate(self, n: int, rng: np.random.Generator) -> Records:
        """Invent `n` records within the schema's bounds, for guards and tests."""
        patient_N: IntVector = np.arange(n, dtype=np.int64)
        state_NL = rng.integers(3, size=(n, len(self.names))).astype(np.float64)
        state_NL[:, 0] = rng.integers(2, size=n)
        return Records(
            x_NF=invent(self.schema, n, rng),
            y_N=self.encode(state_NL),
            patient_N=patient_N if self.schema.patient is None else patient_N // 2,
        )
