"""What the guards try a model with: random weights, absurd values, records one at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from privacy.batches import as_tensor
from privacy.gradients import Loss, loss_per_record
from protocol.errors import InputError

Array = npt.NDArray[Any]
_Norm = nn.GroupNorm | nn.LayerNorm


def tensors(*arrays: Array) -> tuple[Tensor, ...]:
    """Arrays as the engine gives them to a model."""
    return tuple(as_tensor(array, torch.device("cpu")) for array in arrays)


def state(model: nn.Module) -> dict[str, bytes]:
    """Every weight and buffer to the last bit, buffers outside the state dict included."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().numpy().tobytes() for name, tensor in named}


def randomise(model: nn.Module, generator: np.random.Generator) -> None:
    """Move every weight a little, so that zero weights hide nothing."""
    with torch.no_grad():
        for parameter in model.parameters():
            noise = generator.uniform(-0.3, 0.3, size=tuple(parameter.shape))
            parameter.add_(torch.as_tensor(noise))


def disturbed(x: Array) -> Iterator[tuple[int, Array]]:
    """Inputs as they are, then with one record spoilt; each with the record to leave out."""
    yield from ((record, x) for record in range(len(x)))
    if x.dtype.kind == "f":
        for value in (1e6, -3e38, np.inf, np.nan):
            changed = x.astype(np.float64)
            changed[0] = value
            yield 0, changed


def single_gradients(model: nn.Module, loss: Loss, x: Array, y: Array) -> npt.NDArray[np.float64]:
    """Gradients (N, P) by plain autograd, each record alone; zeros for what is frozen or unused."""
    parameters = list(model.parameters())
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    rows = []
    for i in range(len(x)):
        losses_B = loss_per_record(model, loss, *tensors(x[[i]], y[[i]]))
        grads = torch.autograd.grad(losses_B.sum(), trainable, allow_unused=True)
        found = dict(zip(trainable, grads, strict=True))
        flat = [found.get(parameter) for parameter in parameters]
        pairs = zip(flat, parameters, strict=True)
        row = [torch.zeros(p.numel()) if grad is None else grad.flatten() for grad, p in pairs]
        rows.append(torch.cat(row).numpy())
    return np.stack(rows)


@contextmanager
def no_dropout(model: nn.Module) -> Iterator[None]:
    """Dropout off: a mask per record couples nothing, and chance would hide what does."""
    active = [each for each in model.modules() if isinstance(each, _DropoutNd) and each.training]
    for module in active:
        module.training = False
    try:
        yield
    finally:
        for module in active:
            module.training = True


@contextmanager
def norms_watched(model: nn.Module) -> Iterator[None]:
    """Refuse, at run time, a normalisation that maps every input to a constant."""

    def watcher(path: str) -> Callable[[_Norm, tuple[Tensor, ...]], None]:
        def watch(layer: _Norm, args: tuple[Tensor, ...]) -> None:
            if _values_per_mean(layer, args[0]) == 1:
                raise InputError(
                    f"layer '{path}' ({type(layer).__name__}) normalises single values, "
                    "which makes its output constant",
                    remedy="use nn.LayerNorm over the features, or fewer groups",
                )

        return watch

    handles = [
        module.register_forward_pre_hook(watcher(path))
        for path, module in model.named_modules()
        if isinstance(module, (nn.GroupNorm, nn.LayerNorm))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _values_per_mean(layer: _Norm, inputs_B: Tensor) -> int:
    if isinstance(layer, nn.GroupNorm):
        return inputs_B[0].numel() // layer.num_groups
    return math.prod(layer.normalized_shape)
