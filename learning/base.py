"""What all tasks share that learn from a schema's columns with options that a job chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, get_type_hints

from learning.preprocess import features
from learning.schema import Schema
from learning.task import FloatArray, Recipe, Report, Table
from protocol.config import parse

LINEAR = Recipe(kappa=0.5, rounds=10)
"""Of a model that is linear in what it learns."""

DEEP = Recipe(kappa=2.0, rounds=20)
"""Of a network with hidden layers."""


@dataclass(frozen=True)
class Chosen:
    """A task (learning.task.Task) made of what a job chooses; most of it is left open.

    Args:
        options: What the job chose. A task annotates it with its own dataclass, which says what
            may be chosen.
        schema: The job's schema.
    """

    options: Any
    schema: Schema

    @classmethod
    def from_options(cls, options: Mapping[str, Any], schema: Schema) -> Self:
        """Build the task from a job's options.

        Raises:
            InputError: An option is unknown, ill-typed or does not fit the schema.
        """
        return cls(parse(get_type_hints(cls)["options"], options, "options"), schema)

    @property
    def is_logistic(self) -> bool:
        """Whether the model is one linear score of two classes."""
        return False

    def features(self, table: Table) -> tuple[FloatArray, Report]:
        """Turn raw columns into features N x F, one row each, for prediction."""
        return features(self.schema, table)
