from __future__ import annotations

import math

import numpy as np
import pytest

from protocol.errors import InputError
from protocol.jobs import Training
from strategies.base import Total
from strategies.fedsgd import FedSgd


def training(**changes: float) -> Training:
    numbers = {"rounds": 9, "spare_attempts": 2, "local_steps": 1, "seed": 0}
    rates = {"learning_rate": 0.2, "l2": 0.05, "proximal": 0.0}
    return Training(**(numbers | rates | changes))  # type: ignore[arg-type]


def objective(w: float, a: float, l2: float) -> float:
    """Mean over four records of 0.5 (w - x)^2 whose x have mean a, plus 0.5 l2 w^2."""
    return 0.5 * (w - a) ** 2 + 0.5 * l2 * w * w


def test_steps_down_the_gradient_of_the_mean_loss_and_the_penalty() -> None:
    """Oracle: a central difference of the objective that the step is meant to lower."""
    strategy = FedSgd(learning_rate=0.2, l2=0.3)
    w, a, h = 1.7, -0.4, 1e-6
    total = Total(np.array([4 * (w - a)]), 4.0)
    moved = strategy.step(strategy.init(np.array([w])), total).weights[0]
    slope = (objective(w + h, a, 0.3) - objective(w - h, a, 0.3)) / (2 * h)
    assert (w - moved) / 0.2 == pytest.approx(slope, rel=1e-8)


def test_settles_where_the_penalised_objective_is_least() -> None:
    strategy = FedSgd(learning_rate=0.5, l2=0.25)
    state = strategy.init(np.array([5.0, -3.0]))
    target = np.array([1.0, 2.0])
    for _ in range(200):
        state = strategy.step(state, Total(10.0 * (state.weights - target), 10.0))
    assert state.weights == pytest.approx(target / 1.25, abs=1e-12)


def test_equals_scalar_arithmetic_bit_for_bit() -> None:
    rng = np.random.default_rng(5)
    weights, gradient = rng.normal(size=50), rng.normal(size=50)
    strategy = FedSgd(learning_rate=0.37, l2=0.011)
    moved = strategy.step(strategy.init(weights), Total(gradient, 13.0)).weights
    pairs = zip(weights.tolist(), gradient.tolist(), strict=True)
    assert moved.tolist() == [w - 0.37 * (g / 13.0 + 0.011 * w) for w, g in pairs]


def test_takes_its_numbers_from_the_job() -> None:
    assert FedSgd.from_options({}, training(), 3) == FedSgd(learning_rate=0.2, l2=0.05)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"local_steps": 2}, "local_steps 1"),
        ({"proximal": 0.1}, "proximal 0"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"l2": -0.1}, "l2"),
        ({"l2": math.nan}, "l2"),
    ],
)
def test_refuses_what_one_gradient_per_round_cannot_do(
    changes: dict[str, float], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        FedSgd.from_options({}, training(**changes), 3)
