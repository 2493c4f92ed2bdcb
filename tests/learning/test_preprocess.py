"""Tests of preprocessing: every kind of column, every problem, and its count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.invented import invent
from learning.numeric import ABSURD
from learning.preprocess import features, labelled
from learning.schema import Column, Label, Schema
from learning.task import Finding
from protocol.errors import InputError

Values = list[str | float | None]
ILL = Label(name="ill", classes=("no", "yes", "none"))


def schema_of(*columns: Column, patient: str | None = None) -> Schema:
    return Schema(columns=columns, label=ILL, patient=patient)


def test_a_number_is_clamped_scaled_and_counted() -> None:
    column = Column(
        name="hb", kind="number", low=4, high=20, centre=13, spread=2, may_be_missing=True
    )
    values: Values = [
        13,
        "15",
        2.0,
        "25",
        None,
        "n/a",
        "high",
        3e38,
        float("nan"),
        float("-inf"),
        " 11 ",
    ]
    x_NF, report = features(schema_of(column), {"hb": values})
    assert x_NF[:, 0].tolist() == [0, 1, -4.5, 3.5, 0, 0, 0, 0, 0, 0, -1]
    assert x_NF[:, 1].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0]
    assert report.findings == (
        Finding("hb", "missing", 3),
        Finding("hb", "unreadable", 3),
        Finding("hb", "outside bounds", 2),
    )
    assert (report.rows, report.kept) == (11, 11)


def test_the_neutral_number_stands_in() -> None:
    column = Column(name="hb", kind="number", low=4, high=20, centre=13, spread=2, neutral=14)
    x_NF, _ = features(schema_of(column), {"hb": [None, "x", ABSURD]})
    assert x_NF.tolist() == [[0.5], [0.5], [0.5]]


@given(st.floats(allow_nan=True, allow_infinity=True, width=64))
def test_numbers_within_bounds_are_scaled_and_all_others_are_finite(value: float) -> None:
    column = Column(name="hb", kind="number", low=4, high=20, centre=13, spread=2)
    x_NF, _ = features(schema_of(column), {"hb": [value]})
    assert -4.5 <= x_NF[0, 0] <= 3.5
    if 4 <= value <= 20:
        assert x_NF[0, 0] == (value - 13) / 2
    elif abs(value) < ABSURD:
        assert x_NF[0, 0] == (-4.5 if value < 4 else 3.5)
    else:
        assert x_NF[0, 0] == 0


def test_a_category_is_one_hot_and_may_be_called_none() -> None:
    column = Column(
        name="smoking", kind="category", categories=("none", "former", 2), may_be_missing=True
    )
    values: Values = ["none", "former", 2.0, "2", "NONE", "", None, "often"]
    x_NF, report = features(schema_of(column), {"smoking": values})
    assert x_NF[:, :3].argmax(axis=1)[:4].tolist() == [0, 1, 2, 2]
    assert x_NF.sum(axis=1).tolist() == [1] * 8
    assert x_NF[:, 3].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert report.findings == (
        Finding("smoking", "missing", 3),
        Finding("smoking", "unknown category", 1),
    )


def test_the_neutral_category_stands_in() -> None:
    column = Column(name="sex", kind="category", categories=("f", "m"), neutral="m")
    x_NF, _ = features(schema_of(column), {"sex": [None, "x", "f"]})
    assert x_NF.tolist() == [[0, 1], [0, 1], [1, 0]]


@pytest.mark.parametrize(("neutral", "expected"), [(None, 0.0), (1.0, 1.0)])
def test_a_flag_understands_the_usual_words(neutral: float | None, expected: float) -> None:
    column = Column(name="icu", kind="flag", neutral=neutral)
    values: Values = ["Yes", "TRUE", "1", 1.0, True, "no", "F", 0, "", "perhaps", 2.0]
    x_NF, report = features(schema_of(column), {"icu": values})
    assert x_NF[:, 0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0, expected, expected, expected]
    assert report.findings == (Finding("icu", "missing", 1), Finding("icu", "unreadable", 2))


AGE = Column(name="age", kind="number", low=0, high=120)


def test_rows_without_class_or_patient_are_left_out_and_counted() -> None:
    table: dict[str, Values] = {
        "age": [60, 90, 60, 60, 60, 60],
        "ill": ["yes", "no", None, "maybe", "none", "yes"],
        "pid": ["a", 7.0, "a", "a", "7", " "],
    }
    records, report = labelled(schema_of(AGE, patient="pid"), table)
    assert records.x_NF.tolist() == [[0], [1], [0]]
    assert records.y_N.tolist() == [1, 0, 2]
    assert records.patient_N.tolist() == [0, 1, 1]
    assert (report.rows, report.kept) == (6, 3)
    assert report.findings == (
        Finding("ill", "missing", 1),
        Finding("ill", "unknown class", 1),
        Finding("pid", "missing", 1),
    )


def test_without_a_patient_column_every_record_is_a_patient() -> None:
    records, report = labelled(schema_of(AGE), {"age": [1, 2, 3], "ill": ["no", "?", "no"]})
    assert records.patient_N.tolist() == [0, 2]
    assert [found.problem for found in report.findings] == ["missing"]


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="lacks columns of the schema: age, pid"):
        labelled(schema_of(AGE, patient="pid"), {"ill": []})
    with pytest.raises(InputError, match="differ in length"):
        labelled(schema_of(AGE), {"ill": ["no"], "age": []})


def test_messages_and_reports_hold_no_value() -> None:
    private = "Jane Doe 1974"
    _, report = labelled(
        schema_of(AGE, patient="pid"), {"age": [private], "ill": [private], "pid": [private]}
    )
    assert private not in repr(report)


def test_invented_rows_fill_the_bounds() -> None:
    columns = (
        Column(name="age", kind="number", low=0, high=120, may_be_missing=True),
        Column(name="sex", kind="category", categories=("f", "m")),
        Column(name="icu", kind="flag"),
    )
    x_NF = invent(schema_of(*columns), 500, np.random.default_rng(0))
    assert x_NF.shape == (500, 5)
    assert x_NF[:, 0].min() < -1.8
    assert x_NF[:, 0].max() > 1.8
    assert 20 < x_NF[:, 1].sum() < 90
    assert (x_NF[:, 2] + x_NF[:, 3] == 1).all()
    assert set(x_NF[:, 4]) == {0.0, 1.0}
