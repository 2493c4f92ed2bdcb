"""Survival: codes of outcomes, likelihood, and counts against lifelines and brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from learning.networks import hazard_loss
from learning.schema import Column, Label, Schema
from learning.survival import Survival
from learning.survival_evaluation import GROUPS, SurvivalEvaluation
from learning.survival_metrics import (
    curves,
    exact_concordance,
    in_sight,
    integrated_brier,
    kaplan_meier,
)
from learning.task import FloatArray, FloatVector, IntVector
from protocol.errors import InputError

SCHEMA = Schema(
    columns=(Column(name="age", kind="number", low=0, high=100),),
    label=Label(name="died", classes=("no", "yes")),
    targets=(Column(name="months", kind="number", low=0, high=40),),
)


def task(**options: object) -> Survival:
    return Survival.from_options(options, SCHEMA)


def cohort(n: int = 600, seed: int = 0) -> tuple[FloatArray, IntVector]:
    """Curves of exponential survival, and outcomes drawn from them, a third of them censored."""
    rng = np.random.default_rng(seed)
    rate_N = np.exp(0.8 * rng.normal(size=n) - 3.4)
    time_N, lost_N = rng.exponential(1 / rate_N), rng.uniform(5, 60, size=n)
    seen_N2 = np.column_stack([time_N <= lost_N, np.minimum(time_N, lost_N)])
    one = task(intervals=8)
    return np.exp(-rate_N[:, None] * one.cuts), one.encode(seen_N2)


def counted(survival_NT: FloatArray, code_N: IntVector) -> FloatVector:
    return evaluation().counts(survival_NT, code_N, np.arange(len(code_N)))


def evaluation() -> SurvivalEvaluation:
    return task(intervals=8).everybody


def test_outcomes_are_coded_by_intervals_survived() -> None:
    died = [[1, time] for time in (0, 10, 10.1, 40, 41)]
    lost = [[0, time] for time in (0, 4.9, 5, 14, 15, 99)]
    code_N = task(intervals=4).encode(np.array(died + lost, dtype=np.float64))
    # An event after the last interval leaves a patient who survived them all.
    assert code_N.tolist() == [1, 1, 3, 7, 8, 0, 0, 2, 2, 4, 8]


def test_records_need_a_time_and_count_what_is_outside() -> None:
    records, report = task(intervals=4).records(
        {"age": [50, 50, 50, 50], "died": ["yes", "no", "yes", "?"], "months": [7, "x", 50, 3]}
    )
    assert records.y_N.tolist() == [1, 8]
    found = {(one.column, one.problem): one.count for one in report.findings}
    assert found[("months", "unreadable")] == 1
    assert found[("months", "outside bounds")] == 1
    assert found[("died", "missing")] == 1


def test_the_loss_is_minus_the_logarithm_of_the_outcomes_probability() -> None:
    hazard_T = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
    logits_BT = torch.logit(hazard_T).repeat(7, 1)
    probability = torch.exp(-hazard_loss(logits_BT, torch.arange(7)))
    expected = [1, 0.1, 0.9, 0.9 * 0.3, 0.9 * 0.7, 0.9 * 0.7 * 0.6, 0.9 * 0.7 * 0.4]
    torch.testing.assert_close(probability, torch.tensor(expected, dtype=torch.float64))


def test_curves_start_at_the_baseline_and_never_rise() -> None:
    one = task(intervals=4, baseline=0.0)
    x_NF = np.linspace(-2, 2, 5)[:, None]
    assert one.predict(one.initial(0), x_NF)[0].tolist() == [0.5, 0.25, 0.125, 0.0625]
    random_P = np.random.default_rng(0).normal(size=one.layout().size)
    assert (np.diff(one.predict(random_P, x_NF), axis=1) <= 0).all()


def test_kaplan_meier_is_lifelines() -> None:
    lifelines = pytest.importorskip("lifelines")
    _, code_N = cohort()
    # Whoever is lost after s intervals leaves just before the deaths of the next one.
    died_N = code_N % 2 == 1
    time_N = np.where(died_N, code_N // 2 + 1.0, code_N // 2 + 0.5)
    oracle = lifelines.KaplanMeierFitter().fit(time_N, died_N)
    table_O = np.bincount(code_N, minlength=17).astype(np.float64)
    expected_T = oracle.predict(np.arange(1, 9)).to_numpy()
    np.testing.assert_allclose(kaplan_meier(table_O), expected_T, rtol=1e-12)
    censoring = lifelines.KaplanMeierFitter().fit(time_N, ~died_N)
    seen_T = censoring.predict(np.arange(8) + 0.6).to_numpy()
    np.testing.assert_allclose(in_sight(table_O), seen_T, rtol=1e-12)


def test_the_interval_of_survival_is_greenwoods_without_noise() -> None:
    _, code_N = cohort()
    table_O = np.bincount(code_N, minlength=17).astype(np.float64)
    exact, noisy = curves(table_O, 0.0), curves(table_O, 10.0)
    assert exact is not None
    assert noisy is not None
    assert exact.value == pytest.approx(kaplan_meier(table_O)[-1])
    assert 0.02 < exact.high - exact.value < 0.08
    assert noisy.high > exact.high


def test_exact_concordance_is_that_of_all_pairs() -> None:
    survival_NT, code_N = cohort(80)
    good = pairs = 0.0
    for i in range(80):
        interval = code_N[i] // 2
        for j in range(80):
            if code_N[i] % 2 and code_N[j] // 2 > interval:
                pairs += 1
                good += survival_NT[i, interval] < survival_NT[j, interval]
    assert exact_concordance(survival_NT, code_N) == pytest.approx(good / pairs)
    with pytest.raises(InputError, match="outlives"):
        exact_concordance(survival_NT, np.full(80, 16))


def test_binned_concordance_is_close_to_the_exact_one() -> None:
    survival_NT, code_N = cohort(2000)
    binned = evaluation().metrics(counted(survival_NT, code_N))["concordance"]
    exact = exact_concordance(survival_NT, code_N)
    assert 0.65 < exact < 0.8
    assert binned.value == pytest.approx(exact, abs=0.01)
    assert binned.low < exact < binned.high


def test_brier_is_that_of_weighted_records() -> None:
    survival_NT, code_N = cohort(300)
    table_O = np.bincount(code_N, minlength=17).astype(np.float64)
    seen_T = in_sight(table_O)
    total = 0.0
    for survival_T, code in zip(survival_NT, code_N.tolist(), strict=True):
        for time in range(8):
            if code // 2 > time:
                total += (1 - survival_T[time]) ** 2 / seen_T[time]
            elif code % 2:
                total += survival_T[time] ** 2 / seen_T[code // 2]
    metric = evaluation().metrics(counted(survival_NT, code_N))["integrated_brier"]
    assert metric.value == pytest.approx(total / 300 / 8, abs=1e-5)


def test_weights_make_the_brier_score_that_of_uncensored_patients() -> None:
    rng = np.random.default_rng(1)
    rate_N = np.exp(0.8 * rng.normal(size=20_000) - 3.4)
    time_N, one = rng.exponential(1 / rate_N), task(intervals=8)
    survival_NT = np.exp(-rate_N[:, None] * one.cuts)
    lost_N = rng.uniform(5, 60, size=len(rate_N))
    everybody = one.encode(np.column_stack([np.ones_like(time_N), time_N]))
    seen = one.encode(np.column_stack([time_N <= lost_N, np.minimum(time_N, lost_N)]))
    values = [
        one.evaluation.metrics(counted(survival_NT, code_N))["integrated_brier"].value
        for code_N in (everybody, seen)
    ]
    assert values[0] == pytest.approx(values[1], abs=0.004)


def test_groups_of_predicted_survival_have_curves_of_their_own() -> None:
    survival_NT, code_N = cohort(2000)
    metrics = evaluation().metrics(counted(survival_NT, code_N))
    poor, good = (metrics[f"survival:{group}"].value for group in GROUPS)
    assert poor < metrics["survival"].value < good
    calibrated_N = survival_NT[survival_NT[:, -1] >= 0.5, -1]
    assert good == pytest.approx(calibrated_N.mean(), abs=0.05)


@pytest.mark.parametrize("metric", ["concordance", "integrated_brier", "survival"])
def test_intervals_hold_the_clean_value_under_noise(metric: str) -> None:
    survival_NT, code_N = cohort(3000)
    counts_E, rng, noise = counted(survival_NT, code_N), np.random.default_rng(3), 12.0
    truth = evaluation().metrics(counts_E)[metric].value
    covered, errors = 0, []
    for _ in range(60):
        noisy_E = counts_E + noise * rng.normal(size=len(counts_E))
        found = evaluation().metrics(noisy_E, noise)[metric]
        covered += found.low <= truth <= found.high
        errors.append(found.value - truth)
    assert covered >= 56
    assert abs(np.mean(errors)) < 0.02


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": [3]},
        {"model": "mlp", "hidden": []},
        {"intervals": 0},
        {"baseline": 99},
        {"cuts": []},
        {"cuts": [0, 1]},
        {"cuts": [2, 2]},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        task(**options)


def test_the_schema_names_an_event_and_a_time() -> None:
    with pytest.raises(InputError, match="targets of survival"):
        Survival.from_options({}, replace(SCHEMA, targets=()))
    with pytest.raises(InputError, match="label of survival"):
        Survival.from_options({}, replace(SCHEMA, label=Label(name="died", low=0, high=1)))


def test_evaluation_refuses_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="survival curves"):
        evaluation().counts(np.ones((2, 3)), np.zeros(2, dtype=np.int64), np.arange(2))
    with pytest.raises(InputError, match="targets"):
        evaluation().counts(np.ones((1, 8)), np.array([17]), np.arange(1))
    with pytest.raises(InputError, match="counts"):
        evaluation().metrics(np.zeros(3))
    assert integrated_brier(evaluation().pooled(np.zeros(evaluation().length)), np.ones(8)) is None
