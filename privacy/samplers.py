"""The one door to Opacus, with types: gradient rules per layer, its modules, its two engines.

Opacus' own noise, optimiser, loader and accountant are never used. Importing Opacus configures the
root logger (opacus/utils/module_utils.py calls `logging.basicConfig`); the import below undoes it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_root = logging.getLogger()
_handlers = list(_root.handlers)

from opacus.grad_sample import (  # noqa: E402  the root logger is looked at before this import
    GradSampleHooks,
    GradSampleHooksFastGradientClipping,
)
from opacus.grad_sample.functorch import ft_compute_per_sample_gradient  # noqa: E402
from opacus.layers import DPGRU, DPLSTM, DPRNN, DPMultiheadAttention  # noqa: E402
from opacus.layers.dp_multihead_attention import SequenceBias  # noqa: E402
from opacus.layers.dp_rnn import RNNLinear  # noqa: E402

_root.handlers[:] = _handlers

Sampler = Callable[[nn.Module, list[Tensor], Tensor], Mapping[nn.Parameter, Tensor]]

RECURRENT: tuple[type[nn.Module], ...] = (DPRNN, DPLSTM, DPGRU)
ATTENTION: type[nn.Module] = DPMultiheadAttention
SEQUENCE_BIAS: type[nn.Module] = SequenceBias

_BY_RULE: tuple[type[nn.Module], ...] = (
    nn.Linear,
    RNNLinear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.Embedding,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.RMSNorm,
)
_BY_FUNCTORCH: tuple[type[nn.Module], ...] = (
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.PReLU,
)
SAMPLERS: Mapping[type[nn.Module], Sampler] = {
    **{layer: GradSampleHooks.GRAD_SAMPLERS[layer] for layer in _BY_RULE},
    **dict.fromkeys(_BY_FUNCTORCH, ft_compute_per_sample_gradient),
}
"""Layer type to Opacus' rule: (layer, [input], gradient of its output) to gradients (B, ..)."""

# torch says this whenever a model's input needs no gradient. The hooks are meant to fire then: what
# is read is the gradient of a layer's output, which does not depend on the input's.
_HOOK_WARNING = "Full backward hook is firing when gradients are computed with respect to module"


def sample(layer: nn.Module, input_B: Tensor, gradient_B: Tensor) -> dict[nn.Parameter, Tensor]:
    """Gradients of a layer's trainable parameters, one per record, by Opacus' rule for its type.

    Args:
        layer: A layer whose type is in `SAMPLERS`.
        input_B: What it was given, records first.
        gradient_B: The gradient of the loss with respect to its output, records first.

    Returns:
        (B, *shape) for each trainable parameter.
    """
    samples = SAMPLERS[type(layer)](layer, [input_B], gradient_B)
    # functorch's results drag a graph along
    return {kept: grad.detach() for kept, grad in samples.items() if kept.requires_grad}


@contextmanager
def hooked(model: nn.Module, *, ghost: bool) -> Iterator[Any]:
    """Attach Opacus' hooks to a model for one batch and take every trace of them away again.

    Attached once and kept, hooks mix batches: a layer whose output the loss does not use leaves
    its activations and its counter behind.

    Args:
        model: The model, in float64.
        ghost: Norms per record without gradients per record (fast gradient clipping).
    """
    kind = GradSampleHooksFastGradientClipping if ghost else GradSampleHooks
    hooks = kind(model, loss_reduction="sum")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_HOOK_WARNING)
            yield hooks
    finally:
        hooks.cleanup()
        for module in model.modules():
            module.__dict__.pop("activations", None)
            module.__dict__.pop("max_batch_len", None)
        model.zero_grad(set_to_none=True)


def sampled_gradient(parameter: nn.Parameter, batch: int) -> Tensor:
    """What the hooks left at a parameter after the backward pass: (B, numel).

    A parameter that a batch did not use has zero gradients. One whose layer ran more often than
    the loss used it is never promoted by Opacus; its sum so far is complete all the same.
    """
    grad = getattr(parameter, "grad_sample", None)
    if grad is None:
        grad = getattr(parameter, "_current_grad_sample", None)
    if grad is None:
        return torch.zeros(batch, parameter.numel(), dtype=parameter.dtype, device=parameter.device)
    sampled: Tensor = grad
    return sampled.detach().reshape(batch, -1)


def sampled_norm(parameter: nn.Parameter) -> Tensor | None:
    """The gradient norms (B,) that ghost clipping left at a parameter, None where it left none."""
    return getattr(parameter, "_norm_sample", None)
