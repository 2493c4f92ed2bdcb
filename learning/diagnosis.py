"""Diagnosis from a table: logistic regression or a small dense network, two or more classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from learning.base import DEEP, LINEAR, Chosen
from learning.classification import Classifier
from learning.dense import DenseNetwork, check_hidden
from learning.outcomes import Classes
from learning.task import Recipe

DEFAULT_HIDDEN = (64, 32, 16)


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
        check_hidden(self.hidden, self.model)


@dataclass(frozen=True)
class Diagnosis(Chosen, Classifier):
    """Classify records of a table; see docs/tasks/diagnosis.md."""

    options: Options

    def __post_init__(self) -> None:
        _ = self.outcome

    @cached_property
    def outcome(self) -> Classes:
        """One of the label's classes; of two the second is the positive one."""
        return Classes(self.schema.label.texts, self.options.class_weights)

    @cached_property
    def network(self) -> DenseNetwork:
        """Inputs, hidden widths, outputs; two classes share one logit."""
        hidden = () if self.options.model == "logistic" else self.options.hidden or DEFAULT_HIDDEN
        return DenseNetwork((self.schema.num_features, *hidden, self.outcome.size))

    @property
    def recipe(self) -> Recipe:
        """A network takes a longer path, and more rounds."""
        return LINEAR if self.options.model == "logistic" else DEEP

    @property
    def is_logistic(self) -> bool:
        """Whether it is: two classes and no hidden layer."""
        return self.network.widths == (self.schema.num_features, 1)
