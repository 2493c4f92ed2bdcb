"""Several diagnoses at once from a table: one network, a yes or no for each label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from learning.base import DEEP, LINEAR, Chosen
from learning.classification import Classifier
from learning.dense import DenseNetwork, check_hidden
from learning.diagnosis import DEFAULT_HIDDEN
from learning.flags import Flags
from learning.task import Recipe


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
        check_hidden(self.hidden, self.model)


@dataclass(frozen=True)
class Labels(Chosen, Classifier):
    """The schema's label and its targets, all of kind `flag`; see docs/tasks/diagnosis.md."""

    options: Options

    def __post_init__(self) -> None:
        _ = self.outcome

    @cached_property
    def outcome(self) -> Flags:
        """A yes or no for each of the L labels."""
        return Flags.of(self.schema, self.options.positive_weights)

    @cached_property
    def network(self) -> DenseNetwork:
        """Inputs, hidden widths, one output a label."""
        hidden = () if self.options.model == "logistic" else self.options.hidden or DEFAULT_HIDDEN
        return DenseNetwork((self.schema.num_features, *hidden, self.outcome.size))

    @property
    def recipe(self) -> Recipe:
        """A network takes a longer path, and more rounds."""
        return LINEAR if self.options.model == "logistic" else DEEP
