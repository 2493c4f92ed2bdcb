"""Checks that a node runs on generated records before it lets a job near a patient's.

Opacus and torch accept models and losses for which a clipped gradient bounds nothing: batch
statistics, losses that couple records, hidden state, weights used behind a layer's back. Each check
below finds one kind of them by trying it out, in milliseconds, and says what it found and what to
do. Weights are random here, because zero output weights would hide what lies before them.

A pass is evidence, not proof: what a model does only for values that were not generated is not
seen. The bound itself is the engine's, see privacy.engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from privacy.engine import MARGIN, Clipping, Engine, Unit
from privacy.gradients import Loss, loss_per_record
from privacy.layers import check_layers
from privacy.probes import (
    disturbed,
    no_dropout,
    norms_watched,
    randomise,
    single_gradients,
    state,
    tensors,
)
from protocol.errors import InputError

Array = npt.NDArray[Any]

SIZES = (2, 3, 7)
"""Batch sizes that are tried; no dimension of a model can equal all of them."""

_EXACT = 1e-9  # relative; float64 rounding in a deep model stays far below it


class Generated(Protocol):
    """Records that `learning.task.Task.generate` invents: N inputs and N targets."""

    @property
    def x_NF(self) -> Array:  # noqa: N802  the shape is part of the name
        """Inputs, records first."""

    @property
    def y_N(self) -> Array:  # noqa: N802
        """Targets, records first."""


Generate = Callable[[int, np.random.Generator], Generated]


def run_guards(
    model_factory: Callable[[], nn.Module],
    loss: Loss,
    generate: Generate,
    *,
    clip: float,
    unit: Unit = "record",
    clipping: Clipping = "auto",
) -> None:
    """Try every known way in which one unit could move the clipped sum by more than the clip.

    Args:
        model_factory: Makes the model that will be trained; called once.
        loss: (output, target) to one value per record.
        generate: Invents records within the schema's bounds; no patient's record is ever needed.
        clip: C of the job.
        unit: The job's unit.
        clipping: The engine's way to clip.

    Raises:
        InputError: Names the hole and the remedy.
    """
    model = model_factory().double()
    check_layers(model)
    generator = np.random.Generator(np.random.PCG64(20261101))  # public: nothing here is secret
    records = generate(SIZES[-1], generator)
    x, y = np.asarray(records.x_NF), np.asarray(records.y_N)
    randomise(model, generator)
    try:
        with no_dropout(model):
            check_alive(model, x)
            check_state(model, loss, x, y)
            check_additive(model, loss, x, y)
            check_exact(model, loss, x, y, clipping=clipping)
            check_influence(model, loss, x, y, clip=clip, unit=unit, clipping=clipping)
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise InputError("the model fails on generated records", found=str(error)) from error


def check_alive(model: nn.Module, x: Array) -> None:
    """Refuse a network that says the same of every record, such as GroupNorm(C, C) on (B, C).

    Raises:
        InputError: A normalisation over single values, or a constant output.
    """
    with norms_watched(model):
        output = model(*tensors(x))
    distinct = len(np.unique(x, axis=0)) > 1
    if distinct and isinstance(output, Tensor) and bool((output == output[:1]).all()):
        raise InputError(
            "the model's output does not depend on its input",
            remedy="look for a normalisation over single values or an activation that is off",
        )


def check_state(model: nn.Module, loss: Loss, x: Array, y: Array) -> None:
    """Refuse a model that keeps something of the records it saw, or changes itself.

    Raises:
        InputError: A weight or buffer changes in the forward pass (running statistics, weights
            renormalised in place), or the same record has another loss the second time.
    """
    before = state(model)
    first_B = _losses(model, loss, x[:2], y[:2])
    _losses(model, loss, x[2:], y[2:])
    again_B = _losses(model, loss, x[:2], y[:2])
    for name, value in state(model).items():
        if value != before[name]:
            raise InputError(
                f"the forward pass changes '{name}', which would leave the hospital without noise",
                remedy="use layers without running statistics and leave weights to the optimiser",
            )
    if not torch.equal(first_B, again_B):
        raise InputError(
            "a record's loss depends on chance or on records seen before",
            remedy="keep nothing of a batch in the model, and use nn.Dropout for dropout",
        )


def check_additive(model: nn.Module, loss: Loss, x: Array, y: Array) -> None:
    """Refuse a loss of several records that is not the sum of their single losses.

    Raises:
        InputError: Records are coupled: a mean over the batch, weights normalised over it, risk
            sets (Cox' partial likelihood), contrastive pairs, attention or statistics over records.
    """
    single_B = torch.cat([_losses(model, loss, x[[i]], y[[i]]) for i in range(len(x))])
    for size in SIZES:
        joint_B = _losses(model, loss, x[:size], y[:size])
        if not torch.allclose(joint_B, single_B[:size], rtol=_EXACT, atol=_EXACT):
            raise InputError(
                "the loss of a record depends on the other records of its batch",
                expected="the loss of a batch to be the sum of the losses of its records",
                remedy="use reduction='none' and a loss and layers that see one record at a time",
            )


def check_exact(
    model: nn.Module, loss: Loss, x: Array, y: Array, *, clipping: Clipping = "auto"
) -> None:
    """Compare the engine's sums with gradients taken by plain autograd, one record at a time.

    Raises:
        InputError: They differ: parameters used behind a layer's back (functional calls, ties),
            records reordered or mixed inside the model, gradients coupled where losses are not.
    """
    rows_NP = single_gradients(model, loss, x, y)
    norm_N = np.linalg.norm(rows_NP, axis=1)
    if not norm_N.any():
        raise InputError("no record has a gradient", remedy="connect the loss to the parameters")
    middle = float(np.median(norm_N[norm_N > 0]))
    for clip in (max(middle, 1e-6), 1e12):
        engine = Engine(model, loss, clip=clip, clipping=clipping)
        bound = clip * (1 - MARGIN)
        weight_N = bound / np.maximum(norm_N, bound)
        for size in SIZES:
            expected_P = weight_N[:size] @ rows_NP[:size]
            error = np.linalg.norm(engine.clipped_sum(x[:size], y[:size]) - expected_P)
            if not error <= _EXACT * float(weight_N[:size] @ norm_N[:size]):
                raise InputError(
                    "the clipped sum is not that of the records' own gradients",
                    remedy="call layers rather than torch.nn.functional with their weights, share "
                    "no weights under clipping 'ghost', and keep records in order",
                )


def check_influence(
    model: nn.Module,
    loss: Loss,
    x: Array,
    y: Array,
    *,
    clip: float,
    unit: Unit = "record",
    clipping: Clipping = "auto",
) -> None:
    """Leave out one unit, with tame and with absurd values, and see how far the sum moves.

    Raises:
        InputError: Further than the clip, or no longer finite.
    """
    engine = Engine(model, loss, clip=clip, unit=unit, clipping=clipping)
    patient = np.arange(len(x)) // 2
    for record, changed in disturbed(x):
        others = patient != patient[record] if unit == "patient" else np.arange(len(x)) != record
        everyone_P = engine.clipped_sum(changed, y, patient)
        moved = np.linalg.norm(everyone_P - engine.clipped_sum(changed, y, patient, others))
        if not moved <= clip:
            raise InputError(
                f"leaving out one {unit} moves the clipped sum by more than the clip",
                expected=f"at most {clip}",
                found=f"{moved:.3g}",
                remedy="look for what lets one record change the gradients of others",
            )


def _losses(model: nn.Module, loss: Loss, x: Array, y: Array) -> Tensor:
    return loss_per_record(model, loss, *tensors(x, y)).detach()
