"""What tasks that classify have in common, whatever their records are.

Such a task says which network reads its features and what is predicted; the rest is here. Tables,
images, series and texts differ in nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from learning.invented import invent, invented_patients
from learning.outcomes import Outcome
from learning.outputs import Answers, Output
from learning.schema import Schema
from learning.subgroup_evaluation import with_subgroups
from learning.task import (
    Evaluation,
    FloatArray,
    FloatVector,
    Measure,
    Records,
    Report,
    Table,
)
from protocol.tensors import Layout

Entries = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of parameters, in order."""

AUROC = Measure(name="AUROC", title="Area under the ROC curve")


class Network(Protocol):
    """From a record's F features to O outputs: once in torch to learn, once in numpy to predict."""

    @property
    def entries(self) -> Entries:
        """Names and shapes of what is learnt and exchanged."""

    def first(self, layout: Layout, seed: int) -> Mapping[str, FloatArray]:
        """Public first weights, the same bits on every machine; all outputs are 0 with them."""

    def module(self) -> Any:
        """A `torch.nn.Module` in double precision; its named parameters are `entries`."""

    def logits(self, arrays: Mapping[str, FloatArray], x_NF: FloatArray) -> FloatArray:
        """The module's output N x O, each row independent of the others to the last bit."""


class Classifier(ABC):
    """A task (learning.task.Task) that classifies; what it leaves open is recipe and network."""

    schema: Schema

    @property
    @abstractmethod
    def outcome(self) -> Outcome:
        """What is predicted."""

    @property
    @abstractmethod
    def network(self) -> Network:
        """What predicts it."""

    @property
    def evaluation(self) -> Evaluation:
        """Hierarchical histograms of scores, and flat ones of subgroups."""
        return with_subgroups(self.schema, self.outcome.evaluation, self.outcome.block)

    @property
    def measure(self) -> Measure:
        """Area under the ROC curve; of several classes or labels the unweighted mean."""
        return AUROC

    @cached_property
    def _layout(self) -> Layout:
        return Layout(self.network.entries)

    def layout(self) -> Layout:
        """Names and shapes of the P parameters, layer by layer, weight before bias."""
        return self._layout

    def initial(self, seed: int) -> FloatVector:
        """Public initial weights, P numbers, the same bits on every machine."""
        return self._layout.join(self.network.first(self._layout, seed))

    def records(self, table: Table) -> tuple[Records, Report]:
        """Turn raw columns into records; rows without a known label or a patient are left out."""
        return self.outcome.records(self.schema, table)

    def model(self) -> Any:
        """A `torch.nn.Module` in double precision, parameters in the layout's order."""
        return self.network.module()

    def loss(self, output: Any, target: Any) -> Any:
        """Loss of each record, a tensor (B,)."""
        return self.outcome.loss(output, target)

    def predict(self, weights_P: FloatVector, x_NF: FloatArray) -> FloatArray:
        """Probabilities N x C, each row independent of the others to the last bit."""
        return self.outcome.probabilities(self.network.logits(self._layout.split(weights_P), x_NF))

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What `answers` tells of a prediction, in order."""
        return self.outcome.outputs

    def answers(self, predicted_NC: FloatArray) -> Answers:
        """The outputs of predictions N x C by name, each row independent of the others."""
        return self.outcome.answers(predicted_NC)

    def score(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> float:
        """The measure, exactly.

        Raises:
            InputError: The records lack a class.
        """
        return self.outcome.score(predicted_NC, y_N)

    def generate(self, n: int, rng: np.random.Generator) -> Records:
        """Invent `n` records within the schema's bounds, for guards and tests.

        Where the schema has a patient column, two records in a row share a patient.
        """
        return Records(
            x_NF=invent(self.schema, n, rng),
            y_N=self.outcome.invent(n, rng),
            patient_N=invented_patients(self.schema, n),
        )
