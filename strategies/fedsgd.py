"""One gradient step per round on the sum of clipped gradients: the private default."""

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


@dataclass(frozen=True, kw_only=True)
class FedSgd:
    """w - learning_rate * (sum / weight + l2 * w).

    The l2 term is added after the noise: it depends on no record and costs no privacy.

    Args:
        learning_rate: Step length.
        l2: Coefficient of 0.5 * ||w||^2.

    Source: McMahan et al. 2017, section 2 (FederatedSGD); Abadi et al. 2016, Algorithm 1, with the
    public expected batch size as the divisor.

    >>> import numpy as np
    >>> strategy = FedSgd(learning_rate=0.5, l2=0.0)
    >>> strategy.step(strategy.init(np.array([1.0])), Total(np.array([8.0]), 4.0)).weights.tolist()
    [0.0]
    """

    contribution: ClassVar[Contribution] = "gradient"

    learning_rate: float
    l2: float

    def __post_init__(self) -> None:
        if not self.learning_rate > 0.0:
            raise InputError(
                "learning_rate", expected="a positive number", found=str(self.learning_rate)
            )
        if not self.l2 >= 0.0:
            raise InputError("l2", expected="0 or a positive number", found=str(self.l2))

    @classmethod
    def from_options(cls, options: Mapping[str, Any], training: Training, length: int) -> Self:  # noqa: ARG003
        """No options: the numbers are the job's `training`.

        Raises:
            InputError: There are options, or `training` asks for what one gradient cannot do.
        """
        parse_options(NoOptions, options, "fedsgd")
        if training.local_steps != 1 or training.proximal != 0.0:
            raise InputError(
                "training with strategy 'fedsgd'",
                expected="local_steps 1 and proximal 0: a round is one gradient at common weights",
                found=f"{training.local_steps} and {training.proximal}",
            )
        return cls(learning_rate=training.learning_rate, l2=training.l2)

    def length(self, parameters: int) -> int:
        """A gradient has a coordinate per parameter."""
        return parameters

    def init(self, weights: FloatVector) -> State:
        """No moments."""
        return State(weights, (), 0)

    def step(self, state: State, total: Total) -> State:
        """Go down the mean gradient."""
        gradient_P = mean(total, len(state.weights)) + self.l2 * state.weights
        return stepped(state, state.weights - self.learning_rate * gradient_P)
