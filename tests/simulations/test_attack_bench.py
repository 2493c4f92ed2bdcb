from __future__ import annotations

import numpy as np
import pytest

from client.training import quantiser
from learning.task import FloatVector
from learning.trainer import PlainGradient
from protocol.errors import IntegrityError
from simulations.attack_bench import Bench
from simulations.attack_jobs import Defence
from tests.simulations.attacked import BOTH, ENCRYPTION, NOISE, NONE, bench


def plain_mean(hospitals: Bench, weights_P: FloatVector) -> FloatVector:
    """The mean gradient of all records, without any of the project's pipeline."""
    gradient = PlainGradient(hospitals.task)
    parts = [gradient(records, weights_P, 0) for records in hospitals.records.values()]
    mean_P: FloatVector = np.mean(parts, axis=0)
    return mean_P


def test_without_defences_the_coordinator_gets_the_plain_step() -> None:
    hospitals = bench(NONE)
    state = hospitals.rounds(1)
    exchange = hospitals.exchange(state)
    rate = hospitals.job.training.learning_rate
    stepped = state.weights - rate * plain_mean(hospitals, state.weights)
    assert exchange.after().weights == pytest.approx(stepped, abs=1e-12)
    assert not exchange.own


@pytest.mark.parametrize("defence", [ENCRYPTION, BOTH], ids=lambda defence: defence.label)
def test_what_hospitals_decrypt_is_the_sum_of_what_they_made(defence: Defence) -> None:
    exchange = bench(defence).exchange(bench(defence).start())
    assert np.array_equal(exchange.reveal(), np.sum(list(exchange.own.values()), axis=0))


def test_encryption_costs_one_step_of_the_grid() -> None:
    """With so many records that no coordinate of their mean reaches the grid's end."""
    clear, encrypted = (
        bench(defence, records=16).rounds(2).weights for defence in (NONE, ENCRYPTION)
    )
    grid = quantiser(bench(ENCRYPTION).job)
    assert clear == pytest.approx(encrypted, abs=4 * grid.bound / grid.levels)
    assert not np.array_equal(clear, encrypted)


def test_noise_is_as_wide_as_the_job_says() -> None:
    hospitals = bench(NOISE, hidden=(64, 32))
    exchange = hospitals.exchange(hospitals.start())
    release = hospitals.job.privacy.update
    share = release.noise_multiplier * release.sensitivity / np.sqrt(3)
    for values in exchange.own.values():
        assert np.std(values) == pytest.approx(share, rel=0.05)
    sums = np.frombuffer(exchange.returned, dtype=np.int64)
    assert np.std(sums) == pytest.approx(2 * share, rel=0.05)


def test_keys_serve_every_round_once() -> None:
    hospitals = bench(ENCRYPTION)
    first, second = (hospitals.exchange(hospitals.start()) for _ in range(2))
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.sent != second.sent
    with pytest.raises(IntegrityError):
        first.channel("north").protect(first.own["north"])


def test_other_records_come_with_other_keys() -> None:
    hospitals = bench(ENCRYPTION)
    others = hospitals.with_records(bench(ENCRYPTION, seed=1).records)
    assert others.keys.epoch.data != hospitals.keys.epoch.data
    assert others.exchange(others.start()).attempt == 1
    assert not np.array_equal(
        others.exchange(others.start()).own["north"],
        hospitals.exchange(hospitals.start()).own["north"],
    )


def test_a_clear_job_has_no_parameters_of_encryption() -> None:
    with pytest.raises(TypeError, match="encrypted"):
        _ = bench(NONE).packing
