"""Treatment: values of rules against the truth of invented patients and of a trial."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from learning.forward import sigmoid
from learning.networks import Arms, treatment_loss
from learning.schema import Column, Label, Schema
from learning.task import FloatArray, IntVector
from learning.treatment import Treatment
from learning.treatment_evaluation import recommended
from protocol.errors import InputError

SCHEMA = Schema(
    columns=(Column(name="age", kind="number", low=0, high=100),),
    label=Label(name="better", classes=("no", "yes")),
    targets=(Column(name="drug", kind="category", categories=("old", "new")),),
)
LOTS = {"propensities": {"old": 0.5, "new": 0.5}}


def task(**options: object) -> Treatment:
    return Treatment.from_options(options, SCHEMA)


def ward(n: int, seed: int = 0) -> tuple[FloatArray, FloatArray, IntVector]:
    """True chances of the better outcome, true propensities, and codes of what happened.

    The new drug helps the sick (x > 0) and harms the well; doctors give it to the sick more often,
    who do worse anyway, so that it looks bad where it is compared by outcomes alone.
    """
    rng = np.random.default_rng(seed)
    x_N = rng.normal(size=n)
    outcome_N2 = np.column_stack([sigmoid(0.5 - 1.5 * x_N), sigmoid(0.5 - 0.7 * x_N)])
    new_N = sigmoid(1.2 * x_N)
    given_N = (rng.random(n) < new_N).astype(np.int64)
    good_N = (rng.random(n) < outcome_N2[np.arange(n), given_N]).astype(np.int64)
    return outcome_N2, np.column_stack([1 - new_N, new_N]), 2 * given_N + good_N


def test_targets_are_coded_by_treatment_and_outcome() -> None:
    records, report = task().records(
        {"age": [1, 2, 3, 4], "better": ["no", "yes", "yes", "yes"],
         "drug": ["old", "old", "new", "other"]}
    )  # fmt: skip
    assert records.y_N.tolist() == [0, 1, 3]
    assert {(one.column, one.problem) for one in report.findings} == {("drug", "unknown category")}


def test_the_loss_is_minus_the_log_probability_of_treatment_and_outcome() -> None:
    chance_A = torch.tensor([0.2, 0.7], dtype=torch.float64)
    given_A = torch.tensor([0.25, 0.75], dtype=torch.float64)
    logits_BO = torch.cat([torch.logit(chance_A), torch.log(given_A)]).repeat(4, 1)
    target_B = torch.arange(4)
    expected = torch.tensor([0.8 * 0.25, 0.2 * 0.25, 0.3 * 0.75, 0.7 * 0.75], dtype=torch.float64)
    torch.testing.assert_close(torch.exp(-treatment_loss(logits_BO, target_B, 2)), expected)
    alone = torch.exp(-treatment_loss(logits_BO[:, :2], target_B, 2))
    assert alone.tolist() == pytest.approx([0.8, 0.2, 0.3, 0.7])


def test_the_shared_score_moves_outcomes_and_not_propensities() -> None:
    model = Arms(1, 2, 4)
    with torch.no_grad():
        model.shared.weight.fill_(3.0)
    assert model(torch.ones((1, 1), dtype=torch.float64)).tolist() == [[3, 3, 0, 0]]


def test_the_doubly_robust_value_is_the_true_one_although_doctors_chose() -> None:
    outcome_N2, given_N2, code_N = ward(40_000)
    predicted = np.hstack([outcome_N2, given_N2])
    metrics = task().evaluation.metrics(
        task().evaluation.counts(predicted, code_N, np.arange(len(code_N)))
    )
    truth = float(outcome_N2.max(axis=1).mean())
    assert metrics["value"].value == pytest.approx(truth, abs=0.01)
    assert metrics["value_ips"].value == pytest.approx(truth, abs=0.02)
    for arm, name in enumerate(("old", "new")):
        found = metrics[f"value:{name}"]
        assert found.value == pytest.approx(outcome_N2[:, arm].mean(), abs=0.01)
        assert found.low < outcome_N2[:, arm].mean() < found.high
        crude = float((code_N[code_N // 2 == arm] % 2).mean())
        assert abs(crude - outcome_N2[:, arm].mean()) > 0.05
    gain = truth - outcome_N2[:, 0].mean()
    assert metrics["effect"].value == pytest.approx(gain, abs=0.015)


def test_either_part_may_be_wrong() -> None:
    outcome_N2, given_N2, code_N = ward(60_000)
    truth = outcome_N2.mean(axis=0)
    flat_N2 = np.full_like(outcome_N2, 0.5)
    for predicted in (np.hstack([flat_N2, given_N2]), np.hstack([outcome_N2, flat_N2])):
        counts_E = task().evaluation.counts(predicted, code_N, np.arange(len(code_N)))
        metrics = task().evaluation.metrics(counts_E)
        values = [metrics[f"value:{name}"].value for name in ("old", "new")]
        assert values == pytest.approx(truth, abs=0.015)


def test_the_exact_value_is_that_of_the_counts() -> None:
    outcome_N2, given_N2, code_N = ward(2000)
    predicted, one = np.hstack([outcome_N2, given_N2]), task()
    counts_E = one.evaluation.counts(predicted, code_N, np.arange(2000))
    value = one.evaluation.metrics(counts_E)["value"].value
    assert one.score(predicted, code_N) == pytest.approx(value, abs=1e-4)
    with pytest.raises(InputError, match="needs records"):
        one.score(predicted[:0], code_N[:0])


def test_patients_without_overlap_are_counted() -> None:
    outcome_N2, _, code_N = ward(1000)
    rare_N = np.arange(1000) < 300
    given_N2 = np.column_stack([np.where(rare_N, 0.99, 0.5), np.where(rare_N, 0.01, 0.5)])
    one = task(scarce=0.05)
    counts_E = one.evaluation.counts(np.hstack([outcome_N2, given_N2]), code_N, np.arange(1000))
    metrics = one.evaluation.metrics(counts_E)
    assert metrics["without_overlap:new"].value == pytest.approx(0.3, abs=1e-3)
    assert metrics["without_overlap:old"].value == 0
    assert one.recommend(np.array([[0.2, 0.6, 0.99, 0.01]]))[0].overlap is False


def test_a_recommendation_has_an_effect_against_the_first_treatment() -> None:
    first, second = task().recommend(np.array([[0.5, 0.75, 0.5, 0.5], [0.5, 0.25, 0.5, 0.5]]))
    assert (first.arm, first.outcome, first.effect, first.overlap) == ("new", 0.75, 0.25, True)
    assert (second.arm, second.effect) == ("old", 0.0)
    assert recommended(np.array([[0.5, 0.5, 0, 0]]), 2).tolist() == [0]


def test_known_propensities_are_predicted_and_cap_the_weights() -> None:
    one = task(**LOTS)
    assert one.predict(one.initial(0), np.zeros((1, 1))).tolist() == [[0.5, 0.5, 0.5, 0.5]]
    assert one.everybody.cap == 2
    assert task(scarce=0.1).everybody.cap == 10
    assert one.layout().size < task().layout().size


@pytest.mark.parametrize("metric", ["value", "value_ips", "effect", "brier", "agreement"])
def test_intervals_hold_the_clean_value_under_noise(metric: str) -> None:
    outcome_N2, given_N2, code_N = ward(4000)
    evaluation, rng, noise = task().evaluation, np.random.default_rng(3), 5.0
    counts_E = evaluation.counts(np.hstack([outcome_N2, given_N2]), code_N, np.arange(4000))
    truth, covered = evaluation.metrics(counts_E)[metric].value, 0
    for _ in range(60):
        noisy_E = counts_E + noise * rng.normal(size=len(counts_E))
        found = evaluation.metrics(noisy_E, noise)[metric]
        covered += found.low <= truth <= found.high
    assert covered >= 56


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": [3]},
        {"model": "mlp", "hidden": [0]},
        {"scarce": 0.9},
        {"propensities": {"old": 1.0}},
        {"propensities": {"old": 0.9, "new": 0.9}},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        task(**options)


def test_schema_and_predictions_must_fit() -> None:
    with pytest.raises(InputError, match="targets of treatment"):
        Treatment.from_options({}, replace(SCHEMA, targets=()))
    with pytest.raises(InputError, match="label of treatment"):
        Treatment.from_options({}, replace(SCHEMA, label=Label(name="better", low=0, high=1)))
    with pytest.raises(InputError, match="predictions"):
        task().evaluation.counts(np.ones((2, 3)), np.zeros(2, dtype=np.int64), np.arange(2))
    with pytest.raises(InputError, match="targets"):
        task().evaluation.counts(np.ones((1, 4)), np.array([4]), np.arange(1))
    with pytest.raises(InputError, match="counts"):
        task().evaluation.metrics(np.zeros(3))
