from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from privacy.samplers import SAMPLERS, sample
from tests.privacy import zoo

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "InstanceNorm1d": (nn.InstanceNorm1d(3, affine=True), (3, 5)),
    "InstanceNorm3d": (nn.InstanceNorm3d(3, affine=True), (3, 2, 2, 2)),
    "ConvTranspose1d": (nn.ConvTranspose1d(2, 3, 3, stride=2), (2, 5)),
    "ConvTranspose3d": (nn.ConvTranspose3d(2, 3, 2, padding=1), (2, 3, 3, 3)),
    "LayerNorm over two dimensions": (nn.LayerNorm((4, 5)), (3, 4, 5)),
    "RMSNorm": (nn.RMSNorm(5), (3, 5)),
    "GroupNorm without space": (nn.GroupNorm(2, 6), (6,)),
    "Linear on four dimensions": (nn.Linear(5, 2), (3, 4, 5)),
    "Conv1d": (nn.Conv1d(4, 6, 3, stride=2, padding=2, groups=2), (4, 9)),
    "Conv3d": (nn.Conv3d(2, 4, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 2)), (2, 3, 4, 5)),
    "PReLU": (nn.PReLU(), (3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_rules_agree_with_one_record_at_a_time(name: str) -> None:
    layer, shape = LAYERS[name]
    assert type(layer) in SAMPLERS
    layer = layer.double()
    with zoo.seeded(), torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
        x = torch.randn(4, *shape, dtype=torch.float64)
        weights = torch.randn_like(layer(x))
    found = sample(layer, x, weights)
    assert set(found) == set(layer.parameters())
    for parameter, rows in found.items():
        for i in range(4):
            value = (layer(x[i : i + 1]) * weights[i : i + 1]).sum()
            (alone,) = torch.autograd.grad(value, [parameter])
            assert float((rows[i] - alone).norm()) <= 1e-12 * float(alone.norm())


def test_frozen_parameters_are_left_out() -> None:
    layer = nn.ConvTranspose1d(2, 3, 3).double()
    layer.weight.requires_grad_(False)
    x = torch.ones(2, 2, 5, dtype=torch.float64)
    assert set(sample(layer, x, layer(x).detach())) == {layer.bias}


def test_importing_opacus_leaves_the_root_logger_alone() -> None:
    program = "import logging, privacy.samplers; print(logging.getLogger().handlers)"
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert not done.stderr


class Half(nn.Module):
    """A layer that runs twice while the loss uses one of the runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.layer(x + 1)
        output: Tensor = self.layer(x)
        return output


def test_a_run_that_the_loss_does_not_use_is_not_counted() -> None:
    from privacy.engine import Engine

    with zoo.seeded():
        model = Half().double()
    x, y = zoo.records("mlp", 5)
    rows = zoo.gradients(model, zoo.cross_entropy, x, y)
    for clipping in ("onepass", "hooks"):
        engine = Engine(model, zoo.cross_entropy, clip=1.0, clipping=clipping)
        got = engine.clipped_sum(x, y)
        assert np.linalg.norm(got - zoo.clipped(rows, 1.0)) < 1e-12
