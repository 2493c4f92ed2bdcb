"""One version and what it answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from learning.artefact import Model, load
from learning.task import FloatArray, Table
from protocol.errors import InputError
from serving.batching import Answer, Batcher
from serving.explaining import Explaining
from serving.flags import FlagArray, flags_of
from serving.payloads import BYTES
from serving.refusal import invalid
from serving.spool import Spool

FLAGS = "flags"
_DATATYPES = {"number": "FP64", "text": BYTES, "flag": "BOOL"}

Seen = Callable[[FloatArray, FlagArray], None]
"""Takes note of features and flags."""


@dataclass(frozen=True, kw_only=True)
class Witness:
    """Who takes note of a version's answers.

    Args:
        seen: Of features and flags.
        told: Of the requests and rows of each batch.
        kept: Of the rows themselves; None where they are not kept.
    """

    seen: Seen
    told: Callable[[int, int], None]
    kept: Spool | None = None


def nobody(_: Model) -> Witness:
    """A witness that takes no note."""
    return Witness(seen=lambda _x, _flags: None, told=lambda _requests, _rows: None)


def answered(model: Model, table: Table, seen: Seen | None = None) -> Answer:
    """What the model says of a table, by the names that its task gives, and what it met there."""
    task = model.task
    x_NF = task.features(table)[0]
    found = dict(model.answers(model.predict(x_NF)))
    found[FLAGS] = flag_NC = flags_of(task.schema, table)
    if seen is not None:
        seen(x_NF, flag_NC)
    return found


Witnessed = Callable[[Model], Witness]


@dataclass(frozen=True, eq=False)
class Served:
    """A loaded version, its batches, explanations where they are allowed, and where rows go."""

    model: Model
    batcher: Batcher
    explaining: Explaining | None = None
    kept: Spool | None = None

    @classmethod
    def of(
        cls,
        place: Path,
        signers: Collection[str],
        most_rows: int,
        *,
        explain: bool = False,
        witnessed: Witnessed = nobody,
    ) -> Served:
        """Load a version.

        Raises:
            InputError: There is none, it predicts nothing, or something is not installed here.
            IntegrityError: It was changed, or another key signed it.
        """
        model = load(place, signers)
        if not model.outputs:
            raise InputError(
                f"model {model.card.label} predicts nothing",
                expected="a task that answers",
                found=f"task {model.card.task.name!r}",
            )
        explaining = Explaining(model) if explain else None
        witness = witnessed(model)
        batcher = Batcher(
            lambda table: answered(model, table, witness.seen), most_rows, witness.told
        )
        return cls(model, batcher, explaining, witness.kept)

    @cached_property
    def datatypes(self) -> Mapping[str, str]:
        """The protocol's type of each output, in order."""
        found = {one.name: _DATATYPES[one.kind] for one in self.model.outputs}
        return {**found, FLAGS: "UINT8"}

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        """What goes with every prediction; columns as JSON, since any text may be one."""
        card = self.model.card
        columns = {
            f"{one.name}_columns": json.dumps(one.columns, ensure_ascii=False)
            for one in self.model.outputs
            if one.columns
        }
        return {
            "model": card.label,
            "intended_use": card.intended_use,
            "weights_sha256": card.digests.weights,
            **columns,
        }

    def check(self, wanted: Sequence[str]) -> None:
        """Refuse names of outputs that are none.

        Raises:
            Refusal: One is unknown, or wanted more than once: an answer would outgrow every limit.
        """
        known = (*self.datatypes, *(() if self.explaining is None else self.explaining.names))
        if unknown := [name for name in wanted if name not in known]:
            raise invalid(f"unknown output {unknown[0][:64]!r}", expected=", ".join(known))
        if len(set(wanted)) < len(wanted):
            raise invalid("an output occurs twice", expected="each output once")
