"""Conversions against published factors."""

from __future__ import annotations

import numpy as np
import pytest

from client.data.units import conversion, conversions
from learning.schema import Column, Label, Schema
from protocol.errors import InputError


def column(unit: str, molar_mass: float | None = None, name: str = "x") -> Column:
    return Column(name=name, kind="number", unit=unit, low=0, high=5000, molar_mass=molar_mass)


@pytest.mark.parametrize(
    ("theirs", "ours", "molar_mass", "value", "converted"),
    [
        # SI conversion tables of clinical laboratories.
        ("mg/dl", "mmol/l", 180.156, 90, 4.9957),
        ("mmol/l", "mg/dl", 180.156, 5.5, 99.086),
        ("mg/dl", "µmol/l", 113.12, 1.2, 106.08),
        ("mg/dl", "mmol/l", 386.65, 200, 5.1726),
        ("g/dl", "g/l", None, 13.5, 135.0),
        ("degF", "degC", None, 98.6, 37.0),
        ("°C", "degF", None, 37, 98.6),
        ("K", "degC", None, 310.15, 37.0),
        ("mmHg", "kPa", None, 760, 101.325),
        ("10^9/l", "1/µl", None, 7.2, 7200.0),
        ("%", "1", None, 38, 0.38),
        ("months", "years", None, 30, 2.5),
        ("lb", "kg", None, 150, 68.039),
        ("IU/l", "mIU/ml", None, 5, 5.0),
    ],
)
def test_published_factors(
    theirs: str, ours: str, molar_mass: float | None, value: float, converted: float
) -> None:
    how = conversion(column(ours, molar_mass), theirs)
    (found,) = how.apply([str(value)])
    assert found == pytest.approx(converted, rel=2e-4)


@pytest.mark.parametrize(
    ("theirs", "ours", "told"),
    [
        ("mg/dl", "mmol/l", "cannot be converted; .*'mmol/l' measures; .*molar_mass"),
        ("kg", "mmHg", "cannot be converted"),
        ("degC", "kg", "cannot be converted"),
        ("mEq/l", "mmol/l", "is not known"),
        ("wingspans", "m", "is not known"),
        ("mg/dl", "parsnips", "'parsnips' is not known"),
        ("9**9**9**9", "m", "is not known"),
        ("10^999/l", "1/l", "is not known"),
        ("__import__('os')", "m", "is not known"),
        ("", "m", "is not known"),
    ],
)
def test_what_is_not_known_is_refused(theirs: str, ours: str, told: str) -> None:
    with pytest.raises(InputError, match=f"^units.x: .*{told}"):
        conversion(column(ours), theirs)


def test_the_same_unit_leaves_every_cell_its_number() -> None:
    assert conversion(column("mmol/l"), "mmol/l").apply(["5.1", None]) == [5.1, None]


def test_gaps_and_what_cannot_be_read_stay_as_they_stand() -> None:
    how = conversion(column("g/l"), "g/dl")
    assert how.apply([1, "2", None, "", "old", "nan", 1e40]) == [
        10.0, 20.0, None, "", "old", "nan", 1e40,
    ]  # fmt: skip
    array_N = how.apply(np.array([1.5, np.nan]))
    assert isinstance(array_N, np.ndarray)
    assert array_N.tolist()[0] == 15.0
    assert np.isnan(array_N[1])


def test_only_columns_that_the_schema_reads_are_converted() -> None:
    schema = Schema(columns=(column("g/l", name="hb"),), label=Label(name="y", classes=(0, 1)))
    assert set(conversions({"hb": "g/dl", "crp": "mg/l"}, schema)) == {"hb"}


@pytest.mark.parametrize(
    "unfit",
    [
        Column(name="x", kind="flag"),
        Column(name="x", kind="number", low=0, high=1),
    ],
)
def test_a_column_without_a_unit_has_none_to_convert_to(unfit: Column) -> None:
    with pytest.raises(InputError, match="the schema has no unit for this column"):
        conversion(unfit, "mg/dl")
