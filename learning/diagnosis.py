"""Diagnosis from a table: logistic regression or a small dense network, two or more classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from learning.dense import entries, first_weights, outputs
from learning.evaluation import ClassEvaluation
from learning.forward import sigmoid, softmax
from learning.metrics import auroc
from learning.outputs import Answers, Output, texts
from learning.preprocess import features, invent, labelled
from learning.schema import Schema
from learning.task import FloatArray, FloatVector, IntVector, Measure, Records, Report, Table
from protocol.config import parse
from protocol.errors import InputError
from protocol.tensors import Layout

DEFAULT_HIDDEN = (64, 32, 16)
AUROC = Measure(name="AUROC", title="Area under the ROC curve")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a job may choose.

    Args:
        model: `logistic` or `mlp`.
        hidden: Widths of the network's hidden layers, (64, 32, 16) if not given.
        class_weights: Public weight of each class in the loss, equal if not given. Only ratios
            matter: they are divided by the largest, so that no record's loss is blown up.
    """

    model: Literal["logistic", "mlp"] = "logistic"
    hidden: tuple[int, ...] | None = None
    class_weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.hidden is None:
            return
        if self.model == "logistic":
            raise InputError("hidden layers belong to the model 'mlp'", found="'logistic'")
        if not self.hidden or not all(1 <= width <= 65_536 for width in self.hidden):
            raise InputError("hidden widths", expected="one or more, each from 1 to 65536")


@dataclass(frozen=True)
class Diagnosis:
    """Classify records; see docs/tasks/diagnosis.md."""

    options: Options
    schema: Schema

    def __post_init__(self) -> None:
        _ = self.class_factors

    @classmethod
    def from_options(cls, options: Mapping[str, Any], schema: Schema) -> Self:
        """Build the task from a job's options.

        Raises:
            InputError: An option is unknown, ill-typed or does not fit the schema.
        """
        return cls(parse(Options, options, "options"), schema)

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes as text; of two the second is the positive one."""
        return self.schema.label.texts

    @property
    def kappa(self) -> float:
        """Path length per unit of signal in the default recipe."""
        return 0.5 if self.options.model == "logistic" else 2.0

    @property
    def default_rounds(self) -> int:
        """Rounds of the default recipe."""
        return 10 if self.options.model == "logistic" else 20

    @cached_property
    def evaluation(self) -> ClassEvaluation:
        """Hierarchical histograms of scores by class."""
        return ClassEvaluation(self.classes)

    @property
    def measure(self) -> Measure:
        """Area under the ROC curve, of more than two classes the unweighted mean."""
        return AUROC

    @property
    def is_logistic(self) -> bool:
        """Whether it is: two classes and no hidden layer."""
        return self.widths == (self.schema.num_features, 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """Inputs, hidden widths, outputs; two classes share one logit."""
        hidden = () if self.options.model == "logistic" else self.options.hidden or DEFAULT_HIDDEN
        outputs = 1 if len(self.classes) == 2 else len(self.classes)
        return (self.schema.num_features, *hidden, outputs)

    @cached_property
    def class_factors(self) -> FloatVector:
        """Factor of each class' loss, C numbers in (0, 1], the largest being 1.

        Raises:
            InputError: Weights are not positive, or name other classes than the schema.
        """
        weights = self.options.class_weights
        if weights is None:
            return np.ones(len(self.classes))
        if set(weights) != set(self.classes):
            raise InputError(
                "class_weights name other classes than the schema",
                expected=", ".join(self.classes),
                found=", ".join(weights),
            )
        weight_C = np.array([weights[name] for name in self.classes], dtype=np.float64)
        if not (np.isfinite(weight_C).all() and weight_C.min() > 0):
            raise InputError("class_weights", expected="positive numbers")
        factor_C: FloatVector = weight_C / weight_C.max()
        return factor_C

    @cached_property
    def _layout(self) -> Layout:
        return Layout(entries(self.widths))

    def layout(self) -> Layout:
        """Names and shapes of the P parameters, layer by layer, weight before bias."""
        return self._layout

    def initial(self, seed: int) -> FloatVector:
        """Public initial weights, P numbers, the same bits on every machine."""
        return self._layout.join(first_weights(self._layout, seed))

    def records(self, table: Table) -> tuple[Records, Report]:
        """Turn raw columns into records; rows without a known class or a patient are left out."""
        return labelled(self.schema, table)

    def features(self, table: Table) -> tuple[FloatArray, Report]:
        """Turn raw columns into features N x F, one row each, for prediction."""
        return features(self.schema, table)

    def model(self) -> Any:
        """A `torch.nn.Module` in double precision with zero weights, in the layout's order."""
        from learning.networks import Dense  # noqa: PLC0415 - the coordinator never loads torch

        return Dense(self.widths)

    def loss(self, output: Any, target: Any) -> Any:
        """Cross-entropy of each record times its class' public factor, a tensor (B,)."""
        import torch  # noqa: PLC0415 - the coordinator never loads torch

        from learning.networks import class_loss  # noqa: PLC0415

        factor_C = torch.as_tensor(self.class_factors, dtype=output.dtype, device=output.device)
        return class_loss(output, target, factor_C)

    def predict(self, weights_P: FloatVector, x_NF: FloatArray) -> FloatArray:
        """Probabilities N x C, each row independent of the others to the last bit."""
        logits_NO = outputs(self._layout.split(weights_P), x_NF)
        if len(self.classes) > 2:
            return softmax(logits_NO)
        return np.column_stack([sigmoid(-logits_NO[:, 0]), sigmoid(logits_NO[:, 0])])

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        """The probability of each class, and the likeliest."""
        told = "Probability of each class"
        return (
            Output(name="probabilities", columns=self.classes, meaning=told),
            Output(name="label", kind="text", meaning="The likeliest class"),
        )

    def answers(self, predicted_NC: FloatArray) -> Answers:
        """The outputs of predictions N x C; of equally likely classes the first."""
        label_N = texts(self.classes, predicted_NC.argmax(axis=1))
        return {"probabilities": predicted_NC, "label": label_N}

    def score(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> float:
        """Exact area under the ROC curve; with more classes each against the others.

        Raises:
            InputError: The records lack a class.
        """
        classes = range(len(self.classes)) if len(self.classes) > 2 else (1,)
        return float(np.mean([auroc(predicted_NC[:, one], y_N == one) for one in classes]))

    def generate(self, n: int, rng: np.random.Generator) -> Records:
        """Invent `n` records within the schema's bounds, for guards and tests.

        Where the schema has a patient column, two records in a row share a patient.
        """
        patient_N: IntVector = np.arange(n, dtype=np.int64)
        return Records(
            x_NF=invent(self.schema, n, rng),
            y_N=rng.integers(len(self.classes), size=n),
            patient_N=patient_N if self.schema.patient is None else patient_N // 2,
        )
