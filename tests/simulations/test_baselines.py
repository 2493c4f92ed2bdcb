"""Baselines against scikit-learn, which minimises the same function by other code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from client.hospital import Split
from learning.task import Records, Report, Task, load_task
from protocol.errors import InputError
from protocol.jobs import Named
from server.requests import read_request
from simulations.arrays import texts_of
from simulations.baselines import local_only, pooled, pooled_score
from simulations.config import DataConfig
from simulations.data import load_data
from simulations.partition import Partition, deal

JOB = Path(__file__).parents[2] / "configs" / "jobs" / "breast_cancer.yaml"
NOTHING = Report(rows=0, kept=0, findings=())
SIGNS = {
    "columns": [
        {"name": "pulse", "kind": "number", "low": 0, "high": 4},
        {"name": "lactate", "kind": "number", "low": 0, "high": 4},
    ],
    "label": {"name": "ward", "classes": ["home", "ward", "intensive"]},
}


def _task(schema: Mapping[str, Any] | None = None, **options: Any) -> Task:
    request = read_request(JOB)
    return load_task(Named(name="diagnosis", options=options), schema or request.schema)


def _split(records: Records, test: np.ndarray[Any, np.dtype[np.int64]]) -> Split:
    held = np.isin(np.arange(len(records)), test)
    return Split(
        train=records.take(~held),
        test=records.take(held),
        train_report=NOTHING,
        test_report=NOTHING,
    )


def _breast_cancer(task: Task, seed: int = 0, hospitals: int = 5) -> dict[str, Split]:
    table = load_data(DataConfig(name="breast_cancer")).table
    records, _ = task.records(table)
    rng = np.random.default_rng(seed)
    parts = deal(Partition(kind="iid"), texts_of(table["diagnosis"]), hospitals, rng, {})
    return {
        f"site-{index}": _split(records.take(part), rng.permutation(len(part))[::5])
        for index, part in enumerate(parts)
    }


def _three_wards(rng: np.random.Generator, n: int = 400) -> Records:
    y_N = rng.integers(3, size=n)
    x_NF = rng.normal(size=(n, 2)) + np.column_stack([y_N == 1, y_N == 2])
    return Records(x_NF=x_NF, y_N=y_N, patient_N=np.arange(n))


def _stacked(splits: Mapping[str, Split], side: str) -> tuple[Any, Any]:
    parts = [getattr(split, side) for split in splits.values()]
    return np.concatenate([p.x_NF for p in parts]), np.concatenate([p.y_N for p in parts])


def test_pooled_weights_are_scikit_learns() -> None:
    task = _task()
    splits = _breast_cancer(task)
    oracle = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(*_stacked(splits, "train"))
    weights_P = pooled(task, splits)
    expected = np.concatenate([oracle.coef_[0], oracle.intercept_])
    np.testing.assert_allclose(weights_P, expected, atol=0.02)


def test_a_hospital_alone_gets_what_pooling_its_records_alone_gives() -> None:
    task = _task()
    splits = _breast_cancer(task)
    alone = local_only(task, splits)
    assert list(alone) == list(splits)
    for name, split in splits.items():
        np.testing.assert_array_equal(alone[name], pooled(task, {name: split}))


def test_pooled_score_is_within_reach_of_standardised_features() -> None:
    """Public constants cost nothing against constants that are fitted to the records."""
    task = _task()
    differences = []
    for seed in range(10):
        splits = _breast_cancer(task, seed)
        oracle = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=5_000))
        oracle.fit(*_stacked(splits, "train"))
        x_NF, y_N = _stacked(splits, "test")
        theirs = roc_auc_score(y_N, oracle.decision_function(x_NF))
        differences.append(pooled_score(task, pooled(task, splits), splits) - theirs)
    assert abs(np.mean(differences)) < 0.005


def test_auroc_is_scikit_learns_on_the_union_of_held_out_records() -> None:
    task = _task()
    splits = _breast_cancer(task)
    weights_P = np.random.default_rng(0).normal(size=task.layout().size)
    x_NF, y_N = _stacked(splits, "test")
    expected = roc_auc_score(y_N, task.predict(weights_P, x_NF)[:, 1])
    assert pooled_score(task, weights_P, splits) == pytest.approx(expected, abs=1e-12)
    assert 0.05 < expected < 0.95


def test_more_classes_are_averaged_one_against_the_rest() -> None:
    task = _task(SIGNS)
    splits = {
        str(seed): _split(_three_wards(np.random.default_rng(seed)), np.arange(100))
        for seed in range(3)
    }
    weights_P = pooled(task, splits)
    oracle = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(*_stacked(splits, "train"))
    x_NF, y_N = _stacked(splits, "test")
    probs_NC = task.predict(weights_P, x_NF)
    np.testing.assert_allclose(probs_NC, oracle.predict_proba(x_NF), atol=2e-3)
    expected = roc_auc_score(y_N, probs_NC, multi_class="ovr", average="macro")
    assert pooled_score(task, weights_P, splits) == pytest.approx(expected, abs=1e-12)


def test_a_network_learns_what_no_line_can() -> None:
    rng = np.random.default_rng(5)
    x_NF = rng.normal(size=(600, 2))
    y_N = (x_NF[:, 0] * x_NF[:, 1] > 0).astype(np.int64)
    schema = {**SIGNS, "label": {"name": "ward", "classes": ["home", "ward"]}}
    splits = {
        "north": _split(Records(x_NF=x_NF, y_N=y_N, patient_N=np.arange(600)), np.arange(200))
    }
    line, network = _task(schema), _task(schema, model="mlp", hidden=[16])
    assert pooled_score(line, pooled(line, splits), splits) < 0.7
    assert pooled_score(network, pooled(network, splits), splits) > 0.95


def _coin_flips(n: int, rows: int = 1) -> Records:
    """Features that say nothing of the label, each patient's repeated."""
    rng = np.random.default_rng(7)
    x_NF, y_N = rng.normal(size=(n, 2)), rng.integers(2, size=n)
    patient_N = np.repeat(np.arange(n), rows)
    return Records(x_NF=x_NF[patient_N], y_N=y_N[patient_N], patient_N=patient_N)


def _held_in(records: Records, test: Records) -> dict[str, Split]:
    return {"north": Split(train=records, test=test, train_report=NOTHING, test_report=NOTHING)}


def _training_loss(task: Task, records: Records, weights_P: Any) -> float:
    return float(log_loss(records.y_N, task.predict(weights_P, records.x_NF)))


def test_a_network_stops_before_it_knows_its_records_by_heart() -> None:
    schema = {**SIGNS, "label": {"name": "ward", "classes": ["home", "ward"]}}
    network, records = _task(schema, model="mlp", hidden=[64]), _coin_flips(120)
    assert _training_loss(network, records, pooled(network, _held_in(records, records))) > 0.63


def test_a_patients_rows_are_kept_aside_together() -> None:
    """The other rows of somebody who is kept aside would give the answer away."""
    schema = {**SIGNS, "label": {"name": "ward", "classes": ["home", "ward"]}}
    network, rows = _task(schema, model="mlp", hidden=[64]), _coin_flips(120, rows=3)
    apart = replace(rows, patient_N=np.arange(len(rows)))
    together_P, apart_P = (pooled(network, _held_in(one, one)) for one in (rows, apart))
    gap = _training_loss(network, rows, together_P) - _training_loss(network, rows, apart_P)
    assert gap > 0.01


def test_held_out_patients_do_not_decide_when_a_network_stops() -> None:
    schema = {**SIGNS, "label": {"name": "ward", "classes": ["home", "ward"]}}
    network, records = _task(schema, model="mlp", hidden=[8]), _coin_flips(60)
    first, second = (_held_in(records, other) for other in (records, _coin_flips(9)))
    np.testing.assert_array_equal(pooled(network, first), pooled(network, second))


def test_patients_of_two_hospitals_are_different_people() -> None:
    """Equal numbers at two hospitals do not make one patient of two."""
    schema = {**SIGNS, "label": {"name": "ward", "classes": ["home", "ward"]}}
    network = _task(schema, model="mlp", hidden=[8])
    records = _coin_flips(60)
    north, south = records.take(np.arange(60) < 30), records.take(np.arange(60) >= 30)
    alike = replace(south, patient_N=north.patient_N)
    together, apart = (
        pooled(network, {**_held_in(north, north), "south": _held_in(part, north)["north"]})
        for part in (south, alike)
    )
    np.testing.assert_array_equal(together, apart)


@pytest.mark.parametrize("patients", [0, 1, 2])
def test_a_network_without_anybody_to_keep_aside_is_trained_all_the_same(patients: int) -> None:
    schema = {**SIGNS, "label": {"name": "ward", "classes": ["home", "ward"]}}
    network, records = _task(schema, model="mlp", hidden=[4]), _coin_flips(patients)
    assert np.isfinite(local_only(network, _held_in(records, records))["north"]).all()


def test_more_records_outweigh_the_prior() -> None:
    task = _task(SIGNS)
    split = _split(_three_wards(np.random.default_rng(0), 30), np.arange(5))
    x_NF, y_N = split.train.x_NF, split.train.y_N
    losses = [
        log_loss(y_N, task.predict(pooled(task, dict.fromkeys(names, split)), x_NF))
        for names in ("a", "abcd")
    ]
    assert losses[1] < losses[0]


def test_a_hospital_without_training_records_keeps_the_initial_weights() -> None:
    task = _task()
    split = next(iter(_breast_cancer(task).values()))
    empty = _split(split.test, np.arange(len(split.test)))
    np.testing.assert_array_equal(local_only(task, {"north": empty})["north"], task.initial(0))


def test_held_out_records_of_one_class_have_no_area() -> None:
    task = _task()
    split = next(iter(_breast_cancer(task).values()))
    benign = Split(
        train=split.train,
        test=split.test.take(split.test.y_N == 0),
        train_report=NOTHING,
        test_report=NOTHING,
    )
    with pytest.raises(InputError, match="both classes"):
        pooled_score(task, task.initial(0), {"north": benign})
