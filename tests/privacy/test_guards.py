"""Every hole that Opacus or torch leaves open is planted here and must be found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from privacy import probes
from privacy.engine import Engine
from privacy.guards import SIZES, check_exact, check_influence, run_guards
from protocol.errors import InputError
from tests.privacy import zoo
from tests.privacy.zoo import Array, cross_entropy

Model = Callable[[], nn.Module]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Records:
    x_NF: Array  # noqa: N815
    y_N: Array  # noqa: N815


def features(n: int, rng: np.random.Generator) -> Records:
    return Records(rng.normal(size=(n, 4)), rng.integers(3, size=n))


def sequences(n: int, rng: np.random.Generator) -> Records:
    return Records(rng.normal(size=(n, 5, 4)), rng.integers(3, size=n))


def survival(n: int, rng: np.random.Generator) -> Records:
    """Times, negative where censored."""
    return Records(rng.normal(size=(n, 4)), rng.exponential(size=n) * rng.choice([1, -1], size=n))


def linear() -> nn.Module:
    return nn.Linear(4, 3)


def net(*between: nn.Module) -> Model:
    return lambda: nn.Sequential(nn.Linear(4, 6), *between, nn.ReLU(), nn.Linear(6, 3))


class Wrapped(nn.Module):
    """A linear layer and a function of it and the input."""

    def __init__(self, forward: Callable[[Wrapped, Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.output = nn.Linear(4, 3)
        self.counter: Tensor
        self.register_buffer("counter", torch.zeros(1), persistent=False)
        self.memory = torch.zeros(1)
        self._run = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self, x)


def wrapped(forward: Callable[[Wrapped, Tensor], Tensor]) -> Model:
    return lambda: Wrapped(forward)


def plain(model: Wrapped, x: Tensor) -> Tensor:
    output: Tensor = model.output(torch.tanh(model.first(x)))
    return output


def column_bce(output: Tensor, target: Tensor) -> Tensor:
    """What BCEWithLogitsLoss(reduction='none') gives on a (B, 1) output: shape (B, 1)."""
    hit = (target > 0).to(output.dtype)[:, None]
    return functional.binary_cross_entropy_with_logits(output[:, :1], hit, reduction="none")


def weighted_mean(output: Tensor, target: Tensor) -> Tensor:
    weight = torch.tensor([1.0, 10.0, 1.0], dtype=output.dtype)
    return functional.cross_entropy(output, target, weight=weight)


def weighted_mean_spread(output: Tensor, target: Tensor) -> Tensor:
    """The same normalisation by the batch's weights, hidden in a loss of shape (B,)."""
    weight_B = torch.tensor([1.0, 10.0, 1.0], dtype=output.dtype)[target]
    return cross_entropy(output, target) * weight_B / weight_B.sum()


def mean_spread(output: Tensor, target: Tensor) -> Tensor:
    return cross_entropy(output, target) / len(output)


def cox(output: Tensor, target: Tensor) -> Tensor:
    """Negative log partial likelihood: each event is set against those still at risk."""
    risk_B, time_B = output[:, 0], target.abs()
    at_risk_BB = time_B[None] >= time_B[:, None]
    everyone_BB = torch.where(at_risk_BB, risk_B[None], -torch.inf)
    return (everyone_BB.logsumexp(1) - risk_B) * (target > 0)


def contrastive(output: Tensor, target: Tensor) -> Tensor:
    return cross_entropy(output, target) + torch.cdist(output, output).mean(1)


def coupled_gradient(output: Tensor, target: Tensor) -> Tensor:
    """The value of each loss is its own, the gradient is everybody's."""
    losses_B = cross_entropy(output, target)
    return losses_B + losses_B.max() - losses_B.max().detach()


def count_runs(model: Wrapped, x: Tensor) -> Tensor:
    model.counter += len(x)
    return plain(model, x)


def remember(model: Wrapped, x: Tensor) -> Tensor:
    output = plain(model, x - model.memory)
    model.memory = x.detach().mean()
    return output


def rescale_weights(model: Wrapped, x: Tensor) -> Tensor:
    with torch.no_grad():
        model.first.weight /= 1 + x.abs().mean()
    return plain(model, x)


def chance(model: Wrapped, x: Tensor) -> Tensor:
    return plain(model, functional.dropout(x))


def centre(model: Wrapped, x: Tensor) -> Tensor:
    return plain(model, x - x.mean(0))


def attend_over_records(model: Wrapped, x: Tensor) -> Tensor:
    return plain(model, torch.softmax(x @ x.T, dim=1) @ x)


def behind_the_layers_back(model: Wrapped, x: Tensor) -> Tensor:
    h = torch.tanh(model.first(x))
    again = functional.linear(h, model.first.weight)
    both: Tensor = model.output(h) + functional.linear(again, model.output.weight)
    return both


def reorder(model: Wrapped, x: Tensor) -> Tensor:
    order = torch.argsort(x[:, 0])
    output: Tensor = model.output(torch.tanh(model.first(x[order]))[torch.argsort(order)])
    return output


def in_place(model: Wrapped, x: Tensor) -> Tensor:
    h = torch.tanh(model.first(x))
    output: Tensor = model.output(h)
    h.detach().mul_(2)
    return output


def fill_gaps_from_others(model: Wrapped, x: Tensor) -> Tensor:
    """Couples records only where a value is missing."""
    known = torch.where(torch.isnan(x), 0.0, x).abs().sum()
    return plain(model, torch.where(torch.isnan(x).any(), x * 0 + known, x))


def time_as_records(model: Wrapped, x: Tensor) -> Tensor:
    h = torch.tanh(model.first(x.flatten(0, 1)))
    output: Tensor = model.output(h.view(*x.shape[:2], 4).mean(1))
    return output


def frozen_batch_norm() -> nn.Module:
    norm = nn.BatchNorm1d(6)
    for parameter in norm.parameters():
        parameter.requires_grad_(False)
    return norm


def disconnected(output: Tensor, target: Tensor) -> Tensor:
    return output.sum(1) * 0 + target


HOLES: dict[str, tuple[Model, Loss, str]] = {
    "loss of shape (B, 1)": (linear, column_bce, r"found shape \(B, 1\)"),
    "squared error of shape (B, 1)": (
        linear,
        lambda out, y: functional.mse_loss(out[:, :1], y[:, None] * 1.0, reduction="none"),
        r"found shape \(B, 1\)",
    ),
    "mean is released": (linear, nn.CrossEntropyLoss(), r"found shape \(\)"),
    "mean is spread": (linear, mean_spread, "depends on the other records"),
    "class weights with mean": (linear, weighted_mean, r"found shape \(\)"),
    "class weights over the batch": (linear, weighted_mean_spread, "depends on the other records"),
    "contrastive loss": (linear, contrastive, "depends on the other records"),
    "gradients coupled, losses not": (linear, coupled_gradient, "not that of the records' own"),
    "BatchNorm": (net(nn.BatchNorm1d(6)), cross_entropy, r"layer '1' \(BatchNorm1d\)"),
    "BatchNorm without parameters": (
        net(nn.BatchNorm1d(6, affine=False)),
        cross_entropy,
        "by the other records",
    ),
    "frozen BatchNorm in train": (net(frozen_batch_norm()), cross_entropy, "put it in eval"),
    "BatchNorm in eval without statistics": (
        net(nn.BatchNorm1d(6, affine=False, track_running_stats=False).eval()),
        cross_entropy,
        "by the other records",
    ),
    "GroupNorm(C, C) on (B, C)": (net(nn.GroupNorm(6, 6)), cross_entropy, "single values"),
    "LayerNorm of one value": (
        lambda: nn.Sequential(nn.Linear(4, 1), nn.LayerNorm(1), nn.Linear(1, 3)),
        cross_entropy,
        "single values",
    ),
    "dead network": (net(nn.Threshold(1e9, 0.0)), cross_entropy, "does not depend on its input"),
    "hand-made running statistics": (wrapped(count_runs), cross_entropy, "changes 'counter'"),
    "hidden memory": (wrapped(remember), cross_entropy, "records seen before"),
    "weights changed in forward": (wrapped(rescale_weights), cross_entropy, "'first.weight'"),
    "functional dropout": (wrapped(chance), cross_entropy, "depends on chance"),
    "centred by the batch": (wrapped(centre), cross_entropy, "depends on the other records"),
    "attention over records": (wrapped(attend_over_records), cross_entropy, "other records"),
    "records reordered": (wrapped(reorder), cross_entropy, "not that of the records' own"),
    "weights used behind a layer's back": (
        wrapped(behind_the_layers_back),
        cross_entropy,
        "not that of the records' own",
    ),
    "input changed in place": (wrapped(in_place), cross_entropy, "inplace operation"),
    "gaps filled from others": (wrapped(fill_gaps_from_others), cross_entropy, "leaving out one"),
    "no gradient": (linear, disconnected, "no record has a gradient"),
    "wrong width": (lambda: nn.Linear(5, 3), cross_entropy, "fails on generated records"),
}


@pytest.mark.parametrize("hole", HOLES)
@pytest.mark.parametrize("unit", ["record", "patient"])
def test_a_planted_hole_is_found_and_named(hole: str, unit: str) -> None:
    model, loss, message = HOLES[hole]
    with pytest.raises(InputError, match=message):
        run_guards(model, loss, features, clip=1.0, unit=unit)  # type: ignore[arg-type]


def test_cox_partial_likelihood_is_found() -> None:
    with pytest.raises(InputError, match="depends on the other records"):
        run_guards(linear, cox, survival, clip=1.0)


def test_time_folded_into_the_batch_is_found() -> None:
    with pytest.raises(InputError, match="'first' does not get records first"):
        run_guards(wrapped(time_as_records), cross_entropy, sequences, clip=1.0)


def test_weights_used_behind_a_layers_back_are_found_under_ghost_clipping() -> None:
    # Here it is worse than a wrong gradient: the norm misses what the sum contains.
    with pytest.raises(InputError, match="not that of the records' own"):
        run_guards(
            wrapped(behind_the_layers_back), cross_entropy, features, clip=1.0, clipping="ghost"
        )


def test_tied_weights_are_refused_under_ghost_clipping() -> None:
    def words(n: int, rng: np.random.Generator) -> Records:
        return Records(rng.integers(5, size=(n, 3)), rng.integers(5, size=n))

    run_guards(zoo.Tied, cross_entropy, words, clip=1.0)
    with pytest.raises(InputError, match="shares a parameter"):
        run_guards(zoo.Tied, cross_entropy, words, clip=1.0, clipping="ghost")


@pytest.mark.parametrize("name", zoo.MODELS)
@pytest.mark.parametrize("unit", ["record", "patient"])
def test_sound_models_pass(name: str, unit: str) -> None:
    def generate(n: int, rng: np.random.Generator) -> Records:
        return Records(*zoo.records(name, n, int(rng.integers(99))))

    run_guards(lambda: zoo.build(name), cross_entropy, generate, clip=1.0, unit=unit)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", zoo.GHOST)
def test_sound_models_pass_under_ghost_clipping(name: str) -> None:
    def generate(n: int, rng: np.random.Generator) -> Records:
        return Records(*zoo.records(name, n, int(rng.integers(99))))

    run_guards(lambda: zoo.build(name), cross_entropy, generate, clip=1.0, clipping="ghost")


@pytest.mark.parametrize(
    "model",
    [
        net(nn.Dropout(0.5)),
        net(frozen_batch_norm().eval()),
        lambda: nn.Sequential(nn.Linear(4, 3), nn.PReLU()),
    ],
)
def test_dropout_and_frozen_constants_pass(model: Model) -> None:
    run_guards(model, cross_entropy, features, clip=1.0)


def test_positive_class_weights_and_weights_per_record_pass() -> None:
    def weighted(output: Tensor, target: Tensor) -> Tensor:
        weight_B = torch.tensor([1.0, 10.0, 1.0], dtype=output.dtype)[target]
        return cross_entropy(output, target) * weight_B

    def pos_weight(output: Tensor, target: Tensor) -> Tensor:
        hit = (target > 0).to(output.dtype)
        weight = torch.tensor(10.0, dtype=output.dtype)
        return functional.binary_cross_entropy_with_logits(
            output[:, 0], hit, pos_weight=weight, reduction="none"
        )

    for loss in (weighted, pos_weight):
        run_guards(linear, loss, features, clip=1.0)


def test_zero_output_weights_do_not_hide_a_hole() -> None:
    def zeroed() -> nn.Module:
        model = Wrapped(behind_the_layers_back)
        nn.init.zeros_(model.output.weight)
        nn.init.zeros_(model.output.bias)
        return model

    with pytest.raises(InputError, match="not that of the records' own"):
        run_guards(zeroed, cross_entropy, features, clip=1.0)


def test_dropout_is_on_again_after_the_guards() -> None:
    made: list[nn.Module] = []

    def factory() -> nn.Module:
        made.append(net(nn.Dropout(0.5))())
        return made[-1]

    run_guards(factory, cross_entropy, features, clip=1.0)
    assert all(module.training for module in made[0].modules())


def test_records_that_are_all_alike_do_not_make_a_network_look_dead() -> None:
    def alike(n: int, rng: np.random.Generator) -> Records:
        return Records(np.ones((n, 4)), rng.integers(3, size=n))

    run_guards(linear, cross_entropy, alike, clip=1.0)


def test_whole_number_inputs_are_left_as_they_are() -> None:
    x = np.arange(SIZES[-1])[:, None]
    assert [record for record, _ in probes.disturbed(x)] == list(range(SIZES[-1]))


def test_an_engine_that_bounds_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def unclipped(engine: Engine, *args: Array | None) -> Array:
        x, y, _, *masks = args
        keep = masks[0] if masks else np.ones(len(x), dtype=np.bool_)  # type: ignore[arg-type]
        rows = zoo.gradients(engine.model, cross_entropy, x, y)  # type: ignore[arg-type]
        total: Array = rows[keep].sum(0)
        return total

    monkeypatch.setattr(Engine, "clipped_sum", unclipped)
    records = features(7, np.random.Generator(np.random.PCG64(0)))
    with pytest.raises(InputError, match=r"leaving out one record .* at most 0\.01"):
        check_influence(linear().double(), cross_entropy, records.x_NF, records.y_N, clip=0.01)


def test_guards_take_milliseconds() -> None:
    run_guards(linear, cross_entropy, features, clip=1.0)
    start = time.perf_counter()
    run_guards(net(), cross_entropy, features, clip=1.0)
    assert time.perf_counter() - start < 1  # 30 ms on one core; the bound is for busy machines


def test_records_without_a_gradient_are_no_hole() -> None:
    model = nn.Linear(2, 1, bias=False).double()
    x, y = np.vstack([np.zeros((3, 2)), np.ones((3, 2))]), np.zeros(6)
    check_exact(model, lambda output, _: output.squeeze(1) ** 2, x, y)
