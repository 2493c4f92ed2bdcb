"""Tests of torch modules and losses against formulas in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special

from learning.networks import Dense, class_loss, set_weights
from protocol.errors import IntegrityError
from protocol.tensors import Layout


def test_modules_start_at_zero_and_leave_torchs_generator_alone() -> None:
    before = torch.random.get_rng_state()
    module = Dense((4, 3, 2))
    assert (torch.random.get_rng_state() == before).all()
    assert all((parameter == 0).all() for parameter in module.parameters())
    assert module(torch.ones(5, 4, dtype=torch.float64)).tolist() == [[0, 0]] * 5


def test_weights_are_written_in_the_layouts_order() -> None:
    module = Dense((2, 1))
    layout = Layout((("output.weight", (1, 2)), ("output.bias", (1,))))
    weights_P = np.array([1.0, 2.0, 3.0])
    set_weights(module, layout, weights_P)
    weights_P[:] = 0
    assert module(torch.tensor([[10.0, 100.0]], dtype=torch.float64)).item() == 213
    with pytest.raises(IntegrityError):
        set_weights(module, layout, np.array([1.0, np.nan, 0.0]))


FACTOR = torch.tensor([1.0, 0.25, 0.5], dtype=torch.float64)


def test_binary_loss_is_the_weighted_negative_log_likelihood() -> None:
    logits = np.array([-3.0, 0.0, 2.0, 800.0])
    target = np.array([0, 1, 1, 0])
    loss = class_loss(torch.from_numpy(logits)[:, None], torch.from_numpy(target), FACTOR)
    likelihood = special.log_expit(np.where(target == 1, logits, -logits))
    np.testing.assert_allclose(loss.numpy(), -likelihood * FACTOR.numpy()[target], rtol=1e-12)


def test_loss_of_many_classes_is_the_weighted_negative_log_likelihood() -> None:
    logits = np.random.default_rng(0).normal(size=(6, 3)) * 5
    target = np.array([0, 1, 2, 0, 1, 2])
    loss = class_loss(torch.from_numpy(logits), torch.from_numpy(target), FACTOR)
    likelihood = special.log_softmax(logits, axis=1)[np.arange(6), target]
    np.testing.assert_allclose(loss.numpy(), -likelihood * FACTOR.numpy()[target], rtol=1e-12)


@pytest.mark.parametrize("outputs", [1, 3])
def test_factors_never_couple_records(outputs: int) -> None:
    """A mean weighted by the batch's own weights would: its gradient moves by up to 15 C."""
    logits = torch.randn(
        5, outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    logits.requires_grad_()
    target = torch.tensor([0, 1, 1, 0, 0])
    for row in range(5):
        (slope_BO,) = torch.autograd.grad(class_loss(logits, target, FACTOR)[row], logits)
        others = [other for other in range(5) if other != row]
        assert (slope_BO[others] == 0).all()
        assert (slope_BO[row] != 0).any()
