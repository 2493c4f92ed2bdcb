"""Audits of the correct pipeline: the same sums with and without encryption, and no alarms."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import client.training
from client.hospital import Hospital
from learning.diagnosis import Diagnosis
from privacy.grid import release
from privacy.noise import Entropy, SystemEntropy
from privacy.plan import DpPlan
from protocol.errors import FedwardError
from protocol.jobs import Release
from simulations.audit import REFUSED_NOTE, SEEDED_NOTE, Audit, audit, look
from simulations.audit_bench import Bench
from simulations.audit_claim import Claim
from simulations.audit_config import DATASET, read_audit
from simulations.audit_evidence import ALARM
from tests.simulations.canaries import LOCAL, MANY, PATIENTS, SAMPLED, configured

CONFIG = Path(__file__).parents[2] / "configs" / "simulations" / "audit.yaml"
NAMES = ["noise", "influence", "guesses", "epsilon", "clip", "sampling", "repeats", "guards"]
KINDS: dict[str, dict[str, Any]] = {
    "distributed": {},
    "sampled": SAMPLED,
    "patients": PATIENTS,
    "local": LOCAL,
    "local, sampled patients": {
        "privacy": {"mode": "local", "sampling_rate": 0.3, "clip": 0.5},
        "records_per_canary": 2,
        "hospitals": 4,
    },
    "two may collude": {"privacy": {"colluding_sites": 2, "clip": 2.0}, "hospitals": 5},
}


def runs(number: int, folder: Path, **changes: Any) -> Iterator[Audit]:
    """Audits with encryption off: new coins and new noise, the same hospitals."""
    config = configured(canaries=60, **changes)
    bench = Bench.build(config, folder, np.zeros(config.canaries, dtype=np.bool_))
    claim = Claim.of(config, bench.job)
    with bench.opened() as inside:
        for _ in range(number):
            evidence = look(bench, inside, config.coins(SystemEntropy()))
            yield Audit(
                config=config, job=bench.job, claim=claim, evidence=evidence, encrypted=False
            )


@pytest.mark.parametrize("kind", KINDS)
def test_an_encrypted_run_ends_with_the_very_weights_of_plain_sums(
    kind: str, tmp_path: Path
) -> None:
    """Bit for bit, so that what is shown of plain sums holds for the pipeline."""
    config = configured(canaries=100, seed=11, **KINDS[kind])
    inside_M = config.coins()
    bench = Bench.build(config, tmp_path / "c", inside_M)
    weights_P = bench.final_weights()
    with bench.opened() as inside:
        plain_P = inside.final_weights(inside_M)
    assert np.count_nonzero(weights_P) > 0.9 * weights_P.size
    assert np.array_equal(weights_P, plain_P)


@pytest.mark.parametrize("kind", KINDS)
def test_hospitals_read_the_records_that_the_audit_says(kind: str, tmp_path: Path) -> None:
    config = configured(canaries=100, **KINDS[kind])
    inside_M = config.coins()
    bench = Bench.build(config, tmp_path / "c", inside_M)
    for name, records in config.records(inside_M).items():
        with bench.consortium.open(name) as hospital:
            split = hospital.split(DATASET, bench.task, cache="")
        assert len(split.test) == 0
        assert np.array_equal(split.train.x_NF, records.x_NF)
        assert np.array_equal(split.train.y_N, records.y_N)
        assert np.array_equal(split.train.patient_N, records.patient_N)


@pytest.mark.parametrize("kind", KINDS)
def test_the_claim_is_what_the_plan_gives_though_it_never_asks_it(
    kind: str, tmp_path: Path
) -> None:
    config = configured(**KINDS[kind])
    bench = Bench.build(config, tmp_path / "c", config.coins())
    claim, sites = Claim.of(config, bench.job), config.hospitals
    plan = DpPlan.of(bench.job.privacy, "train", sites)
    grid = plan.release.scale * plan.release.clip
    assert claim.noise == pytest.approx(plan.share / grid * math.sqrt(sites * config.rounds))
    own = claim.noise / math.sqrt(config.rounds * sites) * grid / plan.release.sensitivity
    assert own == pytest.approx(plan.sigma_own)
    effective = claim.noise * math.sqrt(claim.trusted / config.rounds)
    assert effective == pytest.approx(plan.sigma_effective, rel=2e-3)
    assert claim.needed_sigma <= effective
    assert claim.epsilon_of(effective) == pytest.approx(claim.epsilon, rel=0.01)
    assert 0 < claim.rounding < 1e-3 * claim.noise**2


@pytest.mark.parametrize("kind", KINDS)
def test_a_correct_pipeline_passes(kind: str) -> None:
    found = audit(configured(**KINDS[kind]))
    assert found.passed, found.verdict
    assert found.encrypted
    assert [check.name for check in found.checks] == NAMES
    assert found.weights.one_run_bound <= found.claim.epsilon


@pytest.mark.slow
def test_a_correct_pipeline_passes_with_many_canaries() -> None:
    found = audit(configured(**MANY))
    assert found.passed, found.verdict
    assert found.encrypted


def test_the_audit_that_comes_with_fedward_passes() -> None:
    stages: list[str] = []
    found = audit(read_audit(CONFIG), watch=stages.append)
    assert found.passed, found.verdict
    assert len(stages) == 3
    assert found.verdict.startswith("PASS: 8 checks on 1000 canaries find no fault")
    low, _, high = found.weights.epsilon_interval()
    assert low < 4.0 < 1.5 * high
    assert 0.1 < found.weights.one_run_bound < 4.0


def never_alarms(audits: Iterable[Audit]) -> None:
    """No alarm, and p-values no smaller than chance makes them."""
    p_values: dict[str, list[float]] = {name: [] for name in NAMES}
    for found in audits:
        assert found.passed, found.verdict
        for check in found.checks:
            if check.p_value is not None:
                p_values[check.name].append(check.p_value)
    for name, p_R in p_values.items():
        for level in (0.3, 0.05, 0.01):
            below = sum(p <= level for p in p_R)
            assert stats.binom.sf(below - 1, len(p_R), level) > 1e-7, (name, level)
    assert sum(len(p_R) > 0 for p_R in p_values.values()) == 6


def test_forty_audits_raise_no_alarm(tmp_path: Path) -> None:
    assert ALARM <= 1e-4
    never_alarms(runs(40, tmp_path / "c"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_three_thousand_audits_raise_no_alarm(tmp_path: Path) -> None:
    never_alarms(runs(3000, tmp_path / "c"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["sampled", "patients", "local", "local, sampled patients"])
def test_three_hundred_audits_of_every_kind_raise_no_alarm(kind: str, tmp_path: Path) -> None:
    never_alarms(runs(300, tmp_path / "c", **{**KINDS[kind], "hospitals": 3}))


def test_coins_and_noise_of_a_seed_can_be_repeated() -> None:
    first, again = (audit(configured(canaries=100, seed=3)) for _ in range(2))
    assert np.array_equal(first.evidence.moves_MC, again.evidence.moves_MC)
    assert first.notes == (SEEDED_NOTE,)
    other = audit(configured(canaries=100, seed=4))
    assert not np.array_equal(first.evidence.moves_MC, other.evidence.moves_MC)


def test_without_a_seed_nothing_repeats() -> None:
    first, again = (audit(configured(canaries=100)) for _ in range(2))
    assert not np.array_equal(first.evidence.moves_MC, again.evidence.moves_MC)
    assert first.notes == ()


def test_json_says_what_was_claimed_and_found() -> None:
    found = audit(configured(canaries=100))
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["passed"] is True
    assert told["claimed"]["epsilon"] == found.job.privacy.epsilon
    assert told["claimed"]["epsilon_worst"] == found.job.privacy.epsilon_worst
    assert 0 <= told["found"]["epsilon_lower_bound"] <= told["found"]["epsilon_implied_high"]
    assert [one["number"] for one in told["found"]["guesses"]][1] == 100
    assert all(one["right"] <= one["number"] for one in told["found"]["guesses"])
    assert [check["name"] for check in told["checks"]] == NAMES
    assert told["configuration"]["canaries"] == 100
    assert told["verdict"] == found.verdict
    assert told["encrypted"] is True


def test_an_epsilon_without_bound_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(sum_P: Any, numbers: Release, share: float, entropy: Entropy) -> Any:
        return release(sum_P, numbers, 0.0, entropy)

    monkeypatch.setattr(client.training, "release", silent)
    told = audit(configured(canaries=100)).to_json()
    assert told["passed"] is False
    assert told["found"]["epsilon_implied"] is None
    assert told["found"]["noise"] < 1e-3
    json.dumps(told, allow_nan=False)


def test_where_hospitals_refuse_the_audit_goes_on_with_plain_sums(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss = Diagnosis.loss

    def coupled(task: Diagnosis, output: Any, target: Any) -> Any:
        return loss(task, output, target).mean().expand(len(target))

    monkeypatch.setattr(Diagnosis, "loss", coupled)
    found = audit(configured(canaries=100))
    assert not found.encrypted
    assert found.notes == (REFUSED_NOTE,)
    assert "guards" in found.verdict
    assert not found.to_json()["encrypted"]


def test_a_job_that_fails_is_an_error_and_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise FedwardError("the disk is full")

    monkeypatch.setattr(Hospital, "split", broken)
    with pytest.raises(FedwardError, match="ended without a model"):
        audit(configured(canaries=100))


def test_the_worst_case_is_shown_beside_the_claim(tmp_path: Path) -> None:
    config = configured()
    bench = Bench.build(config, tmp_path / "c", config.coins())
    privacy = replace(config.privacy, mode="local")
    local = Bench.build(replace(config, privacy=privacy), tmp_path / "d", config.coins())
    assert bench.job.privacy.epsilon_worst > bench.job.privacy.epsilon
    assert local.job.privacy.epsilon_worst == local.job.privacy.epsilon
