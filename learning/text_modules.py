"""Torch modules that read notes; only nodes load this module.

Every layer treats records independently and is known to the per-record gradients of the engine.
Weights are set from outside and never initialised by torch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from learning.bags import NORM
from learning.networks import linear
from learning.tokens import PRIME

if TYPE_CHECKING:
    from learning.bags import Bag
    from learning.encoder import Encoder


def table(rows: int, width: int) -> nn.Embedding:
    """An embedding in double precision with zero weights."""
    zero_VD = torch.zeros((rows, width), dtype=torch.float64)
    return nn.Embedding(rows, width, _weight=zero_VD)


def whole_numbers(x_BF: Tensor) -> Tensor:
    """B x F features as numbers of words, 0 for whatever is none."""
    return torch.nan_to_num(x_BF, nan=0.0, posinf=0.0, neginf=0.0).clamp(0, PRIME - 1).long()


class BagModule(nn.Module):
    """See `learning.bags.Bag`.

    Args:
        bag: Sizes.
    """

    def __init__(self, bag: Bag) -> None:
        super().__init__()
        rest = len(bag.places.rest)
        self.words = table(bag.buckets, bag.width or bag.size)
        if bag.width:
            self.output = linear(bag.width + rest, bag.size)
        else:
            if rest:
                self.rest = linear(rest, bag.size, bias=False)
            self.baseline = linear(1, bag.size, bias=False)
        self._bag = bag

    def forward(self, x_BF: Tensor) -> Tensor:
        """Logits B x O."""
        rest_BR = x_BF[:, list(self._bag.places.rest)]
        bag_BD = self._summed(x_BF)
        if self._bag.width:
            logits_BO: Tensor = self.output(torch.cat([bag_BD, rest_BR], dim=1))
            return logits_BO
        logits_BO = bag_BD + self.baseline(x_BF.new_ones((len(x_BF), 1)))
        return logits_BO + self.rest(rest_BR) if rest_BR.shape[1] else logits_BO

    def _summed(self, x_BF: Tensor) -> Tensor:
        runs = self._bag.places.runs(whole_numbers(x_BF), self._bag.ngrams)
        number_BG = torch.cat([number for number, _ in runs], dim=1) % self._bag.buckets
        known_BG = torch.cat([known for _, known in runs], dim=1).to(x_BF.dtype)
        sum_BD: Tensor = (self.words(number_BG) * known_BG[:, :, None]).sum(dim=1)
        return sum_BD * (NORM / known_BG.sum(dim=1, keepdim=True).clamp(min=1.0).sqrt())


class Block(nn.Module):
    """Self-attention and a dense layer, each added to what it read, normalised before.

    Attention is made of linear layers, whose gradients per record are exact; records never meet.

    Source: Vaswani et al. 2017, Attention Is All You Need, eq. 1; Xiong et al. 2020, On Layer
    Normalization in the Transformer Architecture, for the order.

    Args:
        width: D.
        heads: H, of D / H numbers each.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before = nn.LayerNorm(width, dtype=torch.float64)
        self.query = linear(width, width)
        self.key = linear(width, width)
        self.value = linear(width, width)
        self.merge = linear(width, width)
        self.between = nn.LayerNorm(width, dtype=torch.float64)
        self.wide = linear(width, 2 * width)
        self.narrow = linear(2 * width, width)
        self._heads = heads

    def forward(self, x_BTD: Tensor, known_BT: Tensor) -> Tensor:
        """The next states B x T x D."""
        y_BTD = self.before(x_BTD)
        query = self._split(self.query(y_BTD))
        key = self._split(self.key(y_BTD))
        value = self._split(self.value(y_BTD))
        score_BHTT = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        score_BHTT = score_BHTT.masked_fill(~known_BT[:, None, None, :], -math.inf)
        seen_BHTK = torch.softmax(score_BHTT, dim=3) @ value
        x_BTD = x_BTD + self.merge(seen_BHTK.transpose(1, 2).flatten(2))
        added_BTD: Tensor = self.narrow(functional.relu(self.wide(self.between(x_BTD))))
        return x_BTD + added_BTD

    def _split(self, x_BTD: Tensor) -> Tensor:
        batch, places, width = x_BTD.shape
        return x_BTD.reshape(batch, places, self._heads, width // self._heads).transpose(1, 2)


class EncoderModule(nn.Module):
    """See `learning.encoder.Encoder`.

    Args:
        encoder: Sizes.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.words = table(encoder.buckets, encoder.width)
        self.blocks = nn.ModuleList(
            Block(encoder.width, encoder.heads) for _ in range(encoder.layers)
        )
        self.last = nn.LayerNorm(encoder.width, dtype=torch.float64)
        self.output = linear(encoder.width + len(encoder.places.rest), encoder.size)
        self._encoder = encoder

    def forward(self, x_BF: Tensor) -> Tensor:
        """Logits B x O."""
        numbers, known = self._encoder.read(whole_numbers(x_BF))
        start_B1 = torch.zeros((len(x_BF), 1), dtype=torch.int64)
        number_BT = torch.cat([start_B1, *numbers], dim=1)
        known_BT = torch.cat([start_B1 == 0, *known], dim=1)
        state_BTD = self.words(number_BT) + torch.from_numpy(self._encoder.positions)
        for block in self.blocks:
            state_BTD = block(state_BTD, known_BT)
        known_BT1 = known_BT[:, :, None].to(x_BF.dtype)
        mean_BD = (self.last(state_BTD) * known_BT1).sum(dim=1) / known_BT1.sum(dim=1)
        rest_BR = x_BF[:, list(self._encoder.places.rest)]
        logits_BO: Tensor = self.output(torch.cat([mean_BD, rest_BR], dim=1))
        return logits_BO
