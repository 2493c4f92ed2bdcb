"""No model at all: the pooled sums themselves are what hospitals and coordinator end up with.

Each hospital releases the sum of its training patients' parts of a table once. The weights are the
sum of all of them; `learning.tables` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from learning.pooled_statistics import Statistics
from learning.task import Records, Task
from privacy.conformance import Unit
from protocol.errors import InputError
from protocol.jobs import Training
from strategies.base import (
    Contribution,
    FloatVector,
    NoOptions,
    State,
    Total,
    parse_options,
    plain_sum,
    require_once,
    stepped,
)


@dataclass(frozen=True, kw_only=True)
class Tally:
    """The strategy; its one step takes the sum as it is.

    Args:
        parameters: P, the cells of the table.
    """

    contribution: ClassVar[Contribution] = "statistics"

    parameters: int

    @classmethod
    def from_options(cls, options: Mapping[str, Any], training: Training, length: int) -> Self:
        """Build for a table of `length` cells.

        Raises:
            InputError: There is an option, or more than one round.
        """
        parse_options(NoOptions, options, "tally")
        require_once(training, "tally")
        return cls(parameters=length)

    def length(self, parameters: int) -> int:
        """One sum for each cell."""
        return parameters

    def init(self, weights: FloatVector) -> State:
        """Nobody is counted yet.

        Raises:
            InputError: The task starts elsewhere, so it is no table.
        """
        if weights.shape != (self.parameters,) or weights.any():
            raise InputError(
                "initial weights with strategy 'tally'",
                expected=f"{self.parameters} zeros, as an empty table has them",
                remedy="choose task 'statistics'",
            )
        return State(weights, (), 0)

    def step(self, state: State, total: Total) -> State:
        """The sum, whatever was declared: counts are counts and no means."""
        return stepped(state, plain_sum(total, len(state.weights)).copy())

    def bound(self, task: Task) -> float:
        """L2 bound of one patient's part.

        Raises:
            InputError: The task is another than `statistics`.
        """
        return _table(task).evaluation.norm

    def sums(self, task: Task, records: Records, unit: Unit) -> FloatVector:
        """The sum over patients of their parts; without a patient column every row is one.

        Raises:
            InputError: The task is another than `statistics`.
        """
        del unit
        description = _table(task).evaluation
        return description.counts(records.x_NF, records.y_N, records.patient_N)


def _table(task: Task) -> Statistics:
    if not isinstance(task, Statistics):
        raise InputError(
            "strategy 'tally'",
            expected="task 'statistics'",
            found="a task that learns a model",
            remedy="leave the strategy out",
        )
    return task
