"""Server optimisers: the mean update is a pseudo-gradient for momentum, Adagrad, Adam or Yogi."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from protocol.errors import InputError
from protocol.jobs import Training
from strategies.base import Contribution, FloatVector, State, Total, mean, parse_options, stepped


@dataclass(frozen=True, kw_only=True)
class FedAvgM:
    """Momentum at the server: m = momentum * m + mean update, w = w + server_learning_rate * m.

    Args:
        server_learning_rate: Step length; 1 with momentum 0 is FedAvg.
        momentum: What is kept of the last direction, in [0, 1).

    Source: Hsu, Qi, Brown 2019, section 4.3.
    """

    contribution: ClassVar[Contribution] = "update"

    server_learning_rate: float = 1.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        _check_positive("server_learning_rate", self.server_learning_rate)
        _check_decay("momentum", self.momentum)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], training: Training, length: int) -> Self:  # noqa: ARG003
        """The class's arguments are its options."""
        return parse_options(cls, options, "fedavgm")

    def length(self, parameters: int) -> int:
        """An update has a coordinate per parameter."""
        return parameters

    def init(self, weights: FloatVector) -> State:
        """Zero momentum."""
        return State(weights, (np.zeros_like(weights),), 0)

    def step(self, state: State, total: Total) -> State:
        """Add the mean update to the momentum and the momentum to the weights."""
        (momentum_P,) = state.moments
        momentum_P = self.momentum * momentum_P + mean(total, len(state.weights))
        return stepped(state, state.weights + self.server_learning_rate * momentum_P, momentum_P)


@dataclass(frozen=True, kw_only=True)
class _Adaptive:
    """Algorithm 2 but for its second moment, in which the three optimisers differ.

    No bias correction, and v starts at tau^2, as the paper has it.

    Source: Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar, McMahan 2021, Algorithm 2.
    """

    contribution: ClassVar[Contribution] = "update"
    name: ClassVar[str]

    server_learning_rate: float = 0.1
    beta1: float = 0.9
    tau: float = 1e-3

    def __post_init__(self) -> None:
        _check_positive("server_learning_rate", self.server_learning_rate)
        _check_decay("beta1", self.beta1)
        _check_positive("tau", self.tau)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], training: Training, length: int) -> Self:  # noqa: ARG003
        """The class's arguments are its options."""
        return parse_options(cls, options, cls.name)

    def length(self, parameters: int) -> int:
        """An update has a coordinate per parameter."""
        return parameters

    def init(self, weights: FloatVector) -> State:
        """Zero first moment, and tau^2 for the second."""
        second_P = np.full_like(weights, self.tau * self.tau)
        return State(weights, (np.zeros_like(weights), second_P), 0)

    def step(self, state: State, total: Total) -> State:
        """Add server_learning_rate * m / (sqrt(v) + tau)."""
        first_P, second_P = state.moments
        delta_P = mean(total, len(state.weights))
        first_P = self.beta1 * first_P + (1.0 - self.beta1) * delta_P
        second_P = self._second_moment(second_P, delta_P * delta_P)
        direction_P = first_P / (np.sqrt(second_P) + self.tau)
        weights_P = state.weights + self.server_learning_rate * direction_P
        return stepped(state, weights_P, first_P, second_P)

    @abstractmethod
    def _second_moment(self, second_P: FloatVector, square_P: FloatVector) -> FloatVector:
        """The next v from the last one and the squared mean update."""


@dataclass(frozen=True, kw_only=True)
class FedAdagrad(_Adaptive):
    """v = v + delta^2: steps shrink for ever; without momentum unless `beta1` says so.

    Args:
        server_learning_rate: Step length eta.
        beta1: Decay of the first moment, in [0, 1).
        tau: Least adaptivity; large tau is plain averaging with step eta / tau.
    """

    name: ClassVar[str] = "fedadagrad"

    beta1: float = 0.0

    def _second_moment(self, second_P: FloatVector, square_P: FloatVector) -> FloatVector:
        return second_P + square_P


@dataclass(frozen=True, kw_only=True)
class FedAdam(_Adaptive):
    """v = beta2 * v + (1 - beta2) * delta^2.

    Args:
        server_learning_rate: Step length eta.
        beta1: Decay of the first moment, in [0, 1).
        beta2: Decay of the second moment, in [0, 1).
        tau: Least adaptivity; large tau is plain averaging with step eta / tau.
    """

    name: ClassVar[str] = "fedadam"

    beta2: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_decay("beta2", self.beta2)

    def _second_moment(self, second_P: FloatVector, square_P: FloatVector) -> FloatVector:
        return self.beta2 * second_P + (1.0 - self.beta2) * square_P


@dataclass(frozen=True, kw_only=True)
class FedYogi(_Adaptive):
    """v = v - (1 - beta2) * delta^2 * sign(v - delta^2): v forgets large updates slowly.

    Args:
        server_learning_rate: Step length eta.
        beta1: Decay of the first moment, in [0, 1).
        beta2: Decay of the second moment, in [0, 1).
        tau: Least adaptivity; large tau is plain averaging with step eta / tau.
    """

    name: ClassVar[str] = "fedyogi"

    beta2: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_decay("beta2", self.beta2)

    def _second_moment(self, second_P: FloatVector, square_P: FloatVector) -> FloatVector:
        return second_P - (1.0 - self.beta2) * square_P * np.sign(second_P - square_P)


def _check_positive(name: str, value: float) -> None:
    if not 0.0 < value < np.inf:
        raise InputError(name, expected="a positive number", found=str(value))


def _check_decay(name: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise InputError(name, expected="a number from 0 to below 1", found=str(value))
