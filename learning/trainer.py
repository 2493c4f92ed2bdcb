"""Gradient descent at one site: one loop, whose gradient comes from outside.

The loop knows neither clipping nor noise: a private gradient is passed in like the plain one below.
What depends on no record (weight decay, FedProx' pull) is added here, after any noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn.modules.module import register_module_forward_hook

from learning.networks import set_weights
from learning.task import FloatVector, Records, Task
from protocol.errors import InputError

Gradient = Callable[[Records, FloatVector, int], FloatVector]
Hook = Callable[[FloatVector], FloatVector]
Schedule = Callable[[int], float]

# Records whose activations are in memory at once; sums over chunks are sums over records.
CHUNK = 8192
# 24 MiB: more leave the processor's cache between the passes, and take up to three times as long.
CHUNK_VALUES = 3 << 20


def chunk_of(model: torch.nn.Module, features: int) -> int:
    """How many records go through a model together: `CHUNK`, or what stays in the cache.

    Args:
        model: Whose layers' outputs are counted, for one record.
        features: F, that it reads.
    """
    sizes = [features]

    def measure(layer: torch.nn.Module, _: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and not [*layer.children()]:
            sizes.append(output.numel())

    # Of all modules that run: a frozen language model is not among `model.modules()`.
    handle = register_module_forward_hook(measure)
    try:
        with torch.no_grad():
            model(torch.zeros(1, features, dtype=torch.float64))
    finally:
        handle.remove()
    return max(1, min(CHUNK, CHUNK_VALUES // sum(sizes)))


def constant(rate: float) -> Schedule:
    """The same step length at every step.

    >>> constant(0.1)(7)
    0.1
    """
    return lambda _: rate


def cosine(rate: float, steps: int) -> Schedule:
    """Step length rate / 2 * (1 + cos(pi * step / steps)), and 0 from `steps` on.

    Source: Loshchilov, Hutter 2017, SGDR: Stochastic Gradient Descent with Warm Restarts, eq. 5,
    with a single cycle that ends at 0.

    Raises:
        InputError: `steps` is not positive.

    >>> [round(cosine(1.0, 4)(step), 3) for step in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """
    if steps < 1:
        raise InputError("a cosine schedule", expected="at least one step", found=str(steps))
    return lambda step: rate / 2 * (1 + math.cos(math.pi * min(step, steps) / steps))


def decay(l2: float) -> Hook:
    """Gradient of l2 / 2 * ||w||^2."""

    def hook(weights_P: FloatVector) -> FloatVector:
        return l2 * weights_P

    return hook


def pull(proximal: float, anchor_P: FloatVector) -> Hook:
    """Gradient of proximal / 2 * ||w - anchor||^2, the term that FedProx adds.

    Source: Li et al. 2020, Federated Optimization in Heterogeneous Networks, eq. 2.
    """

    def hook(weights_P: FloatVector) -> FloatVector:
        return proximal * (weights_P - anchor_P)

    return hook


class PlainGradient:
    """The gradient without privacy: the sum over all records, divided by a stated size.

    Guarantee: none. It is for mode `none`, for baselines and for tests.

    Args:
        task: Whose model and loss are differentiated.
        size: Divisor; the number of records if not given.
    """

    def __init__(self, task: Task, size: float | None = None) -> None:
        self._task = task
        self._size = size
        self._layout = task.layout()
        self._model: torch.nn.Module = task.model()
        self._chunk = chunk_of(self._model, task.schema.num_features)

    def __call__(self, records: Records, weights_P: FloatVector, step: int) -> FloatVector:
        """Mean gradient at `weights_P`, P numbers in the layout's order."""
        del step  # every step sees all records
        set_weights(self._model, self._layout, weights_P)
        self._model.zero_grad(set_to_none=True)
        x_NF, y_N = torch.from_numpy(records.x_NF), torch.from_numpy(records.y_N)
        for start in range(0, len(records), self._chunk):
            here = slice(start, start + self._chunk)
            self._task.loss(self._model(x_NF[here]), y_N[here]).sum().backward()
        size = float(len(records)) if self._size is None else self._size
        return self._sum() / max(size, 1.0)

    def _sum(self) -> FloatVector:
        parts = [
            np.zeros(parameter.numel()) if parameter.grad is None else parameter.grad.numpy()
            for parameter in self._model.parameters()
        ]
        return np.concatenate([part.ravel() for part in parts])


def train(
    task: Task,
    records: Records,
    weights_P: FloatVector,
    *,
    steps: int,
    learning_rate: float | Schedule,
    l2: float = 0.0,
    proximal: float = 0.0,
    anchor_P: FloatVector | None = None,
    gradient: Gradient | None = None,
    hooks: Sequence[Hook] = (),
) -> FloatVector:
    """Take `steps` steps w <- w - rate(step) * (gradient + hooks).

    Args:
        task: What is learnt; its plain gradient is used if none is given.
        records: One site's training records.
        weights_P: Where to start; not changed.
        steps: Number of steps.
        learning_rate: Step length, or a schedule of it.
        l2: Coefficient of weight decay.
        proximal: Strength of the pull towards the anchor.
        anchor_P: Where FedProx pulls to; the first weights if not given.
        gradient: Mean gradient of the records at given weights and step, private or not.
        hooks: Further terms of the gradient, from the weights alone.

    Returns:
        The last weights, (P,).

    Raises:
        InputError: The weights do not fit the task, or a step left the finite numbers.
    """
    if weights_P.shape != (task.layout().size,):
        raise InputError("weights that do not fit the task's layout")
    rate = learning_rate if callable(learning_rate) else constant(learning_rate)
    gradient = PlainGradient(task) if gradient is None else gradient
    terms = list(hooks)
    if l2:
        terms.append(decay(l2))
    if proximal:
        terms.append(pull(proximal, weights_P if anchor_P is None else anchor_P))
    for step in range(steps):
        direction_P = gradient(records, weights_P, step)
        for term in terms:
            direction_P = direction_P + term(weights_P)
        weights_P = weights_P - rate(step) * direction_P
        if not np.isfinite(weights_P).all():
            raise InputError("training left the finite numbers", remedy="lower the learning rate")
    return weights_P
