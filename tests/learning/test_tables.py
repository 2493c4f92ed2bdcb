from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from learning.pooled_statistics import Statistics
from learning.quantiles import quantiles
from learning.survival_metrics import kaplan_meier
from learning.table_one import Levels, Number, TableOne
from learning.tables import QUARTILES, _slopes, table_one
from learning.task import FloatVector, load_task
from protocol.errors import InputError, IntegrityError
from protocol.jobs import Named

SCHEMA: dict[str, Any] = {
    "columns": [
        {"name": "age", "kind": "number", "unit": "years", "low": 0, "high": 100},
        {"name": "sex", "kind": "category", "categories": ["female", "male"]},
        {"name": "smoker", "kind": "flag"},
    ],
    "label": {"name": "died", "classes": ["no", "yes"]},
    "targets": [{"name": "months", "kind": "number", "unit": "months", "low": 0, "high": 40}],
}
CURVES = {"curves": {"time": "months", "intervals": 4, "group": "sex"}}


def build(**options: Any) -> Statistics:
    task = load_task(Named(name="statistics", options={"bins": 10, **CURVES, **options}), SCHEMA)
    assert isinstance(task, Statistics)
    return task


def people(task: Statistics, size: int = 900, seed: int = 0) -> tuple[dict[str, Any], FloatVector]:
    """Invented patients and their sums; a tenth of the ages is missing."""
    rng = np.random.default_rng(seed)
    age_N = np.clip(rng.normal(55, 12, size), 0, 100)
    table: dict[str, Any] = {
        "age": np.where(rng.random(size) < 0.1, np.nan, age_N),
        "sex": rng.choice(["female", "male"], size, p=[0.7, 0.3]).tolist(),
        "smoker": [None] * 5 + (rng.random(size - 5) < 0.4).astype(int).tolist(),
        "died": rng.choice(["no", "yes"], size).tolist(),
        "months": np.minimum(rng.exponential(20, size), 40).tolist(),
    }  # fmt: skip
    records, _ = task.records(table)
    sums_P = task.evaluation.counts(records.x_NF, np.asarray(records.y_N), records.patient_N)
    return table, sums_P


def number(table: TableOne, name: str = "age") -> Number:
    return table.numbers[name]


def levels(table: TableOne, name: str) -> Levels:
    found = next(one for one in (*table.columns, table.label) if one.name == name)
    assert isinstance(found, Levels)
    return found


def test_without_noise_the_table_is_numpys() -> None:
    task = build()
    raw, sums_P = people(task)
    table = table_one(task, sums_P, 0.0)
    age_M = raw["age"][~np.isnan(raw["age"])]
    age = number(table)
    for metric, expected in (
        (table.patients, 900),
        (age.present, len(age_M)),
        (age.missing, 900 - len(age_M)),
        (age.mean, age_M.mean()),
        (age.sd, age_M.std()),
        (levels(table, "sex").levels["male"], raw["sex"].count("male")),
        (levels(table, "died").levels["yes"], raw["died"].count("yes")),
    ):
        assert metric is not None
        assert metric.low == metric.value == metric.high
        assert metric.value == pytest.approx(expected, rel=1e-5)
    for level in QUARTILES:
        # Within a bin, values are taken for evenly spread.
        assert age.quantiles[level].value == pytest.approx(np.quantile(age_M, level), abs=1.5)
    assert [0 if one is None else one.value for one in age.bins[3:8]] == (
        np.histogram(age_M, bins=10, range=(0, 100))[0][3:8].tolist()
    )
    assert (age.unit, age.bounds, table.time) == ("years", (0.0, 100.0), ("months", "months"))


def test_few_patients_are_not_shown_and_nothing_is_computed_from_them() -> None:
    task = build()
    _, sums_P = people(task)
    table = table_one(task, sums_P, 0.0)
    assert levels(table, "smoker").missing is None
    assert number(table).bins[0] is None
    hidden = table_one(build(fewer_than=880), sums_P, 0.0)
    assert hidden.patients is not None
    age = number(hidden)
    assert (age.present, age.mean, age.sd, dict(age.quantiles)) == (None, None, None, {})
    assert all(curve.times == () for curve in hidden.curves)
    document = hidden.to_json()
    assert document["columns"][0]["mean"] == {"fewer_than": 880}
    assert "880" not in json.dumps(document["patients"])


def test_curves_are_kaplan_and_meiers_and_end_where_few_are_at_risk() -> None:
    task = build(fewer_than=60)
    _, sums_P = people(task)
    table = table_one(task, sums_P, 0.0)
    rows_GO = task.layout().split(sums_P)["curves"]
    assert [curve.group for curve in table.curves] == ["all", "female", "male"]
    everybody, female, male = table.curves
    expected_T = kaplan_meier(rows_GO.sum(axis=0))
    shown = len(everybody.times)
    assert [one.value for one in everybody.survival] == expected_T[:shown].tolist()
    assert everybody.times[0] == 10.0
    assert all(one.value >= 60 for one in male.at_risk)
    assert len(male.times) < len(female.times)


def test_what_noise_alone_could_make_is_not_computed() -> None:
    task = build()
    _, sums_P = people(task)
    clear, noisy = table_one(task, sums_P, 0.0), table_one(task, sums_P, 60.0)
    assert len(noisy.curves[2].times) < len(clear.curves[2].times)
    assert number(noisy).mean is not None
    drowned = number(table_one(task, sums_P, 600.0))
    assert drowned.present is not None
    assert (drowned.mean, drowned.sd, dict(drowned.quantiles)) == (None, None, {})


def test_nobody_missing_is_said_of_the_label_and_a_numbers_label_is_summarised() -> None:
    beds = {"columns": SCHEMA["columns"], "label": {"name": "beds", "low": 0, "high": 40}}
    task = load_task(Named(name="statistics", options={"bins": 0}), beds)
    assert isinstance(task, Statistics)
    records, _ = task.records(
        {"age": [50] * 40, "sex": ["male"] * 40, "smoker": [1] * 40, "beds": [10, 30] * 20}
    )
    sums_P = task.evaluation.counts(records.x_NF, np.asarray(records.y_N), records.patient_N)
    table = table_one(task, sums_P, 0.0)
    assert isinstance(table.label, Number)
    assert table.label.mean is not None
    assert table.label.sd is not None
    assert (table.label.mean.value, table.label.sd.value) == (20.0, 10.0)
    assert (table.label.optional, dict(table.label.quantiles), table.label.bins) == (False, {}, ())
    document = table.to_json()
    assert "missing" not in document["label"]
    assert document["columns"][0]["missing"] == {"fewer_than": 10}
    assert (table.curves, table.time) == ((), ("", ""))
    json.dumps(document, allow_nan=False)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Over 300 draws of the noise: 95 %, within four standard errors of so many draws."""
    task = build(fewer_than=1)
    _, sums_P = people(task)
    truth, noise = table_one(task, sums_P, 0.0), 9.0
    rng = np.random.default_rng(5)
    held: dict[str, list[bool]] = {}
    for _ in range(300):
        table = table_one(task, sums_P + noise * rng.normal(size=len(sums_P)), noise)
        for name, one, true in (
            ("patients", table.patients, truth.patients),
            ("present", number(table).present, number(truth).present),
            ("mean", number(table).mean, number(truth).mean),
            ("sd", number(table).sd, number(truth).sd),
            ("median", number(table).quantiles[0.5], number(truth).quantiles[0.5]),
            ("quartile", number(table).quantiles[0.25], number(truth).quantiles[0.25]),
            ("level", levels(table, "sex").levels["male"], levels(truth, "sex").levels["male"]),
            ("curve", table.curves[0].survival[1], truth.curves[0].survival[1]),
            ("group", table.curves[2].survival[0], truth.curves[2].survival[0]),
            ("at risk", table.curves[1].at_risk[0], truth.curves[1].at_risk[0]),
        ):
            assert one is not None
            assert true is not None
            held.setdefault(name, []).append(one.low <= true.value <= one.high)
    for name, found in held.items():
        assert np.mean(found) >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 300), name
        assert name == "sd" or np.mean(found) < 1.0, name


def test_a_curves_interval_is_that_of_its_gradient() -> None:
    """Against central differences, where survival is smooth; and where all hazards are clipped."""
    table_O = np.array([3.0, 20.0, 5.0, 9.0, 8.0, 12.0, 2.0, 7.0, 40.0])
    differences_OT = [
        (kaplan_meier(table_O + move) - kaplan_meier(table_O - move)) / 2e-4
        for move in 1e-4 * np.eye(len(table_O))
    ]
    assert _slopes(table_O) == pytest.approx(np.linalg.norm(differences_OT, axis=0), rel=1e-6)
    nobody_died = np.array([0.0, -4.0, 0.0, -1.0, 0.0, -1.0, 0.0, -1.0, 50.0])
    assert (_slopes(nobody_died) > 0.01).all()


def test_noise_alone_gives_a_table_all_the_same() -> None:
    task = build(fewer_than=1)
    rng = np.random.default_rng(3)
    for _ in range(40):
        table = table_one(task, 50.0 * rng.normal(size=task.layout().size), 50.0)
        json.dumps(table.to_json(), allow_nan=False)
        for one in table.numbers.values():
            if one.mean is not None and one.sd is not None:
                assert 0 <= one.mean.low <= one.mean.value <= one.mean.high <= 100
                assert 0 <= one.sd.low <= one.sd.value <= one.sd.high <= 100


def test_sums_of_another_table_or_with_an_absurd_noise_are_refused() -> None:
    task = build()
    with pytest.raises(IntegrityError, match="vector"):
        table_one(task, np.zeros(3), 0.0)
    for noise in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="noise"):
            table_one(task, np.zeros(task.layout().size), noise)


def test_quantiles_of_evenly_spread_values_are_exact() -> None:
    found = quantiles(np.full(5, 20.0), (0.0, 10.0), 0.0, (0.1, 0.25, 0.5, 0.9))
    assert {level: metric.value for level, metric in found.items()} == pytest.approx(
        {0.1: 1.0, 0.25: 2.5, 0.5: 5.0, 0.9: 9.0}
    )


@pytest.mark.parametrize("bins", [[], [0.0, 0.0], [-3.0, 2.0]])
def test_an_empty_histogram_has_no_quantiles(bins: list[float]) -> None:
    assert quantiles(np.array(bins), (0.0, 1.0), 1.0, QUARTILES) == {}


def test_noise_widens_quantiles_and_keeps_them_within_the_bounds() -> None:
    bins_B = np.array([5.0, -2.0, 40.0, 3.0])
    narrow, wide = (quantiles(bins_B, (0.0, 8.0), noise, QUARTILES) for noise in (1.0, 9.0))
    for level in QUARTILES:
        assert 0 <= wide[level].low <= narrow[level].low <= narrow[level].value
        assert narrow[level].value <= narrow[level].high <= wide[level].high <= 8
