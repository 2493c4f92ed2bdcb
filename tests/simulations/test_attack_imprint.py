from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from learning.task import FloatVector, IntVector, Task
from learning.trainer import PlainGradient
from privacy.he.bits import Words
from simulations import attack_planting
from simulations.attack_config import AttackConfig
from simulations.attack_imprint import plant, read_bins
from simulations.attack_jobs import Defence
from simulations.attack_planting import changed, refusal_of_job, refusal_of_sum, refusals, shift
from simulations.attack_records import PIXELS, FloatArray, invent
from simulations.attack_score import RECOVERED
from tests.simulations.attacked import BOTH, ENCRYPTION, NONE, bench, generator

BINS = 256
ENCRYPTED = pytest.mark.parametrize("defence", [ENCRYPTION, BOTH], ids=lambda one: one.label)


@pytest.fixture(scope="module")
def task() -> Task:
    return bench(NONE, hidden=(BINS,)).task


@pytest.fixture(scope="module", name="planted_P")
def planted(task: Task) -> FloatVector:
    return plant(task, generator(7))


def measures(task: Task, planted_P: FloatVector, x_NF: FloatArray) -> IntVector:
    """Which bin each record falls into, by its own inner product: an independent count."""
    parts = task.layout().split(planted_P)
    z_NH = x_NF @ parts["hidden.0.weight"].T + parts["hidden.0.bias"]
    place_N: IntVector = (z_NH > 0).sum(axis=1)
    return place_N


def test_records_spread_evenly_over_the_bins(task: Task, planted_P: FloatVector) -> None:
    place_N = measures(task, planted_P, invent(4000, generator(8)).x_NF)
    counts = np.histogram(place_N, bins=8, range=(0, BINS + 1))[0]
    assert counts.min() > 350
    assert counts.max() < 650


def test_exactly_the_records_that_are_alone_in_a_bin_come_back(
    task: Task, planted_P: FloatVector
) -> None:
    records = invent(64, generator(9))
    place_N = measures(task, planted_P, records.x_NF)
    alone_N = np.array([place > 0 and (place_N == place).sum() == 1 for place in place_N])
    assert 0.5 < alone_N.mean() < 1
    found_MF = read_bins(task, [PlainGradient(task)(records, planted_P, 0)])
    apart_NM = np.linalg.norm(records.x_NF[:, None] - found_MF, axis=2)
    assert np.array_equal(apart_NM.min(axis=1) < 1e-6, alone_N)


def test_no_gradient_shows_no_record(task: Task) -> None:
    assert read_bins(task, [np.zeros(task.layout().size)]).shape == (0, PIXELS)


@ENCRYPTED
def test_a_node_refuses_both_ways_for_the_right_reason(defence: Defence) -> None:
    hospitals = bench(defence, hidden=(32,))
    answers = refusals(hospitals, plant(hospitals.task, generator()))
    assert "builds another model" in answers["weights named in the job"]
    assert "not the sum of the cohort's" in answers["weights added to a sum"]


def test_weights_that_the_node_builds_itself_are_no_fault() -> None:
    """The refusal is of the weights: the same job with the honest digest is admitted."""
    hospitals = bench(BOTH)
    assert refusal_of_job(hospitals, hospitals.start().weights) == ""


def test_a_node_that_would_take_weights_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def takes_anything(*_: Any, **__: Any) -> None:
        return None

    hospitals = bench(BOTH)
    monkeypatch.setattr(attack_planting, "admit", takes_anything)
    assert refusal_of_job(hospitals, hospitals.start().weights + 1) == ""


@ENCRYPTED
def test_without_tags_the_changed_sum_would_plant(
    defence: Defence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forgery is a good one: exactly what it adds arrives, if nobody checks the words."""
    from privacy import channel
    from privacy.he.words import TAGS

    def unchecked(words_W: Words, *, sites: int, **_: Any) -> Words:
        return words_W[: -sites - TAGS]

    hospitals = bench(defence, records=16, hidden=(32,))
    planted_P = plant(hospitals.task, generator())
    monkeypatch.setattr(channel, "check", unchecked)
    exchange = hospitals.exchange(hospitals.start())
    forged = changed(exchange, planted_P)
    added_P = forged.reveal() - exchange.reveal()
    assert np.array_equal(added_P, shift(exchange, planted_P))
    assert refusal_of_sum(hospitals, planted_P) == ""
    before = np.linalg.norm(exchange.after().weights - planted_P)
    after = np.linalg.norm(forged.after().weights - planted_P)
    assert after < 0.8 * before


def test_from_the_sum_of_four_hospitals(task: Task, planted_P: FloatVector) -> None:
    """As the whole attack does, here against an independent count of what must come back."""
    from simulations.attack_views import sum_readings

    four = bench(NONE, records=32, hidden=(BINS,))
    exchange = four.exchange(four.strategy.init(planted_P))
    truth_NF = np.vstack([records.x_NF for records in four.records.values()])
    place_N = measures(task, planted_P, truth_NF)
    alone = np.mean([place > 0 and (place_N == place).sum() == 1 for place in place_N])
    found_MF = read_bins(task, sum_readings(exchange))
    average_F = invent(4096, generator(3)).x_NF.mean(axis=0)
    apart_N = np.linalg.norm(truth_NF[:, None] - found_MF, axis=2).min(axis=1)
    share = np.mean(apart_N < RECOVERED * np.linalg.norm(truth_NF - average_F, axis=1))
    assert share >= alone > 0.5


def test_the_default_size_is_the_shipped_one() -> None:
    imprint = AttackConfig(name="a").imprint
    assert imprint is not None
    assert (imprint.records, imprint.bins) == (32, 512)
