"""Small models of every supported kind, and gradients taken one record at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from opacus.layers import DPGRU, DPLSTM, DPMultiheadAttention
from torch import Tensor, nn
from torch.nn import functional

Array = npt.NDArray[Any]


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(output, target, reduction="none")


class Last(nn.Module):
    """A recurrent layer and a linear layer on its last state."""

    def __init__(self, recurrent: nn.Module, width: int) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.output = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.recurrent(x)
        output: Tensor = self.output(states[:, -1])
        return output


class Attention(nn.Module):
    """One transformer layer over tokens, positions from a second embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 8)
        self.positions = nn.Embedding(6, 8)
        self.attention = DPMultiheadAttention(8, 2, batch_first=True)
        self.first, self.second = nn.LayerNorm(8), nn.RMSNorm(8)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)
        self.output = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1]).expand(x.shape)
        h = self.tokens(x) + self.positions(places)
        h = self.first(h + self.attention(h, h, h, need_weights=False)[0])
        h = self.second(h + self.down(torch.relu(self.up(h))))
        output: Tensor = self.output(h.mean(1))
        return output


class Tied(nn.Module):
    """An embedding whose weight is also that of the output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(5, 4)
        self.output = nn.Linear(4, 5, bias=False)
        self.output.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.output(torch.tanh(self.tokens(x)).mean(1))
        return output


class Twice(nn.Module):
    """One linear layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.output = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(torch.tanh(self.shared(x)))
        output: Tensor = self.output(self.norm(torch.tanh(self.shared(h))))
        return output


class Permuted(nn.Module):
    """Channels last in memory: what Opacus' convolution rule reads wrongly."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.output = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.output(self.conv(x.permute(0, 3, 1, 2)).mean((2, 3)))
        return output


class Spare(nn.Module):
    """A model with a head that the loss does not use and a layer run without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(4, 3)
        self.spare = nn.Linear(4, 2)
        self.fixed = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.spare(x)
        with torch.no_grad():
            x = self.fixed(x)
        output: Tensor = self.used(x)
        return output


def mlp() -> nn.Module:
    layers = (nn.Linear(4, 6), nn.ReLU(), nn.LayerNorm(6), nn.Linear(6, 3, bias=False))
    return nn.Sequential(*layers)


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, stride=2, groups=2),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.Conv2d(4, 4, (1, 3), padding="same", dilation=2),
        nn.InstanceNorm2d(4, affine=True),
        nn.PReLU(4),
        nn.Flatten(),
        nn.Linear(64, 3),
    )


def plain_cnn() -> nn.Module:
    layers = (nn.Conv2d(2, 4, 3, padding=1, stride=2), nn.GroupNorm(2, 4), nn.ReLU())
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 3))


def signals() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, dilation=2, padding="same"),
        nn.Tanh(),
        nn.GroupNorm(2, 4),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def upsampling() -> nn.Module:
    layers = (nn.ConvTranspose2d(2, 3, 2, stride=2), nn.Tanh(), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(3 * 64, 3))


def volume() -> nn.Module:
    layers = (nn.Conv3d(1, 2, 3, padding="same"), nn.GroupNorm(1, 2), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(54, 3))


def words() -> nn.Module:
    return nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(24, 3))


Shape = tuple[int, ...]

MODELS: dict[str, tuple[Callable[[], nn.Module], Shape, int | None]] = {
    "mlp": (mlp, (4,), None),
    "cnn": (cnn, (2, 8, 8), None),
    "plain_cnn": (plain_cnn, (2, 8, 8), None),
    "conv1d": (signals, (2, 9), None),
    "conv3d": (volume, (1, 3, 3, 3), None),
    "transposed": (upsampling, (2, 4, 4), None),
    "permuted": (Permuted, (5, 6, 2), None),
    "embedding": (words, (6,), 7),
    "gru": (lambda: Last(DPGRU(3, 4, batch_first=True, num_layers=2), 4), (5, 3), None),
    "lstm": (lambda: Last(DPLSTM(3, 4, batch_first=True, bidirectional=True), 8), (5, 3), None),
    "attention": (Attention, (6,), 7),
    "tied": (Tied, (3,), 5),
    "twice": (Twice, (4,), None),
    "spare": (Spare, (4,), None),
}
"""Name to (model, shape of a record, vocabulary where inputs are indices)."""

GHOST = ("mlp", "plain_cnn", "conv1d", "conv3d", "permuted", "embedding")
"""Models for which ghost norms are exact."""


def build(name: str) -> nn.Module:
    """The model in float64 with fixed weights."""
    with seeded():
        return MODELS[name][0]().double()


def records(name: str, count: int, seed: int = 0) -> tuple[Array, Array]:
    """Random inputs and classes."""
    rng = np.random.Generator(np.random.PCG64(seed))
    _, shape, vocabulary = MODELS[name]
    size = (count, *shape)
    x = rng.normal(size=size) * 3 if vocabulary is None else rng.integers(vocabulary, size=size)
    return x, rng.integers(3, size=count)


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """torch's generator seeded for a moment and put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def gradients(model: nn.Module, loss: Callable[..., Tensor], x: Array, y: Array) -> Array:
    """(N, P): plain autograd, one record at a time, zero where it is not finite."""
    rows = []
    parameters = list(model.parameters())
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    for i in range(len(x)):
        value = loss(model(torch.from_numpy(x[i : i + 1])), torch.from_numpy(y[i : i + 1])).sum()
        found = torch.autograd.grad(value, trainable, allow_unused=True)
        by_parameter = dict(zip(trainable, found, strict=True))
        row = [
            np.zeros(parameter.numel()) if grad is None else grad.numpy().ravel()
            for parameter in parameters
            for grad in [by_parameter.get(parameter)]
        ]
        flat = np.concatenate(row)
        rows.append(flat if np.isfinite(flat).all() else np.zeros_like(flat))
    return np.array(rows).reshape(len(x), -1)


def clipped(rows: Array, clip: float, patient: Array | None = None) -> Array:
    """Sum of the rows (of each patient's summed rows), each scaled down to the clip."""
    if patient is not None:
        rows = np.array([rows[patient == who].sum(0) for who in np.unique(patient)])
    norms = np.linalg.norm(rows, axis=1)
    bound = clip * (1 - 1e-6)
    total: Array = (rows * np.minimum(1, bound / np.maximum(norms, 1e-300))[:, None]).sum(0)
    return total
