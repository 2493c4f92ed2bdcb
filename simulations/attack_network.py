"""A small convolutional network as a task, whose gradient shows no record until it is searched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from learning.diagnosis import Diagnosis
from learning.forward import sigmoid
from learning.task import FloatArray, FloatVector
from protocol.tensors import Layout
from simulations.attack_records import SIDE

CHANNELS = 8
KERNEL = 5
STRIDE = 2
WIDTH = (SIDE + 2 * (KERNEL // 2) - KERNEL) // STRIDE + 1


@dataclass(frozen=True)
class Convolution(Diagnosis):
    """Two classes of pictures: two convolutions with sigmoids between, then one dense layer.

    Records come as flat pixels, as from a table. Sigmoids, because a search needs second
    derivatives.

    Source: Zhu, Liu, Han 2019, Deep Leakage from Gradients, section 4 (LeNet with sigmoids).
    """

    @cached_property
    def _layout(self) -> Layout:
        return Layout(
            (
                ("first.weight", (CHANNELS, 1, KERNEL, KERNEL)),
                ("first.bias", (CHANNELS,)),
                ("second.weight", (CHANNELS, CHANNELS, KERNEL, KERNEL)),
                ("second.bias", (CHANNELS,)),
                ("output.weight", (1, CHANNELS * WIDTH * WIDTH)),
                ("output.bias", (1,)),
            )
        )

    def initial(self, seed: int) -> FloatVector:
        """Public initial weights: uniform within 1/2 as in the source, the output layer zero."""
        generator = np.random.Generator(np.random.PCG64(seed))
        arrays = {
            name: np.zeros(shape)
            if name.startswith("output.") or name.endswith(".bias")
            else generator.random(shape) - 0.5
            for name, shape in self._layout.entries
        }
        return self._layout.join(arrays)

    def model(self) -> Any:
        """A `torch.nn.Module` in double precision, in the layout's order."""
        import torch  # noqa: PLC0415 - as in every task, for who needs only the layout
        from torch import nn  # noqa: PLC0415

        half = KERNEL // 2
        parts = {
            "first": nn.Conv2d(1, CHANNELS, KERNEL, stride=STRIDE, padding=half),
            "second": nn.Conv2d(CHANNELS, CHANNELS, KERNEL, padding=half),
            "output": nn.Linear(CHANNELS * WIDTH * WIDTH, 1),
        }

        class Network(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, layer in parts.items():
                    self.add_module(name, layer)

            def forward(self, x_BF: torch.Tensor) -> torch.Tensor:
                maps = x_BF.reshape(-1, 1, SIDE, SIDE)
                maps = torch.sigmoid(parts["first"](maps))
                maps = torch.sigmoid(parts["second"](maps))
                logits: torch.Tensor = parts["output"](maps.flatten(1))
                return logits

        return Network().double()

    def predict(self, weights_P: FloatVector, x_NF: FloatArray) -> FloatArray:
        """Probabilities N x 2."""
        import torch  # noqa: PLC0415

        from learning.networks import set_weights  # noqa: PLC0415

        model = self.model()
        set_weights(model, self._layout, weights_P)
        with torch.no_grad():
            logit_N = model(torch.tensor(x_NF)).numpy()[:, 0]
        return np.column_stack([sigmoid(-logit_N), sigmoid(logit_N)])
