from __future__ import annotations

import warnings

import pytest
from opacus.layers import DPGRU, DPMultiheadAttention
from torch import nn
from torch.nn.utils import parametrizations

from privacy.engine import Engine
from privacy.layers import check_ghost, check_layers, trainable_layers
from privacy.samplers import SAMPLERS
from protocol.errors import InputError
from tests.privacy import zoo
from tests.privacy.zoo import cross_entropy


class Scale(nn.Module):
    """A module that keeps a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(1, 1).weight.detach().clone())


class Squashed(nn.Linear):
    """A linear layer by type, anything by its forward pass."""


def weight_normed() -> nn.Module:
    with warnings.catch_warnings():
        # torch deprecates this form, which leaves the layer's type alone: the one that is missed.
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(nn.Linear(2, 2))


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "BatchNorm1d": (nn.BatchNorm1d(3), "use nn.LayerNorm, or nn.GroupNorm"),
    "BatchNorm2d": (nn.BatchNorm2d(3), "use nn.LayerNorm, or nn.GroupNorm"),
    "SyncBatchNorm": (nn.SyncBatchNorm(3), "use nn.LayerNorm, or nn.GroupNorm"),
    "trainable BatchNorm in eval": (nn.BatchNorm1d(3).eval(), "use nn.LayerNorm"),
    "InstanceNorm with statistics": (
        nn.InstanceNorm1d(3, track_running_stats=True),
        "set track_running_stats=False",
    ),
    "LSTM": (nn.LSTM(2, 3), "DPLSTM"),
    "GRU": (nn.GRU(2, 3), "DPGRU"),
    "RNN": (nn.RNN(2, 3), "DPRNN"),
    "GRUCell": (nn.GRUCell(2, 3), "DPRNN, DPGRU or DPLSTM"),
    "MultiheadAttention": (nn.MultiheadAttention(4, 2), "DPMultiheadAttention"),
    "TransformerEncoderLayer": (nn.TransformerEncoderLayer(4, 2), "DPMultiheadAttention"),
    "EmbeddingBag": (nn.EmbeddingBag(5, 2), "use nn.Embedding"),
    "Bilinear": (nn.Bilinear(2, 2, 2), "use nn.Linear"),
    "own parameter": (Scale(), "keep parameters in nn.Linear"),
    "subclass": (Squashed(2, 2), "keep parameters in nn.Linear"),
    "lazy": (nn.LazyLinear(2), "keep parameters in nn.Linear"),
    "parametrised": (parametrizations.spectral_norm(nn.Linear(2, 2)), "keep parameters in"),
    "weight norm": (weight_normed(), r"reparametrised \(it owns bias, weight_g, weight_v\)"),
    "time first GRU": (DPGRU(2, 3), "set batch_first=True"),
    "time first attention": (DPMultiheadAttention(4, 2), "set batch_first=True"),
    "attention with a bias": (
        DPMultiheadAttention(4, 2, batch_first=True, add_bias_kv=True),
        "leave add_bias_kv=False",
    ),
    "circular padding": (nn.Conv2d(1, 1, 3, padding_mode="circular"), "padding_mode='zeros'"),
    "reflected padding": (nn.Conv1d(1, 1, 3, padding_mode="reflect"), "padding_mode='zeros'"),
    "embedding with max_norm": (nn.Embedding(5, 2, max_norm=1.0), "leave max_norm out"),
    "embedding by frequency": (nn.Embedding(5, 2, scale_grad_by_freq=True), "scale_grad_by_freq"),
    "sparse embedding": (nn.Embedding(5, 2, sparse=True), "leave sparse out"),
    "padding row": (nn.Embedding(5, 2, padding_idx=0), "multiply by a mask"),
    "LayerNorm without bias": (nn.LayerNorm(3, bias=False), "nn.RMSNorm"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_layers_path_and_what_to_use(name: str) -> None:
    layer, remedy = REFUSED[name]
    model = nn.Sequential(nn.Linear(2, 2), nn.ModuleDict({"deep": layer}))
    with pytest.raises(InputError, match=remedy) as caught:
        check_layers(model)
    assert str(caught.value).startswith("layer '1.deep")
    with pytest.raises(InputError, match=r"layer '1\.deep"):
        Engine(model, cross_entropy, clip=1.0)


@pytest.mark.parametrize("name", zoo.MODELS)
def test_supported_models_pass(name: str) -> None:
    check_layers(zoo.build(name))


def test_every_layer_with_a_rule_is_in_a_model_of_the_oracle_test() -> None:
    tried = {type(layer) for name in zoo.MODELS for _, layer in trainable_layers(zoo.build(name))}
    siblings = {nn.InstanceNorm1d, nn.InstanceNorm3d, nn.ConvTranspose1d, nn.ConvTranspose3d}
    assert tried == set(SAMPLERS) - siblings


def test_frozen_layers_need_no_rule() -> None:
    frozen = nn.ModuleList([nn.LSTM(2, 3), nn.BatchNorm1d(2).eval(), Scale()])
    frozen.requires_grad_(False)
    check_layers(nn.Sequential(nn.Linear(2, 2), frozen))


def test_a_model_without_trainable_parameters_is_refused() -> None:
    for model in (nn.ReLU(), nn.Linear(2, 2).requires_grad_(False)):
        with pytest.raises(InputError, match="no trainable parameter"):
            check_layers(model)


def test_ghost_clipping_takes_only_what_it_is_exact_for() -> None:
    for name in zoo.GHOST:
        check_ghost(zoo.build(name))
    for name, problem in (
        ("gru", "'recurrent.l0.ih' .* no ghost rule"),
        ("attention", "'second' .* no ghost rule"),
        ("tied", "'tokens' .* shares a parameter"),
    ):
        with pytest.raises(InputError, match=problem):
            check_ghost(zoo.build(name))
