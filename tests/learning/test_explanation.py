"""What moved a prediction adds up, agrees with what is known exactly, and starts from nobody."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from learning.artefact import Model
from learning.explanation import FIRST_STEPS, MOST_STEPS, TOLERANCE, Explainer, start_of
from learning.readouts import answer, scale_of
from protocol.errors import InputError
from protocol.jobs import Named
from tests.contracts.cases import CASES, invented
from tests.learning.test_export_graph import MODEL, SCHEMA, SCHEMA_OF
from tests.learning.test_readouts import case_model, model_of

TASKS = [
    "logistic", "many classes", "labels", "survival by a network", "treatment",
    "demand by a network",
]  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_what_columns_add_is_what_the_prediction_moved(name: str) -> None:
    model = case_model(CASES[name])
    x_NF = invented(model.task, 6).x_NF
    found = Explainer(model).explain(x_NF)
    predicted_NC = model.predict(x_NF)
    row_N = np.arange(6)
    assert (found.answer_N == answer(model.task, predicted_NC)).all()
    start_N = model.predict(start_of(model.task))[0, found.answer_N]
    np.testing.assert_array_equal(found.start_N, start_N)
    moved_N = predicted_NC[row_N, found.answer_N] - start_N
    np.testing.assert_allclose(found.columns_NK.sum(axis=1) + found.gap_N, moved_N, atol=1e-9)
    late_N = found.steps_N == MOST_STEPS
    assert (np.abs(found.gap_N[~late_N]) <= TOLERANCE * scale_of(model.task)).all()
    assert late_N.mean() < 0.5
    assert found.columns_NK.shape == (6, len(model.task.schema.columns))


def test_of_a_straight_line_every_column_adds_its_slope() -> None:
    schema = {
        "columns": [
            {"name": "lag", "kind": "number", "low": 0, "high": 40},
            {"name": "day", "kind": "category", "categories": ["mon", "tue"]},
            {"name": "crp", "kind": "number", "low": 0, "high": 8, "may_be_missing": True},
        ],
        "label": {"name": "beds", "low": 0, "high": 1000},
    }
    options = {"quantiles": [0.5], "scale": 1.0}
    model = model_of(Named(name="demand", options=options), schema)
    weights_P = model.weights_P.copy()
    weights_P[-1] = 500.0  # far from the label's bounds, where the line ends
    model = Model(model.card, model.task, weights_P)
    table: dict[str, Any] = {"lag": [30.0, None], "day": ["tue", "sun"], "crp": [None, 6.0]}
    x_NF = model.task.features(table)[0]
    found = Explainer(model).explain(x_NF)
    weight = weights_P[:-1]
    assert start_of(model.task).tolist() == [[0.0, 0.0, 0.0, 0.0, 0.0]]
    expected = [
        [weight[0] * 1.0, weight[2], weight[4]],
        [0.0, 0.0, weight[3] * 1.0],
    ]
    np.testing.assert_allclose(found.columns_NK, expected, atol=1e-9)
    assert (found.steps_N == FIRST_STEPS).all()


def test_the_starting_point_is_neutral_and_lacks_nothing() -> None:
    names = SCHEMA_OF.feature_names
    start = dict(zip(names, start_of(MODEL.task)[0].tolist(), strict=True))
    assert all(value == 0 for name, value in start.items() if name.endswith(" missing"))
    assert start["age"] == 0.0
    assert start["crp"] == pytest.approx((5 - 250) / 125)
    assert [start[f"ward={one}"] for one in ("a", "b", "3")] == [0, 0, 0]
    assert [start[f"unit={one}"] for one in ("icu", "none")] == [0, 1]
    assert (start["smoker"], start["drinker"]) == (1, 0)
    assert start["pulse[2]"] == pytest.approx((70 - 100) / 50)
    assert start["scan[0,0]"] == 0


def test_a_row_at_the_start_is_moved_by_nothing_and_other_rows_change_nothing() -> None:
    explainer = Explainer(MODEL)
    x_NF = np.vstack([start_of(MODEL.task), invented(MODEL.task, 3).x_NF])
    found = explainer.explain(x_NF)
    assert (found.columns_NK[0] == 0).all()
    assert found.gap_N[0] == 0
    alone = explainer.explain(x_NF[2:3])
    np.testing.assert_allclose(alone.columns_NK[0], found.columns_NK[2], atol=1e-12)


def test_an_array_has_a_map_that_adds_up_to_its_column() -> None:
    found = Explainer(MODEL).explain(invented(MODEL.task, 4).x_NF)
    assert {name: one.shape for name, one in found.maps.items()} == {
        "scan": (4, 3, 4),
        "pulse": (4, 4),
    }
    places = [column.name for column in SCHEMA_OF.columns]
    scan_N = found.columns_NK[:, places.index("scan")]
    np.testing.assert_allclose(found.maps["scan"].sum(axis=(1, 2)), scan_N, atol=1e-12)
    assert np.abs(found.maps["scan"]).max() > 0


def test_a_column_without_weight_adds_nothing() -> None:
    model = case_model(CASES["logistic"])
    weights_P = model.weights_P.copy()
    weights_P[0] = 0.0
    found = Explainer(Model(model.card, model.task, weights_P)).explain(
        invented(model.task, 5).x_NF
    )
    assert (found.columns_NK[:, 0] == 0).all()
    assert (np.abs(found.columns_NK[:, 1:]).max(axis=0) > 0).all()


def test_more_steps_are_taken_where_the_sum_is_off() -> None:
    model = case_model(CASES["network"])
    steep = Model(model.card, model.task, model.weights_P * 4)
    x_NF = np.vstack([start_of(model.task), invented(model.task, 9).x_NF])
    found = Explainer(steep).explain(x_NF)
    assert found.steps_N[0] == FIRST_STEPS
    assert found.steps_N.max() > FIRST_STEPS
    missed_N = np.abs(found.gap_N) > TOLERANCE
    assert (found.steps_N[missed_N] == MOST_STEPS).all()


def test_models_of_notes_get_shapley_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    model = case_model(CASES["text of patients"])
    x_NF = invented(model.task, 5).x_NF
    found = Explainer(model).explain(np.vstack([start_of(model.task), x_NF]))
    assert (found.columns_NK[0] == 0).all()
    np.testing.assert_allclose(found.gap_N, 0, atol=1e-12)
    names = [column.name for column in model.task.schema.columns]
    assert (np.abs(found.columns_NK[1:, names.index("note")]) > 0).any()
    moved_N = model.predict(x_NF)[np.arange(5), found.answer_N[1:]] - found.start_N[1:]
    np.testing.assert_allclose(found.columns_NK[1:].sum(axis=1), moved_N, atol=1e-12)
    assert not found.maps


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(InputError, match=r"fedward\[explain\]"):
        Explainer(MODEL)


def test_schema_of_the_test_has_every_kind_of_column() -> None:
    assert {column["kind"] for column in SCHEMA["columns"]} == {
        "number", "category", "flag", "array",
    }  # fmt: skip
