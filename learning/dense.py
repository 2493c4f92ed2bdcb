"""Layouts, first weights and predictions of dense networks, without torch.

Source of the first weights: He et al. 2015, Delving Deep into Rectifiers, eq. 10, as a uniform law.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from learning.forward import logits
from learning.task import FloatArray
from protocol.tensors import Layout

Entries = tuple[tuple[str, tuple[int, ...]], ...]


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
    are even and the first gradients no larger than the features. The root is an integer one, since
    only + - * / are the same everywhere.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    arrays = {name: np.zeros(shape) for name, shape in layout.entries}
    for name, shape in layout.entries:
        if name.startswith("hidden.") and name.endswith(".weight"):
            bound = math.isqrt((6 << 40) // shape[1]) / (1 << 20)
            arrays[name] = (2.0 * generator.random(shape) - 1.0) * bound
    return arrays


def outputs(arrays: Mapping[str, FloatArray], x_NF: FloatArray) -> FloatArray:
    """The network's output N x O, each row independent of the others to the last bit."""
    values = [array for name, array in arrays.items() if name.startswith(("hidden.", "output."))]
    layers = list(zip(values[::2], values[1::2], strict=True))
    return logits(np.asarray(x_NF, dtype=np.float64), layers)
