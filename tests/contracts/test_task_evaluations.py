"""What every installed task counts of its predictions: learning.task.Evaluation."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.subgroups import beside
from learning.task import (
    FloatArray,
    IntVector,
    Task,
)
from tests.contracts.cases import (
    EXAMPLES,
    Case,
    every_evaluation,
    invented,
    random_weights,
)


@st.composite
def scored(draw: st.DrawFn, task: Task) -> tuple[FloatArray, IntVector, IntVector]:
    """Predictions from flat to extreme, targets, patients with any number of records each."""
    rows, seed = draw(st.integers(0, 30)), draw(st.integers(0, 2**32))
    sharpness = draw(st.sampled_from([0.01, 1.0, 100.0]))
    records = invented(task, rows, seed)
    probs_NC = task.predict(random_weights(task, seed) * sharpness, records.x_NF)
    patient_N = np.random.default_rng(seed).integers(draw(st.integers(1, 12)), size=rows)
    return beside(task.schema, probs_NC, records.x_NF), np.asarray(records.y_N), patient_N


@every_evaluation
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_a_patients_counts_stay_within_the_bound_exactly(case: Case, data: st.DataObject) -> None:
    task = case.build()
    probs_NC, y_N, patient_N = data.draw(scored(task))
    vectors_UE = task.evaluation.vectors(probs_NC, y_N, patient_N)
    assert vectors_UE.shape == (len(np.unique(patient_N)), task.evaluation.length)
    bound = Fraction(task.evaluation.norm) ** 2
    for vector_E in vectors_UE:
        assert 0 < sum(Fraction(entry) ** 2 for entry in vector_E[vector_E != 0].tolist()) <= bound
    raised_E = vectors_UE.any(axis=0)
    exact = [sum(map(Fraction, column)) for column in vectors_UE.T[raised_E].tolist()]
    counts_E = task.evaluation.counts(probs_NC, y_N, patient_N)
    assert counts_E.dtype == np.float64
    assert [Fraction(count) for count in counts_E[raised_E].tolist()] == exact
    assert not counts_E[~raised_E].any()


@every_evaluation
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_counts_add_up_over_hospitals(case: Case, data: st.DataObject) -> None:
    task = case.build()
    probs_NC, y_N, patient_N = data.draw(scored(task))
    here_N = patient_N % 2 == 0
    halves = [
        task.evaluation.counts(probs_NC[mask_N], y_N[mask_N], patient_N[mask_N])
        for mask_N in (here_N, ~here_N)
    ]
    whole_E = task.evaluation.counts(probs_NC, y_N, patient_N)
    assert (halves[0] + halves[1] == whole_E).all()


def reach(name: str) -> tuple[float, float]:
    """Where a metric can lie."""
    if name.startswith(("effect", "difference")):
        return -1.0, 1.0
    if name.startswith("gap:difference"):
        return 0.0, 2.0
    return (0.125, 8.0) if name.startswith("temperature") else (0.0, 1.0)


@every_evaluation
@settings(max_examples=EXAMPLES)
@given(
    seed=st.integers(0, 2**32),
    size=st.sampled_from([0.0, 3.0, 1e5]),
    noise=st.sampled_from([0.0, 0.5, 40.0]),
)
def test_metrics_of_any_counts_are_ordered_and_within_their_range(
    case: Case, seed: int, size: float, noise: float
) -> None:
    evaluation = case.build().evaluation
    rng = np.random.default_rng(seed)
    counts_E = size * rng.random(evaluation.length) ** 4 + noise * rng.normal(
        size=evaluation.length
    )
    metrics = evaluation.metrics(counts_E, noise)
    if size == 0 and noise == 0:
        assert metrics == {}
    for name, metric in metrics.items():
        least, most = reach(name)
        assert least <= metric.low <= metric.value <= metric.high <= most
        assert all(type(number) is float for number in (metric.value, metric.low, metric.high))


@every_evaluation
def test_noise_widens_every_interval(case: Case) -> None:
    task = case.build()
    records = invented(task, 200)
    probs_NC = task.predict(random_weights(task), records.x_NF)
    # Every record a patient of its own: no bin estimate then differs by shares.
    seen_NC = beside(task.schema, probs_NC, records.x_NF)
    counts_E = task.evaluation.counts(seen_NC, records.y_N, np.arange(200))
    clean, noisy = task.evaluation.metrics(counts_E), task.evaluation.metrics(counts_E, 5.0)
    # Too few for a statement are fewer without noise.
    assert noisy.keys() <= clean.keys()
    assert {name for name in clean.keys() - noisy.keys() if not {"@", " "} & set(name)} == set()
    for name in noisy:
        assert noisy[name].high - noisy[name].low > clean[name].high - clean[name].low, name
        assert noisy[name].value == pytest.approx(clean[name].value, abs=1e-9)
