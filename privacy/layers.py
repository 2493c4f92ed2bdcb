"""Which layers have exact gradients per record, and what to use instead of the others.

A list of what is allowed, not of what is forbidden: a layer that is not on it, or is used in a way
that its gradient rule does not cover, is refused with its path before a record is touched. Tests
check every entry against gradients taken one record at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from privacy.samplers import ATTENTION, RECURRENT, SAMPLERS, SEQUENCE_BIAS
from protocol.errors import InputError

_NORM = "use nn.LayerNorm, or nn.GroupNorm on inputs with a spatial dimension"
_INSTEAD: tuple[tuple[type[nn.Module], str], ...] = (
    (_BatchNorm, _NORM),
    (nn.LSTM, "use opacus.layers.DPLSTM"),
    (nn.GRU, "use opacus.layers.DPGRU"),
    (nn.RNNBase, "use opacus.layers.DPRNN"),
    (nn.RNNCellBase, "use opacus.layers.DPRNN, DPGRU or DPLSTM"),
    (nn.MultiheadAttention, "use opacus.layers.DPMultiheadAttention(batch_first=True)"),
    (nn.EmbeddingBag, "use nn.Embedding and take the sum or mean in the model"),
    (SEQUENCE_BIAS, "leave add_bias_kv=False in opacus.layers.DPMultiheadAttention"),
    (nn.Bilinear, "use nn.Linear on the products of the two inputs"),
)
_ANY = "keep parameters in nn.Linear, Conv, Embedding, LayerNorm, GroupNorm or opacus.layers"
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_GHOST = (nn.Linear, *_CONVOLUTIONS, nn.Embedding, nn.LayerNorm, nn.GroupNorm)


def trainable_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every layer that owns a trainable parameter, with its path.

    Opacus' recurrent modules show their cells' parameters under a second name and are left out.

    >>> [path for path, _ in trainable_layers(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))]
    ['0']
    """
    for path, module in model.named_modules():
        own = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        if own and not isinstance(module, RECURRENT):
            yield path, module


def check_layers(model: nn.Module) -> None:
    """Refuse a model whose gradients per record would be wrong or undefined.

    Args:
        model: The model as it will be trained.

    Raises:
        InputError: Names the layer's path and what to use instead.

    >>> check_layers(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.LayerNorm(2)))
    >>> check_layers(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    ... # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    InputError: layer '1' (BatchNorm1d) ...
    """
    for path, module in model.named_modules():
        _check_statistics(path, module)
        _check_orientation(path, module)
    layers = list(trainable_layers(model))
    if not layers:
        raise InputError("the model has no trainable parameter", remedy=_ANY)
    for path, layer in layers:
        _check_type(path, layer)
        _check_parameters(path, layer)
        for kind, check in _SETTINGS:
            if isinstance(layer, kind):
                check(path, layer)


def check_ghost(model: nn.Module) -> None:
    """Refuse ghost clipping where its norms are not those of the gradients it sums.

    Raises:
        InputError: A layer without an exact rule, or one parameter in two layers.
    """
    owners = Counter(
        parameter
        for _, layer in trainable_layers(model)
        for parameter in layer.parameters(recurse=False)
    )
    for path, layer in trainable_layers(model):
        if type(layer) not in _GHOST:
            raise _refusal(path, layer, "has no ghost rule", "use clipping 'auto'")
        if any(owners[parameter] > 1 for parameter in layer.parameters(recurse=False)):
            problem = "shares a parameter with another layer"
            raise _refusal(path, layer, problem, "use clipping 'auto'")


def _refusal(path: str, layer: nn.Module, problem: str, remedy: str) -> InputError:
    return InputError(f"layer '{path}' ({type(layer).__name__}) {problem}", remedy=remedy)


def _check_statistics(path: str, module: nn.Module) -> None:
    """Statistics over a batch couple records; running ones carry them, un-noised, in the state."""
    if not isinstance(module, _NormBase):
        return
    frozen = not any(parameter.requires_grad for parameter in module.parameters())
    if frozen and not module.training and module.running_mean is not None:
        return  # constants: nothing is learnt from the batch and nothing is kept of it
    if isinstance(module, _BatchNorm):
        problem = "normalises a record by the other records of its batch"
        raise _refusal(path, module, problem, f"{_NORM}, or freeze it and put it in eval()")
    if module.track_running_stats:
        problem = "keeps running statistics of the records"
        raise _refusal(path, module, problem, "set track_running_stats=False")


def _check_orientation(path: str, module: nn.Module) -> None:
    """Records must come first: clipping along the time axis bounds nothing."""
    if isinstance(module, (ATTENTION, *RECURRENT)) and not module.batch_first:
        raise _refusal(path, module, "has time before records", "set batch_first=True")


def _check_type(path: str, layer: nn.Module) -> None:
    # Subclasses are refused too: their forward pass may be anything.
    if type(layer) in SAMPLERS:
        return
    remedy = next((remedy for kind, remedy in _INSTEAD if isinstance(layer, kind)), _ANY)
    raise _refusal(path, layer, "has no exact gradient per record", remedy)


def _check_parameters(path: str, layer: nn.Module) -> None:
    """`weight_norm` and its like leave the type alone and swap the parameters."""
    names = {name for name, _ in layer.named_parameters(recurse=False)}
    if not names <= {"weight", "bias"}:
        problem = f"is reparametrised (it owns {', '.join(sorted(names))})"
        raise _refusal(path, layer, problem, "remove the weight or spectral normalisation")


def _check_convolution(path: str, layer: nn.Module) -> None:
    if layer.padding_mode != "zeros":
        problem = f"pads by {layer.padding_mode!r}, which the gradient rule ignores"
        raise _refusal(path, layer, problem, "set padding_mode='zeros'")


def _check_embedding(path: str, layer: nn.Module) -> None:
    settings = {
        "max_norm": "changes the weights of the records' rows in the forward pass",
        "scale_grad_by_freq": "scales a record's gradient by the other records",
        "sparse": "has sparse gradients, which have no rule per record",
        "padding_idx": "has a padding row, which the gradient rule ignores",
    }
    for setting, problem in settings.items():
        if (
            getattr(layer, setting) is not None and getattr(layer, setting) is not False
        ):  # 0 is a row
            remedy = f"leave {setting} out; multiply by a mask to drop padded positions"
            raise _refusal(path, layer, problem, remedy)


def _check_layer_norm(path: str, layer: nn.Module) -> None:
    if getattr(layer, "bias", None) is None:
        problem = "has no bias, which the gradient rule needs"
        raise _refusal(path, layer, problem, "leave bias=True, or use nn.RMSNorm")


_SETTINGS: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], Callable[..., None]], ...] = (
    (_CONVOLUTIONS, _check_convolution),
    (nn.Embedding, _check_embedding),
    (nn.LayerNorm, _check_layer_norm),
)
