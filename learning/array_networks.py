"""Torch modules over images and series; only nodes load this module.

Only layers whose gradients per record are exact are used, no operation changes its input in place,
and nothing is remembered of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from learning.networks import linear
from learning.residual import EPSILON, groups_of
from learning.task import FloatArray

if TYPE_CHECKING:
    from learning.recurrent import RecurrentNetwork
    from learning.residual import ResidualNetwork

# Records that go through a frozen backbone at once.
CHUNK = 64

Pair = tuple[int, int]


class Block(nn.Module):
    """Two convolutions with normalisations, beside a shortcut."""

    def __init__(self, inputs: int, width: int, kernel: Pair, step: Pair) -> None:
        super().__init__()
        self.first = _convolution(inputs, width, kernel, step)
        self.first_norm = _norm(width)
        self.second = _convolution(width, width, kernel, (1, 1))
        self.second_norm = _norm(width)
        self.shortcut = _convolution(inputs, width, (1, 1), step)

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps of the next resolution, B x channels x height x width, from such maps.

        Args:
            maps: B x channels x height x width, or B x channels x time.
        """
        inner = functional.relu(self.first_norm(self.first(maps)))
        return functional.relu(self.second_norm(self.second(inner)) + self.shortcut(maps))


class Residual(nn.Module):
    """The module of `learning.residual.ResidualNetwork`.

    What is frozen is made of buffers, so it is no parameter: neither trained nor exchanged.
    """

    def __init__(self, network: ResidualNetwork) -> None:
        super().__init__()
        kernel, step, widths = network.kernel, network.step, network.widths
        self.stem = _convolution(network.place.channels, widths[0], kernel, step)
        self.stem_norm = _norm(widths[0])
        self.blocks = nn.ModuleList(Block(*pair, kernel, step) for pair in pairwise(widths))
        self._network = network
        if network.frozen is not None:
            _freeze(self, network.frozen())
        self.output = linear(2 * widths[-1] + len(network.place.others), network.outputs)

    def forward(self, x_BF: Tensor) -> Tensor:
        """Logits B x O."""
        image = self._network.images(x_BF, x_BF.new_tensor)
        if self._network.frozen is None:
            pooled_BW = self._pooled(image)
        else:
            # Training takes no gradient here; an explanation asks for the slope in the input.
            with torch.set_grad_enabled(image.requires_grad):
                pooled_BW = torch.cat([self._pooled(part) for part in image.split(CHUNK)])
        others_BR = self._network.place.rest(x_BF)
        logits_BO: Tensor = self.output(torch.cat([pooled_BW, others_BR], dim=1))
        return logits_BO

    def _pooled(self, image: Tensor) -> Tensor:
        maps = functional.relu(self.stem_norm(self.stem(image)))
        for block in self.blocks:
            maps = block(maps)
        return torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)


class Recurrent(nn.Module):
    """The module of `learning.recurrent.RecurrentNetwork`.

    Both products are linear layers, so gradients per record follow from their inputs and outputs.
    """

    def __init__(self, network: RecurrentNetwork) -> None:
        super().__init__()
        gates = 3 * network.width
        self.inputs = linear(network.frame * network.place.channels, gates)
        self.recurrent = linear(network.width, gates)
        self.output = linear(network.width + len(network.place.others), network.outputs)
        self._network = network

    def forward(self, x_BF: Tensor) -> Tensor:
        """Logits B x O."""
        given_BSG = self.inputs(self._network.frames(x_BF, x_BF.new_tensor))
        state_BH = x_BF.new_zeros((x_BF.shape[0], self._network.width))
        sum_BH = state_BH
        for given_BG in given_BSG.unbind(dim=1):
            state_BH = self._next(given_BG, state_BH)
            sum_BH = sum_BH + state_BH
        mean_BH = sum_BH / max(self._network.steps, 1)
        others_BR = self._network.place.rest(x_BF)
        logits_BO: Tensor = self.output(torch.cat([mean_BH, others_BR], dim=1))
        return logits_BO

    def _next(self, given_BG: Tensor, state_BH: Tensor) -> Tensor:
        reset, update, new = given_BG.chunk(3, dim=1)
        own_reset, own_update, own_new = self.recurrent(state_BH).chunk(3, dim=1)
        update_BH = torch.sigmoid(update + own_update)
        new_BH = torch.tanh(new + torch.sigmoid(reset + own_reset) * own_new)
        return (1 - update_BH) * new_BH + update_BH * state_BH


def _convolution(inputs: int, outputs: int, kernel: Pair, step: Pair) -> nn.Conv2d:
    padding = (kernel[0] // 2, kernel[1] // 2)
    layer = nn.Conv2d(
        inputs, outputs, kernel, step, padding, bias=False, dtype=torch.float64, device="meta"
    )
    layer = layer.to_empty(device="cpu")
    nn.init.zeros_(layer.weight)
    return layer


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups_of(width), width, eps=EPSILON, dtype=torch.float64)


def _freeze(module: nn.Module, arrays: Mapping[str, FloatArray]) -> None:
    """Turn every parameter into a buffer with the given value."""
    for path, layer in module.named_modules():
        for name in [*dict(layer.named_parameters(recurse=False))]:
            delattr(layer, name)
            layer.register_buffer(name, torch.as_tensor(arrays[f"{path}.{name}"]).double())
