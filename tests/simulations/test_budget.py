"""A population's budget over several jobs: it composes, survives a crash, and is not passed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from client.hospital import Hospital
from privacy.accounting import SLACK, Event, epsilon
from privacy.plan import DpPlan, PrivacyRequest
from protocol.jobs import Job
from simulations.consortium import Consortium
from tests.consortium import make_consortium, make_job, make_request
from tests.simulations.runs import opened, run_course

CAP = 4.0


def capped(consortium: Consortium) -> None:
    """Give every hospital a small budget."""
    for name in consortium.names:
        path = consortium.folder / name / "hospital.yaml"
        config = yaml.safe_load(path.read_text())
        config["populations"]["sepsis"]["budget"]["epsilon"] = CAP
        path.write_text(yaml.safe_dump(config))


def new_job(consortium: Consortium, asked: float = 1.5) -> Job:
    request = make_request(privacy=PrivacyRequest(mode="distributed", epsilon=asked))
    return make_job(consortium, request)


def events(job: Job, attempts: int) -> Event:
    plan = DpPlan.of(job.privacy, "train", len(job.sites))
    return Event(plan.sigma_effective, 1.0, attempts)


def test_jobs_compose_over_a_crash_and_stop_at_the_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium = make_consortium(tmp_path / "c")
    capped(consortium)
    rounds, reserved = 2, 4
    first, second, third = (new_job(consortium) for _ in range(3))
    assert run_course(consortium, first).outcome.status == "completed"
    # The second job loses everybody after enrolment: nothing is ever settled.
    lost = run_course(consortium, second, drop=lambda _, before: before >= 1)
    assert lost.outcome.status == "failed"
    assert run_course(consortium, third).outcome.status == "completed"

    expected = epsilon(
        [events(first, rounds), events(second, reserved), events(third, rounds)], SLACK * 1e-5
    )
    with opened(consortium, "north") as hospital:
        spent, _ = hospital.ledger.spent(population="sepsis", partition="train", delta=1e-5)
        assert hospital.ledger.verify()
    assert spent == pytest.approx(expected, rel=1e-6)

    read: list[str] = []
    split = Hospital.split

    def watched(self: Hospital, *arguments: object, **named: object) -> object:
        read.append(self.name)
        return split(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Hospital, "split", watched)
    fourth = run_course(consortium, new_job(consortium, asked=3.9))
    assert fourth.outcome.status == "failed"
    assert "budget" in fourth.outcome.reason
    assert read == []
    journal = (consortium.folder / "north" / "journal.jsonl").read_text().splitlines()
    reason = json.loads(journal[-1])["document"]["fields"]["reason"]
    for part in ("epsilon <= 4 ", "spent ", "asked for 3.9"):
        assert part in reason, reason


def test_a_refused_job_costs_nothing(tmp_path: Path) -> None:
    consortium = make_consortium(tmp_path / "c")
    capped(consortium)
    run = run_course(consortium, new_job(consortium, asked=6.0))
    assert run.outcome.status == "failed"
    with opened(consortium, "north") as hospital:
        spent = hospital.ledger.spent(population="sepsis", partition="train", delta=1e-5)
    assert spent == (0.0, 0.0)


def test_held_out_patients_have_a_budget_of_their_own(tmp_path: Path) -> None:
    consortium = make_consortium(tmp_path / "c")
    job = new_job(consortium)
    assert run_course(consortium, job).outcome.status == "completed"
    with opened(consortium, "north") as hospital:
        train, test = (
            hospital.ledger.spent(population="sepsis", partition=partition, delta=1e-5)[0]
            for partition in ("train", "test")
        )
    assert 0 < train <= 1.5
    assert 0 < test <= 1.5
