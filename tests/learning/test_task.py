"""Tests of the contract's own types and of the registry."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest

from learning import task
from learning.diagnosis import Diagnosis
from learning.task import Records, load_task
from protocol.errors import InputError
from protocol.jobs import Named

SCHEMA: dict[str, Any] = {
    "columns": [{"name": "age", "kind": "number", "low": 0, "high": 120}],
    "label": {"name": "ill", "classes": ["no", "yes"]},
}


def test_records_refuse_parts_of_different_length() -> None:
    with pytest.raises(InputError, match="differ in number"):
        Records(x_NF=np.zeros((2, 1)), y_N=np.zeros(3), patient_N=np.arange(2))


def test_taking_records_keeps_patients() -> None:
    records = Records(
        x_NF=np.arange(6.0).reshape(3, 2), y_N=np.array([0, 1, 2]), patient_N=np.array([5, 5, 9])
    )
    some = records.take(np.array([True, False, True]))
    assert some.x_NF.tolist() == [[0.0, 1.0], [4.0, 5.0]]
    assert some.patient_N.tolist() == [5, 9]
    assert records.take(np.array([2, 2])).y_N.tolist() == [2, 2]
    assert records.num_patients == 2


def test_a_jobs_task_is_found_and_built() -> None:
    built = load_task(Named(name="diagnosis", options={"model": "logistic"}), SCHEMA)
    assert isinstance(built, Diagnosis)
    assert built.schema.feature_names == ("age",)


def test_an_unknown_task_is_refused_with_the_installed_ones() -> None:
    with pytest.raises(InputError, match=r"no task 'diagnoses'.*'diagnosis'"):
        load_task(Named(name="diagnoses", options={}), SCHEMA)


@pytest.mark.parametrize("value", ["learning.no_such_module:Task", "learning.task:NoSuchTask"])
def test_a_task_that_cannot_be_imported_is_an_input_error(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    broken = EntryPoint(name="broken", value=value, group=task.GROUP)
    monkeypatch.setattr(task, "installed", lambda: {"broken": broken})
    with pytest.raises(InputError, match="cannot be imported"):
        load_task(Named(name="broken", options={}), SCHEMA)


def test_errors_name_the_key_in_the_job() -> None:
    named = Named(name="diagnosis", options={"modl": "logistic"})
    with pytest.raises(InputError, match=r"job\.task: options\.modl.*did you mean 'model'"):
        load_task(named, SCHEMA)
    with pytest.raises(InputError, match=r"job\.schema\.columns\[0\]"):
        load_task(
            Named(name="diagnosis", options={}),
            {**SCHEMA, "columns": [{"name": "age", "kind": "number"}]},
        )
