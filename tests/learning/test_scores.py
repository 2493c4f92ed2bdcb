"""Tests of metrics of scores: scikit-learn, best and worst cases of binning, and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from learning.histogram import BINS, EDGES, MIDPOINTS, leaf_variance
from learning.metrics import auroc
from learning.scores import ranked
from learning.task import FloatArray, FloatVector, IntVector

Scored = tuple[FloatVector, IntVector]


@st.composite
def scored(draw: st.DrawFn) -> Scored:
    """Scores and labels with both classes, spread or crowded, informative or not."""
    size = draw(st.integers(4, 200))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    label_N = rng.integers(2, size=size)
    label_N[:2] = 0, 1
    logit_N = rng.normal(size=size) * draw(st.sampled_from([0.1, 1, 6])) - draw(st.integers(0, 4))
    return 1 / (1 + np.exp(-logit_N - 2 * label_N)), label_N


def binned(score_N: FloatVector, label_N: IntVector) -> FloatArray:
    return np.stack(
        [np.histogram(score_N[label_N == one], EDGES)[0].astype(float) for one in (0, 1)]
    )


def places(score_N: FloatVector) -> IntVector:
    return np.clip(np.searchsorted(EDGES, score_N, side="right") - 1, 0, BINS - 1)


@given(scored())
def test_metrics_of_bins_are_scikit_learns_of_binned_scores(data: Scored) -> None:
    score_N, label_N = data
    rough_N = MIDPOINTS[places(score_N)]
    metrics = ranked(binned(score_N, label_N), 0.0)
    for name, oracle in (
        ("auroc", roc_auc_score),
        ("auprc", average_precision_score),
        ("brier", brier_score_loss),
    ):
        metric = metrics[name]
        assert metric is not None
        assert metric.value == pytest.approx(oracle(label_N, rough_N), abs=1e-12), name
        assert metric.low <= metric.value <= metric.high


@given(scored())
def test_raw_scores_differ_by_the_binning_at_most(data: Scored) -> None:
    """Within a bin the order is unknown: the truth lies between positives first and last."""
    score_N, label_N = data
    leaf_2B = binned(score_N, label_N)
    metrics = ranked(leaf_2B, 0.0)
    assert metrics["auroc"] is not None
    assert metrics["brier"] is not None
    ties = (leaf_2B[0] * leaf_2B[1]).sum() / 2 / leaf_2B[0].sum() / leaf_2B[1].sum()
    assert abs(metrics["auroc"].value - roc_auc_score(label_N, score_N)) <= ties + 1e-12
    place_N = places(score_N)
    # Positives that share a score all get the precision of the last of them, the highest.
    best = average_precision_score(label_N, place_N + 0.25 * label_N)
    worst_order_N = np.lexsort((-label_N, place_N))
    worst = average_precision_score(label_N[worst_order_N], np.arange(len(label_N)))
    assert worst - 1e-12 <= average_precision_score(label_N, score_N) <= best + 1e-12
    assert metrics["auprc"] is not None
    assert worst - 1e-12 <= metrics["auprc"].value <= best + 1e-12
    half_width = np.abs(score_N - MIDPOINTS[place_N])
    error = abs(metrics["brier"].value - brier_score_loss(label_N, score_N))
    assert error <= 2 * half_width.mean() + 1e-12


@given(scored())
def test_the_exact_area_is_scikit_learns(data: Scored) -> None:
    score_N, label_N = data
    rough_N = np.round(score_N, 1)
    assert auroc(score_N, label_N) == pytest.approx(roc_auc_score(label_N, score_N), abs=1e-12)
    assert auroc(rough_N, label_N) == pytest.approx(roc_auc_score(label_N, rough_N), abs=1e-12)


def test_calibration_error_compares_outcomes_with_scores_by_group() -> None:
    leaf_2B = np.random.default_rng(0).integers(0, 9, size=(2, BINS)).astype(float)
    expected = 0.0
    for group in range(8):
        here = slice(4 * group, 4 * group + 4)
        size = leaf_2B[:, here].sum()
        outcome = leaf_2B[1, here].sum() / size
        score = (leaf_2B[:, here].sum(axis=0) * MIDPOINTS[here]).sum() / size
        expected += size / leaf_2B.sum() * abs(outcome - score)
    metric = ranked(leaf_2B, 0.0)["calibration_error"]
    assert metric is not None
    assert metric.value == pytest.approx(expected, abs=1e-12)


def test_hanley_mcneils_published_example() -> None:
    """Table I and eq. 2 of the paper: 51 abnormal, 58 normal images in five ratings."""
    ratings_2B = np.zeros((2, BINS))
    ratings_2B[0, [0, 8, 16, 24, 31]] = [33, 6, 6, 11, 2]
    ratings_2B[1, [0, 8, 16, 24, 31]] = [3, 2, 2, 11, 33]
    metric = ranked(ratings_2B, 0.0)["auroc"]
    assert metric is not None
    assert metric.value == pytest.approx(0.893, abs=5e-4)
    # The published standard error is 0.032; the interval here is of score form around it.
    assert (metric.high - metric.low) / 2 / 1.96 == pytest.approx(0.032, abs=0.002)


@pytest.mark.parametrize("name", ["auroc", "auprc", "brier"])
def test_noise_enters_through_the_gradient(name: str) -> None:
    """Half an interval without sampling variance is 1.96 sqrt(g' V g), g by differences."""
    rng = np.random.default_rng(5)
    leaf_2B = rng.integers(500_000, 1_500_000, size=(2, BINS)).astype(float)
    noise_std = 50_000.0

    def value(leaf_2B: FloatArray) -> float:
        metric = ranked(leaf_2B, 0.0)[name]
        assert metric is not None
        return metric.value

    slope_2B = np.zeros_like(leaf_2B)
    for index in np.ndindex(2, BINS):
        step_2B = np.zeros_like(leaf_2B)
        step_2B[index] = 100.0
        slope_2B[index] = (value(leaf_2B + step_2B) - value(leaf_2B - step_2B)) / 200.0
    noisy, clean = ranked(leaf_2B, noise_std)[name], ranked(leaf_2B, 0.0)[name]
    assert noisy is not None
    assert clean is not None
    added = ((noisy.high - noisy.low) / 3.92) ** 2 - ((clean.high - clean.low) / 3.92) ** 2
    assert added == pytest.approx(leaf_variance(slope_2B, noise_std), rel=0.02)


def test_what_counts_do_not_determine_is_left_out() -> None:
    nobody_2B = np.zeros((2, BINS))
    assert set(ranked(nobody_2B, 0.0).values()) == {None}
    healthy_2B = nobody_2B.copy()
    healthy_2B[0, 3] = 7
    metrics = ranked(healthy_2B, 0.0)
    assert metrics["auroc"] is metrics["auprc"] is None
    assert metrics["brier"] is not None
    assert set(ranked(-healthy_2B, 1.0).values()) == {None}


@settings(max_examples=50)
@given(st.integers(0, 2**32))
def test_perfect_scores_keep_an_interval_of_sensible_length(seed: int) -> None:
    leaf_2B = np.zeros((2, BINS))
    leaf_2B[0, 0], leaf_2B[1, -1] = np.random.default_rng(seed).integers(1, 30, size=2)
    metric = ranked(leaf_2B, 0.0)["auroc"]
    assert metric is not None
    assert metric.value == metric.high == 1
    assert metric.low < 0.97
