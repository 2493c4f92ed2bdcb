"""Gradients per record by Opacus as it stands: hooks, and ghost norms.

In the engine's float64 both are slower than `privacy.gradients.one_pass` on every model that
benchmarks/privacy_overhead.py tries; they are kept as references that share no code with it beyond
the layers' rules. Opacus' noise, optimiser,
loader and accountant are not used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from privacy.blocks import Block, Full, Totals, clip_weights
from privacy.gradients import Loss, loss_per_record, watched
from privacy.samplers import hooked, sampled_gradient, sampled_norm
from protocol.errors import InputError


def hooks(model: nn.Module, loss: Loss, x_B: Tensor, y_B: Tensor) -> list[Block]:
    """Gradients per record by Opacus' `GradSampleHooks`.

    Args, returns and raises as `privacy.gradients.one_pass`.
    """
    with hooked(model, ghost=False), watched(model, len(x_B)):
        loss_per_record(model, loss, x_B, y_B).sum().backward()  # type: ignore[no-untyped-call]
        return [
            Full(parameter, sampled_gradient(parameter, len(x_B)))
            for parameter in model.parameters()
            if parameter.requires_grad
        ]


def add_ghost_sum(
    model: nn.Module, loss: Loss, x_B: Tensor, y_B: Tensor, *, clip: float, totals: Totals
) -> None:
    """Add the clipped sum by ghost norms: one pass for the norms, one for the weighted sum.

    Records whose gradient is not finite are left out and the others run again, because their
    activations would spoil the second pass even at weight zero.

    Args:
        model: A model that passes `check_layers` and `check_ghost`.
        loss: One value per record.
        x_B: Inputs, records first.
        y_B: Targets, records first.
        clip: L2 bound of one record.
        totals: Where the sum is added.

    Raises:
        InputError: As `one_pass`, or a parameter without a ghost norm.
    """
    trainable = {name: kept for name, kept in model.named_parameters() if kept.requires_grad}
    with hooked(model, ghost=True) as ghost, watched(model, len(x_B), ghost=True):
        losses_B = loss_per_record(model, loss, x_B, y_B)
        losses_B.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
        norms = [_norm(name, kept) for name, kept in trainable.items()]
        squares_B = torch.stack(norms).square().sum(0)
        finite_B = torch.isfinite(squares_B)
        if bool(finite_B.all()):
            ghost.disable_hooks()
            weighted = (losses_B * clip_weights(squares_B, clip)).sum()
            grads = torch.autograd.grad(weighted, list(trainable.values()))
            for parameter, grad in zip(trainable.values(), grads, strict=True):
                totals[parameter].add_(grad.flatten())
            return
    if bool(finite_B.any()):
        add_ghost_sum(model, loss, x_B[finite_B], y_B[finite_B], clip=clip, totals=totals)


def _norm(name: str, parameter: nn.Parameter) -> Tensor:
    norm_B = sampled_norm(parameter)
    if norm_B is None:
        raise InputError(
            f"parameter '{name}' has no ghost norm because its layer did not run",
            remedy="use clipping 'auto'",
        )
    return norm_B
