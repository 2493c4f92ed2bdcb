"""The server optimisers against Algorithm 2 of Reddi et al. 2021, one plain number at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from protocol.errors import InputError
from protocol.jobs import Training
from strategies.base import Strategy, Total
from strategies.fedopt import FedAdagrad, FedAdam, FedAvgM, FedYogi

TRAINING = Training(
    rounds=6, spare_attempts=0, local_steps=4, learning_rate=0.1, l2=0.0, proximal=0.0, seed=0
)
DIVISOR = 17.0


def sums(rounds: int, size: int) -> list[list[float]]:
    """Sums of updates with zeros, sign changes and magnitudes from 1e-9 to 1e3."""
    rng = np.random.default_rng(8)
    drawn = rng.normal(size=(rounds, size)) * 10.0 ** rng.integers(-9, 4, size=(rounds, size))
    drawn[:, 0] = 0.0
    rows: list[list[float]] = drawn.tolist()
    return rows


def sign(value: float) -> float:
    return (value > 0) - (value < 0)


def algorithm_2(
    kind: str, x: list[float], rounds: list[list[float]], options: dict[str, float]
) -> list[float]:
    """Lines of the paper, with v_{-1} = tau^2 and m_{-1} = 0, over lists of Python floats."""
    eta, beta1 = options["server_learning_rate"], options["beta1"]
    beta2, tau = options["beta2"], options["tau"]
    x = list(x)
    m = [0.0] * len(x)
    v = [tau * tau] * len(x)
    for row in rounds:
        for i in range(len(x)):
            delta = row[i] / DIVISOR
            m[i] = beta1 * m[i] + (1 - beta1) * delta
            square = delta * delta
            if kind == "adagrad":
                v[i] = v[i] + square
            elif kind == "yogi":
                v[i] = v[i] - (1 - beta2) * square * sign(v[i] - square)
            else:
                v[i] = beta2 * v[i] + (1 - beta2) * square
            x[i] = x[i] + eta * (m[i] / (math.sqrt(v[i]) + tau))
    return x


def run(strategy: Strategy, weights: list[float], rounds: list[list[float]]) -> list[float]:
    state = strategy.init(np.array(weights))
    for row in rounds:
        state = strategy.step(state, Total(np.array(row), DIVISOR))
    result: list[float] = state.weights.tolist()
    return result


@pytest.mark.parametrize(
    ("kind", "cls", "options"),
    [
        ("adagrad", FedAdagrad, {}),
        ("adagrad", FedAdagrad, {"beta1": 0.5, "tau": 1e-2}),
        ("adam", FedAdam, {}),
        ("adam", FedAdam, {"beta1": 0.0, "beta2": 0.0, "server_learning_rate": 1.0}),
        ("yogi", FedYogi, {}),
        ("yogi", FedYogi, {"beta2": 0.9, "tau": 0.1}),
    ],
)
def test_adaptive_optimisers_are_algorithm_2_bit_for_bit(
    kind: str, cls: Any, options: dict[str, float]
) -> None:
    weights = np.random.default_rng(1).normal(size=9).tolist()
    default = {"beta1": 0.0 if kind == "adagrad" else 0.9, "beta2": 0.99, "tau": 1e-3}
    chosen = default | {"server_learning_rate": 0.1} | options
    expected = algorithm_2(kind, weights, sums(12, 9), chosen)
    strategy = cls.from_options(options, TRAINING, 9)
    assert run(strategy, weights, sums(12, 9)) == expected


def test_the_three_differ_from_each_other() -> None:
    """Else the test above would not tell which second moment was computed."""
    results = [run(cls(), [0.0] * 9, sums(3, 9)) for cls in (FedAdagrad, FedAdam, FedYogi)]
    assert len({tuple(result) for result in results}) == 3


def test_momentum_is_that_of_hsu_et_al_bit_for_bit() -> None:
    weights = [1.0, -2.0, 0.5]
    x, v = list(weights), [0.0] * 3
    for row in sums(5, 3):
        for i in range(3):
            v[i] = 0.7 * v[i] + row[i] / DIVISOR
            x[i] = x[i] + 0.4 * v[i]
    strategy = FedAvgM(server_learning_rate=0.4, momentum=0.7)
    assert run(strategy, weights, sums(5, 3)) == x


def test_momentum_zero_is_plain_averaging() -> None:
    state = FedAvgM(momentum=0.0).init(np.array([1.0, 2.0]))
    moved = FedAvgM(momentum=0.0).step(state, Total(np.array([4.0, -8.0]), 4.0))
    assert moved.weights.tolist() == [2.0, 0.0]


@pytest.mark.parametrize(
    ("cls", "options", "named"),
    [
        (FedAvgM, {"momentum": 1.0}, "momentum"),
        (FedAvgM, {"momentum": -0.1}, "momentum"),
        (FedAvgM, {"server_learning_rate": 0.0}, "server_learning_rate"),
        (FedAdam, {"beta1": 1.0}, "beta1"),
        (FedAdam, {"beta2": 1.0}, "beta2"),
        (FedAdam, {"tau": 0.0}, "tau"),
        (FedYogi, {"beta2": -1.0}, "beta2"),
        (FedYogi, {"server_learning_rate": -1.0}, "server_learning_rate"),
        (FedAdagrad, {"beta2": 0.5}, "beta2"),
    ],
)
def test_options_out_of_range_are_named(cls: Any, options: dict[str, float], named: str) -> None:
    with pytest.raises(InputError, match=named):
        cls.from_options(options, TRAINING, 3)
