from __future__ import annotations

import numpy as np
import pytest
import torch
from opacus.layers import DPGRU
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import rnn

from privacy.engine import Clipping, Engine
from privacy.gradients import one_pass
from protocol.errors import InputError
from tests.privacy import zoo
from tests.privacy.zoo import cross_entropy


class Run(nn.Module):
    """Two linear layers and a way to run them."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.first, self.output = nn.Linear(4, 4), nn.Linear(4, 3)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        run: Tensor = getattr(self, self.kind)(x)
        return run

    def in_place(self, x: Tensor) -> Tensor:
        h = self.first(x)
        x.mul_(2)
        output: Tensor = self.output(h)
        return output

    def functional_only(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.output.weight)

    def functional_beside(self, x: Tensor) -> Tensor:
        self.first(x)
        return self.functional_only(x)

    def by_keyword(self, x: Tensor) -> Tensor:
        output: Tensor = self.output(input=x)
        return output

    def folded(self, x: Tensor) -> Tensor:
        h: Tensor = self.first(x.repeat(2, 1))
        output: Tensor = self.output(h[: len(x)])
        return output

    def twice(self, x: Tensor) -> Tensor:
        output: Tensor = self.output(self.first(self.first(x)))
        return output

    def sequence(self, x: Tensor) -> Tensor:
        output: Tensor = self.output(self.first(x[:, None, :])).squeeze(1)
        return output

    def skipping(self, x: Tensor) -> Tensor:
        output: Tensor = self.output(x)
        return output


class Packed(nn.Module):
    """A recurrent model over sequences of different lengths, sorted by length inside."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = DPGRU(2, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        lengths = 1 + (x[:, 0, 0] > 0).long()
        packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output: Tensor = self.recurrent(packed)[1][0]
        return output


def total(kind: str, clipping: Clipping = "auto") -> zoo.Array:
    x, y = zoo.records("mlp", 5)
    return Engine(Run(kind), cross_entropy, clip=1.0, clipping=clipping).clipped_sum(x, y)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("in_place", "the input of layer 'first' is changed in place"),
        ("functional_only", "no trainable layer takes part"),
        ("functional_beside", "no trainable layer takes part"),
        ("by_keyword", "'output' does not get records first"),
        ("folded", "'first' does not get records first"),
    ],
)
def test_what_breaks_the_gradient_rules_is_refused(kind: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        total(kind)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("twice", "'first' runs twice"),
        ("sequence", "no exact ghost norm for inputs with 3 dimensions"),
        ("skipping", "'first.weight' has no ghost norm"),
        ("folded", "'first' does not get records first"),
    ],
)
def test_ghost_clipping_refuses_where_its_norms_are_wrong(kind: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        total(kind, "ghost")


@pytest.mark.parametrize("clipping", ["onepass", "hooks"])
def test_packed_sequences_are_refused(clipping: Clipping) -> None:
    x = np.random.Generator(np.random.PCG64(0)).normal(size=(5, 2, 2))
    engine = Engine(Packed(), cross_entropy, clip=1.0, clipping=clipping)
    with pytest.raises(InputError, match="packed sequence, which reorders records"):
        engine.clipped_sum(x, np.zeros(5, dtype=np.int64))


def test_a_refusal_leaves_no_hook_behind() -> None:
    model = Run("folded").double()
    x, y = (torch.from_numpy(array) for array in zoo.records("mlp", 5))
    with pytest.raises(InputError):
        one_pass(model, cross_entropy, x, y)
    for layer in model.modules():
        assert not layer._forward_hooks
        assert not layer._forward_pre_hooks


def test_linear_layers_and_embeddings_are_not_laid_out() -> None:
    for name, forms in (("mlp", {"Outer", "Full"}), ("embedding", {"Outer", "Lookup"})):
        x, y = (torch.from_numpy(array) for array in zoo.records(name, 5))
        blocks = one_pass(zoo.build(name), cross_entropy, x, y)
        assert {type(block).__name__ for block in blocks} == forms


def gradient_at(place: int, name: str, x: zoo.Array, y: zoo.Array) -> Tensor:
    """All that one record's gradient holds, out of a batch."""
    model = zoo.build(name)
    totals = {weight: torch.zeros_like(weight).flatten() for weight in model.parameters()}
    weight_B = torch.zeros(len(x), dtype=torch.float64)
    weight_B[place] = 1.0
    for block in one_pass(model, cross_entropy, torch.from_numpy(x), torch.from_numpy(y)):
        block.add(weight_B, totals)
    return torch.cat(list(totals.values()))


@pytest.mark.parametrize("name", sorted(zoo.MODELS))
def test_a_gradient_holds_no_bit_of_the_values_of_other_records(name: str) -> None:
    x, y = zoo.records(name, 19)
    other_x, other_y = zoo.records(name, 19, seed=1)
    for place in (0, 7, 16, 18):
        kept = np.arange(19) == place
        shaped = kept.reshape(-1, *(1 for _ in x.shape[1:]))
        mixed_x, mixed_y = np.where(shaped, x, other_x), np.where(kept, y, other_y)
        among_some, among_others = (
            gradient_at(place, name, *records) for records in ((x, y), (mixed_x, mixed_y))
        )
        assert among_some.any()
        assert torch.equal(among_some, among_others)
