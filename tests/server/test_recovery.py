"""Whoever dies at whatever message: the job completes, and nothing is released twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from privacy.he.sum import SumProcess
from protocol.jobs import Job
from server.requests import EvaluationRequest
from simulations.consortium import Consortium
from tests.consortium import make_consortium, make_job, make_request
from tests.server.ward import AFTER, BEFORE, Death, Ward, copy_of

HOSPITALS = 3
# Enrolment, keys, three rounds, one count, the end, and the good-bye.
MESSAGES = 3 + 1 + 3 * 3 + 3 + 3 + 3


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Consortium, Job]:
    consortium = make_consortium(tmp_path_factory.mktemp("origin") / "c")
    request = make_request(rounds=3, evaluation=EvaluationRequest(every=1))
    return consortium, make_job(consortium, request)


@pytest.fixture(scope="module")
def child() -> Iterator[SumProcess]:
    with SumProcess() as process:
        yield process


def run(origin: tuple[Consortium, Job], folder: Path, child: SumProcess, *deaths: Death) -> Ward:
    consortium, job = origin
    ward = Ward(copy_of(consortium, folder / "c"), job, child, deaths)
    outcome = ward.run()
    assert outcome.status == "completed", outcome
    assert len(ward.weights()) == 1
    ward.check_ledgers()
    assert ward.finished() == dict.fromkeys(ward.consortium.names, True)
    assert ward.lives == 1 + sum(death.coordinator for death in deaths)
    return ward


def test_nothing_happens(origin: tuple[Consortium, Job], tmp_path: Path, child: SumProcess) -> None:
    assert run(origin, tmp_path, child).hospitals.messages == MESSAGES


# One of each phase is tried every time; all of them among the slow tests.
QUICK = {(3, AFTER), (5, AFTER), (8, BEFORE), (11, AFTER), (14, BEFORE), (17, AFTER), (20, BEFORE)}


def deaths(*, hospital: bool, coordinator: bool) -> list[Any]:
    return [
        pytest.param(
            Death(message, when, hospital, coordinator),
            id=f"{when}-{message}",
            marks=() if (message, when) in QUICK else pytest.mark.slow,
        )
        for message in range(MESSAGES)
        for when in (BEFORE, AFTER)
    ]


@pytest.mark.parametrize("death", deaths(hospital=False, coordinator=True))
def test_the_coordinator_dies(
    death: Death, origin: tuple[Consortium, Job], tmp_path: Path, child: SumProcess
) -> None:
    run(origin, tmp_path, child, death)


@pytest.mark.parametrize("death", deaths(hospital=True, coordinator=False))
def test_a_hospital_dies(
    death: Death, origin: tuple[Consortium, Job], tmp_path: Path, child: SumProcess
) -> None:
    run(origin, tmp_path, child, death)


@pytest.mark.parametrize("death", deaths(hospital=True, coordinator=True))
def test_both_die(
    death: Death, origin: tuple[Consortium, Job], tmp_path: Path, child: SumProcess
) -> None:
    run(origin, tmp_path, child, death)
