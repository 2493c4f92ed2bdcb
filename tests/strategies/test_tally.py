from __future__ import annotations

import numpy as np
import pytest

from learning.task import Task, load_task
from protocol.errors import InputError
from protocol.jobs import Named, Training
from strategies.base import Total, summing
from strategies.tally import Tally

SCHEMA = {
    "columns": [{"name": "age", "kind": "number", "low": 0, "high": 100}],
    "label": {"name": "ill", "classes": ["no", "yes"]},
}


def task(name: str = "statistics") -> Task:
    return load_task(Named(name=name, options={}), SCHEMA)


def training(rounds: int) -> Training:
    return Training(
        rounds=rounds,
        spare_attempts=0,
        local_steps=1,
        learning_rate=1.0,
        l2=0.0,
        proximal=0.0,
        seed=0,
    )


def test_the_table_is_the_sum_whatever_was_declared() -> None:
    strategy = Tally(parameters=2)
    total = Total(np.array([3.0, -1.5]), 700.0)
    assert strategy.step(strategy.init(np.zeros(2)), total).weights.tolist() == [3.0, -1.5]


def test_a_sum_is_released_once() -> None:
    assert Tally.from_options({}, training(1), 9) == Tally(parameters=9)
    with pytest.raises(InputError, match="'tally'; expected 1: the statistics are released once"):
        Tally.from_options({}, training(2), 9)


def test_bound_and_sums_are_those_of_the_tasks_own_table() -> None:
    counted = task()
    strategy = summing(Tally(parameters=counted.layout().size))
    assert strategy is not None
    records = counted.generate(20, np.random.default_rng(0))
    expected_P = counted.evaluation.counts(records.x_NF, np.asarray(records.y_N), records.patient_N)
    assert strategy.sums(counted, records, "record").tolist() == expected_P.tolist()
    assert strategy.sums(counted, records, "record")[0] == 20.0
    assert strategy.bound(counted) == counted.evaluation.norm


def test_a_task_that_learns_a_model_is_refused() -> None:
    strategy = Tally(parameters=2)
    records = task("diagnosis").generate(2, np.random.default_rng(0))
    with pytest.raises(InputError, match="expected task 'statistics'"):
        strategy.bound(task("diagnosis"))
    with pytest.raises(InputError, match="expected task 'statistics'"):
        strategy.sums(task("diagnosis"), records, "record")


@pytest.mark.parametrize("weights_P", [np.zeros(3), np.array([0.0, 1.0])])
def test_a_table_begins_empty(weights_P: np.ndarray) -> None:
    with pytest.raises(InputError, match="expected 2 zeros"):
        Tally(parameters=2).init(weights_P)
