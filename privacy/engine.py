"""The clipped sum of gradients: the only thing that training computes from patient records.

Guarantee: one unit (a record, or a patient with all their rows) moves the sum by at most the clip
C in L2 norm, under the add/remove relation, whatever its values are. It is a sum and never a mean,
because the number of records is private. Noise is not added here (privacy.grid).

Rounding: everything runs in float64 and units are clipped at C (1 - 1e-6). Removing a unit also
moves the others' last bits, since they land in other places of other batches: n units of relative
rounding 2^-53, times the network's condition, and (b + n / b) n 2^-53 C for the order of the
additions in batches of b, 7e-8 C for 10^5 units at 16 to a batch (smaller batches add up to groups
of 16 first). Inputs are bounded by the schema,
which keeps the condition tame. No condition bounds a last bit at a kink, where a rectifier or a
maximum has two gradients; v values per unit come within rounding of one with odds of about
n v 2^-53, 1e-8 for n v = 10^8. In float32 the same odds are n v 2^-24, which is 6, and its margin
would be spent at ten units: no sum in float32 has a bound that holds, however exact the adding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from privacy.batches import Rows, as_tensor, batches, check_arrays, select, whole_patients
from privacy.blocks import Block, Full, Totals, clip_weights
from privacy.gradients import Loss, bytes_per_record, one_pass, values_per_record
from privacy.layers import check_ghost, check_layers, trainable_layers
from privacy.opacus_gradients import add_ghost_sum, hooks
from protocol.errors import InputError

FloatVector = npt.NDArray[np.float64]
Clipping = Literal["auto", "onepass", "hooks", "ghost"]
Unit = Literal["record", "patient"]

MARGIN = 1e-6
"""Share of the clip that is left to rounding."""

CACHED = 3 << 20
"""Values at the layers that go through a model together, 24 MiB: more are slower, since they leave
the processor's cache between the forward and the backward pass."""

LEAST_BATCH = 16
"""Records that go together all the same: each further batch adds to the rounding of the sum. Where
that would be too large, as many batches add up to a group first, and groups to the sum."""

ACTIVATIONS = 1 << 30
"""Bytes of activations and their gradients held at once, frozen layers' included; more only
where one record alone has more."""

_AT_ONCE = 4
"""What a record takes at the height of the backward pass, as a multiple of what the forward pass
has kept: that, its gradients, and what the allocator leaves free in between; 2.8 were measured."""

_SMALLEST_CLIP = 1e-6  # below, the square of a factor of a gradient's norm could underflow


class Engine:
    """Clips per unit and sums; holds the model, no records.

    Args:
        model: Taken over: cast to float64, its trainable layers put in training mode. It must pass
            `check_layers`.
        loss: (output, target) to one value per record, (B,). Targets come as float64 or int64.
        clip: C, L2 bound of one unit.
        unit: `patient` sums the gradients of a patient's rows before clipping.
        clipping: `onepass`, `hooks` or `ghost` (records only); `auto` is `onepass`, the fastest in
            every measurement for every layer that is supported.
        max_batch: Most records whose gradients are held at once; bounds the memory, not the result.
            Fewer go together where more would not stay in the processor's cache, or where their
            activations would take more than `ACTIVATIONS`.

    Raises:
        InputError: A layer or setting for which the guarantee does not hold.

    >>> layer = nn.Linear(2, 1)
    >>> squared = lambda output, target: (output.squeeze(1) - target) ** 2
    >>> engine = Engine(layer, squared, clip=1.0)
    >>> engine.load(np.zeros(3))
    >>> total = engine.clipped_sum(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([9.0, 0.1]))
    >>> np.round(total, 3).tolist()  # (3, 4, 1) / sqrt(26) and (0, 0, 0.2), of the descent's sign
    [-0.588, -0.784, -0.396]
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        clip: float,
        unit: Unit = "record",
        clipping: Clipping = "auto",
        max_batch: int = 256,
    ) -> None:
        if not (np.isfinite(clip) and clip >= _SMALLEST_CLIP):
            raise InputError("clip", expected=f"at least {_SMALLEST_CLIP}", found=str(clip))
        if max_batch < 1:
            raise InputError("max_batch", expected="at least 1", found=str(max_batch))
        check_layers(model)
        if clipping == "ghost":
            check_ghost(model)
            if unit == "patient":
                problem = "ghost norms are those of records, not of patients"
                raise InputError(problem, remedy="use clipping 'auto'")
        self.model = model.double()
        for _, layer in trainable_layers(model):
            layer.training = True  # Opacus' hooks sleep otherwise; frozen layers keep their mode
        self._loss = loss
        self._clip = clip * (1.0 - MARGIN)
        self._unit = unit
        self._clipping = clipping
        self._max_batch = max_batch
        self._parameters = list(model.parameters())
        self._fitting: tuple[tuple[int, ...], int] | None = None

    @property
    def length(self) -> int:
        """P, the number of parameters, frozen ones included."""
        return sum(parameter.numel() for parameter in self._parameters)

    def load(self, weights_P: FloatVector) -> None:
        """Set the model's weights, in the order of `named_parameters()`.

        Raises:
            InputError: The vector has another length than the model.
        """
        if weights_P.shape != (self.length,):
            raise InputError("weights", expected=f"{self.length}", found=f"{weights_P.size}")
        parts = np.split(weights_P, np.cumsum([each.numel() for each in self._parameters])[:-1])
        with torch.no_grad():
            for parameter, part in zip(self._parameters, parts, strict=True):
                parameter.copy_(torch.from_numpy(part).view(parameter.shape))

    def clipped_sum(
        self,
        x: npt.NDArray[Any],
        y: npt.NDArray[Any],
        patient: npt.NDArray[np.int64] | None = None,
        mask: npt.NDArray[np.bool_] | None = None,
    ) -> FloatVector:
        """The sum over units of their gradients, each scaled down to the clip.

        Args:
            x: Inputs, records first; integers stay integers (embeddings), all else is float64.
            y: Targets, records first.
            patient: The patient of each record, (N,); needed and used where the unit is one.
            mask: Which records were sampled, (N,); whole patients. Everything when None.

        Returns:
            (P,) in the order of `named_parameters()`; zeros for frozen parameters, and all zeros
            when nothing was sampled.

        Guarantee:
            Adding or removing one unit moves the result by at most C. A unit whose gradient is not
            finite counts as zero and disturbs no other.

        Raises:
            InputError: Not arrays of one length, a missing patient column, half a patient sampled,
                or what `one_pass` finds while the model runs.
        """
        check_arrays(x=x, y=y, patient=patient, mask=mask)
        total_P = self._zeros()
        with torch.enable_grad():
            self._add_sum(x, y, patient, mask, total_P)
        return total_P.numpy(force=True)

    def _add_sum(
        self,
        x: npt.NDArray[Any],
        y: npt.NDArray[Any],
        patient: Rows | None,
        mask: npt.NDArray[np.bool_] | None,
        total_P: Tensor,
    ) -> None:
        """Add all units' clipped gradients, small batches by groups."""
        most = self._batch(x)
        small = most < LEAST_BATCH
        group_P = self._zeros() if small else total_P
        totals = self._views(group_P)
        for number, rows in enumerate(self._runs(len(x), patient, mask, most), start=1):
            if patient is None or self._unit == "record":
                self._add_records(x[rows], y[rows], totals)
            elif len(rows) > most:
                self._add_large_patient(x, y, rows, totals)
            else:
                self._add_patients(x[rows], y[rows], patient[rows], totals)
            if small and number % LEAST_BATCH == 0:
                total_P += group_P
                group_P.zero_()
        if small:
            total_P += group_P

    def _runs(
        self, size: int, patient: Rows | None, mask: npt.NDArray[np.bool_] | None, most: int
    ) -> Iterator[Rows]:
        """Rows that go through the model together, or one patient with more than that."""
        if self._unit == "record":
            return batches(select(mask, size), most)
        if patient is None:
            raise InputError("the unit is the patient and no patient column is given")
        return whole_patients(patient, mask, most)

    def _batch(self, x: npt.NDArray[Any]) -> int:
        """How many records go through the model together; depends on the shape of one alone."""
        shape = x.shape[1:]
        if self._fitting is None or self._fitting[0] != shape:
            inputs = as_tensor(x[:0], self._parameters[0].device)
            values, held = room(self.model, inputs)
            fitting = min(max(LEAST_BATCH, CACHED // values), max(1, ACTIVATIONS // held))
            self._fitting = shape, min(self._max_batch, fitting)
        return self._fitting[1]

    def _zeros(self) -> Tensor:
        device = self._parameters[0].device
        return torch.zeros(self.length, dtype=torch.float64, device=device)

    def _views(self, total_P: Tensor) -> Totals:
        parts = torch.split(total_P, [parameter.numel() for parameter in self._parameters])
        return dict(zip(self._parameters, parts, strict=True))

    def _tensors(self, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> tuple[Tensor, Tensor]:
        device = self._parameters[0].device
        return as_tensor(x, device), as_tensor(y, device)

    def _blocks(self, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> list[Block]:
        gradients = hooks if self._clipping == "hooks" else one_pass
        return gradients(self.model, self._loss, *self._tensors(x, y))

    def _add_records(self, x: npt.NDArray[Any], y: npt.NDArray[Any], totals: Totals) -> None:
        if self._clipping == "ghost":
            tensors = self._tensors(x, y)
            add_ghost_sum(self.model, self._loss, *tensors, clip=self._clip, totals=totals)
        else:
            self._add_clipped(self._blocks(x, y), totals)

    def _add_patients(
        self, x: npt.NDArray[Any], y: npt.NDArray[Any], patient: Rows, totals: Totals
    ) -> None:
        blocks = self._blocks(x, y)
        units, unit = np.unique(patient, return_inverse=True)
        if len(units) < len(patient):
            unit_B = as_tensor(unit, self._parameters[0].device)
            rows = _finite(blocks, _squares(blocks))
            blocks = [sums for block in rows for sums in block.grouped(unit_B, len(units))]
        self._add_clipped(blocks, totals)

    def _add_large_patient(
        self, x: npt.NDArray[Any], y: npt.NDArray[Any], rows: Rows, totals: Totals
    ) -> None:
        """One patient with more rows than a batch holds: sum first, then clip the sum."""
        own_P = self._zeros()
        for part in batches(rows, self._batch(x)):
            blocks = self._blocks(x[part], y[part])
            for block in _finite(blocks, _squares(blocks)):
                block.add(own_P.new_ones(len(part)), self._views(own_P))
        sums = [Full(parameter, own[None]) for parameter, own in self._views(own_P).items()]
        self._add_clipped(sums, totals)

    def _add_clipped(self, blocks: Sequence[Block], totals: Totals) -> None:
        squares = _squares(blocks)
        weights = clip_weights(squares, self._clip)
        for block in _finite(blocks, squares):
            block.add(weights, totals)


def room(model: nn.Module, x_B: Tensor) -> tuple[int, int]:
    """What one record takes during a sum, its gradient not counted.

    Args:
        model: A model that passes `check_layers`, in float64.
        x_B: Inputs, records first, of which only the shape of one counts.

    Returns:
        Values at the trainable layers, and bytes in all, each at least 1.
    """
    values = max(1, values_per_record(model, x_B))
    # A layer's block holds its input and the gradient of its output until they are summed.
    return values, _AT_ONCE * bytes_per_record(model, x_B) + 8 * values


def _squares(blocks: Sequence[Block]) -> Tensor:
    """Squared norm of each unit's whole gradient."""
    return torch.stack([block.squares() for block in blocks]).sum(0)


def _finite(blocks: Sequence[Block], squares: Tensor) -> list[Block]:
    """The gradients with those of non-finite norm at zero: zero times NaN would be NaN."""
    bad = ~torch.isfinite(squares)
    return [block.without(bad) for block in blocks] if bool(bad.any()) else list(blocks)
