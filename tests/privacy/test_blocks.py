"""Each cheap form against the gradients laid out: norms, sums, zeroed records, groups."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from privacy.blocks import Block, Full, Lookup, Outer, clip_weights

RECORDS = 5
UNITS = torch.tensor([2, 0, 2, 1, 0])
WEIGHTS = torch.tensor([0.5, 1.0, 0.0, 0.25, 1.0], dtype=torch.float64)


def random(*size: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(size))
    return torch.randn(*size, generator=generator, dtype=torch.float64)


def zeros(*size: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*size, dtype=torch.float64))


def full() -> tuple[Block, list[Full]]:
    block = Full(zeros(6), random(RECORDS, 6))
    return block, [block]


def outer() -> tuple[Block, list[Full]]:
    weight, bias, a, b = zeros(3, 4), zeros(3), random(RECORDS, 4), random(RECORDS, 3)
    laid_out = torch.stack([torch.outer(b[i], a[i]).flatten() for i in range(RECORDS)])
    return Outer(weight, bias, a, b), [Full(weight, laid_out), Full(bias, b)]


def lookup() -> tuple[Block, list[Full]]:
    weight, grad = zeros(7, 2), random(9, 2)
    record = torch.tensor([0, 0, 0, 1, 2, 2, 3, 4, 4])
    index = torch.tensor([3, 3, 6, 3, 0, 0, 5, 6, 1])  # some repeated within a record
    laid_out = torch.zeros(RECORDS, 7, 2, dtype=torch.float64)
    for i in range(9):
        laid_out[record[i], index[i]] += grad[i]
    return Lookup.of(weight, RECORDS, record, index, grad), [Full(weight, laid_out.flatten(1))]


def summed(blocks: list[Block] | list[Full], weights: Tensor) -> list[Tensor]:
    parameters = {parameter for block in blocks for parameter in owners(block)}
    totals = {parameter: parameter.detach().flatten().clone() for parameter in parameters}
    for block in blocks:
        block.add(weights, totals)
    return [totals[parameter] for parameter in sorted(parameters, key=lambda each: each.numel())]


def owners(block: Block) -> list[nn.Parameter]:
    if isinstance(block, Outer):
        return [parameter for parameter in (block.weight, block.bias) if parameter is not None]
    assert isinstance(block, Full | Lookup)
    return [block.parameter]


def squares(blocks: list[Block] | list[Full]) -> Tensor:
    return torch.stack([block.squares() for block in blocks]).sum(0)


def alike(got: list[Block], expected: list[Full], weights: Tensor) -> None:
    torch.testing.assert_close(squares(got), squares(expected), rtol=1e-13, atol=1e-13)
    for one, other in zip(summed(got, weights), summed(expected, weights), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("make", [full, outer, lookup])
def test_norms_and_weighted_sums_are_those_of_the_laid_out_gradients(make: object) -> None:
    block, expected = make()  # type: ignore[operator]
    alike([block], expected, WEIGHTS)


@pytest.mark.parametrize("make", [full, outer, lookup])
def test_groups_are_sums_over_their_records(make: object) -> None:
    block, expected = make()  # type: ignore[operator]
    by_hand = [
        Full(each.parameter, torch.stack([each.grads[unit == UNITS].sum(0) for unit in range(3)]))
        for each in expected
    ]
    alike(block.grouped(UNITS, 3), by_hand, WEIGHTS[:3])


@pytest.mark.parametrize("make", [full, outer, lookup])
def test_zeroed_records_are_gone_whatever_they_held(make: object) -> None:
    block, expected = make()  # type: ignore[operator]
    bad = torch.tensor([False, True, False, False, True])
    for each in (*expected, block):
        rows = bad[each.record] if isinstance(each, Lookup) else bad
        each.grads[rows] = torch.nan
        if isinstance(each, Outer):
            each.inputs[bad] = torch.inf
    for each in expected:
        each.grads[bad] = 0.0
    alike([block.without(bad)], expected, WEIGHTS)


def test_frozen_parts_of_a_linear_layer_count_for_nothing() -> None:
    block, (weight, bias) = outer()
    assert isinstance(block, Outer)
    alike([Outer(block.weight, None, block.inputs, block.grads)], [weight], WEIGHTS)
    alike([Outer(None, block.bias, block.inputs, block.grads)], [bias], WEIGHTS)
    assert len(Outer(None, block.bias, block.inputs, block.grads).grouped(UNITS, 3)) == 1


@given(norm=st.floats(0, 1e150), clip=st.floats(1e-6, 1e6))
@settings(deadline=None)
def test_weights_bring_every_norm_down_to_the_clip_and_lift_none(norm: float, clip: float) -> None:
    (weight,) = clip_weights(torch.tensor([norm**2], dtype=torch.float64), clip).tolist()
    assert 0 <= weight <= 1
    assert norm * weight <= clip * (1 + 1e-12)
    if 1e-150 < norm < clip * (1 - 1e-12):
        assert weight == 1
