from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InputError
from protocol.jobs import Training
from strategies.base import Total
from strategies.fedavg import FedAvg
from strategies.fedprox import FedProx

numbers = st.floats(-1e6, 1e6)


def training(proximal: float) -> Training:
    return Training(
        rounds=2,
        spare_attempts=0,
        local_steps=5,
        learning_rate=0.1,
        l2=0.0,
        proximal=proximal,
        seed=0,
    )


@given(
    weight=numbers,
    sites=st.lists(st.tuples(numbers, st.integers(1, 1000)), min_size=1, max_size=6),
)
def test_averages_updates_as_mcmahan_averages_models(
    weight: float, sites: list[tuple[float, int]]
) -> None:
    """sum n_k w_k / n, the paper's form, against w + sum n_k (w_k - w) / n."""
    total = sum(n for _, n in sites)
    expected = sum(n * local for local, n in sites) / total
    folded = sum(n * (local - weight) for local, n in sites)
    strategy = FedAvg()
    state = strategy.step(
        strategy.init(np.array([weight])), Total(np.array([folded]), float(total))
    )
    assert state.weights[0] == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert state.moments == ()


def test_fedprox_averages_alike_and_leaves_the_pull_to_the_sites() -> None:
    state, total = FedAvg().init(np.array([1.0, 2.0])), Total(np.array([3.0, -1.0]), 7.0)
    assert (
        FedProx().step(state, total).weights.tobytes()
        == FedAvg().step(state, total).weights.tobytes()
    )


@pytest.mark.parametrize(
    ("cls", "proximal", "other"),
    [(FedAvg, 0.1, "fedprox"), (FedProx, 0.0, "fedavg"), (FedProx, -1.0, "fedavg")],
)
def test_the_proximal_term_decides_the_name(cls: Any, proximal: float, other: str) -> None:
    with pytest.raises(InputError, match=f"name the strategy '{other}'"):
        cls.from_options({}, training(proximal), 3)


def test_a_fitting_proximal_term_is_taken() -> None:
    assert FedProx.from_options({}, training(0.5), 3) == FedProx()
    assert FedAvg.from_options({}, training(0.0), 3) == FedAvg()
