from __future__ import annotations

import numpy as np
import pytest

from learning.diagnosis import Options
from learning.schema import Schema
from learning.task import FloatVector, Records
from learning.trainer import PlainGradient
from protocol.config import parse
from simulations.attack_matching import Search, label_of, match
from simulations.attack_network import Convolution
from simulations.attack_records import PIXELS, invent, schema
from tests.simulations.attacked import generator

TASK = Convolution(Options(), parse(Schema, schema(), "schema"))


@pytest.fixture(scope="module", name="weights_P")
def with_an_output() -> FloatVector:
    parts = {name: part.copy() for name, part in TASK.layout().split(TASK.initial(0)).items()}
    parts["output.weight"] = 0.1 * generator().normal(size=parts["output.weight"].shape)
    return TASK.layout().join(parts)


def gradient(record: Records, weights_P: FloatVector) -> FloatVector:
    return PlainGradient(TASK)(record, weights_P, 0)


def distance(record: Records, found_F: FloatVector) -> float:
    return float(np.linalg.norm(found_F - record.x_NF[0]) / np.linalg.norm(record.x_NF[0]))


def test_the_class_is_the_sign_of_the_last_bias(weights_P: FloatVector) -> None:
    records = invent(8, generator(1))
    told = [label_of(TASK, gradient(records.take(np.array([row])), weights_P)) for row in range(8)]
    assert told == records.y_N.tolist()


def test_the_picture_behind_a_gradient_is_found(weights_P: FloatVector) -> None:
    record = invent(1, generator(2))
    search = Search(iterations=100, restarts=1, seed=0)
    (found_F,) = match(TASK, weights_P, [7.0 * gradient(record, weights_P)], search)
    assert distance(record, found_F) < 0.1


def test_the_better_of_several_beginnings_is_kept(weights_P: FloatVector) -> None:
    record = invent(1, generator(3))
    wanted_P = gradient(record, weights_P)

    def cosine(found_F: FloatVector) -> float:
        tried = Records(x_NF=found_F[None], y_N=record.y_N, patient_N=record.patient_N)
        made_P = gradient(tried, weights_P)
        return float(made_P @ wanted_P / np.linalg.norm(made_P) / np.linalg.norm(wanted_P))

    tries = [
        match(TASK, weights_P, [wanted_P], Search(iterations=10, restarts=restarts, seed=5))[0]
        for restarts in (1, 3)
    ]
    assert cosine(tries[1]) > cosine(tries[0])


def test_a_search_for_noise_ends(weights_P: FloatVector) -> None:
    """Nothing is found, nothing is infinite, and every reading has its candidate."""
    readings = [generator(seed).normal(size=TASK.layout().size) for seed in (0, 1)]
    readings.append(np.zeros(TASK.layout().size))
    found_MF = match(TASK, weights_P, readings, Search(iterations=10, restarts=1, seed=0))
    assert found_MF.shape == (3, PIXELS)
    assert np.isfinite(found_MF).all()
