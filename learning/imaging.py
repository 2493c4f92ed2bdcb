"""Imaging: a small residual network over images, beside any numbers about the patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

from learning.array_place import ArrayPlace, array_place
from learning.backbone import check_digest, load_backbone
from learning.base import DEEP, LINEAR, Chosen
from learning.classification import Classifier
from learning.flags import Flags
from learning.outcomes import Classes, outcome_of
from learning.residual import ResidualNetwork
from learning.task import Recipe
from protocol.errors import InputError

MOST_BLOCKS, MOST_WIDTH = 6, 1024
KERNEL = (3, 3)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a job may choose.

    Args:
        widths: Channels after the stem and after each block; every one halves height and width.
        centres: What becomes 0 in each channel, in the column's unit; the schema's if not given.
        spreads: What becomes 1 above it; the schema's if not given.
        backbone: SHA-256 of a file with public weights of stem and blocks, which are then neither
            learnt nor exchanged; every hospital needs the same file.
        class_weights: Public weight of each class in the loss, equal if not given.
        positive_weights: Public weight of the yes of each label, where there are several labels.
    """

    widths: tuple[int, ...] = (8, 16, 32)
    centres: tuple[float, ...] | None = None
    spreads: tuple[float, ...] | None = None
    backbone: str | None = None
    class_weights: Mapping[str, float] | None = None
    positive_weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        check_widths(self.widths)
        if self.backbone is not None:
            check_digest(self.backbone)


def check_widths(widths: tuple[int, ...]) -> None:
    """Refuse what is no network.

    Raises:
        InputError: Says what would be one.
    """
    if not 1 <= len(widths) <= MOST_BLOCKS or not all(2 <= one <= MOST_WIDTH for one in widths):
        raise InputError("widths", expected=f"1 to {MOST_BLOCKS}, each from 2 to {MOST_WIDTH}")


@dataclass(frozen=True)
class Imaging(Chosen, Classifier):
    """Classify images; see docs/tasks/imaging.md."""

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
        """Where the image stands among the features."""
        axes = ("channel", "height", "width")
        return array_place(self.schema, axes, 0, self.options.centres, self.options.spreads)

    @cached_property
    def network(self) -> ResidualNetwork:
        """The residual network; with a backbone only its output layer is learnt."""
        made = ResidualNetwork(self.place, self.options.widths, KERNEL, self.outcome.size)
        if self.options.backbone is None:
            return made
        frozen = partial(load_backbone, self.options.backbone, made.backbone)
        return ResidualNetwork(made.place, made.widths, made.kernel, made.outputs, frozen)

    @property
    def recipe(self) -> Recipe:
        """With a backbone only one layer is learnt."""
        return DEEP if self.options.backbone is None else LINEAR
