"""Signals: both networks against torch, and gradients per record against records alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from learning.networks import set_weights
from learning.schema import Column, Label, Schema
from learning.signals import Signals
from privacy.engine import Engine
from privacy.guards import run_guards
from privacy.probes import single_gradients
from protocol.errors import InputError

SERIES = Column(name="series", kind="array", shape=(23, 3), low=-5, high=5, may_be_missing=True)
SCHEMA = Schema(
    columns=(SERIES, Column(name="age", kind="number", low=0, high=100)),
    label=Label(name="rhythm", classes=("sinus", "flutter", "fibrillation")),
)
MODELS = {
    "convolution": {"widths": [4, 6], "kernel": 5},
    "recurrent": {"model": "recurrent", "frame": 4, "state": 5},
}
every_model = pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)


def make(options: dict[str, Any]) -> Signals:
    return Signals.from_options(options, SCHEMA)


def weights_of(task: Signals) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(0).normal(size=task.layout().size)


@every_model
def test_numpy_predicts_what_torch_does(options: dict[str, Any]) -> None:
    task = make(options)
    weights_P, x_NF = weights_of(task), task.generate(9, np.random.default_rng(0)).x_NF
    model = task.model()
    set_weights(model, task.layout(), weights_P)
    with torch.no_grad():
        expected_NO = model(torch.from_numpy(x_NF)).numpy()
    found_NO = task.network.logits(task.layout().split(weights_P), x_NF)
    np.testing.assert_allclose(found_NO, expected_NO, rtol=1e-11, atol=1e-11)


def test_the_gated_unit_is_pytorchs() -> None:
    task = make(MODELS["recurrent"])
    arrays = task.layout().split(weights_of(task))
    oracle = torch.nn.GRU(12, 5, batch_first=True, dtype=torch.float64)
    theirs = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
    ours = ("inputs.weight", "inputs.bias", "recurrent.weight", "recurrent.bias")
    with torch.no_grad():
        for one, other in zip(theirs, ours, strict=True):
            getattr(oracle, one).copy_(torch.from_numpy(arrays[other].copy()))
        x_NF = task.generate(4, np.random.default_rng(0)).x_NF
        # Five frames of four samples; the last three of 23 samples are not read.
        frames = torch.from_numpy(x_NF[:, : 23 * 3].reshape(4, 23, 3)[:, :20].reshape(4, 5, 12))
        mean_NH = oracle(frames)[0].mean(dim=1).numpy()
    joined = np.hstack([mean_NH, x_NF[:, 23 * 3 :]])
    expected_NO = joined @ arrays["output.weight"].T + arrays["output.bias"]
    np.testing.assert_allclose(task.network.logits(arrays, x_NF), expected_NO, rtol=1e-10)


@every_model
def test_clipped_sums_are_those_of_each_record_alone(options: dict[str, Any]) -> None:
    task = make(options)
    records = task.generate(7, np.random.default_rng(0))
    engine = Engine(task.model(), task.loss, clip=1.0, max_batch=3)
    engine.load(weights_of(task))
    rows_NP = single_gradients(engine.model, task.loss, records.x_NF, records.y_N)
    norm_N1 = np.linalg.norm(rows_NP, axis=1, keepdims=True)
    expected_P = (rows_NP / np.maximum(norm_N1, 1.0)).sum(axis=0)
    found_P = engine.clipped_sum(records.x_NF, records.y_N)
    np.testing.assert_allclose(found_P, expected_P, rtol=1e-5, atol=1e-6)


@every_model
def test_guards_pass_for_patients(options: dict[str, Any]) -> None:
    task = make(options)
    run_guards(task.model, task.loss, task.generate, clip=1.0, unit="patient")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": "recurrent", "widths": [4]}, "belong to the model 'convolution'"),
        ({"kernel": 4}, "kernel; expected an odd number"),
        ({"frame": 0}, "frame; expected at least 1"),
        ({"state": 0}, "state"),
        ({"model": "recurrent", "frame": 24}, "frames in a series"),
        ({"centres": [1.0]}, "centres; expected 3 numbers"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        make(options)
