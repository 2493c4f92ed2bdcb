from __future__ import annotations

import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.description import Description
from learning.pooled_statistics import Statistics
from learning.schema import Schema
from learning.task import FloatArray, Recipe, Records, load_task
from protocol.config import parse
from protocol.errors import InputError
from protocol.jobs import Named

AGE = {"name": "age", "kind": "number", "low": 0, "high": 100}
SEX = {"name": "sex", "kind": "category", "categories": ["female", "male"], "neutral": "male"}
SMOKER = {"name": "smoker", "kind": "flag"}
MONTHS = {"name": "months", "kind": "number", "unit": "months", "low": 0, "high": 40}
SCAN = {"name": "scan", "kind": "array", "shape": [2], "low": 0, "high": 1}
DRUG = {"name": "drug", "kind": "category", "categories": ["old", "new", "none"]}
TIMED: dict[str, Any] = {
    "columns": [AGE, SEX, SMOKER],
    "label": {"name": "died", "classes": ["no", "yes"]},
    "targets": [MONTHS, DRUG],
}
BEDS: dict[str, Any] = {"columns": [AGE, SEX], "label": {"name": "beds", "low": 0, "high": 40}}
CURVES: dict[str, Any] = {"curves": {"time": "months", "intervals": 4, "group": "drug"}}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "table": (TIMED, {}),
    "no bins": (TIMED, {"bins": 0}),
    "curves": (TIMED, CURVES),
    "one curve": (TIMED, {"curves": {"time": "months", "cuts": [3, 12, 24]}}),
    "curves of a flag": (
        {**TIMED, "patient": "pid"},
        {"curves": {"time": "months", "group": "smoker"}},
    ),
    "a number's label": (BEDS, {"bins": 5}),
}
every_case = pytest.mark.parametrize("name", CASES)


def build(name: str) -> Statistics:
    schema, options = CASES[name]
    task = load_task(Named(name="statistics", options=options), schema)
    assert isinstance(task, Statistics)
    return task


def counted(task: Statistics, table: dict[str, list[Any]]) -> dict[str, list[float]]:
    """The sums of a table, by name."""
    records, _ = task.records(table)
    sums_P = task.evaluation.counts(records.x_NF, np.asarray(records.y_N), records.patient_N)
    return {name: one.ravel().tolist() for name, one in task.layout().split(sums_P).items()}


@st.composite
def any_records(draw: st.DrawFn, task: Statistics) -> Records:
    """Features beyond every bound, contradictory indicators, patients with many records."""
    rows = draw(st.integers(1, 6))
    edges = st.sampled_from([-1.0, 1.0, 0.0, 0.5, 1 - 2.0**-20, 1 - 2.0**-53, -1e9, 1e9])
    value = st.one_of(edges, st.floats(-1.5, 1.5), st.floats(allow_nan=False, allow_infinity=False))
    width = task.schema.num_features
    x_NF = np.array(draw(st.lists(value, min_size=rows * width, max_size=rows * width)))
    y_N = task.generate(rows, np.random.default_rng(draw(st.integers(0, 99)))).y_N
    patients = draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows))
    return Records(x_NF=x_NF.reshape(rows, width), y_N=y_N, patient_N=np.array(patients))


def exact(description: Description, records: Records) -> list[Fraction]:
    counts_E = description.counts(records.x_NF, np.asarray(records.y_N), records.patient_N)
    return [Fraction(count) for count in counts_E.tolist()]


@every_case
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_patient_more_moves_the_sums_by_at_most_the_norm(name: str, data: st.DataObject) -> None:
    """Sensitivity, add or remove one, in exact arithmetic, whatever the features are."""
    task = build(name)
    records = data.draw(any_records(task))
    with_P = exact(task.evaluation, records)
    for patient in np.unique(records.patient_N):
        without_P = exact(task.evaluation, records.take(records.patient_N != patient))
        moved = sum(
            ((one - other) ** 2 for one, other in zip(with_P, without_P, strict=True)), Fraction(0)
        )
        assert 0 < moved <= Fraction(task.evaluation.norm) ** 2


@every_case
def test_the_norm_is_reached_but_for_rounding(name: str) -> None:
    """It is no looser than it must be: some record has it."""
    task = build(name)
    best = 0.0
    for seed in range(40):
        records = task.generate(8, np.random.default_rng(seed))
        # At a bound, and nothing missing.
        x_NF = np.where(np.abs(records.x_NF) > 0.2, np.sign(records.x_NF), records.x_NF)
        for place, feature in enumerate(task.schema.feature_names):
            if feature.endswith(" missing"):
                x_NF[:, place] = 0.0
            elif "=" not in feature:
                x_NF[:, place] = 1.0
        y_N = np.asarray(records.y_N)
        if not task.schema.label.classes:
            y_N = np.full(8, 40.0)
        vectors_UE = task.evaluation.vectors(x_NF, y_N, np.arange(8))
        best = max(best, float(np.linalg.norm(vectors_UE, axis=1).max()))
    assert best == pytest.approx(task.evaluation.norm, rel=1e-5)


@every_case
def test_the_counts_are_the_sum_of_the_vectors_and_of_their_halves(name: str) -> None:
    task = build(name)
    records = task.generate(30, np.random.default_rng(1))
    vectors_UE = task.evaluation.vectors(records.x_NF, np.asarray(records.y_N), records.patient_N)
    counts_E = np.array([float(count) for count in exact(task.evaluation, records)])
    assert (vectors_UE.sum(axis=0) == counts_E).all()
    assert counts_E.shape == (task.layout().size,)
    half_N = records.patient_N % 2 == 0
    parts = [exact(task.evaluation, records.take(one)) for one in (half_N, ~half_N)]
    together = [one + other for one, other in zip(*parts, strict=True)]
    assert together == exact(task.evaluation, records)


def test_what_one_patient_adds() -> None:
    """By hand: a patient of 75 whose sex is not known, with two records of which one lacks age."""
    task = load_task(Named(name="statistics", options={"bins": 4}), {**TIMED, "patient": "pid"})
    assert isinstance(task, Statistics)
    sums = counted(
        task,
        {
            "age": [75, None],
            "sex": ["?", "male"],
            "smoker": ["no", "yes"],
            "died": ["yes", "yes"],
            "months": [10, 10],
            "drug": ["new", "new"],
            "pid": ["a", "a"],
        },
    )
    assert sums == {
        "patients": [1.0],
        "column/age/missing": [0.5],
        "column/age/moments": [0.25, -0.125],
        "column/age/bins": [0.0, 0.0, 0.0, 0.5],
        "column/sex/levels": [0.0, 0.5, 0.5],
        "column/smoker/levels": [0.5, 0.5, 0.0],
        "column/months/missing": [0.0],
        "column/months/moments": [-0.5, -0.25],
        "column/months/bins": [0.0, 1.0, 0.0, 0.0],
        "column/drug/levels": [0.0, 1.0, 0.0, 0.0],
        "label/died/levels": [0.0, 1.0],
    }


def test_a_value_beyond_its_bounds_counts_at_the_bound() -> None:
    task = load_task(Named(name="statistics", options={"bins": 4}), BEDS)
    assert isinstance(task, Statistics)
    sums = counted(task, {"age": ["400"], "sex": ["x"], "beds": [-7]})
    assert sums["column/age/moments"] == [1.0, 0.5]
    assert sums["column/age/bins"] == [0.0, 0.0, 0.0, 1.0]
    assert sums["label/beds/moments"] == [-1.0, 0.5]
    assert sums["label/beds/bins"] == [1.0, 0.0, 0.0, 0.0]


def test_curves_count_outcomes_by_group_as_survival_codes_them() -> None:
    task = build("curves")
    sums = counted(
        task,
        {
            "age": [1] * 5,
            "sex": ["male"] * 5,
            "smoker": [0] * 5,
            "died": ["yes", "no", "yes", "no", "yes"],
            "months": [5, 39, 25, None, 99],
            "drug": ["old", "old", "new", "new", None],
        },
    )
    rows = np.array(sums["curves"]).reshape(4, 9)
    # Died in the first interval; seen to the end; died in the third; no time; outlived them all.
    expected = np.zeros((4, 9))
    expected[0, 1] = expected[0, 8] = expected[1, 5] = expected[3, 8] = 1.0
    assert rows.tolist() == expected.tolist()
    assert sums["label/died/levels"] == [2.0, 3.0]
    assert "column/months/bins" not in sums


def test_bins_cover_the_bounds_and_keep_their_edges() -> None:
    task = load_task(Named(name="statistics", options={"bins": 4}), BEDS)
    assert isinstance(task, Statistics)
    ages = [0, 24.9, 25, 50, 74.9, 75, 100]
    table: dict[str, list[Any]] = {"age": ages, "sex": ["male"] * 7, "beds": [1] * 7}
    assert counted(task, table)["column/age/bins"] == [2.0, 1.0, 2.0, 2.0]


def test_bins_cost_norm_and_leaving_them_out_gives_it_back() -> None:
    assert build("no bins").evaluation.norm < build("table").evaluation.norm
    assert build("no bins").evaluation.norm ** 2 == pytest.approx(1 + 2 * 1.25 + 3 + 1)
    assert build("table").evaluation.norm ** 2 == pytest.approx(1 + 2 * 2.25 + 3 + 1)


@pytest.mark.parametrize(
    ("schema", "options", "message"),
    [
        (TIMED, {"bins": 1}, "bins; expected 0, or 2 to 64"),
        (TIMED, {"bins": 65}, "bins"),
        (TIMED, {"fewer_than": 0}, "fewer_than; expected at least 1"),
        (TIMED, {"curves": {"time": "age"}}, "time of curves; expected one of the targets"),
        (TIMED, {"curves": {"time": "months", "group": "age"}}, "group of curves"),
        (TIMED, {"curves": {"time": "months", "intervals": 0}}, "intervals"),
        (TIMED, {"curves": {"time": "drug"}}, "targets of survival"),
        ({**BEDS, "targets": [MONTHS]}, {"curves": {"time": "months"}}, "label of survival"),
        (
            {**BEDS, "columns": [SCAN]},
            {},
            "column 'scan'; expected a number, category or flag; found array",
        ),
    ],
)
def test_options_that_do_not_fit(
    schema: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Statistics.from_options(options, parse(Schema, schema, "schema"))


@pytest.mark.parametrize("bad", ["width", "nan", "target"])
def test_records_of_another_task_are_refused(bad: str) -> None:
    task = build("curves")
    records = task.generate(3, np.random.default_rng(0))
    x_NF: FloatArray = records.x_NF[:, :-1] if bad == "width" else records.x_NF.copy()
    if bad == "nan":
        x_NF[0, 0] = np.nan
    y_N = np.asarray(records.y_N) + (50 if bad == "target" else 0)
    with pytest.raises(InputError, match="targets" if bad == "target" else "features"):
        task.evaluation.counts(x_NF, y_N, records.patient_N)


def test_there_is_nothing_to_learn_predict_or_score() -> None:
    task = build("table")
    nothing = np.zeros((1, 1))
    for ask in (
        task.model,
        lambda: task.loss(None, None),
        lambda: task.predict(task.initial(0), nothing),
        lambda: task.score(nothing, nothing),
    ):
        with pytest.raises(InputError, match="learns no model"):
            ask()
    assert (task.outputs, dict(task.answers(nothing)), task.is_logistic) == ((), {}, False)
    assert (task.recipe, task.measure.name) == (Recipe(kappa=1.0, rounds=1), "none")
    assert task.evaluation.metrics(np.zeros(task.evaluation.length), 1.0) == {}


def test_many_columns_are_counted_in_less_memory_than_they_take() -> None:
    columns = [{**AGE, "name": f"number {place}"} for place in range(40)]
    task = load_task(Named(name="statistics", options={}), {**BEDS, "columns": columns})
    records = task.generate(5000, np.random.default_rng(0))
    tracemalloc.start()
    try:
        task.evaluation.counts(records.x_NF, np.asarray(records.y_N), records.patient_N)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < records.x_NF.nbytes
