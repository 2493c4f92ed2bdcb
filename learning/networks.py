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

from learning.task import FloatArray, FloatVector
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
        self.hidden = nn.ModuleList(linear(*pair) for pair in pairs[:-1])
        self.output = linear(*pairs[-1])

    def forward(self, x_BF: Tensor) -> Tensor:
        """Logits B x O."""
        hidden_BH = x_BF
        for layer in self.hidden:
            hidden_BH = functional.relu(layer(hidden_BH))
        logits_BO: Tensor = self.output(hidden_BH)
        return logits_BO


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A layer of zero weights in double precision, not touched by torch's random numbers."""
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
        self.score = linear(inputs, 1, bias=False)
        self.baseline = linear(1, intervals, bias=False)

    def forward(self, x_BF: Tensor) -> Tensor:
        """Log-odds B x T of the event in each interval."""
        # Not `new_ones` of a number of rows, which an exported graph would keep.
        one_B1 = torch.ones_like(x_BF[:, :1])
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


class Arms(nn.Module):
    """A score that all treatments share, plus one for each output.

    What treatments have in common is learnt from all patients, and a difference between two of
    them only where there is one.

    Args:
        inputs: F.
        arms: A treatments, whose outputs come first and get the shared score.
        outputs: A, or more outputs that do not.
    """

    def __init__(self, inputs: int, arms: int, outputs: int) -> None:
        super().__init__()
        self.shared = linear(inputs, 1, bias=False)
        self.output = linear(inputs, outputs)
        self._arms = arms

    def forward(self, x_BF: Tensor) -> Tensor:
        """Log-odds B x O."""
        logits_BO: Tensor = self.output(x_BF)
        outcome_BA = logits_BO[:, : self._arms] + self.shared(x_BF)
        return torch.cat([outcome_BA, logits_BO[:, self._arms :]], dim=1)


def treatment_loss(logits_BO: Tensor, target_B: Tensor, arms: int) -> Tensor:
    """Loss of outcomes 2 a + y under the treatment given, shape (B,).

    Guarantee: entry i depends on record i alone.

    Args:
        logits_BO: Log-odds of the better outcome under each of A treatments; if there are 2A, the
            others are those of being given each, whose cross-entropy is added.
        target_B: Codes 2 a + y.
        arms: A.
    """
    given_B, sign_B = target_B // 2, 1 - 2 * (target_B % 2).to(logits_BO.dtype)
    taken_B = logits_BO[:, :arms].gather(1, given_B[:, None])[:, 0]
    loss_B = functional.softplus(sign_B * taken_B)
    if logits_BO.shape[1] == arms:
        return loss_B
    chosen_B = functional.cross_entropy(logits_BO[:, arms:], given_B, reduction="none")
    return loss_B + chosen_B


class Anchored(nn.Module):
    """A dense network that learns what to add to one of its features, a forecast by itself.

    Args:
        widths: Inputs, hidden widths, outputs.
        place: Which feature.
        width: What its 1 is in the output's unit.
        middle: What its 0 is.
    """

    def __init__(self, widths: Sequence[int], place: int, width: float, middle: float) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.hidden = nn.ModuleList(linear(*pair) for pair in pairs[:-1])
        self.output = linear(*pairs[-1])
        self._place, self._width, self._middle = place, width, middle

    def forward(self, x_BF: Tensor) -> Tensor:
        """Outputs B x O."""
        hidden_BH = x_BF
        for layer in self.hidden:
            hidden_BH = functional.relu(layer(hidden_BH))
        added_BO: Tensor = self.output(hidden_BH)
        return added_BO + x_BF[:, self._place, None] * self._width + self._middle


SMOOTH = 0.25


def quantile_loss(output_BK: Tensor, target_B: Tensor, levels: Sequence[float]) -> Tensor:
    """Pinball loss of each record, summed over K levels and smoothed at its corner, shape (B,).

    Guarantee: entry i depends on record i alone.

    Source: Zheng 2011, Gradient Descent Algorithms for Quantile Regression with Smooth
    Approximation, eq. 6, with a width of a quarter of the scale.
    """
    level_K = torch.as_tensor(levels, dtype=output_BK.dtype, device=output_BK.device)
    over_BK = target_B[:, None] - output_BK
    smooth_BK = level_K * over_BK + SMOOTH * functional.softplus(-over_BK / SMOOTH)
    return smooth_BK.sum(dim=1)


def labels_loss(logits_BL: Tensor, target_B: Tensor, factor_L2: FloatArray) -> Tensor:
    """Mean over labels of each record's weighted cross-entropy, shape (B,); unknown ones add 0.

    Guarantee: entry i depends on record i alone; the divisor is the number of labels, never that of
    the known ones, which is private.

    Args:
        logits_BL: Log-odds of each label.
        target_B: Codes of learning.label_evaluation.states.
        factor_L2: Public factors of no and yes.
    """
    rest_B, states_ = target_B // 2, [target_B % 2]
    for _ in range(logits_BL.shape[1] - 1):
        states_.append(rest_B % 3)
        rest_B = rest_B // 3
    state_BL = torch.stack(states_, dim=1)
    known_BL = state_BL < 2
    yes_BL = (state_BL == 1).to(logits_BL.dtype)
    factor = torch.as_tensor(factor_L2, dtype=logits_BL.dtype, device=logits_BL.device)
    weight_BL = torch.where(state_BL == 1, factor[:, 1], factor[:, 0]) * known_BL
    cost_BL = functional.softplus((1 - 2 * yes_BL) * logits_BL) * weight_BL
    return cost_BL.sum(dim=1) / logits_BL.shape[1]
