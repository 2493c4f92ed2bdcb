from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from learning.scaling import SMALLEST_SPREAD, scaled_by
from learning.table_one import Levels, Number, TableOne
from learning.task import Metric
from protocol.errors import InputError

DIGEST = "5" * 64
SCHEMA: dict[str, Any] = {
    "columns": [
        {"name": "age", "kind": "number", "low": 0, "high": 100, "centre": 30, "spread": 7},
        {"name": "sex", "kind": "category", "categories": ["female", "male"]},
    ],
    "label": {"name": "ill", "classes": ["no", "yes"]},
}
NOBODY = Levels(name="ill", levels={}, missing=None, optional=False)


def around(value: float, half: float) -> Metric:
    return Metric(value, value - half, value + half)


def table(mean: Metric | None, sd: Metric | None) -> TableOne:
    age = Number(
        name="age",
        unit="",
        bounds=(0.0, 100.0),
        present=None,
        missing=None,
        optional=True,
        mean=mean,
        sd=sd,
        quantiles={},
        bins=(),
    )
    return TableOne(
        patients=None,
        columns=(age,),
        label=NOBODY,
        curves=(),
        time=("", ""),
        fewer_than=10,
        noise=1.0,
    )


def scale(mean: Metric | None, sd: Metric | None) -> tuple[float, float]:
    schema = scaled_by(SCHEMA, table(mean, sd), DIGEST)
    assert schema["scaled_by"] == DIGEST
    assert schema["columns"][1] == SCHEMA["columns"][1]
    age = schema["columns"][0]
    return age["centre"], age["spread"]


def test_mean_and_deviation_become_centre_and_spread() -> None:
    assert scale(around(55.5, 1.0), around(12.5, 2.0)) == (55.5, 12.5)
    assert SCHEMA["columns"][0]["centre"] == 30


@pytest.mark.parametrize(
    ("mean", "sd"),
    [
        (None, None),
        (around(55.5, 7.0), around(12.5, 1.0)),
        (around(55.5, 1.0), around(12.5, 7.0)),
        (around(55.5, 1.0), Metric(0.0, 0.0, 4.0)),
    ],
    ids=["hidden", "mean under noise", "deviation under noise", "no deviation under noise"],
)
def test_what_noise_may_have_made_is_not_taken(mean: Metric | None, sd: Metric | None) -> None:
    assert scale(mean, sd) == (30, 7)


def test_patients_who_are_all_alike_leave_a_spread() -> None:
    nothing = Metric(0.0, 0.0, 0.0)
    assert scale(around(55.5, 0.0), nothing) == (55.5, SMALLEST_SPREAD * 100)


def test_another_unit_is_another_number() -> None:
    counted = table(around(55.5, 1.0), around(12.5, 1.0))
    age = replace(counted.numbers["age"], unit="months")
    with pytest.raises(InputError, match="counted it in no unit, from 0 to 100; found months"):
        scaled_by(SCHEMA, replace(counted, columns=(age,)), DIGEST)
