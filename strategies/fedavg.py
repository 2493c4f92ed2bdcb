"""Federated averaging: hospitals train locally, the model moves by the mean of their updates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from protocol.errors import InputError
from protocol.jobs import Training
from strategies.base import (
    Contribution,
    FloatVector,
    NoOptions,
    State,
    Total,
    mean,
    parse_options,
    stepped,
)


@dataclass(frozen=True)
class FedAvg:
    """The next weights are the old ones plus the weighted mean update.

    Source: McMahan, Moore, Ramage, Hampson, Agüera y Arcas 2017, Algorithm 1. The mean of the new
    weights and the old weights plus the mean update are the same; updates are what can be clipped.

    >>> import numpy as np
    >>> state = FedAvg().init(np.array([1.0, 1.0]))
    >>> FedAvg().step(state, Total(np.array([2.0, -4.0]), 4.0)).weights.tolist()
    [1.5, 0.0]
    """

    contribution: ClassVar[Contribution] = "update"

    @classmethod
    def from_options(cls, options: Mapping[str, Any], training: Training, length: int) -> Self:  # noqa: ARG003
        """No options; a proximal term would be FedProx.

        Raises:
            InputError: There are options, or `training.proximal` is not 0.
        """
        parse_options(NoOptions, options, "fedavg")
        if training.proximal != 0.0:
            raise InputError(
                "training.proximal with strategy 'fedavg'",
                expected="0",
                found=str(training.proximal),
                remedy="name the strategy 'fedprox'",
            )
        return cls()

    def length(self, parameters: int) -> int:
        """An update has a coordinate per parameter."""
        return parameters

    def init(self, weights: FloatVector) -> State:
        """No moments."""
        return State(weights, (), 0)

    def step(self, state: State, total: Total) -> State:
        """Add the mean update."""
        return stepped(state, state.weights + mean(total, len(state.weights)))
