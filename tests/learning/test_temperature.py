"""Tests of temperatures: they are found in noised histograms, and only sure ones are taken."""

from __future__ import annotations

import numpy as np
import pytest

from learning.evaluation import ClassEvaluation
from learning.forward import sigmoid
from learning.histogram import TREE
from learning.label_evaluation import LabelEvaluation
from learning.task import FloatArray, FloatVector, Metric
from learning.temperature import NAME, calibrated, chosen, temperature

EVALUATION = ClassEvaluation(("no", "yes"))


def too_sure(size: int, by: float, seed: int) -> FloatVector:
    """Counts of a model whose log-odds are `by` times the true ones."""
    rng = np.random.default_rng(seed)
    logit_N = rng.normal(-1, 1.5, size)
    y_N = (rng.random(size) < sigmoid(logit_N)).astype(np.int64)
    probs_NC = sigmoid(by * np.stack([-logit_N, logit_N], axis=1))
    return EVALUATION.counts(probs_NC, y_N, np.arange(size))


def found(counts_E: FloatVector, noise_std: float) -> Metric | None:
    return temperature(counts_E.reshape(2, TREE), noise_std)


@pytest.mark.parametrize(("truth", "noise_std"), [(0.6, 0.0), (1.0, 10.0), (1.8, 0.0), (1.8, 10.0)])
def test_intervals_cover_the_truth(truth: float, noise_std: float) -> None:
    rng = np.random.default_rng(1)
    covered, values = 0, []
    for seed in range(40):
        counts_E = too_sure(2000, truth, seed)
        one = found(counts_E + rng.normal(0, noise_std, len(counts_E)), noise_std)
        assert one is not None
        covered += one.low <= truth <= one.high
        values.append(one.value)
    assert covered >= 34
    assert np.mean(values) == pytest.approx(truth, rel=0.05)


def test_noise_widens_the_interval() -> None:
    clean, noised = found(too_sure(2000, 1.0, 0), 0.0), found(too_sure(2000, 1.0, 0), 10.0)
    assert clean is not None
    assert noised is not None
    assert noised.high - noised.low > clean.high - clean.low


def test_counts_that_tell_nothing_have_none() -> None:
    assert found(np.zeros(EVALUATION.length), 0.0) is None
    assert found(too_sure(4, 1.0, 0), 0.0) is None
    assert found(too_sure(2000, 1.0, 0), 300.0) is None
    backwards = too_sure(2000, -1.0, 0)
    assert found(backwards, 0.0) is None


def test_it_is_a_metric_of_two_classes_and_of_each_label() -> None:
    metrics = EVALUATION.metrics(too_sure(2000, 1.8, 0))
    assert metrics[NAME].value == pytest.approx(1.8, rel=0.1)
    two = LabelEvaluation(("sepsis", "stroke"))
    one_E = too_sure(2000, 1.8, 0)
    metrics = two.metrics(np.concatenate([one_E, np.zeros_like(one_E)]))
    assert metrics[f"{NAME}:sepsis"].value == pytest.approx(1.8, rel=0.1)
    assert {name for name in metrics if name.startswith(NAME)} == {f"{NAME}:sepsis"}


def test_only_one_that_chance_does_not_explain_is_taken() -> None:
    sure, unsure = Metric(2.0, 1.5, 2.5), Metric(1.2, 0.9, 1.5)
    two = chosen({NAME: sure}, ("no", "yes"))
    assert two is not None
    assert two.tolist() == [2.0, 2.0]
    assert chosen({NAME: unsure}, ("no", "yes")) is None
    assert chosen({}, ("no", "yes")) is None
    both = {f"{NAME}:sepsis": sure, f"{NAME}:stroke": unsure}
    labels = chosen(both, ("sepsis", "stroke", "fall"))
    assert labels is not None
    assert labels.tolist() == [2.0, 1.0, 1.0]


def test_calibration_keeps_order_and_sums_and_bits() -> None:
    rng = np.random.default_rng(2)
    yes_N = np.sort(np.concatenate([rng.random(97), [0.0, 0.5, 1.0]]))
    probs_NC: FloatArray = np.stack([1 - yes_N, yes_N], axis=1)
    right_NC = calibrated(probs_NC, np.array([2.0, 2.0]))
    assert (np.diff(right_NC[:, 1]) >= 0).all()
    np.testing.assert_allclose(right_NC.sum(axis=1), 1.0, atol=1e-15)
    assert (np.abs(right_NC - 0.5) <= np.abs(probs_NC - 0.5)).all()
    for row, alone_C in enumerate(right_NC):
        one = calibrated(probs_NC[row : row + 1], np.array([2.0, 2.0]))[0]
        assert one.tobytes() == alone_C.tobytes()


def test_setting_right_makes_the_evaluation_say_one() -> None:
    rng = np.random.default_rng(3)
    logit_N = rng.normal(-1, 1.5, 5000)
    y_N = (rng.random(5000) < sigmoid(logit_N)).astype(np.int64)
    probs_NC = sigmoid(1.8 * np.stack([-logit_N, logit_N], axis=1))
    before = found(EVALUATION.counts(probs_NC, y_N, np.arange(5000)), 0.0)
    assert before is not None
    right_NC = calibrated(probs_NC, np.full(2, before.value))
    after = EVALUATION.metrics(EVALUATION.counts(right_NC, y_N, np.arange(5000)))
    assert after[NAME].low <= 1 <= after[NAME].high
    error = EVALUATION.metrics(EVALUATION.counts(probs_NC, y_N, np.arange(5000)))
    assert after["calibration_error"].value < error["calibration_error"].value / 2
