"""Statistics jobs from end to end: what is stored at the end is the noised sum of everybody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learning.card_page import page
from learning.pooled_statistics import Statistics
from learning.tables import table_one
from learning.task import FloatVector, Records, load_task
from privacy.accounting import SLACK, Event, epsilon
from privacy.plan import DpPlan
from protocol.jobs import Job, Named, Publication
from server.requests import EncryptionRequest, JobRequest, TrainingRequest
from simulations.consortium import Consortium
from tests.consortium import make_consortium, make_job, make_request
from tests.simulations.runs import models, opened, run_course

WAYS: dict[str, dict[str, Any]] = {
    "distributed": {},
    "local, no masks": {"mode": "local", "encryption": EncryptionRequest(masks=False)},
}


def request_of(**changes: Any) -> JobRequest:
    request = make_request(**{"training": TrainingRequest(spare_attempts=1), **changes})
    return replace(
        request,
        name="table-one",
        task=Named(name="statistics", options={"bins": 8}),
        publication=Publication(metrics=False, model=True),
    )


def truth(consortium: Consortium, job: Job) -> tuple[Statistics, FloatVector, list[Records]]:
    """The sums of all hospitals' training patients, which only a simulation can compute."""
    task = load_task(job.task, job.schema)
    assert isinstance(task, Statistics)
    parts = [split.train for split in consortium.splits(task).values()]
    sums = [
        task.evaluation.counts(part.x_NF, np.asarray(part.y_N), part.patient_N) for part in parts
    ]
    return task, np.sum(sums, axis=0), parts


@pytest.mark.parametrize("way", WAYS)
def test_every_hospital_ends_with_the_sum_and_the_noise_that_is_charged(
    way: str, tmp_path: Path
) -> None:
    consortium = make_consortium(tmp_path / "c")
    job = make_job(consortium, request_of(**WAYS[way]))
    assert (job.strategy.name, job.training.rounds) == ("tally", 1)
    assert job.privacy.evaluation is None
    run = run_course(consortium, job)
    assert run.outcome.status == "completed", run.outcome
    found = models(consortium, job)
    task, sums_P, _ = truth(consortium, job)
    assert {model.weights_P.tobytes() for model in found.values()} == {run.outcome.model}
    assert len(found) == 3
    # The card tells the hospital what the table says.
    told = found["south"].card
    assert told.metrics["patients"].value == pytest.approx(found["south"].weights_P[0], abs=1e-9)
    assert {"age: mean", "sepsis: yes"} <= set(told.metrics)
    assert "## What it says of the patients" in page(told)
    error_P = found["north"].weights_P - sums_P
    noise = DpPlan.of(job.privacy, "train", 3).noise_std(3)
    assert {model.card.noise for model in found.values()} == {noise}
    assert f"Every sum bears noise of ± {1.96 * noise:.3g}." in page(told)
    # A chi-square of P = 36 cells lies in this range but for odds of some 10^-7.
    assert len(error_P) == task.evaluation.length == 36
    assert 0.45 < float(np.sqrt(np.mean(error_P**2))) / noise < 1.65
    # Three shares, of which one is all of it, or two are.
    shares = 3.0 if job.privacy.mode == "local" else 3.0 / 2.0
    sigma = job.privacy.update.noise_multiplier
    assert noise == pytest.approx(sigma * task.evaluation.norm * np.sqrt(shares), rel=2e-3)


def test_the_ledger_is_charged_what_runs_and_gets_the_spare_attempt_back(tmp_path: Path) -> None:
    consortium = make_consortium(tmp_path / "c")
    job = make_job(consortium, request_of(epsilon=1.0))
    run_course(consortium, job)
    sigma = job.privacy.update.noise_multiplier
    assert job.privacy.update.runs == 2
    assert epsilon([Event(sigma, 1.0, 2)], SLACK * job.privacy.delta) <= 1.0
    with opened(consortium, "north") as hospital:
        account = hospital.ledger.account(job.digest)
        assert account is not None
        assert account.finished
        assert dict(account.least_used) == {"update": 1}
        spent = hospital.ledger.spent(population="sepsis", partition="train", delta=1e-5)
        held_out = hospital.ledger.spent(population="sepsis", partition="test", delta=1e-5)
    assert spent[0] == pytest.approx(epsilon([Event(sigma, 1.0, 1)], SLACK * 1e-5))
    assert held_out[0] == 0.0


def test_a_lost_attempt_counts_nobody_twice(tmp_path: Path) -> None:
    consortium = make_consortium(tmp_path / "c", hospitals=4)
    job = make_job(consortium, request_of(hospitals=4, epsilon=20.0))
    # The fourth hospital never hears of the first release, which is void for the others, too.
    run = run_course(consortium, job, drop=lambda site, before: site == 3 and before >= 1)
    assert run.outcome.status == "completed", run.outcome
    assert [event.kind for event in run.outcome.events].count("void") == 1
    task = load_task(job.task, job.schema)
    splits = consortium.splits(task)
    patients = sum(splits[name].train.num_patients for name in consortium.names[:3])
    noise = DpPlan.of(job.privacy, "train", 3).noise_std(3)
    found = np.frombuffer(run.outcome.model or b"", dtype="<f8")[0]
    assert noise < 5
    assert abs(found - patients) < 6 * noise


@pytest.mark.parametrize("clear", [True, False], ids=["clear", "encrypted"])
def test_without_noise_the_table_is_numpys_of_everybody(tmp_path: Path, clear: bool) -> None:
    consortium = make_consortium(tmp_path / "c", patients=True)
    job = make_job(consortium, request_of(mode="none", clear=clear, patients=True))
    outcome = run_course(consortium, job).outcome
    task, sums_P, parts = truth(consortium, job)
    error_P = np.frombuffer(outcome.model or b"", dtype="<f8") - sums_P
    # On the grid of an encrypted sum each hospital rounds once; in the clear nobody does.
    assert np.abs(error_P).max() <= (0.0 if clear else 3 / job.privacy.update.scale)
    assert DpPlan.of(job.privacy, "train", 3).noise_std(3) == 0.0
    table = table_one(task, np.frombuffer(outcome.model or b"", dtype="<f8").copy(), 0.0)
    assert table.patients is not None
    patients = sum(part.num_patients for part in parts)
    assert table.patients.value == pytest.approx(patients, abs=0.01)
    # Every patient has two records: means over patients are means over records.
    for place, (name, number) in enumerate(table.numbers.items()):
        low, high = number.bounds
        scaled_N = np.concatenate([part.x_NF[:, 2 * place] for part in parts])
        value_N = (low + high) / 2 + (high - low) / 2 * scaled_N
        assert number.mean is not None
        assert number.sd is not None
        assert number.mean.value == pytest.approx(value_N.mean(), rel=1e-3), name
        assert number.sd.value == pytest.approx(value_N.std(), rel=1e-3), name
        median = float(np.median(value_N))
        assert number.quantiles[0.5].value == pytest.approx(median, abs=(high - low) / 8)
    label = task.schema.label.name
    assert table.label.name == label
