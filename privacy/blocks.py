"""Gradients per record of one layer, in the cheapest form whose norms and sums are exact.

A linear layer on (B, I) inputs has the gradient b a' for each record: its norm is |b| |a|, and the
weighted sum over records is one matrix product, so no gradient per record is ever laid out. An
embedding's gradient has as many rows as the record has distinct indices. Everything else is laid
out in full. In each form the norm and the sum are taken from the same numbers without cancellation
within a record, so that a record's share of the sum has the norm that was clipped, to rounding.

Source: Goodfellow 2015, "Efficient per-example gradient computations" (arXiv:1510.01799), for the
norms; Bu, Wang, Zha, Karypis 2023 (arXiv:2210.00038), section 3.2, for one backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

Totals = Mapping[nn.Parameter, Tensor]
"""Where sums go: a flat view into the P coordinates for each parameter."""


class Block(Protocol):
    """The gradients per record of some parameters; B records or, once grouped, B patients."""

    def squares(self) -> Tensor:
        """Squared L2 norm of each record's gradient, (B,)."""

    def without(self, bad_B: Tensor) -> Block:
        """The same with the gradients of the marked records set to zero."""

    def grouped(self, unit_B: Tensor, units: int) -> list[Block]:
        """Sums over the records of each unit: `unit_B` holds 0..units-1."""

    def add(self, weight_B: Tensor, totals: Totals) -> None:
        """Add the sum of the gradients, each times its weight, to the totals."""


@dataclass(frozen=True)
class Full:
    """Gradients laid out: one row per record.

    Args:
        parameter: Whose gradients.
        grads: (B, numel).
    """

    parameter: nn.Parameter
    grads: Tensor

    def squares(self) -> Tensor:
        """Squared norms, (B,)."""
        # Squaring first would lay all gradients out a second time.
        norm_B: Tensor = torch.linalg.vector_norm(self.grads, dim=1)
        return norm_B.square()

    def without(self, bad_B: Tensor) -> Block:
        """Zero rows for the marked records."""
        return Full(self.parameter, self.grads.masked_fill(bad_B[:, None], 0.0))

    def grouped(self, unit_B: Tensor, units: int) -> list[Block]:
        """One row per unit."""
        sums_UP = self.grads.new_zeros(units, self.grads.shape[1])
        return [Full(self.parameter, sums_UP.index_add_(0, unit_B, self.grads))]

    def add(self, weight_B: Tensor, totals: Totals) -> None:
        """One matrix-vector product."""
        totals[self.parameter].add_(weight_B @ self.grads)


@dataclass(frozen=True)
class Outer:
    """Gradients of a linear layer that ran once, on (B, I) inputs: b a' and b.

    Args:
        weight: None where it is frozen.
        bias: None where it is frozen or the layer has none.
        inputs: a, (B, I).
        grads: b, (B, O): the gradient of the loss with respect to the layer's output.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    inputs: Tensor
    grads: Tensor

    def squares(self) -> Tensor:
        """|b|^2 |a|^2 for the weight, |b|^2 for the bias, (B,)."""
        factor_B = torch.full_like(self.grads[:, 0], float(self.bias is not None))
        if self.weight is not None:
            factor_B += self.inputs.square().sum(1)
        return self.grads.square().sum(1) * factor_B

    def without(self, bad_B: Tensor) -> Block:
        """Zero both factors: zero times infinity would be NaN."""
        bad_B1 = bad_B[:, None]
        input_BI = self.inputs.masked_fill(bad_B1, 0.0)
        grad_BO = self.grads.masked_fill(bad_B1, 0.0)
        return Outer(self.weight, self.bias, input_BI, grad_BO)

    def grouped(self, unit_B: Tensor, units: int) -> list[Block]:
        """Lay out; the norm of a patient's sum is not to be had from the norms of its rows."""
        blocks: list[Block] = []
        if self.weight is not None:
            outer_BP = torch.einsum("bo,bi->boi", self.grads, self.inputs).flatten(1)
            blocks += Full(self.weight, outer_BP).grouped(unit_B, units)
        if self.bias is not None:
            blocks += Full(self.bias, self.grads).grouped(unit_B, units)
        return blocks

    def add(self, weight_B: Tensor, totals: Totals) -> None:
        """(weight * b)' a: one matrix product for all records."""
        weighted_BO = self.grads * weight_B[:, None]
        if self.weight is not None:
            totals[self.weight].add_((weighted_BO.T @ self.inputs).flatten())
        if self.bias is not None:
            totals[self.bias].add_(weighted_BO.sum(0))


@dataclass(frozen=True)
class Lookup:
    """Gradients of an embedding that ran once: Q pairs of a record and an index it looked up.

    Args:
        parameter: The embedding's weight, (V, D).
        records: B.
        record: The record of each pair, (Q,).
        index: The index of each pair, (Q,); no pair occurs twice.
        grads: The gradient of the index' row from that record, (Q, D).
    """

    parameter: nn.Parameter
    records: int
    record: Tensor
    index: Tensor
    grads: Tensor

    @classmethod
    def of(
        cls, parameter: nn.Parameter, records: int, record_N: Tensor, index_N: Tensor, grad: Tensor
    ) -> Lookup:
        """Merge N look-ups, some of them repeated, into pairs; `grad` is (N, D)."""
        key_N = record_N * parameter.shape[0] + index_N
        key_Q, pair_N = torch.unique(key_N, return_inverse=True)
        grad_QD = grad.new_zeros(len(key_Q), grad.shape[1]).index_add_(0, pair_N, grad)
        record_Q = torch.div(key_Q, parameter.shape[0], rounding_mode="floor")
        return cls(parameter, records, record_Q, key_Q % parameter.shape[0], grad_QD)

    def squares(self) -> Tensor:
        """Squared norms, (B,)."""
        squares_B = self.grads.new_zeros(self.records)
        return squares_B.index_add_(0, self.record, self.grads.square().sum(1))

    def without(self, bad_B: Tensor) -> Block:
        """Zero rows for the marked records' pairs."""
        grad_QD = self.grads.masked_fill(bad_B[self.record][:, None], 0.0)
        return Lookup(self.parameter, self.records, self.record, self.index, grad_QD)

    def grouped(self, unit_B: Tensor, units: int) -> list[Block]:
        """Merge the pairs of one unit."""
        unit_Q = unit_B[self.record]
        return [Lookup.of(self.parameter, units, unit_Q, self.index, self.grads)]

    def add(self, weight_B: Tensor, totals: Totals) -> None:
        """Add each pair's row at its index."""
        total_VD = totals[self.parameter].view(self.parameter.shape)
        total_VD.index_add_(0, self.index, self.grads * weight_B[self.record][:, None])


def clip_weights(squares_B: Tensor, clip: float) -> Tensor:
    """min(1, clip / norm) for each squared norm; 0 where the norm is not a finite number.

    >>> clip_weights(torch.tensor([4.0, 0.25, 0.0, float("nan"), float("inf")]), 1.0).tolist()
    [0.5, 1.0, 1.0, 0.0, 0.0]
    """
    weights_B = (clip / squares_B.sqrt()).clamp(max=1.0)
    return torch.where(torch.isfinite(squares_B), weights_B, 0.0)
