"""What a researcher may write, and the canaries that come of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learning.schema import Schema
from learning.task import load_task
from privacy.noise import SeededEntropy
from protocol.config import parse
from protocol.errors import InputError
from simulations.audit_config import CLASSES, LOUDNESS, AuditConfig, read_audit, summary
from tests.simulations.canaries import configured

CONFIG = Path(__file__).parents[2] / "configs" / "simulations" / "audit.yaml"


def test_the_example_says_what_the_code_leaves_out() -> None:
    config = read_audit(CONFIG)
    assert config.privacy.epsilon == 4.0
    assert config.seed is None
    assert (config.canaries, config.hospitals, config.rounds) == (1000, 5, 4)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hospitals": 2}, "hospitals"),
        ({"rounds": 0}, "rounds"),
        ({"records_per_canary": 0}, "records_per_canary"),
        ({"canaries": 59}, "canaries"),
        ({"canaries": 99, "hospitals": 5}, "canaries"),
        ({"privacy": {"mode": "none", "epsilon": None}}, "privacy"),
        ({"privacy": {"clip": 6.0}}, "privacy.clip"),
        ({"privacy": {"colluding_sites": 0}}, "privacy.colluding_sites"),
    ],
)
def test_what_cannot_be_audited_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as error:
        configured(**changes)
    assert error.value.problem == named


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: a\ncanary: 100\nprivacy: {mode: local, epsilon: 1}\n", encoding="utf-8")
    with pytest.raises(InputError, match="canaries"):
        read_audit(path)


def test_each_canary_is_the_only_one_with_its_feature() -> None:
    config = configured(canaries=90, records_per_canary=2)
    inside_M = np.arange(90) % 4 != 0
    records = config.records(inside_M)
    assert tuple(records) == config.names
    x_NF = np.concatenate([one.x_NF for one in records.values()])
    assert np.array_equal(x_NF.sum(axis=0), 2 * LOUDNESS * inside_M)
    assert (np.count_nonzero(x_NF, axis=1) == 1).all()
    for place, one in enumerate(records.values()):
        canary_N = one.x_NF.argmax(axis=1)
        assert (config.site_M[canary_N] == place).all()
        assert np.array_equal(one.y_N, config.class_M[canary_N])
        assert len(np.unique(one.patient_N)) == len(one) // 2


def test_every_class_occurs_alike_at_every_hospital() -> None:
    config = configured(canaries=180, hospitals=4)
    for place in range(4):
        counts = np.bincount(config.class_M[config.site_M == place])
        assert counts.tolist() == [15, 15, 15]


def test_canaries_push_along_the_gradient_of_an_even_guess() -> None:
    config = configured(canaries=90)
    even_MC = np.eye(len(CLASSES))[config.class_M] - 1 / 3
    cosine_M = (config.direction_MC * even_MC).sum(axis=1) / np.linalg.norm(even_MC, axis=1)
    assert np.allclose(cosine_M, 1.0)
    assert np.allclose(np.linalg.norm(config.direction_MC, axis=1), 1.0)
    assert config.influence == pytest.approx(np.linalg.norm([LOUDNESS]) / np.hypot(LOUDNESS, 1))


def test_what_is_declared_does_not_depend_on_the_coins() -> None:
    config = configured(canaries=600, seed=1)
    other = configured(canaries=600, seed=2)
    assert not np.array_equal(config.coins(), other.coins())
    assert config.request() == other.request()
    assert {site.train_size for site in config.request().sites} == {100}
    assert config.request().training.spare_attempts == 0


def test_coins_are_fair_and_those_of_a_seed_repeat() -> None:
    config = configured(canaries=4000, seed=1)
    assert np.array_equal(config.coins(), config.coins())
    assert abs(int(config.coins().sum()) - 2000) < 200
    assert not np.array_equal(config.coins(), config.coins(SeededEntropy(2, "other")))


@pytest.mark.parametrize(("number", "unit"), [(1, "record"), (2, "patient")])
def test_several_records_make_a_patient(number: int, unit: str) -> None:
    schema = parse(Schema, configured(records_per_canary=number).schema, "schema")
    assert schema.unit == unit
    assert len(schema.columns) == 400


def test_the_task_is_one_that_hospitals_know() -> None:
    request = configured(canaries=90).request()
    task = load_task(request.task, request.schema)
    assert dict(task.layout().entries) == {"output.weight": (3, 90), "output.bias": (3,)}


def test_a_summary_names_everything_that_was_chosen() -> None:
    config: AuditConfig = configured(seed=5)
    told = summary(config)
    assert set(told) >= {"mode", "canaries", "hospitals", "rounds", "clip", "seed"}
    assert told["seed"] == 5
