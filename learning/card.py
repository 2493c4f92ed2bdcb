"""The card of a finished model: what it is for, how it was made, how good and how private it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from learning.preprocess import VERSION
from learning.task import Metric
from protocol.config import parse
from protocol.errors import InputError
from protocol.jobs import Mode, Named

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """The privacy that a model was made with; each epsilon is None in mode `none`.

    Args:
        mode: `distributed`, `local` or `none`.
        unit: Whom it protects.
        delta: One delta for every epsilon.
        epsilon: As stated by the job, all attempts reserved, under the stated trust.
        epsilon_worst: The same if every other hospital colludes with the coordinator.
        epsilon_settled: For the attempts that were used, under the stated trust.
        epsilon_settled_worst: The same if every other hospital colludes.
        epsilon_evaluation: Of held-out patients; None when nothing was evaluated.
        epsilon_evaluation_worst: The same if every other hospital colludes.
    """

    mode: Mode
    unit: Literal["patient", "record"]
    delta: float
    epsilon: float | None = None
    epsilon_worst: float | None = None
    epsilon_settled: float | None = None
    epsilon_settled_worst: float | None = None
    epsilon_evaluation: float | None = None
    epsilon_evaluation_worst: float | None = None


@dataclass(frozen=True, kw_only=True)
class Digests:
    """SHA-256, hexadecimal, of what a model was made of."""

    job: str
    roster: str
    layout: str
    weights: str


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a person must know of a model before trusting it.

    Args:
        name: The model's name: lower case letters, digits, `.`, `_` and `-`.
        version: Positive number, growing by model name.
        created: RFC 3339 time.
        intended_use: One line that every prediction carries.
        task: Registered task and its options.
        schema: Columns, as the job states them.
        strategy: How contributions became the model.
        rounds: Rounds of training.
        cohort_size: Hospitals that trained it.
        privacy: With which guarantee.
        metrics: Pooled metrics on held-out patients; of statistics, the table's figures.
        digests: Of job, roster, layout and weights.
        preprocessing: Version of learning.preprocess that made the features.
        importance: Total effect of each column over values drawn from the schema, see
            learning.importance; no patient enters it.
        noise: Of statistics the standard deviation of the noise of every sum; None of a model.
        handed_on_by: Hospitals that vouched for it where this one got it from others; empty where
            it finished the training itself.
    """

    name: str
    version: int
    created: str
    intended_use: str
    task: Named
    schema: Mapping[str, Any]
    strategy: Named
    rounds: int
    cohort_size: int
    privacy: Guarantee
    metrics: Mapping[str, Metric]
    digests: Digests
    preprocessing: int = VERSION
    importance: Mapping[str, float] = field(default_factory=dict)
    noise: float | None = None
    handed_on_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.version < 1:
            raise InputError(
                "name and version of a model", expected="such as 'sepsis-2', and a number from 1"
            )

    @property
    def label(self) -> str:
        """Name and version as messages show them."""
        return f"{self.name}/{self.version}"

    def to_bytes(self) -> bytes:
        """Indented JSON, for people and programs alike; numbers read back exactly."""
        text = json.dumps(plain(self), indent=2, sort_keys=True, allow_nan=False)
        return f"{text}\n".encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ModelCard:
        """Read a card whose bytes were verified.

        Raises:
            InputError: The bytes are no card, or one of another release of this program.
        """
        try:
            mapping = json.loads(data)
        except ValueError as error:
            raise InputError("a model's card", expected="JSON", found="other bytes") from error
        return parse(cls, mapping, "card")


def plain(value: Any) -> Any:
    """Mappings, lists and scalars only; unlike `asdict`, of any kind of mapping."""
    if is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
