"""The torch module of an adapted language model; only nodes load this module, and transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from learning.networks import linear
from learning.pretrained import WEIGHTS, Pretrained, module_name
from learning.task import FloatArray
from learning.text_modules import whole_numbers
from protocol.errors import InputError

if TYPE_CHECKING:
    from learning.lora import Adapters

_ADAPTER = "default"  # what peft calls the only one


class Adapted(nn.Module):
    """See `learning.lora.Adapters`.

    The frozen model is kept out of sight of `parameters()`: what is not learnt is not exchanged,
    not noised and not counted. Its layers call the adapters' linear layers, which are registered
    here, so that the engine sees each of them run.

    Args:
        adapters: Sizes and the verified folder.
    """

    def __init__(self, adapters: Adapters) -> None:
        super().__init__()
        frozen = with_adapters(frozen_model(adapters.pretrained), adapters)
        self.adapters = nn.ModuleDict()
        for path in adapters.pretrained.adapted:
            layer: Any = frozen.get_submodule(path)
            pair = nn.ModuleDict({"A": layer.lora_A[_ADAPTER], "B": layer.lora_B[_ADAPTER]})
            self.adapters[module_name(path)] = pair
        self.output = linear(adapters.pretrained.width + len(adapters.places.rest), adapters.size)
        self._frozen = (frozen,)
        self._of = adapters

    def forward(self, x_BF: Tensor) -> Tensor:
        """Logits B x O."""
        rest_BR = x_BF[:, list(self._of.places.rest)]
        logits_BO: Tensor = self.output(torch.cat([self._means(x_BF), rest_BR], dim=1))
        return logits_BO

    def _means(self, x_BF: Tensor) -> Tensor:
        """The mean of the states of a record's word pieces, B x D."""
        if not len(x_BF):
            return x_BF.new_empty((0, self._of.pretrained.width))
        number_BF = whole_numbers(x_BF) % (self._of.pretrained.vocabulary + 1)
        parts = [number_BF[:, start:stop] for start, stop in self._of.places.texts]
        number_BT = torch.cat(parts, dim=1)
        known_BT = number_BT > 0
        known_BT[:, 0] = True  # attention needs one place, also in a record without words
        states = self._frozen[0](
            input_ids=(number_BT - 1).clamp(min=0), attention_mask=known_BT.long()
        )
        known_BT1 = known_BT[:, :, None].to(x_BF.dtype)
        sum_BD: Tensor = (states.last_hidden_state * known_BT1).sum(dim=1)
        return sum_BD / known_BT1.sum(dim=1)

    def outputs(self, arrays: Mapping[str, FloatArray], x_NF: FloatArray) -> FloatArray:
        """The output N x O with the given weights, record by record."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(torch.from_numpy(np.array(arrays[name])))
            rows = [self(torch.from_numpy(row_F[None])).numpy() for row_F in x_NF]
        return np.concatenate([np.empty((0, self._of.size)), *rows])


def frozen_model(pretrained: Pretrained) -> nn.Module:
    """The folder's model in double precision, without dropout, none of its weights to be learnt.

    Its class comes from the installed package and its weights from bytes that were verified; the
    network, the folder's other files and pickle play no part.

    Raises:
        InputError: Weights are missing, or of other shapes than the configuration says.
    """
    import transformers  # noqa: PLC0415 - an extra
    from safetensors.torch import load  # noqa: PLC0415 - with torch only

    family = pretrained.family
    config = getattr(transformers, family.config)(**pretrained.sizes)
    # Written out, in place of kernels that a configuration could ask for.
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = getattr(transformers, family.model)(config)
    tensors = load(pretrained.read(WEIGHTS))
    own = {name.removeprefix(family.prefix): tensor for name, tensor in tensors.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    # What is computed from the first word alone is not used here, and often not saved.
    needed = [name for name in wanted if not name.startswith("pooler.")]
    unfit = [name for name in needed if name not in own or tuple(own[name].shape) != wanted[name]]
    if unfit:
        raise InputError(
            f"{pretrained.folder / WEIGHTS}: tensors that do not fit the configuration",
            found=", ".join(unfit[:3]),
        )
    model.load_state_dict({name: own[name] for name in needed}, strict=False)
    return model.double().requires_grad_(requires_grad=False).eval()


def with_adapters(model: nn.Module, adapters: Adapters) -> nn.Module:
    """The same model with a pair of small linear layers beside every query and value."""
    from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - an extra

    config = LoraConfig(
        r=adapters.rank,
        lora_alpha=adapters.alpha,
        target_modules=list(adapters.pretrained.adapted),
        lora_dropout=0.0,
        bias="none",
    )
    with torch.random.fork_rng(devices=[]):
        found: nn.Module = inject_adapter_in_model(config, model)
    return found.double()
