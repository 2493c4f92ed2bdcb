"""Diagnosis from clinical notes: bags of hashed n-grams, a small transformer, or an adapted one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from learning.bags import Bag
from learning.base import DEEP, LINEAR, Chosen
from learning.classification import Classifier, Network
from learning.encoder import Encoder
from learning.flags import Flags
from learning.lora import Adaptation, Adapters
from learning.outcomes import Classes, outcome_of
from learning.places import Places
from learning.task import FloatArray, Recipe, Records, Report, Table
from protocol.errors import InputError

Model = Literal["linear", "bag", "transformer", "adapted"]

_LARGEST = {"buckets": 1 << 24, "ngrams": 5, "width": 4096, "layers": 48, "heads": 64}
_USUAL = {"buckets": 1024, "ngrams": 2, "width": 16, "layers": 1, "heads": 2}
_USED: dict[Model, tuple[str, ...]] = {
    "linear": ("buckets", "ngrams"),
    "bag": ("buckets", "ngrams", "width"),
    "transformer": ("buckets", "width", "layers", "heads"),
    "adapted": (),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a job may choose. Sizes that the model does not have must be left out.

    Args:
        model: `linear` (a score for each bucket of n-grams), `bag` (a vector for each),
            `transformer` (words that attend to each other) or `adapted` (a pretrained model).
        buckets: V, into how many buckets words or n-grams are hashed; 1024 if not given.
        ngrams: Words in the longest n-gram of `linear` and `bag`; 2 if not given.
        width: D, numbers of a bucket's vector in `bag` and `transformer`; 16 if not given.
        layers: Blocks of the transformer; 1 if not given.
        heads: Heads of its attention, which divide the width; 2 if not given.
        pretrained: Which model is adapted; for `adapted` only.
        class_weights: Public weight of each class in the loss, see learning.outcomes.Classes.
        positive_weights: The same of several labels, see learning.flags.Flags.
    """

    model: Model = "linear"
    buckets: int | None = None
    ngrams: int | None = None
    width: int | None = None
    layers: int | None = None
    heads: int | None = None
    pretrained: Adaptation | None = None
    class_weights: Mapping[str, float] | None = None
    positive_weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for name, most in _LARGEST.items():
            value = getattr(self, name)
            if value is None:
                continue
            if name not in _USED[self.model]:
                raise InputError(f"{name} of model {self.model!r}", expected="no such size")
            least = 2 if name == "buckets" else 1
            if not least <= value <= most:
                raise InputError(name, expected=f"{least} to {most}", found=str(value))
        if (self.pretrained is not None) != (self.model == "adapted"):
            raise InputError("pretrained", expected="for model 'adapted', and for no other")
        if self.model == "transformer" and self.size("width") % self.size("heads"):
            heads = str(self.size("heads"))
            raise InputError("heads", expected="a divisor of the width", found=heads)

    def size(self, name: str) -> int:
        """A size, or what is usual where it was left out."""
        asked: int | None = getattr(self, name)
        return _USUAL[name] if asked is None else asked


@dataclass(frozen=True)
class Text(Chosen, Classifier):
    """Classify records by their notes and what else is known; see docs/tasks/text.md."""

    options: Options

    def __post_init__(self) -> None:
        _ = self.outcome, self.network

    @cached_property
    def outcome(self) -> Classes | Flags:
        """The label's classes or, where the schema has targets, several labels."""
        asked = self.options
        return outcome_of(self.schema, asked.class_weights, asked.positive_weights)

    @cached_property
    def network(self) -> Network:
        """What reads the notes."""
        asked, places = self.options, Places.of(self.schema)
        if asked.pretrained is not None:
            return Adapters.of(asked.pretrained, places, self.outcome.size)
        buckets, width = asked.size("buckets"), asked.size("width")
        if asked.model == "transformer":
            return Encoder(
                places=places,
                buckets=buckets,
                width=width,
                layers=asked.size("layers"),
                heads=asked.size("heads"),
                size=self.outcome.size,
            )
        return Bag(
            places=places,
            buckets=buckets,
            ngrams=asked.size("ngrams"),
            width=0 if asked.model == "linear" else width,
            size=self.outcome.size,
        )

    def records(self, table: Table) -> tuple[Records, Report]:
        """Turn raw columns into records; rows without a known label or a patient are left out."""
        return super().records(self._read(table))

    def features(self, table: Table) -> tuple[FloatArray, Report]:
        """Turn raw columns into features N x F, one row each, for prediction."""
        return super().features(self._read(table))

    def _read(self, table: Table) -> Table:
        """The table with word pieces for texts, where a pretrained model has its own."""
        network = self.network
        if not isinstance(network, Adapters):
            return table
        texts = [column for column in self.schema.columns if column.kind == "text"]
        pieces = {
            column.name: network.read(column, table[column.name])
            for column in texts
            if column.name in table
        }
        return {**table, **pieces}

    @property
    def recipe(self) -> Recipe:
        """A network takes a longer path, and more rounds."""
        return LINEAR if self.options.model == "linear" else DEEP
