"""Tests of diagnosis: options, layouts, and predictions against torch and scikit-learn."""

from __future__ import annotations

import doctest
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from learning.diagnosis import Diagnosis
from learning.networks import set_weights
from learning.schema import Column, Label, Schema
from learning.task import Recipe, load_task
from learning.trainer import train
from protocol.config import parse
from protocol.errors import InputError
from protocol.jobs import Named
from protocol.tensors import weights_digest

COLUMNS = (
    Column(name="age", kind="number", low=0, high=120),
    Column(name="sex", kind="category", categories=("f", "m")),
)
TWO = Schema(columns=COLUMNS, label=Label(name="ill", classes=("no", "yes")), patient="pid")
THREE = Schema(columns=COLUMNS, label=Label(name="stage", classes=(1, 2, 3)))


def make(schema: Schema = TWO, **options: Any) -> Diagnosis:
    return Diagnosis.from_options(options, schema)


@pytest.mark.parametrize(
    ("schema", "options", "widths"),
    [
        (TWO, {}, (3, 1)),
        (THREE, {}, (3, 3)),
        (TWO, {"model": "mlp"}, (3, 64, 32, 16, 1)),
        (THREE, {"model": "mlp", "hidden": [5]}, (3, 5, 3)),
    ],
)
def test_layout_follows_the_widths(
    schema: Schema, options: dict[str, Any], widths: tuple[int, ...]
) -> None:
    task = make(schema, **options)
    assert task.network.widths == widths
    sizes = [(into + 1) * out for into, out in pairwise(widths)]
    assert task.layout().size == sum(sizes)
    assert task.layout().entries[-1] == ("output.bias", (widths[-1],))


def test_the_recipes_numbers_belong_to_the_model() -> None:
    assert make().recipe == Recipe(kappa=0.5, rounds=10)
    assert make(model="mlp").recipe == Recipe(kappa=2.0, rounds=20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "forest"}, "options.model"),
        ({"hidden": [4]}, "hidden layers belong"),
        ({"model": "mlp", "hidden": []}, "hidden widths"),
        ({"model": "mlp", "hidden": [8, 0]}, "hidden widths"),
        ({"class_weights": {"yes": 2}}, "other classes"),
        ({"class_weights": {"yes": 2, "no": 0}}, "positive"),
        ({"class_weights": {"yes": 2, "no": -1}}, "positive"),
        ({"class_weights": {"yes": 2, "no": "inf"}}, "finite"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Diagnosis.from_options(options, TWO)


def test_class_weights_become_factors_of_at_most_one() -> None:
    assert make().outcome.factor_C.tolist() == [1, 1]
    assert make(class_weights={"yes": 8, "no": 2}).outcome.factor_C.tolist() == [0.25, 1]
    assert make(THREE, class_weights={"1": 1, "2": 2, "3": 4}).outcome.factor_C.max() == 1


def test_initial_weights_are_pcg64_and_arithmetic() -> None:
    task = make(model="mlp", hidden=[4, 2])
    arrays = task.layout().split(task.initial(11))
    draws = np.random.Generator(np.random.PCG64(11)).random(12 + 8)
    first = (2.0 * draws[:12] - 1.0) * (int((6 * 2**40 // 3) ** 0.5) / 2**20)
    assert arrays["hidden.0.weight"].ravel().tolist() == first.tolist()
    assert abs(arrays["hidden.1.weight"]).max() <= (6 / 4) ** 0.5
    for name, array in arrays.items():
        if name.endswith("bias") or name.startswith("output"):
            assert (array == 0).all()
    assert weights_digest(task.initial(11)) != weights_digest(task.initial(12))
    assert (make().initial(11) == 0).all()


@pytest.mark.parametrize("schema", [TWO, THREE])
@pytest.mark.parametrize("options", [{}, {"model": "mlp", "hidden": [7, 5]}])
def test_predictions_are_the_torch_modules(schema: Schema, options: dict[str, Any]) -> None:
    task = make(schema, **options)
    rng = np.random.default_rng(2)
    weights_P = rng.normal(size=task.layout().size)
    x_NF = rng.normal(size=(40, 3))
    module = task.model()
    set_weights(module, task.layout(), weights_P)
    with torch.no_grad():
        output = module(torch.from_numpy(x_NF))
    if schema is TWO:
        output = torch.cat([torch.zeros_like(output), output], dim=1)
    expected = torch.softmax(output, dim=1).numpy()
    np.testing.assert_allclose(task.predict(weights_P, x_NF), expected, rtol=1e-12)


def test_patients_of_invented_records_have_two_records_each() -> None:
    rng = np.random.default_rng(0)
    assert make().generate(4, rng).patient_N.tolist() == [0, 0, 1, 1]
    assert make(THREE).generate(4, rng).patient_N.tolist() == [0, 1, 2, 3]


def breast_cancer() -> tuple[Schema, dict[str, list[str | float | None]]]:
    data = load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names]
    columns = tuple(
        Column(name=name, kind="number", low=0.0, high=float(np.ceil(column.max() + 1)),
               centre=float(column.mean()), spread=float(column.std()))
        for name, column in zip(names, data.data.T, strict=True)
    )  # fmt: skip
    table: dict[str, list[str | float | None]] = {
        name: column.tolist() for name, column in zip(names, data.data.T, strict=True)
    }
    table["diagnosis"] = [["malignant", "benign"][code] for code in data.target]
    label = Label(name="diagnosis", classes=("benign", "malignant"))
    return Schema(columns=columns, label=label), table


def test_logistic_regression_on_breast_cancer_is_scikit_learns() -> None:
    schema, table = breast_cancer()
    task = make(schema)
    records, report = task.records(table)
    assert report.kept == 569
    assert report.findings == ()
    weights_P = train(task, records, task.initial(0), steps=3000, learning_rate=1.0, l2=0.01)
    # scikit-learn leaves the bias out of the penalty, so a column of ones replaces it.
    design = np.column_stack([records.x_NF, np.ones(569)])
    oracle = LogisticRegression(C=1 / (0.01 * 569), fit_intercept=False, tol=1e-10, max_iter=5000)
    oracle.fit(design, records.y_N)
    np.testing.assert_allclose(weights_P, oracle.coef_[0], atol=1e-4)
    np.testing.assert_allclose(
        task.predict(weights_P, records.x_NF), oracle.predict_proba(design), atol=1e-4
    )


def test_class_weights_are_scikit_learns_sample_weights() -> None:
    schema, table = breast_cancer()
    task = make(schema, class_weights={"malignant": 4, "benign": 1})
    records, _ = task.records(table)
    weights_P = train(task, records, task.initial(0), steps=3000, learning_rate=1.0, l2=0.01)
    design = np.column_stack([records.x_NF, np.ones(569)])
    oracle = LogisticRegression(C=1 / (0.01 * 569), fit_intercept=False, tol=1e-10, max_iter=5000)
    oracle.fit(design, records.y_N, sample_weight=np.where(records.y_N == 1, 1.0, 0.25))
    np.testing.assert_allclose(weights_P, oracle.coef_[0], atol=1e-4)


DOCUMENT = Path(__file__).parents[2] / "docs" / "tasks" / "diagnosis.md"


def test_the_documents_examples_run() -> None:
    results = doctest.testfile(str(DOCUMENT), module_relative=False)
    assert results.attempted > 5
    assert results.failed == 0


def test_the_documents_job_is_one() -> None:
    block = re.search(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert block is not None
    job = yaml.safe_load(block[1])
    task = load_task(parse(Named, job["task"], "task"), job["schema"])
    assert isinstance(task, Diagnosis)
    assert task.network.widths == (7, 64, 32, 16, 1)
    assert task.outcome.factor_C.tolist() == [0.25, 1]


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_the_documents_bound_is_the_tasks(classes: int) -> None:
    names = tuple(str(index) for index in range(classes))
    schema = Schema(columns=COLUMNS, label=Label(name="ill", classes=names))
    square = 5 if classes == 2 else 5 * classes + 9
    assert make(schema).evaluation.norm == pytest.approx(square**0.5, rel=1e-15)
