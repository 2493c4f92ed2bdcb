"""The models that are served: loaded verified, and exchanged when another version is promoted."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from learning.promotion import load_record
from protocol.errors import FedwardError
from serving.answering import Served, Witnessed, nobody
from serving.config import ServedModel
from serving.refusal import Kind, Refusal

log = logging.getLogger("fedward.serving")


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
        witnessed: Finds who takes note of a version's answers.
    """

    def __init__(
        self,
        store: Path,
        signers: Collection[str],
        models: Sequence[ServedModel],
        most_rows: int,
        witnessed: Witnessed = nobody,
    ) -> None:
        self._witnessed = witnessed
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

    @property
    def labels(self) -> frozenset[str]:
        """Every version that can be asked, as `name/version`."""
        shelves = self._shelves.items()
        return frozenset(
            f"{name}/{version}" for name, shelf in shelves for version in shelf.versions
        )

    @property
    def waiting(self) -> dict[str, int]:
        """Requests that wait for a batch, by model."""
        return {
            name: sum(served.batcher.waiting for served in shelf.versions.values())
            for name, shelf in self._shelves.items()
        }

    def versions(self, name: str) -> tuple[int, ...]:
        """Versions of a model that are served, ascending."""
        return tuple(sorted(self._shelf(name).versions))

    def served(self, name: str) -> tuple[Served, ...]:
        """The same versions themselves, as they are at this moment."""
        versions = self._shelf(name).versions
        return tuple(versions[number] for number in sorted(versions))

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
        for number, served in shelf.versions.items():
            if version == str(number):
                return served
        known = ", ".join(map(str, sorted(shelf.versions))) or "none"
        raise Refusal(Kind.UNKNOWN, f"version of {name!r}", expected=f"one of {known}")

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
            witnessed=self._witnessed,
        )
