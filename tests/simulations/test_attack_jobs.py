from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from client.agreement import check_encryption, check_releases
from learning.diagnosis import Options
from learning.schema import Schema
from privacy.plan import check_plan
from protocol.config import parse
from protocol.tensors import weights_digest
from simulations.attack_config import AttackConfig
from simulations.attack_jobs import Defence, Plan, defences
from simulations.attack_network import Convolution
from simulations.attack_records import schema
from strategies.base import strategy_of
from tests.simulations.attacked import BOTH, ENCRYPTION, EVERY, NOISE, NONE

CONFIG = AttackConfig(name="test")
PLAN = Plan(config=CONFIG, records=4, options={"model": "logistic"})
CONVOLUTION = Convolution(Options(), parse(Schema, schema(), "schema"))


def test_every_combination_is_a_defence() -> None:
    labels = [defence.label for defence in defences(CONFIG)]
    assert labels == [
        "none",
        "noise, epsilon 3",
        "noise, epsilon 1",
        "encryption",
        "both, epsilon 3",
        "both, epsilon 1",
    ]
    assert [defence.clear for defence in defences(CONFIG)] == [True] + 5 * [False]


@pytest.mark.parametrize("mode", ["distributed", "local"])
@pytest.mark.parametrize("task", [None, CONVOLUTION], ids=["installed", "own"])
@pytest.mark.parametrize("defence", EVERY, ids=lambda defence: defence.label)
def test_jobs_are_such_as_nodes_check(
    defence: Defence, task: Convolution | None, mode: Literal["distributed", "local"]
) -> None:
    """Every number of the job is one that a node would accept of it."""
    plan = replace(PLAN, task=task, config=replace(CONFIG, mode=mode))
    job, used = plan.job(defence)
    strategy = strategy_of(job, used.layout().size)
    check_plan(job.privacy, job.sites)
    check_releases(job, used, strategy)
    check_encryption(job, strategy)
    assert job.privacy.update.length == used.layout().size
    assert job.layout == used.layout().digest
    assert job.initial_weights == weights_digest(used.initial(job.training.seed))
    assert job.privacy.epsilon == (defence.epsilon or 0.0)
    assert job.privacy.mode == ("none" if defence.epsilon is None else mode)


def test_noise_alone_is_the_job_of_both() -> None:
    one, other = (PLAN.job(defence)[0] for defence in (NOISE, BOTH))
    same = {"nonce": "", "created": "", "expires": ""}
    assert replace(one, **same) == replace(other, **same)  # type: ignore[arg-type]


def test_without_noise_only_encryption_differs() -> None:
    clear, encrypted = (PLAN.job(defence)[0] for defence in (NONE, ENCRYPTION))
    assert (clear.encryption.scheme, encrypted.encryption.scheme) == ("none", "bfv")
    assert encrypted.masked
    assert clear.privacy == encrypted.privacy
