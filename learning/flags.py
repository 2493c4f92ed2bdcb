"""An outcome of several labels at once, a yes or no for each; see learning.outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.forward import sigmoid
from learning.label_evaluation import UNKNOWN, LabelEvaluation, states
from learning.metrics import auroc
from learning.outputs import Answers, Output
from learning.schema import Schema
from learning.subgroup_scores import ScoreBlock
from learning.targets import targeted
from learning.task import FloatArray, IntVector, Records, Report, Table
from protocol.errors import InputError

MOST_LABELS = 32


@dataclass(frozen=True)
class Flags:
    """A yes or no for each of L labels. A record's target codes them all in one integer.

    Args:
        names: The labels. The first is known of every record, the others may be unknown.
        weights: Public weight of the yes of each label against its no, 1 if not given. Only ratios
            matter: both are divided by the larger.

    Raises:
        InputError: A weight is not positive, or names no label.
    """

    names: tuple[str, ...]
    weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        _ = self.factor_L2

    @classmethod
    def of(cls, schema: Schema, weights: Mapping[str, float] | None = None) -> Flags:
        """The schema's label and its targets.

        Raises:
            InputError: The label has not two classes, or the targets are no flags.
        """
        if len(schema.label.texts) != 2:
            raise InputError("first of several labels", expected="two classes")
        names = (schema.label.name, *(column.name for column in schema.targets))
        if {column.kind for column in schema.targets} != {"flag"} or len(names) > MOST_LABELS:
            raise InputError("targets", expected=f"1 to {MOST_LABELS - 1} flags: further labels")
        return cls(names, weights)

    @property
    def size(self) -> int:
        """O: one log-odds a label."""
        return len(self.names)

    @cached_property
    def evaluation(self) -> LabelEvaluation:
        """Hierarchical histograms of each label's scores."""
        return LabelEvaluation(self.names)

    @property
    def block(self) -> ScoreBlock:
        """Flat histograms of each label's scores."""
        return ScoreBlock(self.names, labels=True)

    @cached_property
    def factor_L2(self) -> FloatArray:  # noqa: N802 - the shape is part of the name
        """Factor of each label's loss for no and for yes, L x 2, at most 1."""
        weights = self.weights or {}
        if not set(weights) <= set(self.names):
            raise InputError("positive_weights", expected="labels: " + ", ".join(self.names))
        yes_L = np.array([weights.get(name, 1.0) for name in self.names], dtype=np.float64)
        if not (np.isfinite(yes_L).all() and yes_L.min() > 0):
            raise InputError("positive_weights", expected="positive numbers")
        both_L2 = np.column_stack([np.ones_like(yes_L), yes_L])
        return np.asarray(both_L2 / both_L2.max(axis=1, keepdims=True))

    def records(self, schema: Schema, table: Table) -> tuple[Records, Report]:
        """Turn raw columns into records; of the targets any may be missing, the label not."""
        return targeted(schema, table, self.encode, partial=True)

    def encode(self, value_NL: FloatArray) -> IntVector:
        """One integer a record, (N,): the first label in base 2, the others, with unknown, in 3."""
        state_NL = np.where(np.isnan(value_NL), UNKNOWN, value_NL).astype(np.int64)
        place_L = np.concatenate([[1], 2 * 3 ** np.arange(len(self.names) - 1)])
        code_N: IntVector = state_NL @ place_L
        return code_N

    def loss(self, output: Any, target: Any) -> Any:
        """Mean over labels of the weighted cross-entropy, unknown ones 0, a tensor (B,)."""
        from learning.networks import labels_loss  # noqa: PLC0415 - no torch elsewhere

        return labels_loss(output, target, self.factor_L2)

    def probabilities(self, logits_NO: FloatArray) -> FloatArray:
        """Probability of each label N x L."""
        return sigmoid(logits_NO)

    @property
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

    def invent(self, n: int, rng: np.random.Generator) -> IntVector:
        """Codes of `n` invented records, (n,), unknown labels among them."""
        state_NL = rng.integers(3, size=(n, len(self.names))).astype(np.float64)
        state_NL[:, 0] = rng.integers(2, size=n)
        return self.encode(state_NL)
