"""Tests of the training loop against formulas and autograd done by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from learning import trainer
from learning.diagnosis import Diagnosis
from learning.schema import Column, Label, Schema
from learning.task import FloatVector, Records
from learning.trainer import PlainGradient, constant, cosine, decay, pull, train
from protocol.errors import InputError

SCHEMA = Schema(
    columns=tuple(Column(name=f"x{i}", kind="number", low=-2, high=2) for i in range(3)),
    label=Label(name="ill", classes=("no", "yes")),
)


def make(**options: Any) -> tuple[Diagnosis, Records]:
    task = Diagnosis.from_options(options, SCHEMA)
    return task, task.generate(50, np.random.default_rng(1))


def by_hand(records: Records, weights_P: FloatVector) -> FloatVector:
    """Mean gradient of logistic regression, from the textbook."""
    design = np.column_stack([records.x_NF, np.ones(len(records))])
    gradient_P: FloatVector = design.T @ (expit(design @ weights_P) - records.y_N) / len(records)
    return gradient_P


def test_the_plain_gradient_is_the_textbooks() -> None:
    task, records = make()
    weights_P = np.array([0.5, -1.0, 2.0, 0.25])
    np.testing.assert_allclose(
        PlainGradient(task)(records, weights_P, 0), by_hand(records, weights_P), rtol=1e-12
    )


def test_a_stated_size_divides_the_sum() -> None:
    task, records = make()
    weights_P = np.ones(4)
    stated_P = PlainGradient(task, size=200.0)(records, weights_P, 0)
    np.testing.assert_allclose(4 * stated_P, PlainGradient(task)(records, weights_P, 0))


def test_chunks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    task, records = make(model="mlp", hidden=[3])
    weights_P = np.random.default_rng(0).normal(size=task.layout().size)
    whole_P = PlainGradient(task)(records, weights_P, 0)
    monkeypatch.setattr(trainer, "CHUNK", 7)
    np.testing.assert_allclose(PlainGradient(task)(records, weights_P, 0), whole_P, rtol=1e-10)


def test_no_records_give_no_gradient() -> None:
    task, records = make()
    nobody = records.take(np.arange(0))
    assert PlainGradient(task)(nobody, np.ones(4), 0).tolist() == [0, 0, 0, 0]


def test_the_loop_is_gradient_descent() -> None:
    task, records = make()
    weights_P = expected_P = np.array([0.1, 0.2, 0.3, 0.4])
    for step in range(5):
        pushed_P = by_hand(records, expected_P) + 0.1 * expected_P + 0.7 * (expected_P - weights_P)
        expected_P = expected_P - cosine(0.5, 5)(step) * pushed_P
    trained_P = train(
        task, records, weights_P, steps=5, learning_rate=cosine(0.5, 5), l2=0.1, proximal=0.7
    )
    np.testing.assert_allclose(trained_P, expected_P, rtol=1e-12)
    assert weights_P.tolist() == [0.1, 0.2, 0.3, 0.4]


def test_the_gradient_and_further_terms_are_arguments() -> None:
    task, records = make()
    seen: list[int] = []

    def gradient(given: Records, weights_P: FloatVector, step: int) -> FloatVector:
        assert given is records
        seen.append(step)
        return np.full_like(weights_P, 1.0)

    trained_P = train(
        task,
        records,
        np.zeros(4),
        steps=3,
        learning_rate=0.5,
        gradient=gradient,
        hooks=[lambda weights_P: np.full_like(weights_P, -3.0)],
    )
    assert seen == [0, 1, 2]
    assert trained_P.tolist() == [3.0] * 4


def test_the_proximal_term_pulls_to_the_anchor() -> None:
    task, records = make()
    anchor_P = np.array([1.0, 2.0, 3.0, 4.0])

    def still(_: Records, weights_P: FloatVector, step: int) -> FloatVector:
        return np.zeros_like(weights_P)

    trained_P = train(
        task, records, np.zeros(4), steps=200, learning_rate=0.5, proximal=0.2,
        anchor_P=anchor_P, gradient=still,
    )  # fmt: skip
    np.testing.assert_allclose(trained_P, anchor_P * (1 - 0.9**200))


def test_terms_are_gradients_of_their_penalties() -> None:
    rng = np.random.default_rng(0)
    weights_P, anchor_P, step_P = rng.normal(size=(3, 6))
    for hook, centre_P, strength in (
        (decay(0.3), np.zeros(6), 0.3),
        (pull(0.8, anchor_P), anchor_P, 0.8),
    ):
        ahead, behind = (
            strength / 2 * ((weights_P + sign * 1e-6 * step_P - centre_P) ** 2).sum()
            for sign in (1, -1)
        )
        assert hook(weights_P) @ step_P == pytest.approx((ahead - behind) / 2e-6, rel=1e-6)


def test_schedules_follow_their_formulas() -> None:
    assert [constant(0.2)(step) for step in (0, 9)] == [0.2, 0.2]
    schedule = cosine(0.2, 10)
    for step in range(10):
        assert schedule(step) == pytest.approx(0.2 * math.cos(math.pi * step / 20) ** 2)
    assert schedule(25) == 0
    with pytest.raises(InputError, match="at least one step"):
        cosine(0.2, 0)


def test_weights_of_another_model_are_refused() -> None:
    task, records = make()
    with pytest.raises(InputError, match="do not fit"):
        train(task, records, np.zeros(5), steps=1, learning_rate=0.1)


def test_divergence_is_said_and_nothing_comes_back() -> None:
    task, records = make()

    def explode(_: Records, weights_P: FloatVector, step: int) -> FloatVector:
        return np.full_like(weights_P, np.inf)

    with pytest.raises(InputError, match="lower the learning rate"):
        train(task, records, np.zeros(4), steps=1, learning_rate=0.1, gradient=explode)
