"""Diagnosis from a table: logistic regression or a small dense network, two or more classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

from learning.classification import Classifier
from learning.dense import DenseNetwork, check_hidden
from learning.outcomes import Classes
from learning.schema import Schema
from protocol.config import parse

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
class Diagnosis(Classifier):
    """Classify records of a table; see docs/tasks/diagnosis.md."""

    options: Options
    schema: Schema

    def __post_init__(self) -> None:
        _ = self.outcome

    @classmethod
    def from_options(cls, options: Mapping[str, Any], schema: Schema) -> Self:
        """Build the task from a job's options.

        Raises:
            InputError: An option is unknown, ill-typed or does not fit the schema.
        """
        return cls(parse(Options, options, "options"), schema)

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
    def kappa(self) -> float:
        """Path length per unit of signal in the default recipe."""
        return 0.5 if self.options.model == "logistic" else 2.0

    @property
    def default_rounds(self) -> int:
        """Rounds of the default recipe."""
        return 10 if self.options.model == "logistic" else 20

    @property
    def is_logistic(self) -> bool:
        """Whether it is: two classes and no hidden layer."""
        return self.network.widths == (self.schema.num_features, 1)
