"""A small encoder whose frozen layers are out of sight, as an adapted language model's are."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

LAYERS, HEADS, LENGTH, WIDTH = 3, 8, 96, 64


class Frozen(nn.Module):
    """Attention and a wide layer, written out so that every product is kept for the way back."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(LAYERS))
        self.up = nn.ModuleList(nn.Linear(WIDTH, 4 * WIDTH) for _ in range(LAYERS))
        self.down = nn.ModuleList(nn.Linear(4 * WIDTH, WIDTH) for _ in range(LAYERS))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """States B x T x D from states."""
        for mixed, up, down in zip(self.mixed, self.up, self.down, strict=True):
            parts = mixed(x_BTD).unflatten(2, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
            query, key, value = parts
            scores = (query @ key.transpose(2, 3) / (WIDTH // HEADS) ** 0.5).softmax(dim=3)
            x_BTD = x_BTD + (scores @ value).transpose(1, 2).flatten(2)
            x_BTD = x_BTD + down(functional.gelu(up(x_BTD)))
        return x_BTD


class Encoder(nn.Module):
    """A trained layer, frozen ones that nobody's `parameters()` shows, and a trained layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.output = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2)
        self._frozen = (Frozen().double().requires_grad_(requires_grad=False),)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Two logits."""
        output: Tensor = self.output(self._frozen[0](self.first(x_BTD)).mean(dim=1))
        return output


def loss(output: Tensor, target: Tensor) -> Tensor:
    """One value per record."""
    return functional.cross_entropy(output, target, reduction="none")


def inputs(records: int) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, Any]]:
    """Invented states N x T x D and classes."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(records, LENGTH, WIDTH)), rng.integers(2, size=records)
