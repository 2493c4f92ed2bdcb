"""What every registered strategy promises to the rounds that drive it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from protocol.errors import InputError
from protocol.jobs import Job, Named, Training
from strategies.base import GROUP, State, Strategy, Total, load_strategy, node_strategy, strategy_of

P = 7
NAMES = sorted(entry.name for entry in entry_points(group=GROUP))
ELEMENTWISE = [name for name in NAMES if name != "one_shot"]


def training(name: str, **changes: Any) -> Training:
    numbers: dict[str, Any] = {
        "rounds": 1 if name in ("one_shot", "tally") else 5,
        "spare_attempts": 0,
        "local_steps": 1,
        "learning_rate": 0.3,
        "l2": 0.01,
        "proximal": 0.1 if name == "fedprox" else 0.0,
        "seed": 0,
    }
    return Training(**(numbers | changes))


def strategy(name: str, size: int = P, options: Mapping[str, Any] | None = None) -> Strategy:
    return load_strategy(Named(name=name, options=options or {}), training(name), size)


def start(name: str, size: int = P) -> State:
    chosen = strategy(name, size)
    weights = np.random.default_rng(3).normal(size=size)
    return chosen.init(np.zeros(size) if chosen.contribution == "statistics" else weights)


def totals(name: str, size: int = P, count: int = 3) -> list[Total]:
    """Sums as they could come; statistics are those of a plausible matrix."""
    chosen = strategy(name, size)
    rng = np.random.default_rng(11)
    if name != "one_shot":
        return [Total(rng.normal(size=chosen.length(size)), 40.0) for _ in range(count)]
    x_NP = rng.integers(-4, 5, size=(3 * size, size))  # whole numbers: BLAS sums them exactly
    gram = (x_NP.T @ x_NP)[np.triu_indices(size)]
    return [Total(np.concatenate([gram, x_NP.sum(axis=0)]).astype(float), 60.0)] * count


def run(name: str, size: int = P) -> State:
    chosen, state = strategy(name, size), start(name, size)
    for total in totals(name, size):
        state = chosen.step(state, total)
    return state


def test_the_registered_strategies_are_those_of_the_package() -> None:
    ours = {
        "fedavg",
        "fedprox",
        "fedavgm",
        "fedadam",
        "fedyogi",
        "fedadagrad",
        "fedsgd",
        "one_shot",
        "tally",
    }
    assert ours <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
class TestEveryStrategy:
    def test_names_what_a_site_contributes(self, name: str) -> None:
        assert strategy(name).contribution in ("gradient", "update", "statistics")
        assert strategy(name).length(P) >= P

    def test_refuses_an_option_it_does_not_know(self, name: str) -> None:
        with pytest.raises(InputError, match="server_learnin_rate"):
            strategy(name, options={"server_learnin_rate": 1.0})

    def test_counts_steps_and_moves_the_weights(self, name: str) -> None:
        state = run(name)
        assert state.step == 3
        assert np.isfinite(state.weights).all()
        assert (state.weights != start(name).weights).all()

    def test_a_step_leaves_its_arguments_alone(self, name: str) -> None:
        chosen, state, total = strategy(name), start(name), totals(name)[0]
        before, sums = state.to_bytes(), total.sum.copy()
        after = chosen.step(state, total)
        assert state.to_bytes() == before
        assert total.sum.tobytes() == sums.tobytes()
        for old in (state.weights, *state.moments, total.sum):
            for new in (after.weights, *after.moments):
                assert not np.shares_memory(old, new)

    def test_goes_on_from_stored_bytes_to_the_same_bits(self, name: str) -> None:
        chosen, state = strategy(name), start(name)
        for total in totals(name):
            state = strategy(name).step(State.from_bytes(state.to_bytes()), total)
        assert state.to_bytes() == run(name).to_bytes()
        assert chosen == strategy(name)

    def test_depends_on_the_mean_alone_or_on_the_sum_alone(self, name: str) -> None:
        chosen, state, total = strategy(name), start(name), totals(name)[0]
        doubled = Total((1.0 if name == "tally" else 2.0) * total.sum, 2.0 * total.weight)
        assert chosen.step(state, total).to_bytes() == chosen.step(state, doubled).to_bytes()

    def test_refuses_the_sum_of_another_model(self, name: str) -> None:
        for wrong in (np.zeros(0), np.zeros(strategy(name).length(P) + 1)):
            with pytest.raises(InputError, match="values"):
                strategy(name).step(start(name), Total(wrong, 1.0))


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("cut", [1, 2, 3, 5, 8, 16, 1003])
def test_no_coordinate_depends_on_another_or_on_its_place(name: str, cut: int) -> None:
    """Steps on the parts are the parts of the step, at every alignment of the vector units."""
    size = 2011
    chosen, whole, parts = strategy(name, size), start(name, size), []
    for piece in (slice(0, cut), slice(cut, size)):
        state = State(whole.weights[piece], tuple(m[piece] for m in whole.moments), 0)
        for total in totals(name, size):
            state = chosen.step(state, Total(total.sum[piece], total.weight))
        parts.append(state)
    joined = np.concatenate([part.weights for part in parts])
    assert joined.tobytes() == run(name, size).weights.tobytes()


def digest() -> str:
    """One hash over the bits of every strategy's result, for comparison between processes."""
    bits = b"".join(run(name, size).to_bytes() for name in NAMES for size in (P, 211))
    return hashlib.sha256(bits).hexdigest()


def elsewhere(**settings: str) -> str:
    """The digest as a process with other vector units or threads computes it."""
    code = "from tests.contracts.test_strategies import digest; print(digest())"
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | threads | settings,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def vector_units() -> list[str]:
    """The optional instruction sets that numpy uses on this machine."""
    core = np._core._multiarray_umath  # type: ignore[attr-defined]
    return [name for name in core.__cpu_dispatch__ if core.__cpu_features__[name]]


def test_other_vector_units_and_other_threads_give_the_same_bits() -> None:
    expected = digest()
    assert elsewhere(OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="2") == expected
    assert vector_units(), "nothing to switch off: this test would compare a process with itself"
    assert elsewhere(NPY_DISABLE_CPU_FEATURES=" ".join(vector_units())) == expected


@pytest.mark.parametrize("name", ["flwr:Krum", "flwr:FedAvg"])
def test_clear_strategies_are_no_strategies_of_a_job(name: str) -> None:
    with pytest.raises(InputError, match="clear simulations"):
        strategy(name)


@pytest.mark.parametrize(("proximal", "averaging"), [(0.0, "fedavg"), (0.1, "fedprox")])
def test_nodes_of_a_clear_run_average_what_flower_chose(proximal: float, averaging: str) -> None:
    named, numbers = Named(name="flwr:Krum", options={}), training("fedavg", proximal=proximal)
    chosen = node_strategy(named, numbers, P, clear=True)
    assert chosen == load_strategy(Named(name=averaging, options={}), numbers, P)
    with pytest.raises(InputError, match="clear simulations"):
        node_strategy(named, numbers, P, clear=False)


@pytest.mark.parametrize("scheme", ["bfv", "none"])
def test_a_jobs_strategy_is_the_one_it_names(scheme: str) -> None:
    """Unless it is Flower's: that one runs where nothing is encrypted, and nowhere else."""
    job = SimpleNamespace(
        strategy=Named(name="fedsgd", options={}),
        training=training("fedsgd"),
        encryption=SimpleNamespace(scheme=scheme),
    )
    assert strategy_of(cast("Job", job), P) == strategy("fedsgd")
    job.strategy = Named(name="flwr:FedMedian", options={})
    if scheme == "none":
        assert strategy_of(cast("Job", job), P) == strategy("fedavg")
    else:
        with pytest.raises(InputError, match="clear simulations"):
            strategy_of(cast("Job", job), P)


def test_an_unknown_name_lists_what_exists() -> None:
    with pytest.raises(InputError, match=r"'fedsdg'; expected one of .*fedavg.*fedsgd"):
        load_strategy(Named(name="fedsdg", options={}), training("fedsgd"), P)
