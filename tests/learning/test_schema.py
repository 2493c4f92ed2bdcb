"""Tests of the schema: what it derives and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.schema import Column, Label, Schema, as_text
from protocol.canonical import from_canonical, to_canonical
from protocol.config import parse
from protocol.errors import InputError

AGE = Column(name="age", kind="number", low=0, high=120)
SEX = Column(name="sex", kind="category", categories=("f", "m"), may_be_missing=True)
ILL = Label(name="ill", classes=(0, 1))


@given(st.integers())
def test_whole_numbers_read_alike_as_text_integer_and_float(number: int) -> None:
    assert as_text(str(number)) == as_text(number) == str(number)
    if abs(number) < 2**53:
        assert as_text(float(number)) == str(number)


def test_other_values_have_one_spelling() -> None:
    assert as_text(float("inf")) == "inf"
    assert as_text(True) == "1"
    assert as_text(1 << 20_000).startswith("0x1000")
    assert as_text(0.5) == "0.5"


def test_constants_of_a_number_come_from_its_bounds() -> None:
    assert (AGE.middle, AGE.width) == (60, 30)
    stated = Column(name="age", kind="number", low=0, high=120, centre=50, spread=20)
    assert (stated.middle, stated.width) == (50, 20)


def test_features_are_named_in_order() -> None:
    schema = Schema(columns=(SEX, AGE), label=ILL, patient="pid", time="day", site="ward")
    assert schema.feature_names == ("sex=f", "sex=m", "sex missing", "age")
    assert schema.num_features == 4
    assert schema.column_names == ("sex", "age", "ill", "pid", "day", "ward")
    assert schema.unit == "patient"
    assert Schema(columns=(AGE,), label=ILL).unit == "record"
    assert ILL.texts == ("0", "1")


def test_a_schema_survives_the_jobs_bytes() -> None:
    schema = Schema(columns=(AGE, SEX), label=ILL, patient="pid")
    assert parse(Schema, from_canonical(to_canonical(schema)), "schema") == schema


NUMBER: dict[str, Any] = {"name": "x", "kind": "number", "low": 0, "high": 1}
CATEGORY: dict[str, Any] = {"name": "x", "kind": "category", "categories": ["a", "b"]}
FLAG: dict[str, Any] = {"name": "x", "kind": "flag"}


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({**NUMBER, "name": ""}, "without a name"),
        ({**NUMBER, "kind": "numbr"}, "did you mean"),
        ({**NUMBER, "low": None}, "has no bounds.*codebook"),
        ({**NUMBER, "low": 2}, "low < high"),
        ({**NUMBER, "low": -1e308, "high": 1e308}, "low < high"),
        ({**NUMBER, "centre": 1.5}, "centre of a number"),
        ({**NUMBER, "neutral": -0.1}, "neutral of a number"),
        ({**NUMBER, "neutral": "0.5"}, "neutral of a number"),
        ({**NUMBER, "spread": 0}, "spread"),
        ({**NUMBER, "spread": -1}, "spread"),
        ({**NUMBER, "spread": 1e-9}, "spread"),
        ({**NUMBER, "categories": ["a", "b"]}, "kind 'category'"),
        ({**CATEGORY, "low": 0}, "belong to numbers"),
        ({**CATEGORY, "categories": ["a"]}, "too few categories"),
        ({**CATEGORY, "categories": ["1", 1]}, "named once"),
        ({**CATEGORY, "categories": ["a", " "]}, "must be named"),
        ({**CATEGORY, "neutral": "c"}, "neutral of a category"),
        ({**FLAG, "neutral": 0.5}, "neutral of a flag"),
        ({**FLAG, "spread": 1}, "belong to numbers"),
    ],
)
def test_a_column_that_makes_no_sense_is_refused(column: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(Column, column, "column")


@pytest.mark.parametrize("column", [NUMBER, CATEGORY, FLAG, {**FLAG, "neutral": 1}])
def test_a_plain_column_is_taken(column: dict[str, Any]) -> None:
    assert parse(Column, column, "column").name == "x"


def test_a_label_needs_two_classes() -> None:
    with pytest.raises(InputError, match="too few classes"):
        Label(name="ill", classes=("yes",))
    with pytest.raises(InputError, match="named once"):
        Label(name="ill", classes=(1, "1"))


def test_columns_label_and_keys_are_different_columns() -> None:
    with pytest.raises(InputError, match="too few columns"):
        Schema(columns=(), label=ILL)
    with pytest.raises(InputError, match="named once"):
        Schema(columns=(AGE, AGE), label=ILL)
    with pytest.raises(InputError, match="named once"):
        Schema(columns=(AGE,), label=Label(name="age", classes=(0, 1)))
    with pytest.raises(InputError, match="named once"):
        Schema(columns=(AGE,), label=ILL, patient="ill")
