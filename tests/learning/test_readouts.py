"""Every installed task predicts the same in torch as in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from learning.artefact import Model
from learning.demand import Demand
from learning.readouts import answer, readout, whole
from learning.task import Task, load_task
from protocol.errors import InputError, IntegrityError
from protocol.jobs import Named
from tests.contracts.cases import CASES, Case, every_case, invented
from tests.models import card_of, invented_weights


def model_of(named: Named, schema: Mapping[str, Any], seed: int = 0) -> Model:
    """A finished model with random weights."""
    weights_P = invented_weights(named, schema, seed)
    card = card_of(named, schema, weights_P, version=3)
    return Model(card, load_task(named, schema), weights_P)


def case_model(case: Case) -> Model:
    """A finished model of a case of the tasks' contract."""
    return model_of(Named(name=case.name, options=case.options), case.schema)


@every_case
def test_torch_predicts_the_same(case: Case) -> None:
    model = case_model(case)
    x_NF = invented(model.task, 33).x_NF
    predicted_NC = model.predict(x_NF)
    found = whole(model)(torch.from_numpy(x_NF)).numpy()
    np.testing.assert_allclose(found, predicted_NC, rtol=1e-11, atol=1e-11)
    answer_N = answer(model.task, predicted_NC)
    assert answer_N.shape == (33,)
    assert answer_N.dtype == np.int64
    assert ((answer_N >= 0) & (answer_N < predicted_NC.shape[1])).all()


def test_the_naive_forecast_comes_last() -> None:
    schema = {
        "columns": [{"name": "lag", "kind": "number", "low": 0, "high": 40}],
        "label": {"name": "beds", "low": 0, "high": 40},
    }
    model = model_of(Named(name="demand", options={"naive": "lag"}), schema)
    x_NF = np.array([[-1.0], [0.5]])
    found = whole(model)(torch.from_numpy(x_NF)).numpy()
    np.testing.assert_allclose(found, model.predict(x_NF), atol=1e-12)
    assert found[:, -1].tolist() == [10.0, 25.0]


def test_what_is_explained() -> None:
    two, four = np.array([[0.9, 0.1]]), np.array([[0.1, 0.2, 0.4, 0.3]])
    found = {
        "logistic": two,
        "many classes": four,
        "labels": np.array([[0.1, 0.2, 0.05]]),
        "survival of patients": np.array([[0.9, 0.8, 0.7]]),
        "treatment": np.array([[0.3, 0.8, 0.1, 0.2, 0.1, 0.7]]),
        "demand": np.array([[1.0, 2.0, 3.0]]),
    }
    columns = {name: answer(CASES[name].build(), rows).tolist() for name, rows in found.items()}
    assert columns == {
        "logistic": [1],
        "many classes": [2],
        "labels": [1],
        "survival of patients": [2],
        "treatment": [1],
        "demand": [1],
    }


@dataclass(frozen=True)
class _Doubled(Demand):
    """A task that says nothing of how it predicts in torch beyond what it inherits."""

    def predict(self, weights_P: Any, x_NF: Any) -> Any:
        return 0.5 * super().predict(weights_P, x_NF)


def test_a_task_that_predicts_otherwise_is_refused() -> None:
    model = case_model(CASES["demand"])
    task = model.task
    assert isinstance(task, Demand)
    other = replace(model, task=_Doubled(task.options, task.schema))
    with pytest.raises(IntegrityError, match="something else in torch"):
        whole(other)


def test_a_task_without_a_readout_is_refused() -> None:
    task: Task = CASES["demand"].build()
    unknown: Any = type("Unknown", (), {"schema": task.schema})()
    with pytest.raises(InputError, match="register"):
        readout(unknown, torch.zeros(1, 1), torch.zeros(1, 1))
