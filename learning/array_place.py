"""Where an array stands among a record's features, and how its channels are scaled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from learning.schema import Schema
from protocol.errors import InputError


@dataclass(frozen=True)
class ArrayPlace:
    """One array of fixed shape beside R other features.

    Args:
        start: Its first feature.
        shape: Its axes.
        channel: Which of them is the channel.
        others: Positions of the other R features, in order.
        factors: What each channel is multiplied by, after the schema's scaling.
        shifts: What is added then.
    """

    start: int
    shape: tuple[int, ...]
    channel: int
    others: tuple[int, ...]
    factors: tuple[float, ...]
    shifts: tuple[float, ...]

    @property
    def stop(self) -> int:
        """One past its last feature."""
        return self.start + math.prod(self.shape)

    @property
    def channels(self) -> int:
        """How many channels the array has."""
        return self.shape[self.channel]

    def cut(self, x_NF: Any, constants: Callable[[Sequence[float]], Any]) -> Any:
        """The array of each record, N x its axes, channels scaled.

        Args:
            x_NF: Features, of numpy or torch.
            constants: Makes an array of the same kind from numbers.
        """
        ones = [1] * len(self.shape)
        ones[self.channel] = self.channels
        factors, shifts = (constants(each).reshape(ones) for each in (self.factors, self.shifts))
        return (
            x_NF[:, self.start : self.stop].reshape(x_NF.shape[0], *self.shape) * factors + shifts
        )

    def rest(self, x_NF: Any) -> Any:
        """The other features N x R, of numpy or torch."""
        return x_NF[:, list(self.others)]


def array_place(
    schema: Schema,
    axes: Sequence[str],
    channel: int,
    centres: Sequence[float] | None,
    spreads: Sequence[float] | None,
) -> ArrayPlace:
    """The schema's only array.

    Args:
        schema: Names the columns.
        axes: What the array's axes are, for the message.
        channel: Which of them is the channel.
        centres: What becomes 0 in each channel, in the column's unit; the column's centre if not
            given.
        spreads: What becomes 1 above it; the column's spread if not given.

    Raises:
        InputError: There is no such array, or more than one, or constants that do not fit.
    """
    start, found = 0, []
    for column in schema.columns:
        if column.kind == "array":
            found.append((start, column))
        start += column.num_features
    if len(found) != 1 or len(found[0][1].shape) != len(axes):
        raise InputError(
            "columns of this task",
            expected=f"one array with axes {' x '.join(axes)}, and any scalars",
            found=", ".join("x".join(map(str, column.shape)) for _, column in found) or "no array",
        )
    first, column = found[0]
    channels = column.shape[channel]
    middles = _of_each("centres", centres, channels, column.middle)
    widths = _of_each("spreads", spreads, channels, column.width)
    if min(widths) <= 0:
        raise InputError("spreads", expected="positive numbers")
    array = range(first, first + math.prod(column.shape))
    return ArrayPlace(
        start=first,
        shape=column.shape,
        channel=channel,
        others=tuple(place for place in range(schema.num_features) if place not in array),
        factors=tuple(column.width / width for width in widths),
        shifts=tuple(
            (column.middle - middle) / width for middle, width in zip(middles, widths, strict=True)
        ),
    )


def _of_each(
    name: str, given: Sequence[float] | None, channels: int, default: float
) -> tuple[float, ...]:
    if given is None:
        return (default,) * channels
    if len(given) != channels or not all(math.isfinite(value) for value in given):
        raise InputError(name, expected=f"{channels} numbers, one a channel", found=f"{len(given)}")
    return tuple(float(value) for value in given)
