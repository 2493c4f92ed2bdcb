"""Gradients per record from one forward pass and one backward pass.

Backward goes only as far as the layers' outputs. The gradients of the parameters follow from each
layer's input and the gradient of its output: by `privacy.blocks` where they need not be laid out,
by Opacus' rule for the layer elsewhere. This costs little more than training without privacy;
benchmarks/privacy_overhead.py measures it.

Source: Bu, Wang, Zha, Karypis 2023, "Differentially private optimization on large model at small
cost" (arXiv:2210.00038), section 3.2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils.rnn import PackedSequence

from privacy.blocks import Block, Full, Lookup, Outer
from privacy.layers import trainable_layers
from privacy.samplers import RECURRENT, sample
from protocol.errors import InputError

Loss = Callable[[Tensor, Tensor], Tensor]
"""(output, target) to one value per record, (B,)."""


def loss_per_record(model: nn.Module, loss: Loss, x_B: Tensor, y_B: Tensor) -> Tensor:
    """Run the model and insist on one loss value per record.

    Returns:
        (B,), attached to the graph.

    Raises:
        InputError: The loss has another shape or does not depend on the parameters.
    """
    losses_B = loss(model(x_B), y_B)
    if losses_B.shape != (len(x_B),):
        raise InputError(
            "the loss couples records",
            expected="shape (B,), one value per record",
            found=f"shape ({', '.join(_spell(losses_B.shape, len(x_B)))})",
            remedy="use reduction='none' and squeeze the model's output to the target's shape",
        )
    if not losses_B.requires_grad:
        raise InputError("the loss does not depend on any trainable parameter")
    return losses_B


def _spell(shape: torch.Size, batch: int) -> Iterator[str]:
    # The number of records in a batch is private where batches are sampled.
    return ("B" if size == batch else str(size) for size in shape)


@dataclass(frozen=True)
class _Call:
    """One run of a trainable layer in the forward pass."""

    path: str
    layer: nn.Module
    inputs: Tensor
    version: int
    output: GradientEdge


def one_pass(model: nn.Module, loss: Loss, x_B: Tensor, y_B: Tensor) -> list[Block]:
    """Gradients per record from one forward and one backward pass.

    Args:
        model: A model that passes `check_layers`.
        loss: One value per record.
        x_B: Inputs, records first.
        y_B: Targets, records first.

    Returns:
        Blocks that together hold each trainable parameter that the batch used exactly once.

    Raises:
        InputError: The loss is not (B,), a layer does not see records first, or its input was
            overwritten before its gradient was taken.
    """
    calls: list[_Call] = []
    with watched(model, len(x_B)), _recorded(model, calls):
        losses_B = loss_per_record(model, loss, x_B, y_B)
    edges = [call.output for call in calls]
    grads = torch.autograd.grad(losses_B.sum(), edges, allow_unused=True) if edges else ()
    for call in calls:
        if call.inputs._version != call.version:
            raise InputError(
                f"the input of layer '{call.path}' is changed in place after use",
                remedy="use inplace=False and x = x + y",
            )
    used = [(call, grad) for call, grad in zip(calls, grads, strict=True) if grad is not None]
    if not used:
        remedy = "call layers, not torch.nn.functional with their weights"
        raise InputError("no trainable layer takes part in the loss", remedy=remedy)
    return _blocks(used, len(x_B))


def values_per_record(model: nn.Module, x_B: Tensor) -> int:
    """How many values one record leaves at the trainable layers: their inputs and outputs.

    Args:
        model: A model that passes `check_layers`.
        x_B: Inputs, records first, of which none is looked at: only the shape of one counts.

    >>> values_per_record(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.ones(7, 3))
    5
    """
    sizes: list[int] = []

    def measure(_: nn.Module, args: tuple[object, ...], output: object) -> None:
        sizes.extend(part.numel() for part in (*args[:1], output) if isinstance(part, Tensor))

    handles = [layer.register_forward_hook(measure) for _, layer in trainable_layers(model)]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(x_B.new_zeros(1, *x_B.shape[1:]))
    finally:
        for handle in handles:
            handle.remove()
    return sum(sizes)


def bytes_per_record(model: nn.Module, x_B: Tensor) -> int:
    """How many bytes one record keeps from the forward to the backward pass.

    Frozen layers count, registered or not: gradients of layers before them pass through them.
    Weights do not, since they are there once.

    Args:
        model: A model that passes `check_layers`.
        x_B: Inputs, records first, of which none is looked at: only the shape of one counts.

    >>> model = nn.Sequential(nn.Linear(3, 2), nn.Tanh())  # the input, and what tanh gave
    >>> bytes_per_record(model.double(), torch.ones(7, 3, dtype=torch.float64))
    40
    """
    kept: dict[int, int] = {}
    weights: set[int] = set()

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor  # as long as the graph holds it, no other storage has its place

    def note(layer: nn.Module, _: object, __: object) -> None:
        own = (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
        weights.update(each.untyped_storage().data_ptr() for each in own)

    # Of all modules that run, so that frozen ones count which the model does not show.
    handle = register_module_forward_hook(note)
    packing = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]), packing:
            output = model(x_B.new_zeros(1, *x_B.shape[1:]))
    finally:
        handle.remove()
    del output
    return sum(size for place, size in kept.items() if place not in weights)


@contextmanager
def _recorded(model: nn.Module, calls: list[_Call]) -> Iterator[None]:
    """Record every run of a trainable layer, as long as the context is open."""

    def recorder(path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def record(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            if output.requires_grad:
                inputs = args[0].detach()  # shares storage and version counter with the original
                # The edge, not the tensor: an in-place activation would replace the tensor's.
                edge = get_gradient_edge(output)
                calls.append(_Call(path, layer, inputs, inputs._version, edge))

        return record

    handles = [
        layer.register_forward_hook(recorder(path)) for path, layer in trainable_layers(model)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def watched(model: nn.Module, batch: int, *, ghost: bool = False) -> Iterator[None]:
    """Refuse, at run time, what gradient rules take for granted and layers do not check.

    Args:
        model: The model that is about to run.
        batch: B, the number of records it gets.
        ghost: Also insist on what Opacus' ghost norms need.

    Raises:
        InputError: From within the model's forward pass.
    """
    seen: set[str] = set()

    def watcher(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        def watch(layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            _check_input(path, args, batch)
            if ghost:
                _check_ghost_input(path, layer, args[0], seen)
            # Opacus' convolutions read strides: a permuted input gives wrong gradients silently.
            return (args[0].contiguous(), *args[1:])

        return watch

    layers = [*trainable_layers(model)]
    layers += [(path, each) for path, each in model.named_modules() if isinstance(each, RECURRENT)]
    handles = [layer.register_forward_pre_hook(watcher(path)) for path, layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_input(path: str, args: tuple[object, ...], batch: int) -> None:
    first = args[0] if args else None
    if isinstance(first, PackedSequence):
        raise InputError(
            f"layer '{path}' gets a packed sequence, which reorders records",
            remedy="pad to one length and mask what is padded",
        )
    if not isinstance(first, Tensor) or first.shape[:1] != (batch,):
        raise InputError(
            f"layer '{path}' does not get records first",
            expected="one positional input of shape (B, ..)",
            remedy="keep the record as the first dimension in every layer",
        )


def _check_ghost_input(path: str, layer: nn.Module, inputs: Tensor, seen: set[str]) -> None:
    if path in seen:
        raise InputError(
            f"layer '{path}' runs twice, which ghost norms do not cover",
            remedy="use clipping 'auto'",
        )
    seen.add(path)
    if isinstance(layer, nn.Linear) and inputs.dim() != 2:
        # The ghost norm of a sequence cancels: huge entries would slip under the clip.
        raise InputError(
            f"layer '{path}' has no exact ghost norm for inputs with {inputs.dim()} dimensions",
            remedy="use clipping 'auto'",
        )


def _blocks(used: list[tuple[_Call, Tensor]], batch: int) -> list[Block]:
    owners = Counter(parameter for call, _ in used for parameter in _trainable(call.layer))
    runs: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}
    for call, grad in used:
        runs.setdefault(call.layer, []).append((call.inputs, grad))
    blocks: list[Block] = []
    full: dict[nn.Parameter, Tensor] = {}
    for layer, pairs in runs.items():
        once = all(owners[parameter] == 1 for parameter in _trainable(layer))
        block = _factored(layer, *pairs[0], batch) if once else None
        if block is not None:
            blocks.append(block)
            continue
        for inputs, grad in _joined(layer, pairs):
            for parameter, rows in sample(layer, inputs, grad).items():
                full[parameter] = full[parameter] + rows if parameter in full else rows
    blocks += [Full(parameter, rows.reshape(batch, -1)) for parameter, rows in full.items()]
    return blocks


def _trainable(layer: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in layer.parameters(recurse=False) if parameter.requires_grad]


def _factored(layer: nn.Module, inputs: Tensor, grad: Tensor, batch: int) -> Block | None:
    """The cheap form, where the layer has one; its parameters occur nowhere else."""
    trainable = {name: kept for name, kept in layer.named_parameters() if kept.requires_grad}
    if isinstance(layer, nn.Linear) and inputs.dim() == 2:
        return Outer(trainable.get("weight"), trainable.get("bias"), inputs, grad)
    if isinstance(layer, nn.Embedding):
        index_BL = inputs.reshape(batch, -1)
        record_BL = torch.arange(batch, device=inputs.device)[:, None].expand_as(index_BL)
        rows_ND = grad.reshape(-1, layer.embedding_dim)
        index_N, record_N = index_BL.reshape(-1), record_BL.reshape(-1)
        return Lookup.of(trainable["weight"], batch, record_N, index_N, rows_ND)
    return None


def _joined(layer: nn.Module, pairs: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Runs of one linear layer (a recurrent cell's steps) side by side, as one longer sequence."""
    if not isinstance(layer, nn.Linear) or len(pairs) == 1:
        return pairs
    inputs = [run.reshape(run.shape[0], -1, run.shape[-1]) for run, _ in pairs]
    grads = [grad.reshape(grad.shape[0], -1, grad.shape[-1]) for _, grad in pairs]
    return [(torch.cat(inputs, dim=1), torch.cat(grads, dim=1))]
