from __future__ import annotations

import numpy as np
import pytest
import torch

from learning.diagnosis import Options
from learning.networks import set_weights
from learning.schema import Schema
from privacy.guards import run_guards
from protocol.config import parse
from simulations.attack_network import Convolution
from simulations.attack_records import invent, schema
from tests.simulations.attacked import generator


@pytest.fixture(scope="module")
def task() -> Convolution:
    return Convolution(Options(), parse(Schema, schema(), "schema"))


def test_the_module_has_the_layout(task: Convolution) -> None:
    named = [(name, tuple(each.shape)) for name, each in task.model().named_parameters()]
    assert tuple(named) == task.layout().entries


def test_the_guards_find_no_hole(task: Convolution) -> None:
    """So that what the engine clips is what it would clip of any task."""
    run_guards(task.model, task.loss, task.generate, clip=1.0)


def test_first_weights_are_public_and_leave_the_output_open(task: Convolution) -> None:
    weights_P = task.initial(3)
    assert np.array_equal(weights_P, task.initial(3))
    assert not np.array_equal(weights_P, task.initial(4))
    parts = task.layout().split(weights_P)
    assert not parts["output.weight"].any()
    assert np.abs(parts["first.weight"]).max() <= 0.5


def test_predictions_are_the_modules(task: Convolution) -> None:
    weights_P = generator().normal(size=task.layout().size)
    records = invent(5, generator())
    model = task.model()
    set_weights(model, task.layout(), weights_P)
    logits = model(torch.tensor(records.x_NF)).detach()[:, 0]
    probs_N2 = task.predict(weights_P, records.x_NF)
    assert probs_N2[:, 1] == pytest.approx(torch.sigmoid(logits).numpy())
    assert probs_N2.sum(axis=1) == pytest.approx(np.ones(5))
