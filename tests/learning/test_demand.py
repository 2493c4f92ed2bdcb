"""Demand: quantiles against the law of invented wards, and metrics against plain formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from learning.demand import Demand
from learning.networks import quantile_loss
from learning.schema import Column, Label, Schema
from protocol.errors import InputError

SCHEMA = Schema(
    columns=(
        Column(name="ward", kind="category", categories=("a", "b")),
        Column(name="lag", kind="number", low=0, high=40, centre=10, spread=5),
    ),
    label=Label(name="beds", low=0, high=40),
)


def task(**options: object) -> Demand:
    return Demand.from_options(options, SCHEMA)


def test_the_first_forecast_is_the_naive_one_in_its_own_unit() -> None:
    one = task(naive="lag", scale=3)
    x_NF, _ = one.features({"ward": ["a", "b", "a"], "lag": [7, 0, 39]})
    predicted = one.predict(one.initial(0), x_NF)
    np.testing.assert_allclose(predicted, [[7] * 4, [0] * 4, [39] * 4], atol=1e-9)
    plain = task()
    assert plain.predict(plain.initial(0), x_NF).tolist() == [[20, 20, 20]] * 3


def test_the_module_says_what_predict_says() -> None:
    one = task(naive="lag", model="mlp", hidden=[4])
    from learning.networks import set_weights

    weights_P = np.random.default_rng(0).normal(size=one.layout().size) * 0.3
    x_NF, model = one.generate(20, np.random.default_rng(1)).x_NF, one.model()
    set_weights(model, one.layout(), weights_P)
    raw = model(torch.from_numpy(x_NF)).detach().numpy() * 5.0
    expected = np.clip(np.sort(raw, axis=1), 0, 40)
    np.testing.assert_allclose(one.predict(weights_P, x_NF)[:, :3], expected, atol=1e-9)


def test_quantiles_do_not_cross_and_stay_between_the_bounds() -> None:
    one = task()
    weights_P = np.random.default_rng(0).normal(size=one.layout().size) * 3
    predicted = one.predict(weights_P, one.generate(50, np.random.default_rng(1)).x_NF)
    assert (np.diff(predicted, axis=1) >= 0).all()
    assert predicted.min() >= 0
    assert predicted.max() <= 40


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_smoothed_loss_is_least_near_the_quantile(level: float) -> None:
    target = torch.from_numpy(norm.ppf((np.arange(2000) + 0.5) / 2000))
    grid = np.linspace(-2.5, 2.5, 201)
    loss = [quantile_loss(torch.full((2000, 1), at), target, (level,)).sum() for at in grid]
    assert grid[int(np.argmin(loss))] == pytest.approx(norm.ppf(level), abs=0.13)


def test_targets_are_numbers_put_between_the_bounds() -> None:
    records, report = task().records(
        {"ward": ["a"] * 4, "lag": [1] * 4, "beds": ["12", 99, None, "many"]}
    )
    assert records.y_N.tolist() == [12, 40]
    problems = {one.problem: one.count for one in report.findings if one.column == "beds"}
    assert problems == {"missing": 1, "unreadable": 1, "outside bounds": 1}


def test_metrics_are_means_over_records() -> None:
    rng = np.random.default_rng(0)
    y_N = rng.uniform(16, 24, size=400)
    predicted = np.sort(y_N[:, None] + rng.normal(size=(400, 3)) * 4, axis=1)
    predicted = np.column_stack([predicted, y_N + 2.0])
    one = task(naive="lag")
    metrics = one.evaluation.metrics(one.evaluation.counts(predicted, y_N, np.arange(400)))
    level_K = np.array([0.1, 0.5, 0.9])
    over = (y_N[:, None] - predicted[:, :3]) / 40
    pinball = np.where(over > 0, level_K * over, (level_K - 1) * over).mean()
    assert metrics["pinball"].value == pytest.approx(pinball, abs=1e-5)
    assert metrics["absolute_error:naive"].value == pytest.approx(0.05, abs=1e-5)
    for place, level in enumerate(("0.1", "0.5", "0.9")):
        share = float((y_N <= predicted[:, place]).mean())
        assert metrics[f"coverage:{level}"].value == pytest.approx(share, abs=1e-5)


def test_r1_is_one_for_the_truth_and_zero_for_constants() -> None:
    y_N = np.arange(0.0, 40.0)
    evaluation = task().everybody
    assert evaluation.explained(np.repeat(y_N[:, None], 3, axis=1), y_N) == 1
    constant = np.quantile(y_N, [0.1, 0.5, 0.9], method="inverted_cdf")
    assert evaluation.explained(np.tile(constant, (40, 1)), y_N) == pytest.approx(0)
    with pytest.raises(InputError, match="differ"):
        evaluation.explained(np.zeros((3, 3)), np.zeros(3))


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": [3]},
        {"model": "mlp", "hidden": []},
        {"quantiles": []},
        {"quantiles": [0.5, 0.5]},
        {"quantiles": [0.5, 1.0]},
        {"scale": 0},
        {"naive": "ward"},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        task(**options)


def test_schema_and_forecasts_must_fit() -> None:
    with pytest.raises(InputError, match="label of demand"):
        Demand.from_options({}, replace(SCHEMA, label=Label(name="ill", classes=("a", "b"))))
    with pytest.raises(InputError, match="one row a record"):
        task().evaluation.counts(np.ones((2, 2)), np.zeros(2), np.arange(2))
    with pytest.raises(InputError, match="finite"):
        task().evaluation.counts(np.full((1, 3), np.nan), np.zeros(1), np.arange(1))
    with pytest.raises(InputError, match="counts"):
        task().evaluation.metrics(np.zeros(3))


def test_a_label_is_classes_or_bounds() -> None:
    for wrong in ({"classes": ("a", "b"), "low": 0, "high": 1}, {"low": 3, "high": 3}, {"low": 1}):
        with pytest.raises(InputError):
            Label(name="beds", **wrong)
