"""The models that are served: loaded verified, and exchanged when another version is promoted."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from learning.artefact import Model, load
from learning.promotion import load_record
from learning.task import Table
from protocol.errors import FedwardError
from serving.batching import Answer, Batcher
from serving.config import ServedModel
from serving.explaining import Explaining
from serving.flags import flags_of
from serving.payloads import BYTES
from serving.refusal import Kind, Refusal

log = logging.getLogger("fedward.serving")
FLAGS = "flags"
_DATATYPES = {"number": "FP64", "text": BYTES, "flag": "BOOL"}


def answered(model: Model, table: Table) -> Answer:
    """What the model says of a table, by the names that its task gives, and what it met there."""
    task = model.task
    found = dict(task.answers(model.predict(task.features(table)[0])))
    found[FLAGS] = flags_of(task.schema, table)
    return found


@dataclass(frozen=True, eq=False)
class Served:
    """A loaded version, its batches, and its explanations where they are allowed."""

    model: Model
    batcher: Batcher
    explaining: Explaining | None = None

    @classmethod
    def of(
        cls, place: Path, signers: Collection[str], most_rows: int, *, explain: bool = False
    ) -> Served:
        """Load a version.

        Raises:
            InputError: There is none, or this installation lacks what it needs.
            IntegrityError: It was changed, or another key signed it.
        """
        model = load(place, signers)
        explaining = Explaining(model) if explain else None
        return cls(model, Batcher(lambda table: answered(model, table), most_rows), explaining)

    @cached_property
    def datatypes(self) -> Mapping[str, str]:
        """The protocol's type of each output, in order."""
        found = {one.name: _DATATYPES[one.kind] for one in self.model.task.outputs}
        return {**found, FLAGS: "UINT8"}

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        """What goes with every prediction; columns as JSON, since any text may be one."""
        card = self.model.card
        columns = {
            f"{one.name}_columns": json.dumps(one.columns, ensure_ascii=False)
            for one in self.model.task.outputs
            if one.columns
        }
        return {
            "model": card.label,
            "intended_use": card.intended_use,
            "weights_sha256": card.digests.weights,
            **columns,
        }


@dataclass(frozen=True)
class _Shelf:
    """Loaded versions of one model, and the one in use."""

    versions: Mapping[int, Served] = field(default_factory=dict)
    current: int | None = None


class Catalogue:
    """What is served now. A request keeps the version that it found until it is answered.

    Args:
        store: Folder of finished models.
        signers: Fingerprints of the keys whose models are served.
        models: What is served.
        most_rows: Largest batch.
    """

    def __init__(
        self, store: Path, signers: Collection[str], models: Sequence[ServedModel], most_rows: int
    ) -> None:
        self._store = store
        self._signers = frozenset(signers)
        self._models = {model.name: model for model in models}
        self._most_rows = most_rows
        self._shelves = {name: _Shelf() for name in self._models}
        self._failed: dict[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all models that are to be served."""
        return tuple(self._models)

    @property
    def ready(self) -> bool:
        """Whether every model has a version in use."""
        return all(shelf.current is not None for shelf in self._shelves.values())

    def load(self) -> None:
        """Load everything.

        Raises:
            FedwardError: A version that is promoted or named cannot be served.
        """
        for name in self._models:
            self._shelves[name] = self._stocked(name)

    def refresh(self) -> tuple[str, ...]:
        """Load what was promoted since; what cannot be served leaves the version in use as it is.

        It reads and verifies in the calling thread, and then exchanges a model in one assignment.

        Returns:
            Labels of the versions that came into use.
        """
        changed = []
        for name in self._models:
            try:
                shelf = self._stocked(name)
            except FedwardError as error:
                if self._failed.get(name) != str(error):
                    log.error("kept what was in use: %s", error)  # noqa: TRY400 - one line
                self._failed[name] = str(error)
                continue
            self._failed.pop(name, None)
            if shelf.current != self._shelves[name].current:
                changed.append(f"{name}/{shelf.current}")
            self._shelves[name] = shelf
        return tuple(changed)

    def versions(self, name: str) -> tuple[int, ...]:
        """Versions of a model that are served, ascending."""
        return tuple(sorted(self._shelf(name).versions))

    def find(self, name: str, version: str = "") -> Served:
        """A version, by default the one in use.

        Raises:
            Refusal: It is not served, or no version was promoted yet.
        """
        shelf = self._shelf(name)
        if not version:
            if shelf.current is None:
                raise Refusal(
                    Kind.UNAVAILABLE, f"no version of {name!r} is promoted", remedy="promote one"
                )
            return shelf.versions[shelf.current]
        number = int(version) if version.isascii() and version.isdigit() else 0
        if len(version) > 9 or number not in shelf.versions:
            served = ", ".join(map(str, sorted(shelf.versions))) or "none"
            raise Refusal(Kind.UNKNOWN, f"version of {name!r}", expected=f"one of {served}")
        return shelf.versions[number]

    def _shelf(self, name: str) -> _Shelf:
        if name not in self._shelves:
            raise Refusal(Kind.UNKNOWN, "no such model", expected=", ".join(self._models))
        return self._shelves[name]

    def _stocked(self, name: str) -> _Shelf:
        """The shelf as store and configuration want it; what is loaded stays as it is."""
        current = load_record(self._store, name).promoted
        present = self._shelves[name].versions
        wanted = {*self._models[name].versions, *([] if current is None else [current])}
        if wanted == set(present) and current == self._shelves[name].current:
            return self._shelves[name]
        versions = {
            version: present[version] if version in present else self._loaded(name, version)
            for version in wanted
        }
        return _Shelf(versions, current)

    def _loaded(self, name: str, version: int) -> Served:
        return Served.of(
            self._store / name / str(version),
            self._signers,
            self._most_rows,
            explain=self._models[name].explain,
        )
