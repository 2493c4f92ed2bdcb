"""Tests of classification metrics against scikit-learn, and of their intervals' coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from learning.evaluation import ClassEvaluation
from learning.metrics import auroc
from learning.task import FloatArray, IntVector
from protocol.errors import InputError

TWO, THREE = ClassEvaluation(("no", "yes")), ClassEvaluation(("a", "b", "c"))


def predicted(size: int, classes: int, seed: int) -> tuple[FloatArray, IntVector]:
    """Probabilities and the classes drawn from them, so that they are calibrated."""
    rng = np.random.default_rng(seed)
    power_NC = np.exp(1.5 * rng.normal(size=(size, classes)))
    probs_NC = power_NC / power_NC.sum(axis=1, keepdims=True)
    y_N = (rng.random((size, 1)) > np.cumsum(probs_NC, axis=1)).sum(axis=1)
    return probs_NC, np.minimum(y_N, classes - 1)


@given(st.integers(0, 2**32), st.integers(8, 200))
def test_metrics_of_two_classes_are_scikit_learns(seed: int, size: int) -> None:
    probs_NC, y_N = predicted(size, 2, seed)
    called_N = (probs_NC[:, 1] >= 0.5).astype(int)
    found = TWO.metrics(TWO.counts(probs_NC, y_N, np.arange(size)))
    expected = {
        "accuracy": sklearn.accuracy_score(y_N, called_N),
        "recall": sklearn.recall_score(y_N, called_N, zero_division=np.nan),
        "specificity": sklearn.recall_score(y_N, called_N, pos_label=0, zero_division=np.nan),
        "precision": sklearn.precision_score(y_N, called_N, zero_division=np.nan),
        "f1": sklearn.f1_score(y_N, called_N, zero_division=np.nan),
    }
    for name, value in expected.items():
        assert (name in found) == (not np.isnan(value))
        if name in found:
            assert found[name].value == pytest.approx(value, abs=1e-12), name


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.integers(30, 200))
def test_metrics_of_many_classes_are_scikit_learns(seed: int, size: int) -> None:
    probs_NC, y_N = predicted(size, 3, seed)
    called_N = probs_NC.argmax(axis=1)
    found = THREE.metrics(THREE.counts(probs_NC, y_N, np.arange(size)))
    assert found["accuracy"].value == pytest.approx(sklearn.accuracy_score(y_N, called_N))
    for name, score in (
        ("recall", sklearn.recall_score),
        ("precision", sklearn.precision_score),
        ("f1", sklearn.f1_score),
    ):
        values = score(y_N, called_N, average=None, labels=[0, 1, 2], zero_division=np.nan)
        for text, value in zip("abc", values, strict=True):
            assert (f"{name}:{text}" in found) == (not np.isnan(value))
            if not np.isnan(value):
                assert found[f"{name}:{text}"].value == pytest.approx(value, abs=1e-12)
        assert (name in found) == (not np.isnan(values).any())
        if name in found:
            assert found[name].value == pytest.approx(values.mean(), abs=1e-12)
    areas = [found[f"auroc:{text}"] for text in "abc"]
    assert found["auroc"].value == pytest.approx(np.mean([area.value for area in areas]))
    assert found["auroc"].low == pytest.approx(np.mean([area.low for area in areas]))
    assert found["auroc"].high == pytest.approx(np.mean([area.high for area in areas]))


def test_the_exact_area_needs_both_classes() -> None:
    with pytest.raises(InputError, match="both classes"):
        auroc(np.array([0.1, 0.2]), np.array([1, 1]))
    with pytest.raises(InputError, match="both classes"):
        auroc(np.array([]), np.array([], dtype=np.int64))


@pytest.mark.parametrize(
    ("evaluation", "size", "sigma"),
    [
        pytest.param(TWO, 254, 0.0, id="two, no noise"),
        pytest.param(TWO, 600, 4.2, id="two", marks=pytest.mark.slow),
        pytest.param(TWO, 2000, 8.4, id="two, much noise"),
        pytest.param(THREE, 254, 0.0, id="three, no noise", marks=pytest.mark.slow),
        pytest.param(THREE, 600, 4.2, id="three"),
        pytest.param(THREE, 2000, 8.4, id="three, much noise", marks=pytest.mark.slow),
    ],
)
def test_intervals_contain_the_truth_as_often_as_they_say(
    evaluation: ClassEvaluation, size: int, sigma: float
) -> None:
    """Noise of 4.2 norms is what epsilon = 1 costs five hospitals that trust four of them."""
    noise_std = sigma * evaluation.norm
    classes = len(evaluation.classes)
    probs_NC, y_N = predicted(300_000, classes, seed=1)
    truth = evaluation.metrics(evaluation.counts(probs_NC, y_N, np.arange(len(y_N))))
    rng = np.random.default_rng(2)
    hits: dict[str, list[bool]] = {}
    for _ in range(100):
        some = rng.integers(len(y_N), size=size)
        counts_E = evaluation.counts(probs_NC[some], y_N[some], np.arange(size))
        noisy_E = counts_E + noise_std * rng.normal(size=evaluation.length)
        for name, metric in evaluation.metrics(noisy_E, noise_std).items():
            right = 0.0 if name.startswith("calibration") else truth[name].value
            hits.setdefault(name, []).append(metric.low <= right <= metric.high)
    # Bands of scores that nobody falls into are not told, so some are judged by a few only.
    bands = [one for name, contained in hits.items() if " " in name for one in contained]
    assert np.mean(bands) >= 0.93
    for name, contained in hits.items():
        if " " not in name:
            assert np.mean(contained) >= 0.88, name
            # Few patients under much noise leave the temperature open, and it is not told.
            assert len(contained) == 100 or name == "temperature", name


def test_noise_is_paid_for_once_by_hierarchical_counts() -> None:
    """Accuracy's error at noise 4 on 254 patients, against 32 flat bins at equal privacy."""
    probs_NC, y_N = predicted(254, 2, seed=4)
    counts_E = TWO.counts(probs_NC, y_N, np.arange(254))
    right = TWO.metrics(counts_E)["accuracy"].value
    rng = np.random.default_rng(0)
    noise_std = 4 * TWO.norm
    errors = [
        TWO.metrics(counts_E + noise_std * rng.normal(size=TWO.length), noise_std)["accuracy"].value
        - right
        for _ in range(200)
    ]
    flat = 4 * 16**0.5 / 254
    assert np.sqrt(np.mean(np.square(errors))) < 0.75 * flat
