"""The calibration curve: where its points lie, and that bands of few patients have none."""

from __future__ import annotations

import numpy as np
import pytest

from learning.calibration import BANDS, points
from learning.evaluation import ClassEvaluation
from learning.task import Metric

TWO = ClassEvaluation(("no", "yes"))


def found(share_of: float, size: int = 20_000, noise: float = 0.0) -> dict[str, Metric]:
    """Metrics of scores that come true as often as they say, times a factor."""
    rng = np.random.default_rng(0)
    score_N = rng.random(size)
    y_N = (rng.random(size) < share_of * score_N).astype(np.int64)
    probs_NC = np.column_stack([1 - score_N, score_N])
    return TWO.metrics(TWO.counts(probs_NC, y_N, np.arange(size)), noise)


def test_points_of_a_calibrated_model_lie_on_the_diagonal() -> None:
    curve = points(found(1.0))
    assert [point.band for point in curve] == list(BANDS)
    for point in curve:
        low, high = map(float, point.band.split("-"))
        assert low - 0.005 <= point.predicted.value <= high + 0.005
        assert point.observed.low <= point.predicted.high
        assert point.predicted.low <= point.observed.high


def test_points_of_a_model_that_is_too_sure_lie_below() -> None:
    curve = points(found(0.5))
    assert all(point.observed.high < point.predicted.low for point in curve[1:])
    assert curve[-1].observed.value == pytest.approx(0.49, abs=0.03)


def test_bands_of_few_patients_are_left_out_and_noise_makes_more_of_them_so() -> None:
    clean, noisy = points(found(1.0, size=200)), points(found(1.0, size=200, noise=5.0))
    assert {point.band for point in noisy} < {point.band for point in clean} <= set(BANDS)
    assert points({}) == ()


def test_labels_have_a_curve_each() -> None:
    metric = Metric(0.5, 0.4, 0.6)
    metrics = {
        f"{name} 0.50-0.68:{title}": metric for name in ("observed", "predicted") for title in "ab"
    }
    metrics["observed 0.04-0.16:a"] = metric
    assert [point.band for point in points(metrics, "a")] == ["0.50-0.68"]
    assert points(metrics) == ()
