"""Layouts, first weights and predictions of dense networks; torch only where one is learnt.

Source of the first weights: He et al. 2015, Delving Deep into Rectifiers, eq. 10, as a uniform law.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from learning.forward import logits
from learning.task import FloatArray
from protocol.errors import InputError
from protocol.tensors import Layout

Entries = tuple[tuple[str, tuple[int, ...]], ...]
MOST_WIDTH = 65_536


def check_hidden(hidden: Sequence[int] | None, model: str) -> None:
    """Refuse widths of hidden layers where the model has none, or that are no widths.

    Raises:
        InputError: Says which.
    """
    if hidden is None:
        return
    if model != "mlp":
        raise InputError("hidden layers belong to the model 'mlp'", found=repr(model))
    if not hidden or not all(1 <= width <= MOST_WIDTH for width in hidden):
        raise InputError("hidden widths", expected=f"one or more, each from 1 to {MOST_WIDTH}")


def entries(widths: Sequence[int]) -> Entries:
    """Names and shapes of `learning.networks.Dense`, weight before bias.

    >>> entries((3, 2, 1))[-1]
    ('output.bias', (1,))
    """
    found: list[tuple[str, tuple[int, ...]]] = []
    last = len(widths) - 2
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        name = "output" if index == last else f"hidden.{index}"
        found += [(f"{name}.weight", (outputs, inputs)), (f"{name}.bias", (outputs,))]
    return tuple(found)


def first_weights(layout: Layout, seed: int) -> dict[str, FloatArray]:
    """Public first weights, the same bits on every machine.

    Hidden weights are uniform within sqrt(6 / inputs), all others zero, so the first predictions
    are even and the first gradients no larger than the features.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    arrays = {name: np.zeros(shape) for name, shape in layout.entries}
    for name, shape in layout.entries:
        if name.startswith("hidden.") and name.endswith(".weight"):
            arrays[name] = uniform(generator, shape, gain=6)
    return arrays


def uniform(generator: np.random.Generator, shape: Sequence[int], gain: int) -> FloatArray:
    """Weights of `shape`, uniform within sqrt(gain / inputs), all axes but the first being inputs.

    The root is an integer one, since only + - * / are the same everywhere.
    """
    bound = math.isqrt((gain << 40) // math.prod(shape[1:])) / (1 << 20)
    return (2.0 * generator.random(shape) - 1.0) * bound


def outputs(arrays: Mapping[str, FloatArray], x_NF: FloatArray) -> FloatArray:
    """The network's output N x O, each row independent of the others to the last bit."""
    values = [array for name, array in arrays.items() if name.startswith(("hidden.", "output."))]
    layers = list(zip(values[::2], values[1::2], strict=True))
    return logits(np.asarray(x_NF, dtype=np.float64), layers)


@dataclass(frozen=True)
class DenseNetwork:
    """Dense layers with rectifiers between them, as a classifier's network.

    Args:
        widths: Inputs, hidden widths, outputs.
    """

    widths: tuple[int, ...]

    @property
    def entries(self) -> Entries:
        """Names and shapes, weight before bias."""
        return entries(self.widths)

    def first(self, layout: Layout, seed: int) -> Mapping[str, FloatArray]:
        """Public first weights; all outputs are 0 with them."""
        return first_weights(layout, seed)

    def module(self) -> Any:
        """The `torch.nn.Module`, with zero weights."""
        from learning.networks import Dense  # noqa: PLC0415 - the coordinator never loads torch

        return Dense(self.widths)

    def logits(self, arrays: Mapping[str, FloatArray], x_NF: FloatArray) -> FloatArray:
        """The output N x O, each row independent of the others to the last bit."""
        return outputs(arrays, x_NF)
