"""Columns of images and series, and of numbers that are an array already."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from learning.invented import invent
from learning.numeric import ABSURD
from learning.preprocess import features, labelled
from learning.schema import MOST_CELLS, Column, Label, Schema
from learning.task import Finding, load_task
from protocol.errors import InputError
from protocol.jobs import Named

ILL = Label(name="ill", classes=("no", "yes"))


def column(*shape: int, **changes: Any) -> Column:
    written: dict[str, Any] = {"low": 0, "high": 8, "centre": 4, "spread": 2}
    return Column(name="x", kind="array", shape=shape, **(written | changes))


def of(*columns: Column) -> Schema:
    return Schema(columns=columns, label=ILL)


def test_rows_are_flattened_with_the_last_axis_fastest_and_scaled_by_the_schema() -> None:
    x_NF, report = features(of(column(2, 2)), {"x": np.arange(8).reshape(2, 2, 2)})
    assert x_NF.tolist() == [[-2, -1.5, -1, -0.5], [0, 0.5, 1, 1.5]]
    assert report.findings == ()


def test_features_are_named_by_their_place() -> None:
    schema = of(column(1, 2, may_be_missing=True), Column(name="f", kind="flag"))
    assert schema.feature_names == ("x[0,0]", "x[0,1]", "x missing", "f")
    assert schema.num_features == 4
    assert column(512, 512, 64).num_features == MOST_CELLS


def test_gaps_become_neutral_and_an_indicator_tells_of_a_whole_record() -> None:
    value_N2 = np.array([[1.0, np.nan], [np.nan, np.nan], [np.inf, 2.0], [9.0, -ABSURD]])
    x_NF, report = features(of(column(2, neutral=6, may_be_missing=True)), {"x": value_N2})
    assert x_NF.tolist() == [[-1.5, 1, 0], [1, 1, 1], [1, -1, 0], [2, 1, 0]]
    assert report.findings == (
        Finding("x", "missing", 1),
        Finding("x", "unreadable", 2),
        Finding("x", "outside bounds", 1),
        Finding("x", "other length", 1),
    )


@pytest.mark.parametrize(
    ("length", "expected", "others"),
    [(1, [[0.0, 0.0], [0.5, 0.0]], 2), (3, [[0, 0], [0.5, 0.5]], 2)],
)
def test_series_are_filled_up_or_cut(length: int, expected: list[list[float]], others: int) -> None:
    series_NT1 = np.full((2, length, 1), 4.0)
    series_NT1[1] = 5.0
    x_NF, report = features(of(column(2, 1)), {"x": series_NT1})
    assert x_NF.tolist() == expected
    assert report.findings == (Finding("x", "other length", others),)


def test_a_column_of_nothing_is_missing() -> None:
    x_NF, report = features(of(column(2, 2)), {"x": [None, None]})
    assert x_NF.tolist() == [[0] * 4] * 2
    assert report.findings == (Finding("x", "missing", 2),)
    assert features(of(column(2, 2)), {"x": []})[0].shape == (0, 4)


@pytest.mark.parametrize(
    "cells",
    [
        np.zeros(3),
        np.zeros((3, 2)),
        np.zeros((3, 2, 3)),
        np.zeros((3, 2, 2, 1)),
        np.array([[["a", "b"]] * 2]),
        ["1", "2"],
        [1.0, None],
    ],
)
def test_another_shape_is_an_error_and_no_gap(cells: Any) -> None:
    with pytest.raises(InputError, match="array 'x' has another shape; expected 2x2; found"):
        features(of(column(2, 2)), {"x": cells})


@given(
    arrays.arrays(np.float64, (3, 2, 2), elements=st.floats(allow_nan=True, allow_infinity=True))
)
def test_features_are_finite_and_bounded_whatever_the_pixels_are(
    value_N22: np.ndarray[Any, np.dtype[np.float64]],
) -> None:
    x_NF, _ = features(of(column(2, 2)), {"x": value_N22})
    assert (np.abs(x_NF) <= 2).all()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"shape": ()}, "shape of the array 'x'; expected .*; found none"),
        ({"shape": (2, 0)}, "found 2 x 0"),
        ({"shape": (4096, 4097)}, "at most"),
        ({"kind": "number", "shape": (2,)}, "a shape belongs to columns of kind 'array'"),
        ({"low": None}, "has no bounds"),
        ({"molar_mass": 0.0}, "molar_mass; expected above 0 g/mol"),
    ],
)
def test_an_array_that_makes_no_sense_is_refused(changes: dict[str, Any], told: str) -> None:
    written: dict[str, Any] = {"kind": "array", "shape": (2,), "low": 0, "high": 1}
    with pytest.raises(InputError, match=told):
        Column(name="x", **(written | changes))


def test_numbers_that_are_an_array_already_read_like_their_texts() -> None:
    schema = of(Column(name="x", kind="number", low=0, high=10, may_be_missing=True))
    array_N = np.array([1.0, np.nan, np.inf, 1e31, 12.0])
    texts = ["1", None, "inf", "1e31", "12"]
    (x_NF, report), (other_NF, other) = (features(schema, {"x": x}) for x in (array_N, texts))
    assert np.array_equal(x_NF, other_NF)
    assert report == other
    assert np.isnan(array_N[1])  # the table itself is left as it was


def test_classes_patients_and_flags_that_are_arrays_read_like_their_texts() -> None:
    columns = (Column(name="f", kind="flag"), Column(name="c", kind="category", categories=(1, 2)))
    label = Label(name="y", classes=(0, 1))
    schema = Schema(columns=columns, label=label, patient="p")
    table = {"f": [1, 0, 1], "c": [2, 1, 3], "y": [0, 1, 1], "p": [7, 8, 7]}
    typed = {name: np.array(cells) for name, cells in table.items()}
    texts: dict[str, list[str | float | None]] = {
        name: [str(cell) for cell in cells] for name, cells in table.items()
    }
    (found, report), (expected, other) = labelled(schema, typed), labelled(schema, texts)
    assert np.array_equal(found.x_NF, expected.x_NF)
    assert np.array_equal(found.y_N, expected.y_N)
    assert np.array_equal(found.patient_N, expected.patient_N)
    assert report == other


def test_invented_arrays_fill_the_bounds() -> None:
    x_NF = invent(of(column(3, 2)), 200, np.random.default_rng(0))
    assert x_NF.shape == (200, 6)
    assert x_NF.min() < -1.9
    assert x_NF.max() > 1.9


def test_diagnosis_takes_images_without_knowing() -> None:
    schema = {
        "columns": [{"name": "x", "kind": "array", "shape": [1, 2, 2], "low": 0, "high": 255}],
        "label": {"name": "ill", "classes": [0, 1]},
    }
    task = load_task(Named(name="diagnosis", options={}), schema)
    table = {"x": np.zeros((3, 1, 2, 2), dtype=np.uint8), "ill": np.array([0, 1, 0])}
    records, _ = task.records(table)
    assert records.x_NF.shape == (3, 4)
    assert task.predict(task.initial(0), records.x_NF).shape == (3, 2)
