"""Torch modules of the tasks and their losses; only nodes load this module.

Every layer here treats records independently and is known to the per-record gradients of Opacus.
Weights are never initialised by torch, whose first bits differ between processors.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from learning.task import FloatVector
from protocol.tensors import Layout


class Dense(nn.Module):
    """Dense layers with rectifiers between them, zero weights, double precision.

    Args:
        widths: Inputs, hidden widths, outputs.

    >>> [name for name, _ in Dense((3, 2, 1)).named_parameters()]
    ['hidden.0.weight', 'hidden.0.bias', 'output.weight', 'output.bias']
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.hidden = nn.ModuleList(_linear(*pair) for pair in pairs[:-1])
        self.output = _linear(*pairs[-1])

    def forward(self, x_BF: Tensor) -> Tensor:
        """Logits B x O."""
        hidden_BH = x_BF
        for layer in self.hidden:
            hidden_BH = functional.relu(layer(hidden_BH))
        logits_BO: Tensor = self.output(hidden_BH)
        return logits_BO


def _linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias, dtype=torch.float64, device="meta")
    layer = layer.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    return layer


def set_weights(module: nn.Module, layout: Layout, weights_P: FloatVector) -> None:
    """Write a flat vector into a module's parameters, in the layout's order."""
    arrays = layout.split(weights_P)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(np.array(arrays[name])))


def class_loss(logits_BO: Tensor, target_B: Tensor, factor_C: Tensor) -> Tensor:
    """Cross-entropy of each record times its class' factor, shape (B,).

    Guarantee: entry i depends on record i alone; a batch mean or a weight normalised over the
    batch would couple records and void the clip. Factors are at most 1.

    Args:
        logits_BO: One logit of the positive class (O = 1), or one per class.
        target_B: Classes as integers.
        factor_C: Public factor of each class.
    """
    if logits_BO.shape[1] == 1:
        sign_B = 1 - 2 * target_B.to(logits_BO.dtype)
        loss_B = functional.softplus(sign_B * logits_BO[:, 0])
    else:
        loss_B = functional.cross_entropy(logits_BO, target_B, reduction="none")
    return loss_B * factor_C[target_B]


class Proportional(nn.Module):
    """One linear score of the features, added to a baseline of each interval; no other weights.

    Args:
        inputs: F.
        intervals: T.

    >>> [tuple(p.shape) for p in Proportional(3, 2).parameters()]
    [(1, 3), (2, 1)]
    """

    def __init__(self, inputs: int, intervals: int) -> None:
        super().__init__()
        self.score = _linear(inputs, 1, bias=False)
        self.baseline = _linear(1, intervals, bias=False)

    def forward(self, x_BF: Tensor) -> Tensor:
        """Log-odds B x T of the event in each interval."""
        one_B1 = x_BF.new_ones((len(x_BF), 1))
        logits_BT: Tensor = self.score(x_BF) + self.baseline(one_B1)
        return logits_BT


def hazard_loss(logits_BT: Tensor, target_B: Tensor) -> Tensor:
    """Negative log-likelihood of outcomes 2 s + e under hazards sigmoid(logits), shape (B,).

    Guarantee: entry i depends on record i alone: no risk set enters, as it would in Cox' partial
    likelihood.

    Source: Gensheimer, Narasimhan 2019, A Scalable Discrete-Time Survival Model for Neural
    Networks, eqs. 2 and 3.
    """
    survived_B1, died_B1 = target_B[:, None] // 2, target_B[:, None] % 2 == 1
    time_T = torch.arange(logits_BT.shape[1], device=logits_BT.device)
    lived_BT, died_BT = time_T < survived_B1, died_B1 & (time_T == survived_B1)
    cost_BT = functional.softplus(torch.where(died_BT, -logits_BT, logits_BT))
    return torch.where(lived_BT | died_BT, cost_BT, torch.zeros_like(cost_BT)).sum(dim=1)
