"""What a classifier predicts: one of several classes, or a yes or no for each of several labels.

An outcome knows the code of a record's target, the loss, how outputs become probabilities, and how
they are counted and scored; it knows nothing of what the outputs were computed from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from learning.evaluation import ClassEvaluation
from learning.flags import Flags
from learning.forward import sigmoid, softmax
from learning.metrics import auroc
from learning.outputs import Answers, Output, texts
from learning.preprocess import labelled
from learning.schema import Schema
from learning.subgroup_evaluation import Block
from learning.subgroup_scores import ScoreBlock
from learning.task import Evaluation, FloatArray, FloatVector, IntVector, Records, Report, Table
from protocol.errors import InputError


class Outcome(Protocol):
    """What is predicted of a record from a network's O outputs."""

    @property
    def size(self) -> int:
        """O, the number of outputs."""

    @property
    def evaluation(self) -> Evaluation:
        """How predictions are counted on held-out patients."""

    @property
    def block(self) -> Block:
        """How those of one subgroup are."""

    def records(self, schema: Schema, table: Table) -> tuple[Records, Report]:
        """Turn raw columns into records; rows without a label or a patient are left out."""

    def loss(self, output: Any, target: Any) -> Any:
        """Loss of each record, a tensor (B,), from outputs B x O and codes."""

    def probabilities(self, logits_NO: FloatArray) -> FloatArray:
        """Probabilities N x C of outputs N x O, each row by itself."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What `answers` tells of a prediction, in order."""

    def answers(self, predicted_NC: FloatArray) -> Answers:
        """The outputs of predictions N x C by name, each row independent of the others."""

    def score(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> float:
        """Exact area under the ROC curve, the unweighted mean where there are several.

        Raises:
            InputError: The records lack a class.
        """

    def invent(self, n: int, rng: np.random.Generator) -> IntVector:
        """Codes of `n` invented records, (n,)."""


@dataclass(frozen=True)
class Classes:
    """One of C classes. A record's target is the class' number.

    Args:
        texts: The classes; of two the second is the positive one and both share one output.
        weights: Public weight of each class in the loss, equal if not given. Only ratios matter:
            they are divided by the largest, so that no record's loss is blown up.

    Raises:
        InputError: Weights are not positive, or name other classes.

    >>> Classes(("no", "yes"), {"no": 1.0, "yes": 4.0}).factor_C.tolist()
    [0.25, 1.0]
    """

    texts: tuple[str, ...]
    weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        _ = self.factor_C

    @property
    def size(self) -> int:
        """O: two classes share one logit."""
        return 1 if len(self.texts) == 2 else len(self.texts)

    @cached_property
    def evaluation(self) -> ClassEvaluation:
        """Hierarchical histograms of scores by class."""
        return ClassEvaluation(self.texts)

    @property
    def block(self) -> ScoreBlock:
        """Flat histograms of scores by class."""
        return ScoreBlock(self.texts)

    @cached_property
    def factor_C(self) -> FloatVector:  # noqa: N802 - the shape is part of the name
        """Factor of each class' loss, C numbers in (0, 1], the largest being 1."""
        weights = self.weights
        if weights is None:
            return np.ones(len(self.texts))
        if set(weights) != set(self.texts):
            raise InputError(
                "class_weights name other classes than the schema",
                expected=", ".join(self.texts),
                found=", ".join(weights),
            )
        weight_C = np.array([weights[name] for name in self.texts], dtype=np.float64)
        if not (np.isfinite(weight_C).all() and weight_C.min() > 0):
            raise InputError("class_weights", expected="positive numbers")
        factor_C: FloatVector = weight_C / weight_C.max()
        return factor_C

    def records(self, schema: Schema, table: Table) -> tuple[Records, Report]:
        """Turn raw columns into records; rows without a known class or a patient are left out."""
        return labelled(schema, table)

    def loss(self, output: Any, target: Any) -> Any:
        """Cross-entropy of each record times its class' public factor, a tensor (B,)."""
        import torch  # noqa: PLC0415 - the coordinator never loads torch

        from learning.networks import class_loss  # noqa: PLC0415

        factor_C = torch.as_tensor(self.factor_C, dtype=output.dtype, device=output.device)
        return class_loss(output, target, factor_C)

    def probabilities(self, logits_NO: FloatArray) -> FloatArray:
        """Probability of each class N x C."""
        if len(self.texts) > 2:
            return softmax(logits_NO)
        return sigmoid(np.concatenate([-logits_NO, logits_NO], axis=1))

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The probability of each class, and the likeliest."""
        told = "Probability of each class"
        return (
            Output(name="probabilities", columns=self.texts, meaning=told),
            Output(name="label", kind="text", meaning="The likeliest class"),
        )

    def answers(self, predicted_NC: FloatArray) -> Answers:
        """The outputs of predictions N x C; of equally likely classes the first."""
        label_N = texts(self.texts, predicted_NC.argmax(axis=1))
        return {"probabilities": predicted_NC, "label": label_N}

    def score(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> float:
        """Area under the ROC curve; with more than two classes each against the others."""
        classes = range(len(self.texts)) if len(self.texts) > 2 else (1,)
        return float(np.mean([auroc(predicted_NC[:, one], y_N == one) for one in classes]))

    def invent(self, n: int, rng: np.random.Generator) -> IntVector:
        """Classes of `n` invented records, (n,)."""
        return rng.integers(len(self.texts), size=n)


def outcome_of(
    schema: Schema,
    class_weights: Mapping[str, float] | None = None,
    positive_weights: Mapping[str, float] | None = None,
) -> Classes | Flags:
    """What a schema asks for: its label's classes, or several labels where it has targets.

    Args:
        schema: Names the label and, where there are several labels, the others as targets.
        class_weights: See Classes; for a schema without targets.
        positive_weights: See Flags; for a schema with targets.

    Raises:
        InputError: The schema's label is a number, or weights are of the other kind.
    """
    if schema.targets:
        if class_weights is not None:
            raise InputError("class_weights of several labels", remedy="use positive_weights")
        return Flags.of(schema, positive_weights)
    if positive_weights is not None:
        raise InputError("positive_weights of a single label", remedy="use class_weights")
    if not schema.label.texts:
        raise InputError("label of a classification", expected="classes")
    return Classes(schema.label.texts, class_weights)
