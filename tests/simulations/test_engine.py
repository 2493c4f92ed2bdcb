"""Whole jobs, inline: every mode ends with one model, and what is lost or disturbed is survived."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learning.metrics import auroc
from privacy.plan import PrivacyRequest
from protocol.jobs import Job, Named
from server.requests import EncryptionRequest, TrainingRequest
from simulations.consortium import Consortium
from simulations.engine import run_job
from tests.consortium import make_consortium, make_job, make_request
from tests.simulations.runs import models, opened, run_course

MODES: dict[str, dict[str, Any]] = {
    "distributed": {},
    "distributed, patients": {"patients": True},
    "distributed, sampled": {
        "privacy": PrivacyRequest(mode="distributed", epsilon=3.0, sampling_rate=0.5)
    },
    "one-shot": {
        "strategy": Named(name="one_shot", options={}),
        "training": TrainingRequest(rounds=1),
    },
    "local": {"mode": "local"},
    "local, two steps": {"mode": "local", "training": TrainingRequest(rounds=2, local_steps=2)},
    "local, no masks": {"mode": "local", "encryption": EncryptionRequest(masks=False)},
    "none": {"mode": "none"},
    "proximal": {"mode": "none", "training": TrainingRequest(rounds=2, proximal=0.1)},
    "adam": {"mode": "none", "strategy": Named(name="fedadam", options={})},
    "perceptron": {"task": Named(name="diagnosis", options={"model": "mlp", "hidden": [4]})},
    "clear": {"mode": "none", "clear": True},
    "clear, median": {
        "mode": "none",
        "clear": True,
        "strategy": Named(name="flwr:FedMedian", options={}),
    },
}


def _consortium_and_job(
    folder: Path, *, noise_seed: int | None = None, hospitals: int = 3, **request: Any
) -> tuple[Consortium, Job]:
    patients = bool(request.get("patients"))
    consortium = make_consortium(
        folder, noise_seed=noise_seed, hospitals=hospitals, patients=patients
    )
    chosen = make_request(hospitals=hospitals, **request)
    strategy = chosen.strategy.name if chosen.strategy else ""
    if strategy.startswith("flwr:"):
        assert chosen.encryption.scheme == "none"
    return consortium, make_job(consortium, chosen)


@pytest.mark.parametrize("name", MODES)
def test_a_job_ends_with_one_model_everywhere(name: str, tmp_path: Path) -> None:
    consortium, job = _consortium_and_job(tmp_path / "c", **MODES[name])
    run = run_course(consortium, job)
    assert run.outcome.status == "completed", run.outcome
    found = models(consortium, job)
    assert set(found) == set(consortium.names)
    assert len({model.card.digests.weights for model in found.values()}) == 1
    card = found["north"].card
    assert card.cohort_size == 3
    assert card.digests.job == job.digest
    assert (card.privacy.epsilon is None) == (job.privacy.mode == "none")


def test_without_privacy_the_model_learns(tmp_path: Path) -> None:
    consortium, job = _consortium_and_job(
        tmp_path / "c", mode="none", training=TrainingRequest(rounds=5, local_steps=10)
    )
    run_course(consortium, job)
    model = models(consortium, job)["north"]
    with opened(consortium, "south") as hospital:
        split = hospital.split(job.dataset, model.task, cache="")
    scores = model.predict(split.train.x_NF)[:, 1]
    assert auroc(scores, split.train.y_N.astype(np.int64)) > 0.9


def test_encryption_changes_nothing_but_rounding(tmp_path: Path) -> None:
    weights = {}
    for name, clear in (("encrypted", False), ("clear", True)):
        consortium, job = _consortium_and_job(tmp_path / name, mode="none", clear=clear)
        run_course(consortium, job)
        weights[name] = models(consortium, job)["north"].weights_P
    step = job.encryption.digit_bound / (2**15 - 1)
    assert np.abs(weights["encrypted"] - weights["clear"]).max() < 10 * step


def test_seeded_runs_are_equal_and_seeds_matter(tmp_path: Path) -> None:
    digests = []
    for index, seed in enumerate((7, 7, 8)):
        consortium, job = _consortium_and_job(tmp_path / str(index), noise_seed=seed)
        run_course(consortium, job)
        digests.append(models(consortium, job)["north"].card.digests.weights)
    assert digests[0] == digests[1] != digests[2]


def test_unseeded_runs_differ(tmp_path: Path) -> None:
    digests = set()
    for name in ("first", "second"):
        consortium, job = _consortium_and_job(tmp_path / name)
        run_course(consortium, job)
        digests.add(models(consortium, job)["north"].card.digests.weights)
    assert len(digests) == 2


def test_a_lost_hospital_voids_the_attempt_and_the_others_finish(tmp_path: Path) -> None:
    consortium, job = _consortium_and_job(tmp_path / "c", hospitals=4)
    run = run_course(consortium, job, drop=lambda hospital, before: hospital == 3 and before >= 2)
    assert run.outcome.status == "completed", run.outcome
    assert [event.kind for event in run.outcome.events].count("void") == 1
    found = models(consortium, job)
    assert len(found) == 3
    assert {model.card.cohort_size for model in found.values()} == {3}
    told = [dict(model.card.importance) for model in found.values()]
    assert told[0] == told[1] == told[2]
    assert set(told[0]) == {"age", "pulse", "lactate"}
    for name in found:
        with opened(consortium, name) as hospital:
            account = next(
                one for one in hospital.ledger.jobs() if one.charges["update"].job == job.digest
            )
            assert account.used["update"] == job.training.rounds + 1


def test_without_masks_the_sum_goes_on_with_whoever_came(tmp_path: Path) -> None:
    consortium, job = _consortium_and_job(
        tmp_path / "c", hospitals=4, mode="local", encryption=EncryptionRequest(masks=False)
    )
    run = run_course(consortium, job, drop=lambda hospital, before: hospital == 0 and before >= 2)
    assert run.outcome.status == "completed", run.outcome
    assert "void" not in [event.kind for event in run.outcome.events]
    assert len(models(consortium, job)) == 3


def test_too_few_hospitals_end_the_job_and_give_the_budget_back(tmp_path: Path) -> None:
    consortium, job = _consortium_and_job(tmp_path / "c")
    run = run_course(consortium, job, drop=lambda hospital, _: hospital == 1)
    assert run.outcome.status == "failed"
    assert "2 hospitals accepted, 3 needed" in run.outcome.reason
    with opened(consortium, "north") as hospital:
        spent = hospital.ledger.spent(population=job.dataset, partition="train", delta=1e-5)
    assert spent == (0.0, 0.0)


def test_a_job_is_not_run_twice(tmp_path: Path) -> None:
    consortium, job = _consortium_and_job(tmp_path / "c")
    assert run_course(consortium, job).outcome.status == "completed"
    again = run_course(consortium, job)
    assert again.outcome.status == "failed"
    assert "replayed" in again.outcome.reason


def test_pooled_metrics_are_published_where_all_agree(tmp_path: Path) -> None:
    request = make_request(mode="none")
    published = replace(request.publication, metrics=True)
    consortium, job = _consortium_and_job(tmp_path / "c", mode="none", publication=published)
    outcome = run_job(consortium, job)
    assert 0.5 < outcome.metrics["auroc"][0] <= 1.0
    assert outcome.model is None


def test_intermediate_evaluations_come_with_the_rounds(tmp_path: Path) -> None:
    request = make_request(mode="none")
    consortium, job = _consortium_and_job(
        tmp_path / "c",
        mode="none",
        training=TrainingRequest(rounds=4),
        evaluation=replace(request.evaluation, every=2),
        publication=replace(request.publication, metrics=True),
    )
    outcome = run_job(consortium, job)
    assert outcome.status == "completed"
    with_metrics = [event for event in outcome.events if event.metrics]
    assert len(with_metrics) >= 2


def test_bad_values_in_a_record_change_nothing_that_others_can_see(tmp_path: Path) -> None:
    consortium = make_consortium(tmp_path / "c", noise_seed=3)
    job = make_job(consortium, make_request())
    clean = run_course(consortium, job)
    spoilt = make_consortium(tmp_path / "d", noise_seed=3)
    path = spoilt.folder / "north" / "data.csv"
    lines = path.read_text().splitlines()
    for place, bad in ((1, "NaN"), (2, "3e38"), (3, "-inf"), (4, "nonsense")):
        cells = lines[place].split(",")
        lines[place] = ",".join([bad, *cells[1:]])
    path.write_text("\n".join(lines) + "\n")
    dirty = run_course(spoilt, make_job(spoilt, make_request()))
    assert clean.outcome.status == dirty.outcome.status == "completed"
    assert dirty.outcome.refusals == {}
    shapes = [
        [(event.kind, event.bytes_down) for event in run.outcome.events] for run in (clean, dirty)
    ]
    assert [kind for kind, _ in shapes[0]] == [kind for kind, _ in shapes[1]]
    found = models(spoilt, job)["north"]
    assert np.isfinite(found.weights_P).all()
    with opened(spoilt, "north") as hospital:
        split = hospital.split(job.dataset, found.task, cache="")
    findings = [*split.train_report.findings, *split.test_report.findings]
    assert sum(finding.count for finding in findings) == 4
