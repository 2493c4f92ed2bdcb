"""Signals: a network over series of several channels, such as an electrocardiogram."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from learning.array_place import ArrayPlace, array_place
from learning.base import DEEP, Chosen
from learning.classification import Classifier
from learning.flags import Flags
from learning.imaging import MOST_WIDTH, check_widths
from learning.outcomes import Classes, outcome_of
from learning.recurrent import RecurrentNetwork
from learning.residual import ResidualNetwork
from learning.task import Recipe
from protocol.errors import InputError

DEFAULT_WIDTHS = (8, 16, 32)
MOST_STEPS = 4096


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a job may choose.

    Args:
        model: `convolution` (residual blocks along time) or `recurrent` (a gated unit).
        widths: Channels after the stem and after each block, (8, 16, 32) if not given; every one
            halves the resolution. Of `convolution`.
        kernel: Samples that a convolution sees, odd. Of `convolution`.
        frame: Samples that a step reads together. Of `recurrent`.
        state: Size of the unit's state. Of `recurrent`.
        centres: What becomes 0 in each channel, in the column's unit; the schema's if not given.
        spreads: What becomes 1 above it; the schema's if not given.
        class_weights: Public weight of each class in the loss, equal if not given.
        positive_weights: Public weight of the yes of each label, where there are several labels.
    """

    model: Literal["convolution", "recurrent"] = "convolution"
    widths: tuple[int, ...] | None = None
    kernel: int = 7
    frame: int = 10
    state: int = 16
    centres: tuple[float, ...] | None = None
    spreads: tuple[float, ...] | None = None
    class_weights: Mapping[str, float] | None = None
    positive_weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.widths is not None and self.model != "convolution":
            raise InputError("widths belong to the model 'convolution'", found=repr(self.model))
        check_widths(self.widths or DEFAULT_WIDTHS)
        if not (1 <= self.kernel <= 63 and self.kernel % 2):
            raise InputError(
                "kernel", expected="an odd number from 1 to 63", found=f"{self.kernel}"
            )
        if self.frame < 1:
            raise InputError("frame", expected="at least 1 sample", found=f"{self.frame}")
        if not 1 <= self.state <= MOST_WIDTH:
            raise InputError("state", expected=f"1 to {MOST_WIDTH}", found=f"{self.state}")


@dataclass(frozen=True)
class Signals(Chosen, Classifier):
    """Classify series; see docs/tasks/signals.md."""

    options: Options

    def __post_init__(self) -> None:
        _ = self.network

    @cached_property
    def outcome(self) -> Classes | Flags:
        """One of the label's classes, or several labels where the schema has targets."""
        options = self.options
        return outcome_of(self.schema, options.class_weights, options.positive_weights)

    @property
    def place(self) -> ArrayPlace:
        """Where the series stands among the features."""
        axes = ("time", "channel")
        return array_place(self.schema, axes, 1, self.options.centres, self.options.spreads)

    @cached_property
    def network(self) -> ResidualNetwork | RecurrentNetwork:
        """The network along time."""
        place, options = self.place, self.options
        if options.model == "convolution":
            widths = options.widths or DEFAULT_WIDTHS
            return ResidualNetwork(place, widths, (1, options.kernel), self.outcome.size)
        if not 1 <= place.shape[0] // options.frame <= MOST_STEPS:
            raise InputError("frame", expected=f"1 to {MOST_STEPS} frames in a series")
        return RecurrentNetwork(place, options.frame, options.state, self.outcome.size)

    @property
    def recipe(self) -> Recipe:
        """Both networks have hidden layers."""
        return DEEP
