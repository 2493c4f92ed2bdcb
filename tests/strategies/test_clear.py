"""Flower's strategies on plain vectors, against what their papers say on small numbers."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import numpy as np
import pytest
from flwr.serverapp import strategy as flower

from protocol.errors import InputError
from strategies.clear import FlowerStrategy, available

ROBUST = ["flwr:Bulyan", "flwr:FedMedian", "flwr:FedTrimmedAvg", "flwr:Krum", "flwr:MultiKrum"]
WEIGHTS = np.array([1.0, -1.0, 0.5])


def updates(count: int = 7) -> dict[str, tuple[Any, float]]:
    rng = np.random.default_rng(9)
    return {f"site-{i}": (rng.normal(size=3), float(10 + i)) for i in range(count)}


def make(name: str) -> FlowerStrategy:
    return FlowerStrategy(name, {"client_learning_rate": 0.1} if name == "flwr:QFedAvg" else {})


LOSSES = {f"site-{i}": 0.5 for i in range(7)}


def test_offers_every_class_that_averages_arrays() -> None:
    averaging = {
        name
        for name, cls in inspect.getmembers(flower, inspect.isclass)
        if issubclass(cls, flower.FedAvg) and "Xgb" not in name
    }
    assert set(available()) == {f"flwr:{name}" for name in averaging}
    assert {"flwr:Krum", "flwr:FedMedian", "flwr:FedTrimmedAvg"} <= set(available())


@pytest.mark.parametrize("name", sorted(available()))
class TestEveryOne:
    def test_moves_the_weights_and_leaves_its_arguments(self, name: str) -> None:
        given, weights = updates(), WEIGHTS.copy()
        before = {site: vector.copy() for site, (vector, _) in given.items()}
        moved = make(name).aggregate(1, given, weights, losses=LOSSES)
        assert moved.dtype == np.float64
        assert moved.shape == (3,)
        assert np.isfinite(moved).all()
        assert not np.array_equal(moved, weights)
        assert weights.tolist() == WEIGHTS.tolist()
        assert all(np.array_equal(given[site][0], before[site]) for site in given)

    def test_does_not_depend_on_the_order_of_arrival(self, name: str) -> None:
        late = dict(reversed(updates().items()))
        moved = make(name).aggregate(1, updates(), WEIGHTS, losses=LOSSES)
        again = make(name).aggregate(1, late, WEIGHTS, losses=LOSSES)
        assert moved.tobytes() == again.tobytes()

    def test_no_update_moves_nothing(self, name: str) -> None:
        still = {site: (np.zeros(3), weight) for site, (_, weight) in updates().items()}
        moved = make(name).aggregate(1, still, WEIGHTS, losses=LOSSES)
        assert moved == pytest.approx(WEIGHTS, abs=1e-12)


def test_plain_averaging_weighs_by_the_sites_weights() -> None:
    mean = sum(w * v for v, w in updates().values()) / sum(w for _, w in updates().values())
    moved = FlowerStrategy("flwr:FedAvg").aggregate(1, updates(), WEIGHTS)
    assert moved == pytest.approx(WEIGHTS + mean, rel=1e-12)


def test_the_median_is_taken_by_coordinate() -> None:
    moved = FlowerStrategy("flwr:FedMedian").aggregate(1, updates(), WEIGHTS)
    stack = np.stack([vector for vector, _ in updates().values()])
    assert moved == pytest.approx(WEIGHTS + np.median(stack, axis=0), rel=1e-12)


def test_the_trimmed_mean_leaves_out_both_ends() -> None:
    chosen = FlowerStrategy("flwr:FedTrimmedAvg", {"beta": 0.2})
    stack = np.sort(np.stack([vector for vector, _ in updates(5).values()]), axis=0)
    moved = chosen.aggregate(1, updates(5), WEIGHTS)
    assert moved == pytest.approx(WEIGHTS + stack[1:4].mean(axis=0), rel=1e-12)


def test_krum_takes_one_update_from_the_middle_of_the_crowd() -> None:
    crowd = {f"s{i}": (np.array([1.0, 1.0, 1.0 + 0.01 * i]), 1.0) for i in range(4)}
    crowd["bad"] = (np.array([-50.0, 80.0, 3.0]), 1000.0)
    chosen = FlowerStrategy("flwr:Krum", {"num_malicious_nodes": 1})
    moved = chosen.aggregate(1, crowd, WEIGHTS) - WEIGHTS
    assert any(moved == pytest.approx(vector) for vector, _ in list(crowd.values())[:4])


@pytest.mark.parametrize("name", ROBUST)
def test_one_poisoned_update_of_seven_does_not_carry_a_robust_rule(name: str) -> None:
    options = {} if name in ("flwr:FedMedian", "flwr:FedTrimmedAvg") else {"num_malicious_nodes": 1}
    given = updates() | {"site-3": (np.full(3, 1e6), 1e6)}
    assert np.abs(FlowerStrategy(name, options).aggregate(1, given, WEIGHTS)).max() < 10
    assert np.abs(FlowerStrategy("flwr:FedAvg").aggregate(1, given, WEIGHTS)).max() > 1e5


def test_server_momentum_lives_from_round_to_round() -> None:
    """Two equal mean updates d with momentum 0.5 move by d, then by 1.5 d."""
    chosen = FlowerStrategy("flwr:FedAvgM", {"server_learning_rate": 1.0, "server_momentum": 0.5})
    same = {site: (np.array([2.0, 0.0, -4.0]), 1.0) for site in "abc"}
    first = chosen.aggregate(1, same, WEIGHTS)
    second = chosen.aggregate(2, same, first)
    assert first - WEIGHTS == pytest.approx([2.0, 0.0, -4.0])
    assert second - first == pytest.approx([3.0, 0.0, -6.0])


def test_unknown_names_list_what_exists() -> None:
    for name in ("flwr:Krumm", "flwr:FedXgbBagging", "flwr:Strategy", "fedavg"):
        with pytest.raises(InputError, match=r"flwr:FedMedian, .*flwr:Krum"):
            FlowerStrategy(name)


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("flwr:FedTrimmedAvg", {"betta": 0.2}, "expected beta; found betta"),
        ("flwr:FedAvg", {"fraction_train": 0.5}, "expected none; found fraction_train"),
        ("flwr:Krum", {"weighted_by_key": "n"}, "found weighted_by_key"),
        ("flwr:FedTrimmedAvg", {"beta": 0.7}, "beta"),
        ("flwr:QFedAvg", {}, "client_learning_rate"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        FlowerStrategy(name, options)


def test_too_few_sites_for_the_rule() -> None:
    chosen = FlowerStrategy("flwr:Bulyan", {"num_malicious_nodes": 3})
    with pytest.raises(InputError, match="cannot aggregate; expected enough sites"):
        chosen.aggregate(1, updates(), WEIGHTS)


def test_a_fair_strategy_asks_for_the_losses() -> None:
    with pytest.raises(InputError, match="train_loss"):
        make("flwr:QFedAvg").aggregate(1, updates(), WEIGHTS)


def test_flowers_logger_keeps_its_level() -> None:
    before = logging.getLogger("flwr").level
    make("flwr:FedAvg").aggregate(1, updates(), WEIGHTS)
    assert logging.getLogger("flwr").level == before
